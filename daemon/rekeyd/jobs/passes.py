"""Passes over the source: list it page by page into the ledger, and wait until what changed has been carried."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from rekeyd.jobs.endings import Held
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.watch import check_key
from rekeyd.ledger.port import PassState
from rekeyd.transfer.carry import CONFLICT, PASSING

log = structlog.get_logger()

_REASONS_SHOWN_MAX = 3
_FAILED_LOOKED_AT_MAX = 1000


async def make_pass(run: JobRun, pause_epoch: int | None) -> PassState | Held:
    """One whole pass: listed to its end, and all that it found carried or swept, or given up with a reason.

    A pass that was begun before (by a daemon that died, say) is continued where its cursor stands.
    """
    state = await _begun(run, pause_epoch)
    while not state.listed:
        state = await _list_page(run, state)
    state = await _await_segments(run)
    log.info(
        "pass_done",
        job=run.job.id,
        number=state.number,
        changed_objects=state.changed_objects,
        paused=pause_epoch is not None,
    )
    return await _objects_given_up(run) or state


async def _begun(run: JobRun, pause_epoch: int | None) -> PassState:
    ledger = run.tools.ledger
    state = await ledger.current_pass(run.claim)
    if (
        state is not None
        and state.pause_epoch == pause_epoch
        and state.terms_hold
        and (state.open_segments or not state.listed)
    ):
        return state
    if state is not None:
        # What an earlier pass has under way ends first: its writes must not land on what this one finds.
        await _await_segments(run)
    return await ledger.begin_pass(run.claim, pause_epoch)


async def _list_page(run: JobRun, state: PassState) -> PassState:
    source = run.job.source
    store = run.tools.source_of(run.job)
    page = await store.objects.list_page(source.bucket, source.prefix, after=state.resume_after)
    run.kept.call_deadline()  # a page listed under a claim that is over is not entered
    run.tools.metrics.count_objects(
        "listed", len(page.objects), sum(version.size_bytes for version in page.objects)
    )
    state = await run.tools.ledger.record_page(
        run.claim, state.number, page.objects, state.resume_after, page.resume_after
    )
    run.tools.work_came.set()
    return state


async def _await_segments(run: JobRun) -> PassState:
    """Wait until no segment is open: this process's workers, or others', are at them."""
    while True:
        state = await run.tools.ledger.current_pass(run.claim)
        assert state is not None, "a pass was begun"
        if not state.open_segments:
            return state
        await asyncio.sleep(run.tools.timings.poll_seconds)


async def _objects_given_up(run: JobRun) -> Held | None:
    """Why objects were given up, where any were. The key is asked first: a store may just say 500 without it."""
    failed = await run.tools.ledger.failed_objects(run.claim, _FAILED_LOOKED_AT_MAX)
    if not failed:
        return None
    held = await check_key(run.tools, run.job, None)
    if held is not None:
        return held
    conflicts = [each for each in failed if each[1].startswith(CONFLICT)]
    if conflicts:
        return Held("conflict", _shown(conflicts), by_itself=False)
    lasting = [each for each in failed if not each[1].startswith(PASSING)]
    if lasting:
        return Held("unverified_objects", _shown(lasting), by_itself=False)
    # The next pass lists them again, and they are carried again.
    return Held("store_unavailable", _shown(failed))


def _shown(failed: Sequence[tuple[str, str]]) -> str:
    more = f" and {len(failed) - _REASONS_SHOWN_MAX} more" if len(failed) > _REASONS_SHOWN_MAX else ""
    return "; ".join(f"{key!r}: {reason}" for key, reason in failed[:_REASONS_SHOWN_MAX]) + more
