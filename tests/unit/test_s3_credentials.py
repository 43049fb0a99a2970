"""Credentials that change while the daemon runs: each request is signed with those that are good then."""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import cast

import pytest
from aiobotocore.session import AioSession

from rekeyd.stores.s3.client import CredentialSource
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.signing import Credentials
from rekeyd.stores.s3.store import open_s3_store
from tests.doubles.front import Front, Reply

REGION = "us-east-1"
HEAD = Reply(200, {"etag": '"abc"', "x-amz-request-id": "R1"})


class Rotating:
    """Another key, secret and token each time."""

    def __init__(self) -> None:
        self._serials = itertools.count(1)

    async def get_frozen_credentials(self) -> Credentials:
        serial = next(self._serials)
        return Credentials(f"AKID{serial}", f"secret-{serial}", f"token-{serial}")


async def signers(source: CredentialSource, *replies: Reply, heads: int) -> list[tuple[str, str]]:
    """By whom the requests that came in were signed: key id and session token."""
    async with Front.started() as front:
        front.will(*replies)
        config = S3Config("s3", REGION, front.endpoint_url)
        async with open_s3_store(config, source, now=time.time) as store:
            for _ in range(heads):
                await store.head("bucket", "k")
    return [
        (
            seen.headers["authorization"].partition("Credential=")[2].partition("/")[0],
            seen.headers["x-amz-security-token"],
        )
        for seen in front.seen
    ]


async def test_each_request_is_signed_with_the_credentials_that_are_good_then() -> None:
    assert await signers(Rotating(), HEAD, HEAD, HEAD, heads=3) == [
        ("AKID1", "token-1"),
        ("AKID2", "token-2"),
        ("AKID3", "token-3"),
    ]


async def test_a_session_is_asked_anew_once_its_credentials_are_about_to_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real chain: a profile's process gives credentials that are over in a moment, each time others."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    count = tmp_path / "count"
    count.write_text("")
    program = tmp_path / "credentials.py"
    given = {
        "Version": 1,
        "AccessKeyId": "AKID",
        "SecretAccessKey": "secret",
        "SessionToken": "token-",
    }
    program.write_text(
        "import json, pathlib, time\n"
        f"count = pathlib.Path({str(count)!r})\n"
        "count.write_text(count.read_text() + 'x')\n"
        "serial = str(len(count.read_text()))\n"
        f"given = {json.dumps(given)}\n"
        "given['AccessKeyId'] += serial\n"
        "given['SessionToken'] += serial\n"
        "given['Expiration'] = time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(time.time() + 60))\n"
        "print(json.dumps(given))\n"
    )
    profile = tmp_path / "config"
    profile.write_text(f"[profile rotating]\ncredential_process = {sys.executable} {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profile))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    session = AioSession(profile="rotating")
    source = cast("CredentialSource", await session.get_credentials())

    first, second = await signers(source, HEAD, HEAD, heads=2)

    assert first[0].startswith("AKID")
    assert first != second
    assert (int(second[0][4:]), second[1]) == (int(first[0][4:]) + 1, f"token-{second[0][4:]}")
