"""A job being worked on: what its story, its watch and the workers of its segments share in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from rekeyd.domain.custody import Errand
from rekeyd.domain.errors import CustodyError
from rekeyd.domain.job import Job
from rekeyd.jobs.claims import KeptClaim
from rekeyd.jobs.endings import Held
from rekeyd.jobs.outage import Outage
from rekeyd.jobs.tools import Tools
from rekeyd.ledger.port import JobClaim

T = TypeVar("T")


class JobRun:
    """One attempt at a job."""

    def __init__(self, claim: JobClaim, kept: KeptClaim, tools: Tools) -> None:
        self.claim = claim
        self.kept = kept
        self.tools = tools
        self.checks_checksums = False
        """What provisioning found of the target. Until then nothing that it reports is believed."""
        self.source_versioned = False
        """Whether the source keeps versions, as preflight found it."""
        self.outage = Outage(tools.objects_in_flight_max)
        self._obstacle: asyncio.Future[Held] = asyncio.get_running_loop().create_future()

    @property
    def job(self) -> Job:
        """The job as it was when it was claimed, or read again since."""
        return self.claim.job

    @property
    def errand(self) -> Errand:
        """On whose behalf, and for which job, custody is asked."""
        return Errand(self.job.tenant, self.job.id)

    async def read_job_again(self) -> None:
        """Take notice of what the ledger says of the job by now. The claim stays the same."""
        self.claim = replace(self.claim, job=await self.tools.ledger.job(self.job.id))

    async def switching(self, switch: Callable[[], Awaitable[T]]) -> T:
        """Have a key switched, as anything is changed: under a claim that outlives the call, which ends in time.

        Raises ClaimLostError, CustodyError. A call whose answer was not waited for may take effect until its deadline.
        """
        deadline = self.kept.call_deadline()
        try:
            async with asyncio.timeout_at(deadline):
                return await switch()
        except TimeoutError as error:
            self.kept.unanswered(deadline)
            raise CustodyError("the key service gave no answer in time") from error
        except asyncio.CancelledError:
            self.kept.unanswered(deadline)
            raise

    def report(self, obstacle: Held) -> None:
        """Say that something stands in the way of all its objects. The first word counts."""
        if not self._obstacle.done():
            self._obstacle.set_result(obstacle)

    async def obstacle(self) -> Held:
        """Wait until somebody reports one."""
        return await asyncio.shield(self._obstacle)


async def first_of(*calls: Awaitable[T]) -> T:
    """Run all side by side; the first to end, well or badly, gives the result. The others are cancelled and awaited."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task in done).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
