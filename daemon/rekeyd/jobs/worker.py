"""The worker: claims jobs and segments from the ledger, runs them, and writes down how they ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Never, TypeVar, assert_never

import structlog

from rekeyd.domain.errors import (
    AccessDeniedError,
    ClaimLostError,
    CustodyError,
    DriftError,
    KeyUnusableError,
    LedgerError,
    RekeydError,
    RevokedError,
    StoreError,
)
from rekeyd.domain.job import Job, JobKind
from rekeyd.jobs.claims import KeptClaim
from rekeyd.jobs.endings import Completed, Ending, Failed, Held, Waiting
from rekeyd.jobs.migrate import migrate
from rekeyd.jobs.outage import Outage
from rekeyd.jobs.provision import refuses_wrong_checksum
from rekeyd.jobs.reinstate import reinstate
from rekeyd.jobs.revoke import revoke
from rekeyd.jobs.rotate import rotate
from rekeyd.jobs.run import JobRun, first_of
from rekeyd.jobs.segment import SegmentWork
from rekeyd.jobs.tools import Tools
from rekeyd.jobs.verify_again import verify_tenant
from rekeyd.jobs.watch import check_key
from rekeyd.ledger.port import JobClaim, SegmentClaim

log = structlog.get_logger()

C = TypeVar("C", JobClaim, SegmentClaim)

STORIES: Mapping[JobKind, Callable[[JobRun], Awaitable[Ending]]] = {
    "migrate": migrate,
    "rotate": rotate,
    "revoke": revoke,
    "reinstate": reinstate,
    "verify": verify_tenant,
}
"""What each kind of job is about."""

_RETRY_SECONDS_BASE = 2.0
"""After an unforeseen error a job is due again in so long, twice as long after each further one."""

_PAST_DEADLINE_MAX = 1000
"""So many jobs are remembered as past their deadline; an older one may be remarked on once more."""

_ENDING_SECONDS_MAX = 5.0
"""How long the objects of a job that ends early may take to give up what they began."""


class Worker:
    """Works on jobs and segments until it is told to stop."""

    def __init__(self, tools: Tools, holder: str, *, jobs_max: int, segments_max: int) -> None:
        """`holder` names this daemon in claims; the bounds are those of what it works on at once."""
        self._tools = tools
        self._holder = holder
        self._jobs_max = jobs_max
        self._segments_max = segments_max
        self._stopping = asyncio.Event()
        self._runs: dict[str, JobRun] = {}
        self._segment_tasks: dict[asyncio.Task[None], str] = {}
        self._claiming_segments = asyncio.Lock()
        self._past_deadline: deque[str] = deque(maxlen=_PAST_DEADLINE_MAX)

    def stop(self) -> None:
        """Claim nothing more; let the objects in flight end."""
        self._stopping.set()
        self._tools.work_came.set()

    async def run(self) -> None:
        """Work until `stop`, then until the objects in flight have ended. Cancelling ends those, too.

        Raises only broken invariants.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._dispatch(group, self._jobs_max, self._tools.ledger.claim_job, self._run_job)
            )
            group.create_task(
                self._dispatch(group, self._segments_max, self._claim_segment, self._run_segment)
            )

    async def _dispatch(
        self,
        group: asyncio.TaskGroup,
        at_once_max: int,
        claim_next: Callable[[str, float], Awaitable[C | None]],
        work: Callable[[C, float], Awaitable[None]],
    ) -> None:
        """Take a place, then a claim, then work on it aside: what is claimed is worked on at once."""
        places = asyncio.Semaphore(at_once_max)
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            await places.acquire()
            asked_at = loop.time()
            claim = None
            if not self._stopping.is_set():
                claim = await self._claim(claim_next)
            if claim is None:
                places.release()
                await self._wait_for_work()
                continue
            task = group.create_task(_logged(partial(work, claim, asked_at)))
            task.add_done_callback(lambda _: places.release())
            if isinstance(claim, SegmentClaim):
                self._segment_tasks[task] = claim.job.id
                task.add_done_callback(self._segment_tasks.pop)

    async def _claim_segment(self, holder: str, lease_seconds: float) -> SegmentClaim | None:
        async with self._claiming_segments:
            return await self._tools.ledger.claim_segment(holder, lease_seconds)

    async def _claim(self, claim_next: Callable[[str, float], Awaitable[C | None]]) -> C | None:
        try:
            return await claim_next(self._holder, self._tools.timings.lease_seconds)
        except LedgerError as error:
            log.warning("ledger_not_reached", error=str(error))
            return None

    async def _wait_for_work(self) -> None:
        if self._stopping.is_set():
            return
        self._tools.work_came.clear()
        try:
            async with asyncio.timeout(self._tools.timings.poll_seconds):
                await self._tools.work_came.wait()
        except TimeoutError:
            pass

    def _kept(self, renew: Callable[[], Awaitable[None]], asked_at: float) -> KeptClaim:
        timings = self._tools.timings
        return KeptClaim(
            renew,
            asked_at=asked_at,
            lease_seconds=timings.lease_seconds,
            call_seconds_max=timings.call_seconds_max,
        )

    async def _run_job(self, claim: JobClaim, asked_at: float) -> None:
        job, ledger = claim.job, self._tools.ledger
        kept = self._kept(partial(ledger.renew_job, claim), asked_at)
        run = JobRun(claim, kept, self._tools)
        self._runs[job.id] = run
        structlog.contextvars.bind_contextvars(**_log_context(job))
        _log_of(job)("job_claimed", state=job.state, phase=job.phase)
        try:
            ending = await self._ending(run)
            if isinstance(ending, Waiting):
                await self._write_down(run, ending)
                return
            async with self._claiming_segments:
                # Nothing of it is claimed here between its segments' end and its own: a claim that is ended from
                # outside keeps its lease, and whoever goes on with the job would have to wait for that.
                await self._end_segments(job.id)
                await self._write_down(run, ending)
        except ClaimLostError as error:
            # Cancelled, or taken over: whoever did it has written down what is to be known.
            self._tools.metrics.count_lost_claim()
            log.warning("job_claim_lost", error=str(error))
            await self._end_segments(job.id)
            await self._observe_cancelled(job)
        except LedgerError as error:
            log.warning("ledger_not_reached", error=str(error))
            await self._end_segments(job.id)
        finally:
            kept.end()
            if self._runs.get(job.id) is run:  # and not a later attempt, after this one's claim was lost
                del self._runs[job.id]

    async def _watch_deadline(self, job: Job) -> Never:
        """Remark, once, that the job is past its deadline: when it passes, or at the next claim. Nothing ends by it."""
        deadline = job.message.deadline
        if deadline is not None and job.id not in self._past_deadline:
            left_seconds = deadline.timestamp() - await self._tools.ledger.now()
            await asyncio.sleep(max(left_seconds, 0.0))
            self._past_deadline.append(job.id)
            log.warning("job_past_deadline", deadline=deadline.isoformat())
        never: asyncio.Future[Never] = asyncio.get_running_loop().create_future()
        await never

    async def _ending(self, run: JobRun) -> Ending:
        """How the story ends, also where it ends in an error that is somebody's to mend."""
        try:
            return await first_of(
                STORIES[run.job.kind](run), run.kept.keep(), self._stopped(), self._watch_deadline(run.job)
            )
        except (ClaimLostError, LedgerError):
            raise
        except RevokedError as error:
            return Held("revoked", str(error), by_itself=False)
        except (AccessDeniedError, KeyUnusableError, CustodyError) as error:
            return await self._obstacle(run.claim, error)
        except StoreError as error:
            if error.repeatable:
                return await self._obstacle(run.claim, error)
            return await self._attempt_failed(run, error)
        except (RekeydError, OSError) as error:
            return await self._attempt_failed(run, error)

    async def _stopped(self) -> Waiting:
        await self._stopping.wait()
        return Waiting(0.0)

    async def _obstacle(self, claim: JobClaim | SegmentClaim, error: RekeydError) -> Held:
        """What stands in the way, in the words of who can mend it; the key is asked first.

        A store may answer 500 for an object whose key is disabled (SeaweedFS does).
        """
        if not isinstance(error, CustodyError):
            held = await check_key(self._tools, claim.job, None)
            if held is not None:
                return held
        match error:
            case AccessDeniedError():
                return Held("access_denied", str(error))
            case KeyUnusableError():
                return Held("key_unusable", str(error))
            case CustodyError():
                return Held("custody_unavailable", str(error))
            case DriftError():
                return Held("drift", str(error))
            case _:
                return Held("store_unavailable", str(error))

    async def _attempt_failed(self, run: JobRun, error: Exception) -> Ending:
        log.error("job_attempt_failed", error=str(error), exc_info=error)
        attempts = await self._tools.ledger.record_failed_attempt(run.claim, str(error))
        if attempts >= self._tools.timings.job_attempts_max:
            return Held("attempts_exhausted", str(error), by_itself=False)
        return Waiting(_RETRY_SECONDS_BASE * 2 ** (attempts - 1))

    async def _write_down(self, run: JobRun, ending: Ending) -> None:
        ledger, claim = self._tools.ledger, run.claim
        say = _log_of(run.job) if isinstance(ending, Waiting) else log.info
        say("job_attempt_ended", ending=type(ending).__name__, detail=str(ending))
        settled = run.kept.is_settled()
        match ending:
            case Completed(remark):
                await ledger.finish_job(claim, "completed", remark, settled=settled)
                await self._observe(run.job)
            case Failed(error):
                await ledger.finish_job(claim, "failed", error, settled=settled)
                await self._observe(run.job)
            case Held(reason, error, by_itself):
                recheck = self._tools.timings.held_recheck_seconds if by_itself else None
                await ledger.hold_job(claim, reason, error, recheck, settled=settled)
            case Waiting(due_in_seconds):
                await ledger.release_job(claim, due_in_seconds, settled=settled)
            case never:
                assert_never(never)

    async def _observe(self, job: Job) -> None:
        job = await self._tools.ledger.job(job.id)
        if job.started_at is not None and job.finished_at is not None:
            seconds = job.finished_at - job.started_at
            self._tools.metrics.observe_job(job.message.kind, job.state, seconds)

    async def _observe_cancelled(self, job: Job) -> None:
        """One that was cancelled while it was worked on here. Whoever cancels has no metrics."""
        try:
            if (await self._tools.ledger.job(job.id)).state == "cancelled":
                await self._observe(job)
        except LedgerError as error:
            log.warning("ledger_not_reached", error=str(error))

    async def _end_segments(self, job_id: str) -> None:
        """End this process's work on a job's segments; what can be aborted in time is."""
        # A task that was made just now has to begin: cancelled before, it would not give its claim back.
        await asyncio.sleep(0)
        tasks = [task for task, owner in self._segment_tasks.items() if owner == job_id]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING_SECONDS_MAX)

    async def _run_segment(self, claim: SegmentClaim, asked_at: float) -> None:
        job = claim.job
        run = self._runs.get(job.id)
        kept = self._kept(partial(self._tools.ledger.renew_segment, claim), asked_at)
        # Without having seen the target refuse a wrong checksum, nothing that it reports is believed.
        checks = run is not None and run.checks_checksums
        structlog.contextvars.bind_contextvars(**_log_context(job), segment=claim.segment_id)
        try:
            if job.in_place and not checks:
                # What it overwrites can't be brought back: whoever works on it has to know, a new attempt's too.
                checks = await refuses_wrong_checksum(self._tools.target_of(job), job, kept)
            route = self._tools.route_of(job, target_checks_checksums=checks)
            outage = Outage(self._tools.objects_in_flight_max) if run is None else run.outage
            work = SegmentWork(claim, kept, route, self._tools, self._stopping, outage)
            await first_of(work.do(), kept.keep())
        except ClaimLostError as error:
            self._tools.metrics.count_lost_claim()
            log.warning("segment_claim_lost", error=str(error))
        except (StoreError, DriftError, LedgerError) as error:
            log.warning("segment_given_back", error=str(error))
            refused = False
            try:
                refused = await self._say_why(claim, kept, run, error)
            finally:
                if not refused:
                    await self._give_back(claim, kept)
        except asyncio.CancelledError:
            await self._give_back(claim, kept)
            raise
        finally:
            kept.end()
            self._tools.work_came.set()

    async def _say_why(
        self,
        claim: SegmentClaim,
        kept: KeptClaim,
        run: JobRun | None,
        error: StoreError | DriftError | LedgerError,
    ) -> bool:
        """Tell whoever ends the job for it: the run here, or, by way of the ledger, the one elsewhere.

        Gives whether the claim has ended by that. The same segment isn't taken up again at once, and again.
        """
        poll_seconds = self._tools.timings.poll_seconds
        if isinstance(error, LedgerError):
            await asyncio.sleep(poll_seconds)
            return False
        obstacle = await self._obstacle(claim, error)
        if run is not None:
            run.report(obstacle)
            return False
        try:
            await self._tools.ledger.refuse_segment(
                claim, obstacle.reason, obstacle.error, poll_seconds, settled=kept.is_settled()
            )
        except (ClaimLostError, LedgerError) as lost:
            log.info("segment_refusal_not_recorded", error=str(lost))
        return True

    async def _give_back(self, claim: SegmentClaim, kept: KeptClaim) -> None:
        """Release the segment, also where we are cancelled amid it.

        Not while a call that got no answer may still take effect: then its lease runs out by itself.
        """
        if kept.is_settled():
            await asyncio.shield(self._release(claim))
        else:
            log.info("segment_left_to_its_lease", segment=claim.segment_id)

    async def _release(self, claim: SegmentClaim) -> None:
        try:
            await self._tools.ledger.release_segment(claim)
        except (ClaimLostError, LedgerError) as error:
            log.info("segment_not_released", error=str(error))


def _log_of(job: Job) -> Callable[..., object]:
    """A job that waits out its grace is claimed again and again to look at its key: that is no news."""
    looked_at = job.state == "running" and job.phase == "grace"
    say: Callable[..., object] = log.debug if looked_at else log.info
    return say


def _log_context(job: Job) -> dict[str, str]:
    """What stands in each log record about a job; the caller's trace and who asked for it, where it says so."""
    message = job.message
    said = {
        "traceparent": message.traceparent,
        "tracestate": message.tracestate,
        "requested_by": message.requested_by,
    }
    return {"job": job.id, "tenant": job.tenant} | {
        name: value for name, value in said.items() if value is not None
    }


async def _logged(work: Callable[[], Awaitable[None]]) -> None:
    """Run the work with a log context of its own."""
    structlog.contextvars.clear_contextvars()
    await work()
