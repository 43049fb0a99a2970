"""What a person sees of the demo: its steps while it runs, and a summary of what was proven."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rekeyd.demo.outcome import Outcome
from rekeyd.demo.proof import Finding

REDRAW_SECONDS = 0.1


class Narrator:
    """Tells the story step by step, and keeps how long each step took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    def say(self, words: str) -> None:
        """A line of its own."""
        self.console.print(words, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str, words: str) -> Iterator[Callable[[str], None]]:
        """One step: what it does while it lasts, and a tick with its duration once it has succeeded.

        The block may change the words as it learns more.
        """
        began = drawn = time.monotonic()
        with self.console.status(Text(words)) as status:

            def reword(anew: str) -> None:
                nonlocal words, drawn
                words = anew
                if time.monotonic() - drawn >= REDRAW_SECONDS:
                    drawn = time.monotonic()
                    status.update(Text(words))

            yield reword
        self.tick(name, words, time.monotonic() - began)

    def tick(self, name: str, words: str, seconds: float) -> None:
        """A step that has succeeded."""
        self.seconds[name] = seconds
        line = Text.assemble("  ", ("✓", "green"), f" {words} ", (f"{seconds:.1f} s", "dim"))
        self.console.print(line, soft_wrap=True)


def summary(outcome: Outcome) -> RenderableType:
    """What was moved, how fast, and everything that was proven."""
    shown: list[RenderableType] = [Text(), _figures(outcome), _proofs(outcome.findings)]
    failed = [finding for finding in outcome.findings if not finding.ok]
    for finding in failed:
        shown.append(Text(f"✗ {finding.claim}", style="bold red"))
        faults = finding.faults or ("there was nothing to compare",)
        shown.extend(Padding(Text(fault), (0, 0, 0, 4), expand=False) for fault in faults)
    if outcome.left_out:
        shown.append(Text(f"{len(outcome.left_out):,} of your files were left out:", style="yellow"))
        shown.extend(
            Padding(Text(f"{left.name}: {left.reason}"), (0, 0, 0, 4), expand=False)
            for left in outcome.left_out[:5]
        )
    if failed:
        shown.append(Text("the end of the daemon's log:", style="bold"))
        shown.extend(Padding(Text(line), (0, 0, 0, 4), expand=False) for line in outcome.log_tail)
        shown.append(Text("\nNot everything is as it should be.", style="bold red"))
    else:
        shown.append(Text("Everything is as it should be.", style="bold green"))
    return Group(*shown)


def _figures(outcome: Outcome) -> RenderableType:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("data", f"{outcome.objects:,} objects, {decimal(outcome.size_bytes)}, from {outcome.what}")
    table.add_row("from", f"{outcome.source}  the vendor's, under the vendor's key (SSE-S3)")
    table.add_row("to", f"{outcome.target}  the tenant's own bucket")
    if outcome.key_arn:
        table.add_row("under", f"{outcome.key_arn}  the tenant's own key")
    seconds = outcome.seconds.get("move")
    if seconds:
        rates = f"{outcome.objects / seconds:,.0f} objects/s, {decimal(int(outcome.size_bytes / seconds))}/s"
        table.add_row("in", f"{seconds:.1f} s, {rates}, from message to last deletion")
    return Padding(table, (0, 0, 0, 2), expand=False)


def _proofs(findings: tuple[Finding, ...]) -> Table:
    table = Table("", "proven", box=SIMPLE_HEAD)
    table.add_column("checked", justify="right")
    for finding in findings:
        mark = Text("✓", style="green") if finding.ok else Text("✗", style="bold red")
        table.add_row(mark, finding.claim, f"{finding.checked:,}")
    return table
