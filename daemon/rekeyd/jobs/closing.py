"""Closing all of a tenant's locks, and proving it: by the key service's word, the policies read back, the canaries.

docs/protocol.md says what proves what ("What proves a revocation"). What fails keeps nothing else from being tried:
what can be closed is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from rekeyd.domain.custody import noted
from rekeyd.domain.errors import StoreError
from rekeyd.jobs.canaries import Readability, read_canaries
from rekeyd.jobs.refusal import Home, Stand, homes_of, refuse_everybody
from rekeyd.jobs.run import JobRun
from rekeyd.jobs.switching_off import KeyLeft, switch_off
from rekeyd.ledger.port import TenantKey

log = structlog.get_logger()

_LOOKS_MAX = 20
"""So often is looked, one `key_check_seconds` apart, before the attempt is held and begun anew."""

_NOT_OURS_TO_READ: tuple[Stand, ...] = ("is not there", "was never provisioned")


@dataclass(slots=True)
class Closed:
    """What a look at everything has left."""

    keys: dict[str, str] = field(default_factory=dict)
    """By the reference: what became of it, or why it was not touched."""
    buckets: dict[str, str] = field(default_factory=dict)
    """By the name: whether it refuses everybody."""
    found_open: list[str] = field(default_factory=list)
    """Keys and buckets that were open until now."""
    doubts: list[str] = field(default_factory=list)
    """What can be read still, or may be for all that anybody knows."""
    faults: list[str] = field(default_factory=list)
    """What couldn't be done now, and is tried again."""

    @property
    def is_proven(self) -> bool:
        """Whether nothing can be read any more, and all was withdrawn that is ours to withdraw."""
        return not self.doubts and not self.faults


async def close_all(run: JobRun) -> Closed:
    """Close whatever is open, until that is proven, or was looked at often enough. Repeating it changes nothing."""
    closed = await _close(run)
    found_open = closed.found_open
    for _ in range(1, _LOOKS_MAX):
        if closed.is_proven:
            break
        await asyncio.sleep(run.tools.timings.key_check_seconds)
        closed = await _close(run)
        found_open += closed.found_open
    closed.found_open = sorted(set(found_open))
    return closed


async def _close(run: JobRun) -> Closed:
    """Once, all of it; the two locks side by side, so that whoever is slow to answer delays one alone."""
    ledger, closed = run.tools.ledger, Closed()
    keys = await ledger.tenant_keys(run.job.tenant)
    arns = [key.arn for key in keys if key.arn is not None]
    homes = homes_of(await ledger.tenant_moves_of(run.job.tenant), arns)
    try:
        async with asyncio.TaskGroup() as locks:
            switching = locks.create_task(_close_keys(run, keys, closed))
            refusing = locks.create_task(_close_buckets(run, homes, closed))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    for home, stand in zip(homes, refusing.result(), strict=True):
        if stand not in _NOT_OURS_TO_READ:
            await _read(run, home, arns, closed, stand, keys_are_off=switching.result())
    return closed


async def _close_keys(run: JobRun, keys: Sequence[TenantKey], closed: Closed) -> bool:
    """Gives whether the key service says that nobody can use any of them."""
    left = [await _close_key(run, key, closed) for key in keys]
    return all(each.is_off for each in left)


async def _close_buckets(run: JobRun, homes: Sequence[Home], closed: Closed) -> list[Stand]:
    return [await _close_bucket(run, home, closed) for home in homes]


async def _close_key(run: JobRun, key: TenantKey, closed: Closed) -> KeyLeft:
    left = await switch_off(run, key)
    if left.was_on:
        closed.found_open.append(key.ref)
    if left.fault:
        closed.faults.append(left.fault)
    elif left.doubt:
        closed.doubts.append(left.doubt)
    elif key.state == "destroyed" and left.did != "disabled":
        closed.keys[key.ref] = "destroyed"
    else:
        # One that was destroyed and is disabled now has got its material anew.
        closed.keys[key.ref] = left.did
        details = {"did": left.did, "requests": noted(left.requests)}
        await run.tools.ledger.withdraw_key(run.claim, key.ref, "revoked", details)
    return left


async def _close_bucket(run: JobRun, home: Home, closed: Closed) -> Stand:
    bucket = home.location.bucket
    try:
        closing = await refuse_everybody(run.tools.store_of(home.location), home, run.kept)
    except StoreError as error:
        log.warning("bucket_not_closed", job=run.job.id, bucket=bucket, error=str(error))
        closed.faults.append(f"{bucket}: {error}")
        return "does not refuse everybody"
    closed.buckets[bucket] = closing.stand
    if closing.wrote:
        closed.found_open.append(bucket)
    if closing.stand == "does not refuse everybody":
        closed.doubts.append(f"{bucket} {closing.stand}, although it was told to")
    return closing.stand


async def _read(
    run: JobRun, home: Home, key_arns: Sequence[str], closed: Closed, stand: Stand, *, keys_are_off: bool
) -> None:
    try:
        store = run.tools.store_of(home.location)
    except StoreError as error:
        closed.doubts.append(str(error))
        return
    seen = await read_canaries(store, home.location, key_arns)
    closed.doubts += [
        f"{what} is {word}"
        for what, word in seen.items()
        if not _is_shown_closed(word, stand, keys_are_off=keys_are_off)
    ]


def _is_shown_closed(word: Readability, stand: Stand, *, keys_are_off: bool) -> bool:
    """Whether a canary that can't be read shows that nobody can.

    Who is refused (403) may be alone in that, unless the policy, as it was read back, refuses everybody. Without a key
    nobody can read; but that the key is refused to us may be a matter of our rights, unless it is known to be off.
    """
    match word:
        case "empty":
            return True
        case "refused":
            return stand == "refuses everybody"
        case "unreadable":
            return stand == "refuses everybody" or keys_are_off
        case "readable" | "unknown":
            return False
