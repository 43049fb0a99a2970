"""`rekeyd submit --plan`: what a rotation would take, before anything is admitted."""

from __future__ import annotations

import asyncio

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from rekeyd.cli import asking
from rekeyd.cli.invocation import print_json
from rekeyd.settings import Settings


def show_plan(settings: Settings, raw: bytes, *, as_json: bool) -> None:
    """Print the estimate for a rotation's message."""
    found = asyncio.run(asking.rotation_plan(settings, raw))
    view = found.view(settings.limits.objects_in_flight_max)
    if as_json:
        print_json(view)
        return
    table = Table("what", "estimate", box=SIMPLE_HEAD)
    for name, value in view.items():
        words = (
            ", ".join(f"{each} {count:,}" for each, count in value.items()) if isinstance(value, dict) else ""
        )
        table.add_row(
            name.replace("_", " "), words or (f"{value:,}" if isinstance(value, int | float) else "-")
        )
    Console(highlight=False).print(table)
