"""What people read: tables and bars. Nothing here decides anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from rekeyd.cli.progress import Meter, Progress
from rekeyd.domain.job import Job, JobPhase, JobState, utc_timestamp
from rekeyd.domain.tenant import Placement

if TYPE_CHECKING:
    from rekeyd.cli.chains import TrailFinding
    from rekeyd.service import CheckFinding

PLAIN_LINE_SECONDS = 5.0
"""How often progress is a line of its own where there is no terminal to redraw."""

PHASE_WORDS: dict[JobPhase, str] = {
    "queued": "waiting to begin",
    "bring": "importing the tenant's key",
    "preflight": "looking at key, source and target",
    "provision": "making the dedicated bucket",
    "copy": "copying and verifying",
    "pause": "writers paused: last pass",
    "switch": "switching to the target",
    "grace": "keeping the source for a while",
    "retire": "deleting verified source versions",
    "certify": "writing the evidence and the certificate",
    "withdraw": "withdrawing keys until nothing can be read",
    "redirect": "leading writers to the new key",
    "reencrypt": "bringing every object under the new key",
    "prove": "looking under which key every version lies",
    "read": "reading all data again",
    "restore": "giving keys back until everything can be read",
    "done": "done",
}

_STATE_STYLES: dict[JobState, str] = {
    "queued": "dim",
    "running": "cyan",
    "held": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "dim",
}


def jobs_table(jobs: Sequence[Job]) -> Table:
    """Jobs, one a line."""
    table = Table("id", "tenant", "state", "phase", "verified", "bytes", "created", box=SIMPLE_HEAD)
    for job in jobs:
        counts = job.counts
        table.add_row(
            Text(job.id, overflow="fold"),
            Text(job.tenant, overflow="fold"),
            _state(job),
            job.phase,
            f"{counts.objects_verified:,} of {counts.objects_listed:,}",
            decimal(counts.bytes_verified),
            Text(utc_timestamp(job.created_at) or "", no_wrap=True),
        )
    return table


def job_table(job: Job, progress: Progress) -> Table:
    """All that is known of one job."""
    counts = job.counts
    table = _facts()
    table.add_row("job", Text.assemble(job.id, "  ", _state(job)))
    table.add_row("phase", f"{job.phase}: {PHASE_WORDS[job.phase]}")
    if job.error:
        table.add_row("because", Text(job.error))
    table.add_row("tenant", Text(job.tenant))
    table.add_row("source", Text(str(job.source)))
    table.add_row("target", Text(str(job.target)))
    table.add_row("key", Text(job.named_key.arn or f"{job.key_ref}, not imported yet"))
    table.add_row(
        "objects",
        f"{counts.objects_listed:,} listed, {counts.objects_verified:,} verified, "
        f"{counts.objects_excluded:,} excluded, {counts.objects_deleted:,} deleted from the source",
    )
    table.add_row("bytes", f"{decimal(counts.bytes_verified)} of {decimal(counts.bytes_listed)} verified")
    if job.state == "running":
        table.add_row("rate", _rate(progress))
        table.add_row("time left", _time_left(progress))
    for what, moment in (
        ("created", job.created_at),
        ("started", job.started_at),
        ("finished", job.finished_at),
    ):
        table.add_row(what, utc_timestamp(moment) or "not yet")
    return table


def placement_table(placement: Placement) -> Table:
    """Where a tenant's data live."""
    table = _facts()
    table.add_row("tenant", Text(placement.tenant))
    table.add_row("phase", f"{placement.phase}, epoch {placement.epoch}")
    table.add_row("reads", Text("\n".join(map(str, placement.reads))))
    table.add_row("writes", Text("\n".join(map(str, placement.writes)) or "nobody, for now"))
    table.add_row("writes from", utc_timestamp(placement.writes_from) or "now")
    table.add_row("deletes", placement.deletes)
    table.add_row("key", placement.key_state or "none of its own")
    table.add_row("good until", utc_timestamp(placement.expires_at) or "")
    return table


