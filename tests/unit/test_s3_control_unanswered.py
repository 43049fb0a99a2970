"""A change to a bucket whose answer doesn't come may still be made: its claim is told until when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiobotocore.session import get_session

from rekeyd.domain.errors import AccessDeniedError, StoreError, ThrottledError, UnavailableError
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.control import S3BucketControl
from tests.doubles.claim import Claim
from tests.doubles.front import Front, Reply
from tests.patience import HANG_SECONDS

KEY = "arn:aws:kms:us-east-1:111122223333:key/1"


@dataclass
class Scene:
    front: Front
    control: S3BucketControl
    claim: Claim

    async def ask(self) -> None:
        await self.control.set_default_key("bucket", KEY, claim=self.claim)


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with Front.started() as front:
        config = S3Config("s3", region="us-east-1", endpoint_url=front.endpoint_url, answer_seconds_max=5.0)
        async with S3BucketControl(config, get_session()) as control:
            yield Scene(front, control, Claim(seconds=2.0))


def error_body(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()


async def hanging(scene: Scene) -> None:
    scene.front.will(Reply(hangs=True))
    with pytest.raises(UnavailableError):
        await scene.ask()


async def reset(scene: Scene) -> None:
    scene.front.will(Reply(resets_read=True))
    with pytest.raises(UnavailableError) as raised:
        await scene.ask()
    assert raised.value.outcome_unknown


async def passed_on(scene: Scene) -> None:
    """A proxy has given it up."""
    scene.front.will(Reply(504, body=b"<html>gateway timeout</html>"))
    with pytest.raises(StoreError) as raised:
        await scene.ask()
    assert raised.value.outcome_unknown


async def overloaded(scene: Scene) -> None:
    """A proxy's 503 isn't the store's."""
    scene.front.will(Reply(503))
    with pytest.raises(ThrottledError) as raised:
        await scene.ask()
    assert raised.value.outcome_unknown


async def cancelled(scene: Scene) -> None:
    scene.front.will(Reply(hangs=True))
    asking = asyncio.create_task(scene.ask())
    async with asyncio.timeout(HANG_SECONDS):
        while not scene.front.seen:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.001)
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()


@pytest.mark.parametrize("end", [hanging, reset, passed_on, overloaded, cancelled])
async def test_a_change_without_an_answer_keeps_its_claim_until_its_deadline(
    scene: Scene, end: Callable[[Scene], Awaitable[None]]
) -> None:
    earliest = asyncio.get_running_loop().time() + scene.claim.seconds
    await end(scene)
    (deadline,) = scene.claim.unanswered_deadlines
    assert earliest <= deadline <= asyncio.get_running_loop().time() + scene.claim.seconds


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(403, body=error_body("AccessDenied")), AccessDeniedError),
        (Reply(500, body=error_body("InternalError")), UnavailableError),
        (Reply(503, body=error_body("SlowDown")), ThrottledError),
    ],
)
async def test_a_change_that_was_answered_is_settled(
    scene: Scene, reply: Reply, error: type[StoreError]
) -> None:
    scene.front.will(reply, Reply(200))
    with pytest.raises(error):
        await scene.ask()
    await scene.ask()
    assert scene.claim.unanswered_deadlines == []


async def test_a_change_that_was_never_sent_is_settled(
    scene: Scene, unused_tcp_port_factory: Callable[[], int]
) -> None:
    config = S3Config("s3", region="us-east-1", endpoint_url=f"http://127.0.0.1:{unused_tcp_port_factory()}")
    async with S3BucketControl(config, get_session()) as control:
        with pytest.raises(UnavailableError) as raised:
            await control.set_default_key("bucket", KEY, claim=scene.claim)
    assert not raised.value.outcome_unknown
    assert scene.claim.unanswered_deadlines == []


async def test_a_question_without_an_answer_keeps_nobody(scene: Scene) -> None:
    scene.front.will(Reply(resets_read=True))
    with pytest.raises(UnavailableError):
        await scene.control.describe("bucket")
    assert scene.claim.unanswered_deadlines == []
