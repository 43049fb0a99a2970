"""The story of a reinstatement: what one revocation withdrew is given back, once all of it can be read again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from rekeyd.domain.errors import ForeignKeyError, KeyForbiddenError, KeyStateError
from rekeyd.domain.job import ReinstateMessage
from rekeyd.domain.key import KeyState, key_ref
from rekeyd.jobs.bring import import_key
from rekeyd.jobs.canaries import read_canaries
from rekeyd.jobs.endings import Completed, Ending, Failed, Held
from rekeyd.jobs.refusal import Home, homes_of, refuse_nobody
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.switching_off import MISSING
from rekeyd.ledger.port import TenantKey

_LOOKS_MAX = 20
"""So often is looked, one `key_check_seconds` apart, before the attempt is held and begun anew."""


async def reinstate(run: JobRun) -> Ending:
    """Enable the keys, open the buckets, and let the tenant's placement and jobs go on where they were.

    Placement says so last: until then nobody is sent to what can't be read.
    """
    message, ledger = run.job.message, run.tools.ledger
    assert isinstance(message, ReinstateMessage), "the worker's table says so"
    record, _ = await ledger.placement(run.job.tenant)
    if record is not None and record.phase == "revoked" and record.revoked_by != message.undoes:
        return Failed(f"the tenant is revoked by {record.revoked_by} by now, not by {message.undoes}")
    await ledger.begin_job(run.claim)
    await ledger.enter_phase(run.claim, "restore")
    for key in await ledger.tenant_keys(run.job.tenant):
        unbrought = await _bring_again(run, message, key) if key.state == "destroyed" else None
        if unbrought is not None:
            return unbrought
    keys = await ledger.tenant_keys(run.job.tenant)
    did = {key.ref: await _enable(run, key) for key in keys if key.state == "revoked"}
    homes = homes_of(await ledger.tenant_moves_of(run.job.tenant), _arns(keys))
    for home in homes:
        await ledger.check_undoing(run.claim)
        await refuse_nobody(run.tools.store_of(home.location), home, _writable(run, keys), run.kept)
    held = await _until_readable(run, homes, keys)
    if held is not None:
        return held
    did |= {key.ref: "stays destroyed" for key in keys if key.state == "destroyed"}
    await ledger.note_result(run.claim, "reinstatement.result", {"keys": did, "undid": message.undoes})
    await ledger.lift_revocation(run.claim)
    await ledger.enter_phase(run.claim, "done")
    run.tools.work_came.set()
    return Completed()


async def _bring_again(run: JobRun, message: ReinstateMessage, key: TenantKey) -> Ending | None:
    """Have the material of a destroyed key in it again: the same, for no other is taken.

    An archived key may stay destroyed: what is under it was not among the data of late, and the result names it.
    """
    await run.tools.ledger.check_undoing(run.claim)
    if message.key is not None and key_ref(message.key) == key.ref:
        return await import_key(run, key.ref)
    if key.former_state == "archived":
        return None
    described = None if key.placed is None else await run.tools.custody.describe(key.placed)
    if described is not None and described.state in _WITH_MATERIAL:
        await run.tools.ledger.withdraw_key(
            run.claim, key.ref, "revoked", {"did": "its material is there again"}
        )
        return None
    way = (
        f"rekeyd key offer {key.tenant} --ref {key.ref}, then key accept; then resume this job"
        if key.kind == "accepted"
        else "with a reinstatement of its own, which names it wrapped"
    )
    return Held(
        "key_unusable", f"the material of {key.ref} was deleted: bring the same again, {way}", by_itself=False
    )


async def _enable(run: JobRun, key: TenantKey) -> str:
    """Raises CustodyError where it can't be done now."""
    if key.arn is None:
        return "never imported"
    await run.tools.ledger.check_undoing(run.claim)
    try:
        await run.switching(partial(run.tools.custody.enable, run.errand, key.arn))
    except (ForeignKeyError, KeyForbiddenError) as error:
        return f"not touched: {error}"
    except KeyStateError as error:
        if error.state != MISSING:
            raise
        return "gone"  # the canaries tell whether anything lies under it
    return "enabled"


def _arns(keys: Sequence[TenantKey]) -> list[str]:
    """Of those under which anything is to be readable again."""
    return [key.arn for key in keys if key.arn is not None and key.state != "destroyed"]


def _writable(run: JobRun, keys: Sequence[TenantKey]) -> list[str]:
    """The keys that writers may name: that of the placement first, and what a rotation has left in use."""
    used = [key.arn for key in keys if key.arn is not None and (key.former_state or key.state) in _IN_USE]
    return list(dict.fromkeys([run.job.key.arn, *used]))


async def _until_readable(run: JobRun, homes: Sequence[Home], keys: Sequence[TenantKey]) -> Held | None:
    """Until all that holds anything can be read, under each key: keys and policies take effect after a while."""
    closed: list[str] = []
    for _ in range(_LOOKS_MAX):
        closed = []
        for home in homes:
            seen = await read_canaries(run.tools.store_of(home.location), home.location, _arns(keys))
            closed += [f"{what} is {word}" for what, word in seen.items() if word not in _OPEN]
        if not closed:
            return None
        await asyncio.sleep(run.tools.timings.key_check_seconds)
    return Held("key_unusable", f"{'; '.join(closed)}: is each key enabled, the tenant's own as well?")


_OPEN = ("empty", "readable")
_IN_USE: tuple[KeyState, ...] = ("active", "unavailable")
_WITH_MATERIAL = ("Enabled", "Disabled")
