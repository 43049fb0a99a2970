"""AuditLedger, and that what is done and its record are one transaction."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from rekeyd.domain.audit import GENESIS, first_broken
from rekeyd.domain.errors import ClaimLostError
from rekeyd.ledger.port import Ledger, ObjectOutcome
from rekeyd.ledger.sql import SqlLedger
from tests.contract.ledger.stories import (
    actions,
    admit,
    bodies,
    dedicated,
    running,
    versions,
    work,
)


async def test_there_is_no_chain_before_the_first_record(ledger: Ledger) -> None:
    assert await ledger.chains() == []
    assert [record async for record in ledger.audit_records("main")] == []


async def test_a_chain_is_told_from_its_first_record_on(ledger: Ledger) -> None:
    for number in range(3):
        await admit(ledger, f"job-{number}")

    records = [record async for record in ledger.audit_records("main")]

    assert await ledger.chains() == ["main"]
    assert [record.sequence for record in records] == [1, 2, 3]
    assert records[0].previous_hash == GENESIS
    assert first_broken("main", records) is None


async def test_a_long_chain_is_told_whole(ledger: Ledger) -> None:
    claim = await running(ledger)
    await asyncio.gather(*(ledger.record_failed_attempt(claim, "x") for _ in range(2100)))

    records = [record async for record in ledger.audit_records("main")]

    assert len(records) == 2102
    assert first_broken("main", records) is None


async def test_many_processes_append_to_one_chain(ledger: Ledger, other: Ledger) -> None:
    await asyncio.gather(
        *(
            admit(each, f"job-{number}-{which}")
            for number in range(30)
            for which, each in enumerate((ledger, other))
        )
    )

    records = [record async for record in ledger.audit_records("main")]

    assert len(records) == 60
    assert first_broken("main", records) is None


async def test_each_record_says_who_did_what_to_whom_and_when(ledger: Ledger) -> None:
    before = await ledger.now()
    claim = await running(ledger)
    await ledger.hold_job(claim, "drift", "x", 0)

    *_, body = await bodies(ledger)

    assert body["actor"] == "daemon-1"
    assert (body["tenant"], body["job"], body["action"], body["outcome"]) == (
        "acme",
        "job-1",
        "job.held",
        "drift",
    )
    assert body["time"].endswith("Z")
    assert len(body["time"]) == len("2026-01-01T00:00:00.000Z")
    assert before <= await ledger.now()


async def test_a_whole_move_is_on_record(ledger: Ledger) -> None:
    claim = await dedicated(ledger, versions(2))
    await ledger.plan_retirement(claim)
    part = await ledger.claim_segment("worker-1", 60)
    assert part is not None
    await ledger.record_intents(part, versions(2))
    await ledger.release_segment(part)
    await work(ledger, lambda row: ObjectOutcome(row.source, "deleted"))
    await ledger.finish_job(claim, "completed", None)

    assert await actions(ledger) == [
        "job.admitted",
        "job.running",
        "placement.proposed",
        "placement.changed",
        "pass.begun",
        "pass.listed",
        "objects.recorded",
        "segment.finished",
        "placement.changed",
        "placement.proposed",
        "placement.changed",
        "source.delete_intended",
        "source.deleted",
        "segment.finished",
        "job.completed",
    ]


async def test_what_is_done_to_a_store_is_on_record_with_all_that_is_said_of_it(ledger: Ledger) -> None:
    claim = await running(ledger)
    details = {
        "bucket": "byok-acme",
        "changed": ["tags"],
        "found": {"tags": {"a": "\N{SNOWMAN}"}, "lock": None},
    }

    await ledger.record_action(claim, "bucket.provisioned", details)

    *_, body = await bodies(ledger)
    assert {name: body[name] for name in ("action", "actor", "tenant", "job", *details)} == {
        "action": "bucket.provisioned",
        "actor": "daemon-1",
        "tenant": "acme",
        "job": "job-1",
        **details,
    }


async def test_whoever_lost_the_claim_puts_nothing_on_record(ledger: Ledger) -> None:
    claim = await running(ledger)
    await ledger.cancel_job("job-1", "an operator")
    before = await actions(ledger)

    with pytest.raises(ClaimLostError):
        await ledger.record_action(claim, "bucket.provisioned", {})

    assert await actions(ledger) == before


async def test_any_words_can_stand_in_a_record(ledger: Ledger) -> None:
    claim = await running(ledger)
    words = "an error with \N{SNOWMAN}, \x00 and \n"
    await ledger.record_failed_attempt(claim, words)

    *_, last = [record async for record in ledger.audit_records("main")]

    assert json.loads(last.body)["outcome"] == words


async def test_records_are_counted_once_they_are_committed(tmp_path: Path) -> None:
    counted: list[int] = []
    ledger = await SqlLedger.open(f"sqlite://{tmp_path}/ledger.db", count_records=counted.append)
    for number in range(3):
        await admit(ledger, f"job-{number}")
    await admit(ledger, "job-1")

    assert sum(counted) == len([record async for record in ledger.audit_records("main")]) == 3
    await ledger.close()
