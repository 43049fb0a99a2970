"""Segments that other processes give back again and again: what they say why holds the job."""

from __future__ import annotations

import asyncio

from rekeyd.jobs.endings import Held
from rekeyd.jobs.run import JobRun

_REFUSALS_MAX = 3
"""So often may other processes give a segment back before that holds the job."""


async def refused_elsewhere(run: JobRun) -> Held:
    """Wait until other processes have given back one segment again and again; ends with why they did last.

    Each of them may be at fault itself. It is a person's to tell, from the name with which the reason begins.
    """
    while True:
        await asyncio.sleep(run.tools.timings.poll_seconds)
        refused = await run.tools.ledger.refused_segment(run.claim, _REFUSALS_MAX)
        if refused is not None:
            return Held(*refused)
