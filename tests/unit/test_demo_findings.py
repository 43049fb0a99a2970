"""What findings say, and what becomes of them in the summary and its JSON."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from rekeyd.demo import proof, summary
from rekeyd.demo.claims import daemon_ended, job_completed
from rekeyd.demo.dataset import LeftOut
from rekeyd.demo.load import Loaded
from rekeyd.demo.outcome import Outcome
from rekeyd.demo.proof import Finding
from rekeyd.domain.job import Counts, Job, job_message
from rekeyd.domain.objects import Location
from tests.doubles.keys import A_NAMED_KEY

SENT = Loaded(10, "", {}, {}, {})
GOOD = Finding("bytes", "every byte is there", 7)
BAD = Finding("tags", "every tag is there", 7, ("a [b]: gone",))
OUTCOME = Outcome(
    what="a made set",
    objects=7,
    size_bytes=7_000_000,
    source=Location("s3", "shared", "tenants/acme/"),
    target=Location("s3", "byok-acme", ""),
    key_arn="arn:aws:kms:us-east-1:111122223333:key/1",
    alias_arn="arn:aws:kms:us-east-1:111122223333:alias/acme",
    seconds={"start": 3.0, "move": 3.5},
    job={"id": "acme-migrate-1"},
    findings=(GOOD,),
    left_out=(),
    log_tail=('{"event": "the last [words]"}',),
)
JOB = Job(
    message=job_message(
        {
            "schema": "rekeyd.job/1",
            "id": "j",
            "kind": "migrate",
            "tenant": "acme",
            "source": "s3://shared/tenants/acme/",
            "key": {
                "kind": "kms",
                "arn": "arn:aws:kms:us-east-1:111122223333:key/1",
                "alias": "arn:aws:kms:us-east-1:111122223333:alias/acme",
            },
        }
    ),
    source=OUTCOME.source,
    target=OUTCOME.target,
    grace_seconds=0,
    move_id=1,
    named_key=A_NAMED_KEY,
    state="completed",
    phase="done",
    held_reason=None,
    error=None,
    attempts=0,
    counts=Counts(2, 2, 0, 2, 20, 20),
    created_at=0.0,
    started_at=0.0,
    finished_at=1.0,
)
LOADED = {"a": SENT, "b": SENT}


def shown(outcome: Outcome) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(summary(outcome))
    return out.getvalue()


def test_a_key_listed_twice_is_found() -> None:
    assert proof.present_once(["a", "a"], {"a": SENT}).faults == ("a: listed 2 times",)


def test_nothing_compared_proves_nothing() -> None:
    assert not proof.present_once([], {}).ok
    assert not proof.same_bytes({}, {}).ok


def test_an_object_that_was_not_looked_for_is_a_fault() -> None:
    assert not proof.same_bytes({"a": SENT}, {}).ok


def test_only_the_first_faults_are_shown() -> None:
    finding = proof.present_once([], {str(number): SENT for number in range(20)})

    assert len(finding.faults) == proof.FAULTS_SHOWN + 1
    assert finding.faults[-1] == f"and {20 - proof.FAULTS_SHOWN} more"


def test_the_sample_has_every_large_object_and_some_small_ones() -> None:
    small = {f"small/{number:04}": SENT for number in range(1000)}
    large = {f"large/{number}": replace(SENT, size_bytes=proof.LARGE_BYTES + 1) for number in range(5)}

    chosen = proof.sample(small | large)

    assert large.keys() <= chosen.keys()
    assert proof.SAMPLE_SMALL <= len(chosen) - len(large) <= proof.SAMPLE_SMALL + 1


def test_a_completed_job_with_the_right_counts() -> None:
    assert job_completed(JOB, LOADED, "").ok


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (None, "never reached the ledger"),
        (replace(JOB, state="failed", error="no room"), "the job is failed (error: no room)"),
        (
            replace(JOB, state="held", held_reason="key_disabled", error="enable it"),
            "key_disabled: enable it",
        ),
        (replace(JOB, counts=replace(JOB.counts, objects_deleted=1)), "objects deleted: 1, not 2"),
        (replace(JOB, counts=replace(JOB.counts, objects_excluded=1)), "objects excluded: 1, not 0"),
        (replace(JOB, counts=replace(JOB.counts, bytes_verified=19)), "bytes verified: 19, not 20"),
    ],
)
def test_a_job_that_did_not_end_as_it_should(job: Job | None, words: str) -> None:
    assert words in " ".join(job_completed(job, LOADED, "").faults)


def test_a_daemon_that_did_not_end_as_it_should() -> None:
    assert daemon_ended(0).ok
    assert daemon_ended(1).faults == ("exit status 1",)
    assert daemon_ended(None).faults == ("it didn't end in time",)


def test_a_good_end() -> None:
    document = OUTCOME.document()

    assert OUTCOME.ok
    assert "Everything is as it should be." in shown(OUTCOME)
    assert "the last [words]" not in shown(OUTCOME)
    assert document["log_tail"] == []
    assert (document["objects_per_second"], document["bytes_per_second"]) == (2.0, 2_000_000)
    assert json.loads(json.dumps(document))["proofs"][0] == {
        "name": "bytes",
        "claim": "every byte is there",
        "ok": True,
        "checked": 7,
        "faults": [],
    }


def test_a_bad_end_says_which_and_shows_the_log() -> None:
    outcome = replace(OUTCOME, findings=(GOOD, BAD), left_out=(LeftOut("li[n]k", "is a link"),))

    said = shown(outcome)

    assert not outcome.ok
    assert "✗ every tag is there" in said
    assert "a [b]: gone" in said
    assert "the last [words]" in said
    assert "li[n]k: is a link" in said
    assert "Not everything is as it should be." in said
    assert outcome.document()["log_tail"] == list(OUTCOME.log_tail)


def test_an_end_without_findings_is_not_a_good_one() -> None:
    assert not replace(OUTCOME, findings=()).ok
