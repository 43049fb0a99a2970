"""ObjectLedger: times of whole seconds, within which an object may be put twice."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

from rekeyd.domain.objects import ObjectVersion
from rekeyd.ledger.port import Ledger
from rekeyd.ledger.rows import RECENT_SECONDS
from tests.contract.ledger.stories import carry, copy_of, list_all, running, until, version


def put_at(time: float) -> ObjectVersion:
    text = datetime.fromtimestamp(math.floor(time), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return replace(version("a"), modified=text)


async def test_what_was_put_just_before_a_pass_is_carried_again_by_the_next_and_no_more(
    ledger: Ledger,
) -> None:
    claim = await running(ledger)
    put = await ledger.now()
    recent = put_at(put)
    await list_all(ledger, claim, [recent])
    await carry(ledger)

    async def over() -> bool:
        return await ledger.now() > put + RECENT_SECONDS + 0.1

    await until(over)
    state = await list_all(ledger, claim, [recent])
    assert (state.changed_objects, state.open_segments) == (1, 1)
    (row,) = await carry(ledger)
    assert (row.source, row.state, row.target) == (recent, "listed", copy_of(recent))

    state = await list_all(ledger, claim, [recent])
    assert (state.changed_objects, state.open_segments) == (0, 0)
    assert (await ledger.counts(claim)).objects_verified == 1


async def test_what_was_put_long_before_a_pass_is_carried_once(ledger: Ledger) -> None:
    claim = await running(ledger)
    settled = put_at(await ledger.now() - 60)
    await list_all(ledger, claim, [settled])
    await carry(ledger)
    assert (await list_all(ledger, claim, [settled])).changed_objects == 0


async def test_what_a_pass_lists_while_it_waits_to_be_carried_is_carried_once(ledger: Ledger) -> None:
    claim = await running(ledger)
    recent = put_at(await ledger.now() + 60)
    await list_all(ledger, claim, [recent])
    await list_all(ledger, claim, [recent])
    (row,) = await carry(ledger)
    assert row.planned_before == ()
