"""Rates and the time left, from what the ledger says and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.cli.progress import WINDOW_SECONDS, Meter, average
from rekeyd.domain.job import Counts, Job, job_message
from rekeyd.domain.objects import Location
from tests.doubles.keys import A_NAMED_KEY

MESSAGE = job_message(
    {
        "schema": "rekeyd.job/1",
        "id": "j",
        "kind": "migrate",
        "tenant": "t",
        "source": "s3://shared/t/",
        "key": {
            "kind": "kms",
            "arn": "arn:aws:kms:us-east-1:111122223333:key/1",
            "alias": "arn:aws:kms:us-east-1:111122223333:alias/t",
        },
    }
)
JOB = Job(
    message=MESSAGE,
    source=Location("s3", "shared", "t/"),
    target=Location("s3", "byok", ""),
    grace_seconds=0,
    move_id=1,
    named_key=A_NAMED_KEY,
    state="running",
    phase="copy",
    held_reason=None,
    error=None,
    attempts=0,
    counts=Counts(objects_listed=1000, bytes_listed=10_000),
    created_at=0.0,
    started_at=0.0,
    finished_at=None,
)


def at(objects: int, size_bytes: int) -> Job:
    return replace(JOB, counts=replace(JOB.counts, objects_verified=objects, bytes_verified=size_bytes))


def test_the_first_look_knows_no_rate() -> None:
    progress = Meter().observe(at(10, 10), 5.0)

    assert (progress.objects_done, progress.objects_total) == (10, 1000)
    assert progress.objects_per_second is None
    assert progress.seconds_left is None


def test_what_is_scarcer_decides_the_time_left() -> None:
    meter = Meter()
    meter.observe(at(0, 0), 0.0)

    progress = meter.observe(at(100, 100), 2.0)

    assert progress.objects_per_second == pytest.approx(50)
    assert progress.seconds_left == pytest.approx(9900 / 50)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    for second in range(100):
        meter.observe(at(0, 0), float(second))
    progress = meter.observe(at(0, 0), 99.5)
    for second in range(100, 100 + int(WINDOW_SECONDS) + 1):
        progress = meter.observe(at((second - 99) * 10, 0), float(second))

    assert progress.objects_per_second == pytest.approx(10)


def test_nothing_moving_has_no_time_left() -> None:
    meter = Meter()
    meter.observe(at(5, 5), 0.0)

    assert meter.observe(at(5, 5), 3.0).seconds_left is None


def test_nothing_listed_yet_is_not_almost_done() -> None:
    meter = Meter()
    meter.observe(replace(JOB, counts=Counts()), 0.0)

    assert meter.observe(replace(JOB, counts=Counts()), 3.0).seconds_left is None


def test_retiring_counts_deletions_and_begins_anew() -> None:
    meter = Meter()
    meter.observe(at(1000, 10_000), 0.0)
    retiring = replace(at(1000, 10_000), phase="retire")
    meter.observe(retiring, 1.0)

    progress = meter.observe(replace(retiring, counts=replace(retiring.counts, objects_deleted=500)), 3.0)

    assert (progress.stage, progress.objects_done, progress.objects_total) == ("retire", 500, 1000)
    assert progress.objects_per_second == pytest.approx(250)
    assert progress.seconds_left == pytest.approx(2)


def test_one_look_gives_the_average() -> None:
    progress = average(at(200, 5_000), 10.0)

    assert progress.objects_per_second == pytest.approx(20)
    assert progress.seconds_left == pytest.approx(40)


@pytest.mark.parametrize(
    "job",
    [
        replace(JOB, state="queued", started_at=None),
        replace(JOB, state="held"),
        replace(JOB, state="completed", phase="done"),
        replace(JOB, phase="retire"),
    ],
)
def test_one_look_at_what_is_not_carrying_gives_no_rate(job: Job) -> None:
    assert average(job, 10.0).objects_per_second is None