def checks_table(findings: Sequence[CheckFinding]) -> Table:
    """What `check` looked at, and how to mend what isn't well."""
    table = Table("", "what", "finding", box=SIMPLE_HEAD)
    for finding in findings:
        said = Text(finding.detail)
        if not finding.ok and finding.advice:
            said.append(f"\n{finding.advice}", style="bold")
        table.add_row(_mark(ok=finding.ok), Text(finding.name), said)
    return table


def trail_table(trail: TrailFinding) -> Table:
    """The chains of the audit trail, each with its first bad record, and the checkpoints likewise."""
    table = Table("", "chain", "records", "finding", box=SIMPLE_HEAD)
    for finding in trail.chains:
        broken = finding.broken
        said = "whole" if broken is None else f"record {broken.sequence} {broken.reason}"
        table.add_row(_mark(ok=broken is None), Text(finding.chain), f"{finding.records:,}", Text(said))
    wrong = trail.broken_checkpoint
    said = "signed, and on record" if wrong is None else f"checkpoint {wrong.number} {wrong.reason}"
    table.add_row(_mark(ok=wrong is None), Text("checkpoints"), f"{trail.checkpoints:,}", Text(said))
    if trail.broken_certificate is not None:
        said = f"that of {trail.broken_certificate} names a record that the audit trail doesn't have"
        table.add_row(_mark(ok=False), Text("certificates"), "", Text(said))
    return table


@contextmanager
def job_bar(console: Console) -> Iterator[Callable[[Job], None]]:
    """Show a job's progress until the block ends: one bar on a terminal, a line now and then elsewhere."""
    meter = Meter()
    if not console.is_terminal:
        yield _Lines(console, meter).show
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", style="bold"),
        BarColumn(),
        TextColumn("{task.fields[figures]}", style="dim"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task(PHASE_WORDS["queued"], total=None, figures="")

        def show(job: Job) -> None:
            progress = meter.observe(job, time.monotonic())
            bars.update(
                task,
                description=_phase_words(job),
                completed=progress.objects_done,
                total=progress.objects_total or None,
                figures=_figures(progress),
            )

        yield show


class _Lines:
    """Progress where nothing can be redrawn: a line whenever the phase changes, and now and then."""

    def __init__(self, console: Console, meter: Meter) -> None:
        self._console = console
        self._meter = meter
        self._said = ""
        self._due = 0.0

    def show(self, job: Job) -> None:
        now = time.monotonic()
        progress = self._meter.observe(job, now)
        words = _phase_words(job)
        if words == self._said and now < self._due:
            return
        self._said, self._due = words, now + PLAIN_LINE_SECONDS
        figures = _figures(progress)
        self._console.print(
            f"{words}: {figures}" if figures else words, markup=False, highlight=False, soft_wrap=True
        )


def _phase_words(job: Job) -> str:
    if job.state == "held":
        return f"held: {job.held_reason}"
    return PHASE_WORDS[job.phase] if job.state in {"queued", "running"} else job.state


def _figures(progress: Progress) -> str:
    if not progress.objects_total:
        return ""
    objects = f"{progress.objects_done:,}/{progress.objects_total:,} objects"
    if progress.stage == "retire":
        return f"{objects} · {_rate(progress)} · {_time_left(progress)} left"
    moved = f"{decimal(progress.bytes_done)}/{decimal(progress.bytes_total)}"
    return f"{objects} · {moved} · {_rate(progress)} · {_time_left(progress)} left"


def _rate(progress: Progress) -> str:
    if progress.objects_per_second is None or progress.bytes_per_second is None:
        return "–/s"  # noqa: RUF001 - a dash for "not known"
    objects = f"{progress.objects_per_second:,.0f}/s"
    if progress.stage == "retire":
        return objects
    return f"{objects}, {decimal(int(progress.bytes_per_second))}/s"


def _time_left(progress: Progress) -> str:
    if progress.seconds_left is None:
        return "unknown time"
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


def _state(job: Job) -> Text:
    words = f"{job.state}: {job.held_reason}" if job.state == "held" else job.state
    return Text(words, style=_STATE_STYLES[job.state])


def _mark(*, ok: bool) -> Text:
    return Text("✓", style="green") if ok else Text("✗", style="bold red")


def _facts() -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table
