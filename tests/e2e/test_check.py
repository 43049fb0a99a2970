"""`rekeyd check`: reaches everything, changes nothing, and says what is wrong and how to mend it."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

from tests.e2e.harness import Ran, Scene, Section

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVERYTHING = [
    "ledger",
    "signing key",
    "wrapping key",
    "credentials",
    "store s3 (source)",
    "store s3 (target)",
    "custody aws",
    "custody roles",
    "intake sqs",
]


@pytest.fixture(autouse=True)
def _operator(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs in this process: it has the credentials of the sandbox and nothing of the user's."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in scene.sandbox.environment().items():
        if name.startswith("AWS_") and "ENDPOINT" not in name:
            monkeypatch.setenv(name, value)


@pytest.fixture
def closed() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


async def check(scene: Scene, **sections: Section) -> tuple[Ran, dict[str, dict[str, Any]]]:
    """Check with these settings: how it ended, and what it found, by name. No bucket and no ledger appears."""
    scene.configure(limits={"request_attempts_max": 2}, **sections)
    before = await buckets(scene)
    ran = await scene.run_here("check", "--json")
    assert await buckets(scene) == before
    assert not (scene.folder / "ledger.db").exists()
    return ran, {finding["name"]: finding for finding in ran.document}


async def buckets(scene: Scene) -> list[str]:
    return sorted(bucket["Name"] for bucket in (await scene.clients.s3.list_buckets())["Buckets"])


def at_fault(found: dict[str, dict[str, Any]]) -> list[str]:
    return [name for name, finding in found.items() if not finding["ok"]]


async def test_all_is_well(scene: Scene) -> None:
    await scene.open()

    ran, found = await check(scene)

    assert (ran.status, ran.said) == (0, "")
    assert list(found) == EVERYTHING
    assert at_fault(found) == []


async def test_a_store_out_of_reach_is_named_with_advice(scene: Scene, closed: str) -> None:
    await scene.open()

    ran, found = await check(scene, stores__s3={"endpoint_url": closed})

    assert ran.status == 3
    assert at_fault(found) == ["store s3 (source)", "store s3 (target)"]
    for name in at_fault(found):
        assert found[name]["reachable"] is False
        assert "endpoint" in found[name]["advice"]


async def test_a_key_service_out_of_reach_is_named_with_advice(scene: Scene, closed: str) -> None:
    await scene.open()

    ran, found = await check(scene, custody__aws={"endpoint_url": closed})

    assert ran.status == 3
    assert at_fault(found) == ["custody aws"]
    assert found["custody aws"]["reachable"] is False
    assert "custody.aws" in found["custody aws"]["advice"]


async def test_a_queue_out_of_reach_is_named_with_advice(scene: Scene, closed: str) -> None:
    await scene.open()
    queue = {"endpoint_url": closed, "queue_url": f"{closed}/111122223333/jobs"}

    ran, found = await check(scene, intake__sqs=queue)

    assert ran.status == 3
    assert at_fault(found) == ["intake sqs"]
    assert found["intake sqs"]["reachable"] is False
    assert "does the queue exist" in found["intake sqs"]["advice"]


async def test_a_shared_bucket_that_is_not_there_is_wrong(scene: Scene) -> None:
    await scene.open()
    pattern = f"s3://{scene.name}-nowhere/tenants/{{tenant}}/"

    ran, found = await check(scene, migrate={"source_pattern": pattern})

    assert ran.status == 1
    assert at_fault(found) == ["store s3 (source)"]
    source = found["store s3 (source)"]
    assert source["reachable"] is True
    assert f"{scene.name}-nowhere" in source["detail"]
    assert pattern in source["advice"]


async def test_a_queue_without_a_redrive_policy_is_wrong(scene: Scene) -> None:
    await scene.open()
    queue = await scene.clients.sqs.create_queue(QueueName=f"{scene.name}-plain")

    ran, found = await check(scene, intake__sqs={"queue_url": queue["QueueUrl"]})

    assert ran.status == 1
    assert at_fault(found) == ["intake sqs"]
    assert found["intake sqs"]["reachable"] is True
    assert "redrive policy" in found["intake sqs"]["advice"]


async def test_without_credentials_nothing_is_reached(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.open()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    ran, found = await check(scene)

    assert ran.status == 3
    assert list(found) == ["ledger", "signing key", "wrapping key", "credentials"]
    assert found["credentials"]["reachable"] is False
    assert "AWS_PROFILE" in found["credentials"]["advice"]


async def test_every_fault_is_found_at_once(scene: Scene, closed: str) -> None:
    await scene.open()
    (scene.folder / "in-the-way").write_text("", encoding="utf-8")

    ran, found = await check(
        scene,
        ledger={"url": f"sqlite://{scene.folder}/in-the-way/ledger.db"},
        stores__s3={"endpoint_url": closed},
        custody__aws={"endpoint_url": closed},
    )

    assert ran.status == 3
    assert at_fault(found) == ["ledger", "store s3 (source)", "store s3 (target)", "custody aws"]
    assert "is no folder" in found["ledger"]["detail"]
    shown = await scene.run_here("check")
    assert shown.status == 3
    assert all(name in shown.printed for name in EVERYTHING)
    assert "is its endpoint right, and does it run?" in shown.printed
