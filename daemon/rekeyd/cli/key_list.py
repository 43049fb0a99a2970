"""`rekeyd key list`: the customer keys that the ledger knows, and how each stands."""

# ruff: noqa: PLC0415 - `--help` and unusable arguments answer without opening anything

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rekeyd.cli.invocation import ConfigOption, JsonOption, print_json, reported, say, settings_of
from rekeyd.cli.posture import key_app
from rekeyd.domain.job import utc_timestamp
from rekeyd.domain.key import KeyState
from rekeyd.ledger.port import TenantKey

__all__ = ["key_app", "key_view", "keys_table"]

_PIPE_COLUMNS = 200

_STYLES: dict[KeyState, str] = {
    "pending": "dim",
    "active": "green",
    "archived": "cyan",
    "unavailable": "yellow",
    "revoked": "red",
    "destroyed": "bold red",
}


@key_app.command("list")
def list_command(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Argument(metavar="TENANT", help="Only this tenant's.")] = None,
    *,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List customer keys with state, provider reference and dates, the oldest of each tenant first."""
    with reported():
        settings = settings_of(context, config)
        from rekeyd.cli import asking

        keys = asyncio.run(asking.keys(settings, tenant))
        if as_json:
            print_json([key_view(key) for key in keys])
        elif keys:
            console = Console(highlight=False)
            if not console.is_terminal:
                console.width = _PIPE_COLUMNS
            console.print(keys_table(keys))
        else:
            say("rekeyd: no such keys")


def key_view(key: TenantKey) -> dict[str, object]:
    """One key, as an item of `key list --json`. Scripts are built on these names: they change only by addition."""
    return {
        "ref": key.ref,
        "tenant": key.tenant,
        "kind": key.kind,
        "state": key.state,
        "former_state": key.former_state,
        "arn": key.arn,
        "alias": key.alias,
        "fingerprint": key.fingerprint,
        "created_at": utc_timestamp(key.created_at),
        "changed_at": utc_timestamp(key.changed_at),
    }


def keys_table(keys: Sequence[TenantKey]) -> Table:
    """Keys, one a line."""
    table = Table("tenant", "state", "kind", "key", "alias", "since", box=SIMPLE_HEAD)
    for key in keys:
        table.add_row(
            Text(key.tenant),
            Text(key.state, style=_STYLES[key.state]),
            key.kind,
            Text(key.arn or key.ref, no_wrap=True),
            Text(key.alias or ""),
            Text(utc_timestamp(key.changed_at) or "", no_wrap=True),
        )
    return table
