"""Looking at jobs in the ledger while a daemon works on them, until they are where they should be."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from rekeyd.demo.processes import Daemon, Operator
from rekeyd.demo.stage import LEDGER_NAME
from rekeyd.domain.errors import LedgerError, UnknownJobError
from rekeyd.domain.job import Job
from rekeyd.ledger.port import Ledger

LOOK_SECONDS = 0.25
STALL_SECONDS_MAX = 60.0
"""A job that hasn't moved for so long, or is held for so long, won't end by itself."""
HELD_SECONDS_MAX = 15.0

OpenLedger = Callable[[Path, Mapping[str, str]], AbstractAsyncContextManager[Ledger]]


async def ledger_there(operator: Operator, daemon: Daemon) -> str:
    """Wait until the daemon has made its ledger; the text says why it won't."""
    deadline = time.monotonic() + STALL_SECONDS_MAX
    while daemon.status is None and time.monotonic() < deadline:
        if (operator.config.parent / LEDGER_NAME).exists():
            return ""
        await asyncio.sleep(LOOK_SECONDS)
    return f"the daemon made no ledger (exit status {daemon.status})"


def has_ended(job: Job) -> bool:
    """Whether nothing more comes of it."""
    return job.state in {"completed", "failed", "cancelled"}


async def watch(
    ledger: Ledger,
    daemon: Daemon,
    job_id: str,
    until: Callable[[Job], bool] = has_ended,
    show: Callable[[Job], None] = lambda _job: None,
) -> tuple[Job | None, str]:
    """Look at a job until it is so, or has ended; gives how it is then, and where it won't be so the text says why."""
    last: Job | None = None
    moved_at = time.monotonic()
    while True:
        # Another process may hold the ledger for a moment, and the message takes one to arrive.
        with contextlib.suppress(UnknownJobError, LedgerError):
            job = await ledger.job(job_id)
            show(job)
            if until(job) or has_ended(job):
                return job, ""
            if job != last:
                last, moved_at = job, time.monotonic()
        if daemon.status is not None:
            return last, f"the daemon ended by itself, exit status {daemon.status}"
        held = last is not None and last.state == "held"
        patience = HELD_SECONDS_MAX if held else STALL_SECONDS_MAX
        if time.monotonic() - moved_at > patience:
            return last, f"nothing has moved for {patience:.0f} s"
        await asyncio.sleep(LOOK_SECONDS)
