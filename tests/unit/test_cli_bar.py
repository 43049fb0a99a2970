"""Live progress as a person sees it: on a terminal one bar that is redrawn and gone at the end, elsewhere lines."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from rekeyd.cli import tables
from rekeyd.domain.job import Counts, Job, read_job_message
from rekeyd.domain.objects import Location
from tests.doubles.keys import A_NAMED_KEY

KEY = {
    "kind": "kms",
    "arn": "arn:aws:kms:us-east-1:111122223333:key/1234",
    "alias": "arn:aws:kms:us-east-1:111122223333:alias/acme",
}
MESSAGE = {
    "schema": "rekeyd.job/1",
    "id": "acme-migrate-1",
    "kind": "migrate",
    "tenant": "acme",
    "source": "s3://shared/tenants/acme/",
    "key": KEY,
}
QUEUED = Job(
    message=read_job_message(json.dumps(MESSAGE).encode()).message,
    source=Location("s3", "shared", "tenants/acme/"),
    target=Location("s3", "byok-acme", ""),
    grace_seconds=0,
    move_id=1,
    named_key=A_NAMED_KEY,
    state="queued",
    phase="queued",
    held_reason=None,
    error=None,
    attempts=0,
    counts=Counts(),
    created_at=1_800_000_000.0,
    started_at=None,
    finished_at=None,
)
CSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def copying(verified: int) -> Job:
    counts = Counts(1000, verified, 0, 0, 5_000_000, 5_000 * verified)
    return replace(QUEUED, state="running", phase="copy", counts=counts)


def shown(jobs: Sequence[Job], monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """What is written while the job looks like this, one look a second."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=160, color_system=None)
    seconds = iter(range(1000))
    monkeypatch.setattr(tables, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    with tables.job_bar(console) as show:
        for job in jobs:
            show(job)
    return written.getvalue()


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ([QUEUED], ["waiting to begin"]),
        ([copying(0)], ["copying and verifying", "0/1,000 objects", "unknown time left"]),
        (
            [copying(0), copying(100), copying(200)],
            [
                "copying and verifying",
                "200/1,000 objects",
                "1.0 MB/5.0 MB",
                "100/s, 500.0 kB/s",
                "8 s left",
                "━",
            ],
        ),
        (
            [copying(10), replace(copying(10), state="held", held_reason="key_disabled")],
            ["held: key_disabled"],
        ),
        ([copying(1000), replace(copying(1000), phase="pause")], ["writers paused: last pass", "━"]),
    ],
)
def test_on_a_terminal_progress_is_one_bar_that_is_gone_at_the_end(
    jobs: list[Job], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = shown(jobs, monkeypatch, terminal=True)

    frame = CSI.sub("", written).rstrip().splitlines()[-1]
    for word in words:
        assert word in frame
    assert written.endswith("\x1b[2K"), "the line is erased at the end"


def test_elsewhere_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [QUEUED, *(copying(100 * look) for look in range(10)), replace(copying(1000), phase="pause")]

    written = shown(jobs, monkeypatch, terminal=False)

    assert CSI.sub("", written) == written
    first, *copies, last = written.splitlines()
    assert first == "waiting to begin"
    assert [line.partition(" objects")[0] for line in copies] == [
        "copying and verifying: 0/1,000",
        "copying and verifying: 500/1,000",
    ], "a line every five seconds"
    assert copies[1] == (
        "copying and verifying: 500/1,000 objects · 2.5 MB/5.0 MB · 83/s, 416.7 kB/s · 6 s left"
    )
    assert last.startswith("writers paused: last pass: 1,000/1,000 objects")
