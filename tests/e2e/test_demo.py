"""`rekeyd demo`, the whole command as a process: on made data, on a user's files, and interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rekeyd.demo.dataset import made_tenant

DEMO_SECONDS_MAX = 120
"""On a quiet machine. Here other tests have a part of it."""
BUSY_SECONDS_MAX = 4 * DEMO_SECONDS_MAX
PROOFS = {
    "present_once",
    "same_bytes",
    "same_attributes",
    "under_key",
    "source_empty",
    "neighbour_untouched",
    "no_unfinished_uploads",
    "unreadable_when_disabled",
    "readable_when_enabled",
    "revoked",
    "unreadable_when_revoked",
    "reinstated",
    "readable_when_reinstated",
    "job_completed",
    "daemon_ended",
    "message_taken",
    "placement_dedicated",
    "audit_whole",
    "rotated",
    "same_bytes_rotated",
    "under_second_key",
    "certified",
}


def environment(folder: Path) -> dict[str, str]:
    """The demo's folders go where the test can look for what is left of them."""
    return {**os.environ, "TMPDIR": str(folder)}


def demo(folder: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-m", "rekeyd", "demo", *arguments],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=BUSY_SECONDS_MAX,
    )
    return ended, time.monotonic() - began


def left_of(folder: Path) -> list[str]:
    """Processes that still have the folder in their command line, and what lies in it."""
    found = [path.name for path in folder.iterdir() if path.name.startswith("rekeyd-demo-")]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in words:
                found.append(words)
    return found


def good_document(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    document: dict[str, Any] = json.loads(ended.stdout)
    assert document["ok"] is True
    assert {proof["name"] for proof in document["proofs"]} == PROOFS
    assert all(proof["ok"] and proof["checked"] > 0 for proof in document["proofs"])
    return document


def test_the_made_tenant_is_moved_and_proven(tmp_path: Path) -> None:
    items = made_tenant()

    ended, seconds = demo(tmp_path, "--json")

    document = good_document(ended)
    assert seconds < 3 * DEMO_SECONDS_MAX
    assert document["objects"] == document["job"]["objects_deleted"] == len(items)
    assert document["bytes"] == sum(item.content.size_bytes for item in items)
    assert document["job"]["state"] == "completed"
    assert document["objects_per_second"] > 0
    (revoked,) = [proof for proof in document["proofs"] if proof["name"] == "revoked"]
    assert "the rotation held" in revoked["claim"], "it came amid the rotation"
    assert left_of(tmp_path) == []


def test_a_users_files_are_moved_and_only_read(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    (data / "deep +%#?").mkdir(parents=True)
    (data / "deep +%#?" / "größe 🔑.txt").write_bytes(b"x" * 1000)
    (data / "empty").write_bytes(b"")
    (data / "large").write_bytes(os.urandom(9 * 1024**2))
    (data / "link").symlink_to("empty")
    before = {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in data.rglob("*")
        if path.is_file()
    }

    ended, _ = demo(tmp_path, "--data", str(data), "--json")

    document = good_document(ended)
    assert (document["objects"], document["bytes"]) == (3, 1000 + 9 * 1024**2)
    assert document["left_out"] == [{"name": "link", "reason": "is a link"}]
    assert before == {
        path: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in before
    }


def test_people_are_shown_the_story_and_the_proof(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file [bold].txt").write_bytes(b"x")

    ended, _ = demo(tmp_path, "--data", str(data))

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Everything is as it should be." in ended.stdout
    assert "✓" in ended.stdout
    assert "✗" not in ended.stdout
    assert "sent to SQS" in ended.stderr
    assert "1/1 objects ·" in ended.stderr
    assert " left" in ended.stderr


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()

    ended, _ = demo(tmp_path, "--data", str(tmp_path / "data"), "--json")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
async def test_nothing_outlives_an_interrupted_demo(tmp_path: Path, number: signal.Signals) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for index in range(300):
        (data / f"{index}").write_bytes(b"x")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rekeyd", "demo", "--data", str(data)),
        env=environment(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(BUSY_SECONDS_MAX):
        async for line in process.stderr:
            if b"sent to SQS" in line:
                break
        process.send_signal(number)
        await process.communicate()

    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    if number == signal.SIGKILL:
        for _ in range(100):  # the guards need a moment to notice; the folder stays behind
            if not [words for words in left_of(tmp_path) if " " in words]:
                break
            await asyncio.sleep(0.1)
        assert not [words for words in left_of(tmp_path) if " " in words]
    else:
        assert left_of(tmp_path) == []
