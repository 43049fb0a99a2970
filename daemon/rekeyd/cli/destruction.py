"""`rekeyd key destroy`: an archived key, under which nothing is, is deleted for good."""

# ruff: noqa: PLC0415 - `--help` and unusable arguments answer without opening anything

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from rekeyd.cli.invocation import ConfigOption, JsonOption, principal, print_json, reported, settings_of
from rekeyd.cli.key_list import key_view
from rekeyd.cli.offers import TenantArgument, key_app
from rekeyd.domain.custody import DELETION_DAYS
from rekeyd.domain.job import utc_timestamp

if TYPE_CHECKING:
    from rekeyd.service.destruction import DestroyedKey
    from rekeyd.settings import Settings

__all__ = ["key_app"]


@key_app.command("destroy")
def destroy_command(
    context: typer.Context,
    tenant: TenantArgument,
    ref: Annotated[str, typer.Argument(metavar="REF", help="The key, as `rekeyd key list` names it.")],
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete an archived key for good, once nothing is under it; until the key service does, it can be undone there.

    With your own credentials, which need the right to (custody.aws.break_glass_role_arn). Every version in the tenant's
    buckets is looked at first: that takes a request each.
    """
    with reported():
        settings = settings_of(context, config)
        done = asyncio.run(_destroy(settings, tenant, ref))
        deletes_at = utc_timestamp(done.switched.deletes_at)
        if as_json:
            print_json(key_view(done.key) | {"deletes_at": deletes_at, **done.proof})
            return
        when = f"on {deletes_at}" if deletes_at else f"in {DELETION_DAYS} days"
        typer.echo(f"{ref} is destroyed: the key service deletes it {when}")


async def _destroy(settings: Settings, tenant: str, ref: str) -> DestroyedKey:
    from rekeyd import service

    async with service.open_ledger(settings) as ledger:
        return await service.destroy_key(settings, ledger, tenant, principal(), ref)
