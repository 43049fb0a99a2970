"""What every command shares: its settings, who gives it, and how errors become an exit status."""

from __future__ import annotations

import json
import os
import pwd
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer

from rekeyd.domain.errors import (
    CustodyError,
    LedgerError,
    MissingCredentialsError,
    RefusedError,
    RekeydError,
    StoreError,
    UnavailableError,
    UnknownJobError,
)
from rekeyd.settings import Settings, SettingsError, load_settings


class Status(IntEnum):
    """Exit statuses, as scripts rely on them."""

    DONE = 0
    FAILED = 1
    UNUSABLE = 2  # arguments, settings or a message
    UNREACHABLE = 3  # a dependency
    INTERRUPTED = 130  # Ctrl-C, as shells have it


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings file (TOML).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings_of(context: typer.Context, config: Path | None) -> Settings:
    """The settings for a command: of its own --config, the one before the command, or REKEYD_CONFIG."""
    path = config or context.find_object(Path)
    if path is None and (named := os.environ.get("REKEYD_CONFIG")):
        path = Path(named)
    return load_settings(path, os.environ)


def principal() -> str:
    """Who gives a command: REKEYD_PRINCIPAL, or else the operating system's user."""
    if named := os.environ.get("REKEYD_PRINCIPAL"):
        return named
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user often has no name
        return f"uid:{os.getuid()}"


def say(message: str) -> None:
    """Tell a person something that isn't output: on stderr, so that scripts needn't skip it."""
    typer.echo(message, err=True)


def print_json(value: object) -> None:
    """Print one JSON document on stdout, readable by people as well."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=not _takes_unicode()))


def _takes_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


@contextmanager
def reported() -> Iterator[None]:
    """End the command with the status that fits the error, and a line that says what is wrong."""
    try:
        yield
    except SettingsError as error:
        for key, reason in error.faults:
            say(_one_line(f"rekeyd: settings: {key}: {reason}" if key else f"rekeyd: settings: {reason}"))
        raise typer.Exit(Status.UNUSABLE) from error
    except RekeydError as error:
        say(_one_line(f"rekeyd: {_words(error)}"))
        raise typer.Exit(_status_of(error)) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(Status.INTERRUPTED) from error


def _status_of(error: RekeydError) -> Status:
    match error:
        case RefusedError():
            return Status.UNUSABLE
        case LedgerError() | CustodyError() | UnavailableError() | MissingCredentialsError():
            return Status.UNREACHABLE
        case _:
            return Status.FAILED


def _words(error: RekeydError) -> str:
    match error:
        case UnknownJobError():
            return f"there is no job {error}"
        case LedgerError():
            return f"{error} (is ledger.url right? `rekeyd check` looks at every dependency)"
        case CustodyError() | StoreError():
            return f"{error} (`rekeyd check` looks at every dependency)"
        case _:
            return str(error)


def _one_line(text: str) -> str:
    return " ".join(text.split())
