"""The two commands that run for long: the loop that the daemon is served on, and a demo that proves the contrary."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rekeyd import demo, service
from rekeyd.cli import commands
from rekeyd.demo.proof import Finding
from rekeyd.domain.objects import Location
from rekeyd.settings import Settings

GOOD = Finding("present_once", "every object is in the target once", 10)
BAD = Finding("same_bytes", "every byte is as it was loaded", 10, ("a: other bytes [1]",))


def test_the_daemon_is_served_on_uvloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[str] = []

    async def serve(_settings: Settings) -> int:
        loops.append(type(asyncio.get_running_loop()).__module__)
        return 0

    monkeypatch.setattr(service, "serve", serve)
    config = tmp_path / "rekeyd.toml"
    config.write_text(
        """
[stores.s3]
endpoint_url = "http://127.0.0.1:1"
[migrate]
source_pattern = "s3://shared/tenants/{tenant}/"
target_pattern = "s3://byok-{tenant}/"
""",
        encoding="utf-8",
    )

    assert CliRunner().invoke(commands.app, ["serve", "--config", str(config)]).exit_code == 0
    (loop,) = loops
    assert loop.partition(".")[0] == "uvloop"


def told(monkeypatch: pytest.MonkeyPatch, *findings: Finding, arguments: tuple[str, ...] = ()) -> Result:
    """What the command makes of a story that ended with these findings."""
    outcome = demo.Outcome(
        what="a made set",
        objects=10,
        size_bytes=1000,
        source=Location("s3", "shared", "tenants/acme/"),
        target=Location("s3", "byok-acme", ""),
        key_arn="arn:aws:kms:us-east-1:111122223333:key/1",
        alias_arn="arn:aws:kms:us-east-1:111122223333:alias/acme",
        seconds={"move": 2.0},
        job=None,
        findings=findings,
        left_out=(),
        log_tail=("the last line",),
    )
    monkeypatch.setattr(demo, "run", lambda *_: outcome)
    return CliRunner().invoke(commands.app, ["demo", *arguments])


@pytest.mark.parametrize("findings", [(GOOD, BAD), (BAD,), ()])
def test_a_demo_with_anything_that_is_not_as_it_should_be_fails(
    monkeypatch: pytest.MonkeyPatch, findings: tuple[Finding, ...]
) -> None:
    result = told(monkeypatch, *findings, arguments=("--json",))

    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["ok"] is False
    assert [proof["ok"] for proof in document["proofs"]] == [finding.ok for finding in findings]
    assert document["log_tail"] == ["the last line"]


def test_people_are_told_what_is_not_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    result = told(monkeypatch, GOOD, BAD)

    assert result.exit_code == 1
    assert "✗ every byte is as it was loaded" in result.stdout
    assert "a: other bytes [1]" in result.stdout
    assert "the last line" in result.stdout
    assert "Not everything is as it should be." in result.stdout


def test_a_demo_with_everything_as_it_should_be_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    result = told(monkeypatch, GOOD)

    assert result.exit_code == 0
    assert "Everything is as it should be." in result.stdout
