"""Passes over the source: list it page by page into the ledger, and wait until what changed has been carried."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from rekeyd.domain.job import HeldReason
from rekeyd.domain.objects import KEY_CANARIES, ObjectVersion
from rekeyd.jobs.endings import Held
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.watch import check_key
from rekeyd.ledger.port import PassState
from rekeyd.stores.port import HISTORY_VERSIONS_MAX
from rekeyd.transfer.attempt import CONFLICT, NEEDS_RESTORE, PASSING, UNMOVABLE

log = structlog.get_logger()

_REASONS_SHOWN_MAX = 3
_FAILED_LOOKED_AT_MAX = 1000

_LASTING: Mapping[str, HeldReason] = {
    CONFLICT: "conflict",
    UNMOVABLE: "unmovable_objects",
    NEEDS_RESTORE: "needs_restore",
}
"""For which a person is asked, by how the object's reason begins; the gravest first."""


async def make_pass(run: JobRun, pause_epoch: int | None) -> PassState | Held:
    """One whole pass: listed to its end, and all that it found carried or swept, or given up with a reason.

    A pass that was begun before (by a daemon that died, say) is continued where its cursor stands.
    """
    state = await _begun(run, pause_epoch)
    while not state.listed:
        further = await (_settle_missing(run, state) if state.settling else _list_page(run, state))
        if isinstance(further, Held):
            return further
        state = further
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


async def _settle_missing(run: JobRun, state: PassState) -> PassState:
    state = await run.tools.ledger.settle_missing(run.claim, state.number)
    run.tools.work_came.set()
    return state


async def _list_page(run: JobRun, state: PassState) -> PassState | Held:
    listed = await _page(run, state.resume_after)
    if isinstance(listed, Held):
        return listed
    objects, resume_after = listed
    if run.job.in_place:
        objects = [
            each for each in objects if not each.key.startswith(KEY_CANARIES)
        ]  # they stay under their keys
    run.kept.call_deadline()  # a page listed under a claim that is over is not entered
    run.tools.metrics.count_objects("listed", len(objects), sum(each.history_bytes for each in objects))
    state = await run.tools.ledger.record_page(
        run.claim, state.number, objects, state.resume_after, resume_after
    )
    run.tools.work_came.set()
    return state


async def _page(run: JobRun, after: str | None) -> tuple[Sequence[ObjectVersion], str | None] | Held:
    """What the source holds from a cursor on, with the histories that the job carries; and the next cursor."""
    source, objects = run.job.source, run.tools.source_of(run.job).objects
    if not run.source_versioned:
        page = await objects.list_page(source.bucket, source.prefix, after=after)
        return page.objects, page.resume_after
    histories = await objects.list_versions_page(source.bucket, source.prefix, after=after)
    if run.job.versions == "current":
        # What is beneath stays in the source, and is reported at the end.
        current = [replace(each, older=()) for each in histories.histories if not each.marker]
        return current, histories.resume_after
    if histories.too_long:
        key, more = histories.too_long[0], len(histories.too_long) - 1
        error = f"{key!r} and {more} more keys have over {HISTORY_VERSIONS_MAX} versions: thin them out"
        return Held("unmovable_objects", error, by_itself=False)
    return histories.histories, histories.resume_after


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
    for beginning, reason in _LASTING.items():
        such = [each for each in failed if each[1].startswith(beginning)]
        if such:
            return Held(reason, _shown(such), by_itself=False)
    lasting = [each for each in failed if not each[1].startswith(PASSING)]
    if lasting:
        return Held("unverified_objects", _shown(lasting), by_itself=False)
    # The next pass lists them again, and they are carried again.
    return Held("store_unavailable", _shown(failed))


def _shown(failed: Sequence[tuple[str, str]]) -> str:
    more = f" and {len(failed) - _REASONS_SHOWN_MAX} more" if len(failed) > _REASONS_SHOWN_MAX else ""
    return "; ".join(f"{key!r}: {reason}" for key, reason in failed[:_REASONS_SHOWN_MAX]) + more
