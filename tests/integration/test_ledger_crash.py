"""The ledger of a process that is killed at random moments: what was acknowledged is there, and nothing half-done."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

from rekeyd.domain.audit import first_broken
from rekeyd.ledger.sql import SqlLedger
from tests.patience import HANG_SECONDS

KILLS = 12
DAYLIGHT_SECONDS_MAX = 0.6
"""A writer lives no longer than that from its first acknowledgement on."""

# Moves one tenant's objects round and round, admits other jobs beside it, and says what the ledger has acknowledged.
WRITER = """
import asyncio, json, random, sys
from rekeyd.domain.errors import ConflictError, RekeydError
from rekeyd.domain.job import read_job_message
from rekeyd.domain.objects import Location, ObjectVersion
from rekeyd.ledger.port import ObjectOutcome
from rekeyd.ledger.sql import SqlLedger

url, life = sys.argv[1], int(sys.argv[2])
chance = random.Random(life)
serial = iter(range(life * 1_000_000, (life + 1) * 1_000_000))

def say(what, value):
    print(json.dumps([what, value]), flush=True)

def message(job_id, tenant):
    arn = "arn:aws:kms:us-east-1:111122223333:"
    return read_job_message(json.dumps({
        "schema": "rekeyd.job/1", "id": job_id, "kind": "migrate", "tenant": tenant,
        "source": f"s3://shared/{tenant}/",
        "key": {"kind": "kms", "arn": f"{arn}key/{tenant}", "alias": f"{arn}alias/{tenant}"}}).encode())

async def admit(ledger, job_id, tenant):
    await ledger.admit(message(job_id, tenant), Location.parse(f"s3://shared/{tenant}/"),
                       Location.parse(f"s3://byok-{tenant}/"), 0, "upstream")

async def admitting(ledger):
    while True:
        job_id = f"job-{next(serial)}"
        await admit(ledger, job_id, job_id)
        say("admitted", job_id)

async def moving(ledger):
    await admit(ledger, "mover", "acme")
    while (claim := await ledger.claim_job("daemon", 600.0)).job.id != "mover":
        pass
    while True:
        await ledger.renew_job(claim)
        await one_pass(ledger, claim)

async def one_pass(ledger, claim):
    state = await ledger.begin_pass(claim, None)
    keys = sorted(chance.sample(range(500), 300))
    for first, cursor in ((0, None), (100, "2"), (200, "3")):
        page = [ObjectVersion(f"acme/{key:03d}", 10 + key, f"v{chance.randint(1, 3)}")
                for key in keys[first:first + 100]]
        await ledger.record_page(claim, state.number, page, cursor, {0: "2", 100: "3", 200: None}[first])
    say("listed", state.number)
    while (part := await ledger.claim_segment("worker", 600.0)) is not None:
        rows = await ledger.segment_rows(part)
        outcomes = [outcome(part.stage, row) for row in rows if chance.random() < 0.9]
        await ledger.record_outcomes(part, outcomes)
        await ledger.finish_segment(part)
        say("finished", part.segment_id)

def outcome(stage, row):
    if stage == "sweep":
        return ObjectOutcome(row.source, "dropped")
    if chance.random() < 0.1:
        return ObjectOutcome(row.source, "failed", "by chance")
    return ObjectOutcome(row.source, "verified", target=ObjectVersion(row.source.key, 1, "copy"))

async def main():
    ledger = await SqlLedger.open(url)
    await asyncio.gather(admitting(ledger), admitting(ledger), moving(ledger))

asyncio.run(main())
"""


def live_and_die(url: str, life: int, program: Path, chance: random.Random) -> list[str]:
    """Run the writer until it is killed; give the lines that it said."""
    with subprocess.Popen(
        [sys.executable, str(program), url, str(life)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        too_slow = threading.Timer(HANG_SECONDS, writer.kill)
        too_slow.start()
        said = [writer.stdout.readline()]
        too_slow.cancel()
        assert said[0], "it never began"
        dying = threading.Timer(chance.uniform(0.0, DAYLIGHT_SECONDS_MAX), writer.kill)
        dying.start()
        said += writer.stdout.readlines()
        dying.join()
    assert writer.returncode == -signal.SIGKILL
    return [line for line in said if line.endswith("\n")]


def rows_of(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.execute(query))


def check_whole(path: Path) -> None:
    """What is counted is what is there, and each waiting object waits in a segment that isn't done."""
    counted = rows_of(path, "SELECT move_id, state, objects, bytes FROM tallies WHERE objects ORDER BY 1, 2")
    there = rows_of(
        path, "SELECT move_id, state, count(*), sum(size_bytes) FROM objects GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert counted == there
    open_counted = rows_of(path, "SELECT sum(open_segments), sum(open_retirements) FROM moves")
    open_there = rows_of(
        path, "SELECT sum(stage <> 'retire'), sum(stage = 'retire') FROM segments WHERE state <> 'done'"
    )
    assert [[each or 0 for each in row] for row in open_counted] == [
        [each or 0 for each in row] for row in open_there
    ]
    assert not rows_of(
        path,
        "SELECT key FROM objects LEFT JOIN segments ON segments.id = segment_id"
        " WHERE (objects.state IN ('listed', 'vanished')) <> (segments.state IS 'open')",
    )
    assert rows_of(path, "PRAGMA integrity_check") == [("ok",)]
    assert rows_of(path, "PRAGMA foreign_key_check") == []


def let_leases_expire(path: Path) -> None:
    """As time would, once their holder is dead."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE jobs SET lease_expires_at = 0 WHERE lease_expires_at IS NOT NULL")
        db.execute("UPDATE segments SET lease_expires_at = 0 WHERE lease_expires_at IS NOT NULL")
        db.commit()


async def check_acknowledged(url: str, said: list[str], path: Path) -> None:
    ledger = await SqlLedger.open(url)
    try:
        records = [record async for record in ledger.audit_records("main")]
    finally:
        await ledger.close()
    assert first_broken("main", records) is None
    admitted = {f'["admitted", "{job_id}"]\n' for (job_id,) in rows_of(path, "SELECT id FROM jobs")}
    finished = {
        f'["finished", {number}]\n'
        for (number,) in rows_of(path, "SELECT id FROM segments WHERE state = 'done'")
    }
    listed = {
        f'["listed", {number}]\n' for (number,) in rows_of(path, "SELECT number FROM passes WHERE listed")
    }
    assert set(said) <= admitted | finished | listed
    on_record = sum('"action":"job.admitted"' in record.body for record in records)
    assert on_record == len(admitted)


def test_a_killed_process_leaves_only_whole_transactions(tmp_path: Path) -> None:
    path, program, chance = tmp_path / "ledger.db", tmp_path / "writer.py", random.Random(20)
    program.write_text(WRITER, encoding="utf-8")
    url, said = f"sqlite://{path}", list[str]()

    for life in range(KILLS):
        said += live_and_die(url, life, program, chance)
        check_whole(path)
        asyncio.run(check_acknowledged(url, said, path))
        let_leases_expire(path)

    kinds = {line.split('"')[1] for line in said}
    assert kinds == {"admitted", "listed", "finished"}
