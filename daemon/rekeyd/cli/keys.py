"""`rekeyd key public` and `rekeyd key wrap`: how a tenant's own key comes to us, or to the key service, wrapped.

`key wrap` is the tenant's: it needs neither settings nor ledger, and reaches nothing.
"""

# ruff: noqa: PLC0415 - `--help` and unusable arguments answer without loading a library for keys

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from rekeyd.cli.destruction import key_app
from rekeyd.cli.invocation import ConfigOption, JsonOption, print_json, reported, say, settings_of
from rekeyd.cli.offers import read_document
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.offer import AnswerDocument, read_offer

if TYPE_CHECKING:
    from rekeyd.custody.material import Material

__all__ = ["key_app"]

_Wrapper: TypeAlias = Callable[["Material"], dict[str, object]]
_KEY_BYTES = 32


@key_app.command("public")
def public_command(
    context: typer.Context, *, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Print the public key for which tenants wrap theirs, PEM."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd import service

        found = asyncio.run(service.wrapping_key(settings))
        if as_json:
            print_json({"public_key": found.pem, "fingerprint": found.fingerprint})
        else:
            typer.echo(found.pem, nl=False)
            say(
                f"rekeyd: its fingerprint is {found.fingerprint}: compare it over another way than the key came"
            )


@key_app.command("wrap")
def wrap_command(
    *,
    public_key: Annotated[
        Path | None,
        typer.Option(
            "--public-key", metavar="FILE", help="The vendor's public key (PEM).", show_default=False
        ),
    ] = None,
    offer: Annotated[
        Path | None,
        typer.Option(
            "--offer",
            metavar="FILE",
            help="An offer of the vendor's: wrap for the key service itself.",
            show_default=False,
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="FILE", help="Your key: 32 raw bytes.", show_default=False),
    ] = None,
    new_key_file: Annotated[
        Path | None,
        typer.Option(
            "--new-key-file",
            metavar="FILE",
            help="Keep the key that is made here; there must be no such file yet.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """For the tenant: make or take a 256-bit key, print it wrapped: a `key` for a job, or the answer to an offer."""
    with reported():
        if key_file is not None and new_key_file is not None:
            raise RefusedError("--new-key-file", "a key is made, or taken from --key-file: name one of both")
        wrapped_for = _wrapper(public_key, offer)
        from rekeyd.custody.material import held

        buffer = _made() if key_file is None else _taken(key_file)
        with held(buffer) as material:
            wrapped = wrapped_for(material)
            if new_key_file is not None:
                _keep(new_key_file, material)
        print_json(wrapped)
        if key_file is None and new_key_file is None:
            say(
                "rekeyd: this key was made here and is kept nowhere: once destroyed it can't be brought again"
            )


def _wrapper(public_key: Path | None, offer: Path | None) -> _Wrapper:
    if public_key is not None and offer is None:
        return _vendor(public_key)
    if offer is not None and public_key is None:
        return _key_service(offer)
    raise RefusedError("--public-key", "a key is wrapped for the vendor, or for --offer: name one of both")


def _vendor(path: Path) -> _Wrapper:
    """Wraps for the vendor's public key."""
    pem = read_document(path, "--public-key")

    def wrapped_for(material: Material) -> dict[str, object]:
        from rekeyd.custody.wrapping import wrap

        return wrap(pem, material).model_dump(exclude_none=True)

    return wrapped_for


def _key_service(path: Path) -> _Wrapper:
    """Wraps for the key service's own public key, as it was offered."""
    offer = read_offer(read_document(path, "--offer"))

    def wrapped_for(material: Material) -> dict[str, object]:
        from rekeyd.custody.wrapping import wrap_for_service

        content = wrap_for_service(offer.public_key.encode(), material)
        return AnswerDocument.to(offer, content).model_dump(by_alias=True)

    return wrapped_for


def _made() -> bytearray:
    from rekeyd.custody.material import taken

    return taken(secrets.token_bytes(_KEY_BYTES))


def _taken(path: Path) -> bytearray:
    found = _read(path, "--key-file", _KEY_BYTES + 1)
    if len(found) != _KEY_BYTES:
        from rekeyd.custody.material import wipe

        wipe(found)
        raise RefusedError(
            "--key-file", f"{path} is not {_KEY_BYTES} raw bytes long: no hex, base64 or line end"
        )
    return found


def _read(path: Path, option: str, bytes_max: int) -> bytearray:
    """At most so many bytes of the file, in a buffer of ours."""
    buffer = bytearray(bytes_max)
    try:
        with path.open("rb", buffering=0) as file:
            filled = 0
            while filled < bytes_max and (read := file.readinto(memoryview(buffer)[filled:])):
                filled += read
    except OSError as error:
        raise RefusedError(option, f"{path} can't be read: {error.strerror}") from error
    del buffer[filled:]
    return buffer


def _keep(path: Path, material: Material) -> None:
    """Write the key where there is nothing yet, readable by its owner alone."""
    try:
        with os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", 0
        ) as file:
            file.write(material.buffer)
            os.fsync(file.fileno())
    except OSError as error:
        raise RefusedError("--new-key-file", f"{path} can't be made: {error.strerror}") from error
