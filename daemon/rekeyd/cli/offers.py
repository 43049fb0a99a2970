"""`rekeyd key offer` and `rekeyd key accept`: a key that nobody but the key service ever holds."""

# ruff: noqa: PLC0415 - `--help` and unusable arguments answer without opening anything

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekeyd.cli.invocation import (
    ConfigOption,
    JsonOption,
    principal,
    print_json,
    reported,
    say,
    settings_of,
)
from rekeyd.cli.key_list import key_app, key_view
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.offer import DOCUMENT_BYTES_MAX, AnswerDocument, OfferDocument, read_answer
from rekeyd.ledger.port import TenantKey

if TYPE_CHECKING:
    from rekeyd.settings import Settings

__all__ = ["key_app"]

TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="Whose key it is.")]


@key_app.command("offer")
def offer_command(
    context: typer.Context,
    tenant: TenantArgument,
    *,
    ref: Annotated[
        str | None,
        typer.Option("--ref", metavar="ARN", help="The key of an earlier offer, with a new token."),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Prepare a key without material; print what the tenant needs to wrap its own for the key service (JSON)."""
    with reported():
        settings = settings_of(context, config)
        document = asyncio.run(_offer(settings, tenant, ref))
        print_json(document.model_dump(by_alias=True))
        say(
            f"rekeyd: good until {document.expires_at}. The tenant answers with `rekeyd key wrap --offer FILE`; "
            f"then: rekeyd key accept {tenant} ANSWER"
        )


@key_app.command("accept")
def accept_command(
    context: typer.Context,
    tenant: TenantArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The tenant's answer to an offer.")],
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import what the tenant wrapped for the key service; print the `key` of a job message."""
    with reported():
        settings = settings_of(context, config)
        document = read_answer(read_document(file, "FILE"))
        key = asyncio.run(_accept(settings, tenant, document))
        print_json(key_view(key) if as_json else {"kind": "accepted", "ref": key.ref})


def read_document(path: Path, name: str) -> bytes:
    """The file's content, where it is short enough. Raises RefusedError naming the argument."""
    try:
        with path.open("rb") as file:
            content = file.read(DOCUMENT_BYTES_MAX + 1)
    except OSError as error:
        raise RefusedError(name, f"{path} can't be read: {error.strerror}") from error
    if len(content) > DOCUMENT_BYTES_MAX:
        raise RefusedError(name, f"{path} is longer than {DOCUMENT_BYTES_MAX} bytes")
    return content


async def _offer(settings: Settings, tenant: str, ref: str | None) -> OfferDocument:
    from rekeyd import service

    async with service.open_ledger(settings, make=True) as ledger:
        return await service.offer_key(settings, ledger, tenant, principal(), ref)


async def _accept(settings: Settings, tenant: str, document: AnswerDocument) -> TenantKey:
    from rekeyd import service

    async with service.open_ledger(settings, make=True) as ledger:
        return await service.accept_key(settings, ledger, tenant, principal(), document)
