"""What intake/port.py promises, on SQS's emulators."""

import asyncio
import base64
import contextlib
import json
import random
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession, get_session
from moto.server import ThreadedMotoServer

from rekeyd.domain.errors import ConflictError, LedgerError, RefusedError
from rekeyd.domain.job import Counts, Job, ReceivedJob, read_job_message
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import LocationPattern
from rekeyd.intake.admission import AdmissionDesk
from rekeyd.intake.port import Desk, IntakeError, IntakeOutcome
from rekeyd.intake.sqs import Patience, SqsIntake, SqsQueue
from rekeyd.ledger.port import Admission
from rekeyd.ledger.sql import SqlLedger
from rekeyd.sandbox import Sandbox
from tests.doubles.keys import A_NAMED_KEY
from tests.patience import HANG_SECONDS

REGION = "us-east-1"
VISIBILITY_SECONDS = 1
RECEIVES_MAX = 2


def message(job_id: str = "acme-1", **changes: object) -> bytes:
    arn = "arn:aws:kms:us-east-1:111122223333"
    body = {
        "schema": "rekeyd.job/1",
        "id": job_id,
        "kind": "migrate",
        "tenant": "acme",
        "source": "s3://shared/tenants/acme/",
        "key": {"kind": "kms", "arn": f"{arn}:key/1", "alias": f"{arn}:alias/acme"},
    }
    return json.dumps(body | changes).encode()


class FailingDesk:
    """Admits into memory; fails as its ledger would, or takes its time, for as long as it is told to."""

    def __init__(self) -> None:
        self.jobs: dict[str, ReceivedJob] = {}
        self.principals: set[str] = set()
        self.offers = 0
        self.checks = 0
        self.ledger_fails = False
        self.slow: asyncio.Event | None = None

    async def offer(self, raw: bytes, principal: str) -> Admission:
        self.offers += 1
        if self.slow is not None:
            await self.slow.wait()
        received = read_job_message(raw)
        if self.ledger_fails:
            raise LedgerError("the disk is full")
        known = self.jobs.setdefault(received.message.id, received)
        if known.body_sha256 != received.body_sha256:
            raise ConflictError(f"{received.message.id} is known with another body")
        self.principals.add(principal)
        return Admission(job_of(received), created=known is received)

    async def check(self) -> None:
        self.checks += 1
        if self.ledger_fails:
            raise LedgerError("the disk is full")


def job_of(received: ReceivedJob) -> Job:
    return Job(
        message=received.message,
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
        created_at=0,
        started_at=None,
        finished_at=None,
    )


@dataclass
class Queue:
    """A queue with a dead-letter queue, seen from outside."""

    sqs: Any
    session: AioSession
    endpoint_url: str
    url: str
    dead_url: str
    counted: Counter[str] = field(default_factory=Counter)

    async def send(self, body: bytes) -> None:
        await self.sqs.send_message(QueueUrl=self.url, MessageBody=body.decode())

    async def depth(self, url: str | None = None) -> int:
        """How many messages it holds, hidden ones included."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.sqs.get_queue_attributes(QueueUrl=url or self.url, AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)

    async def dead(self) -> list[str]:
        answer = await self.sqs.receive_message(
            QueueUrl=self.dead_url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [each["Body"] for each in answer.get("Messages", [])]

    def intake(self, desk: Desk, *, url: str | None = None, wait_seconds: int = 1) -> SqsIntake:
        def count(intake: str, outcome: IntakeOutcome) -> None:
            assert intake == "sqs"
            self.counted[outcome] += 1

        return SqsIntake(
            self.session,
            SqsQueue(
                url=url or self.url,
                region=REGION,
                endpoint_url=self.endpoint_url,
                wait_seconds=wait_seconds,
                visibility_seconds=VISIBILITY_SECONDS,
                batch_messages_max=10,
            ),
            Patience(
                request_seconds_max=5,
                connect_seconds_max=1,
                backoff_seconds_base=0.05,
                backoff_seconds_max=0.2,
            ),
            desk,
            count,
            random.Random(0),
        )


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["ministack", "moto"])
def server(request: pytest.FixtureRequest) -> tuple[AioSession, str]:
    session = get_session()
    if request.param == "moto":
        session.set_credentials("AKIDMOTO", "secret")
        return session, request.getfixturevalue("moto_endpoint")
    sandbox: Sandbox = request.getfixturevalue("sandbox")
    session.set_credentials(sandbox.access_key_id, sandbox.secret_access_key)
    return session, sandbox.sqs_endpoint


@pytest.fixture
async def queue(server: tuple[AioSession, str], request: pytest.FixtureRequest) -> AsyncIterator[Queue]:
    session, endpoint_url = server
    name = uuid.uuid4().hex
    async with session.create_client("sqs", region_name=REGION, endpoint_url=endpoint_url) as sqs:
        dead_url = (await sqs.create_queue(QueueName=f"{name}-dead"))["QueueUrl"]
        dead_arn = await sqs.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
        redrive = {
            "deadLetterTargetArn": dead_arn["Attributes"]["QueueArn"],
            "maxReceiveCount": RECEIVES_MAX,
        }
        made = await sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(redrive)})
        yield Queue(sqs, session, endpoint_url, made["QueueUrl"], dead_url)


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[SqlLedger]:
    ledger = await SqlLedger.open(f"sqlite://{tmp_path}/ledger/ledger.db")
    yield ledger
    await ledger.close()


@pytest.fixture
def desk(ledger: SqlLedger) -> AdmissionDesk:
    return AdmissionDesk(
        ledger,
        source_pattern=LocationPattern.parse("s3://shared/tenants/{tenant}/", "source_pattern"),
        target_pattern=LocationPattern.parse("s3://byok-{tenant}/", "target_pattern"),
        grace_seconds=0,
    )


async def admitted(ledger: SqlLedger) -> set[str]:
    return {job.id for job in await ledger.jobs(limit=1000)}


@contextlib.asynccontextmanager
async def running(intake: SqsIntake) -> AsyncIterator[SqsIntake]:
    task = asyncio.create_task(intake.run())
    try:
        yield intake
    finally:
        intake.stop()
        async with asyncio.timeout(HANG_SECONDS):
            await task


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while True:
            met = condition()
            if await met if asyncio.iscoroutine(met) else met:
                return
            await asyncio.sleep(0.02)


async def empty(queue: Queue) -> bool:
    return await queue.depth() == 0


@pytest.mark.parametrize("encode", [bytes, base64.b64encode], ids=["plain", "base64"])
async def test_a_message_becomes_a_job_and_is_deleted(
    queue: Queue, ledger: SqlLedger, desk: AdmissionDesk, encode: Callable[[bytes], bytes]
) -> None:
    async with running(queue.intake(desk)) as intake:
        await queue.send(encode(message()))
        await until(lambda: empty(queue))
        assert intake.connected

    assert await admitted(ledger) == {"acme-1"}
    assert queue.counted == {"admitted": 1}


async def test_a_job_is_admitted_in_the_senders_name(queue: Queue) -> None:
    desk = FailingDesk()
    async with running(queue.intake(desk)):
        await queue.send(message())
        await until(lambda: empty(queue))

    (principal,) = desk.principals
    assert re.fullmatch(r"sqs:\S+", principal)


async def test_what_waits_in_the_queue_is_taken_at_the_start(
    queue: Queue, ledger: SqlLedger, desk: AdmissionDesk
) -> None:
    for number in range(25):
        await queue.send(message(f"acme-{number}"))

    async with running(queue.intake(desk)):
        await until(lambda: empty(queue))

    assert len(await admitted(ledger)) == 25
    assert queue.counted == {"admitted": 25}


async def test_delivered_twice_it_is_admitted_once(
    queue: Queue, ledger: SqlLedger, desk: AdmissionDesk
) -> None:
    async with running(queue.intake(desk)), running(queue.intake(desk)):
        for _ in range(3):
            await queue.send(message())
            await queue.send(b" " + base64.b64encode(message()))
        await until(lambda: empty(queue))

    assert await admitted(ledger) == {"acme-1"}
    assert queue.counted == {"admitted": 1, "known": 5}


@pytest.mark.parametrize(
    ("poison", "outcome"),
    [
        (b"{not JSON", "refused"),
        (message(color="red"), "refused"),
        (message(source="s3://shared/tenants/other/"), "refused"),
        (message("acme-0", requested_by="another"), "conflict"),
    ],
    ids=["unreadable", "unknown-field", "another-location", "conflict"],
)
async def test_what_can_not_be_admitted_ends_in_the_dead_letter_queue(
    queue: Queue, ledger: SqlLedger, desk: AdmissionDesk, poison: bytes, outcome: str
) -> None:
    await desk.offer(message("acme-0"), "somebody")
    async with running(queue.intake(desk)):
        await queue.send(poison)
        await queue.send(message("acme-1"))
        await until(queue.dead)
        await until(lambda: empty(queue))
        assert await queue.dead() == [poison.decode()]

    assert queue.counted == {outcome: RECEIVES_MAX, "admitted": 1}
    assert await admitted(ledger) == {"acme-0", "acme-1"}


async def test_while_the_ledger_fails_messages_stay_and_spend_no_receives(queue: Queue) -> None:
    desk = FailingDesk()
    desk.ledger_fails = True
    async with running(queue.intake(desk)):
        await queue.send(message())
        await until(lambda: desk.checks >= 8)
        # Longer than the visibility: had it been received again, it would be in the dead-letter queue.
        await asyncio.sleep(VISIBILITY_SECONDS * (RECEIVES_MAX + 1))
        assert (await queue.depth(), await queue.dead()) == (1, [])
        assert desk.offers == 1
        assert desk.checks < 60, "backs off"

        desk.ledger_fails = False
        await until(lambda: empty(queue))

    assert queue.counted == {"postponed": 1, "admitted": 1}


async def test_stopping_cancels_the_long_poll(queue: Queue) -> None:
    intake = queue.intake(FailingDesk(), wait_seconds=20)
    task = asyncio.create_task(intake.run())
    await until(lambda: intake.connected)
    await asyncio.sleep(1.2)  # by now it is in the long poll
    began_at = asyncio.get_running_loop().time()

    intake.stop()
    await task

    assert asyncio.get_running_loop().time() - began_at < 10
    assert not intake.connected


async def test_stopping_finishes_the_message_in_hand_and_gives_the_others_back(
    queue: Queue,
) -> None:
    for number in range(4):
        await queue.send(message(f"acme-{number}"))
    desk = FailingDesk()
    desk.slow = asyncio.Event()
    intake = queue.intake(desk)
    task = asyncio.create_task(intake.run())
    await until(lambda: desk.offers)

    intake.stop()
    desk.slow.set()
    await task

    assert len(desk.jobs) == 1
    assert await queue.depth() == 3
    again = await queue.sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=10)
    assert len(again["Messages"]) == 3, "visible at once"


async def test_stopped_before_it_runs_it_takes_nothing(queue: Queue) -> None:
    await queue.send(message())
    intake = queue.intake(FailingDesk())
    intake.stop()

    await intake.run()

    assert await queue.depth() == 1


async def test_a_queue_that_is_not_there_is_waited_for(queue: Queue) -> None:
    desk = FailingDesk()
    missing = f"{queue.url}-missing"
    async with running(queue.intake(desk, url=missing)) as intake:
        await until(lambda: desk.checks >= 5)
        assert not intake.connected
        assert desk.checks < 60, "backs off"

        await queue.sqs.create_queue(QueueName=missing.rpartition("/")[2])
        await until(lambda: intake.connected)


async def test_check_says_what_is_wrong(queue: Queue) -> None:
    intake = queue.intake(FailingDesk())
    assert list(await intake.check()) == []

    dead_end = queue.intake(FailingDesk(), url=queue.dead_url)
    assert "no redrive policy" in (await dead_end.check())[0]

    with pytest.raises(IntakeError, match="GetQueueAttributes"):
        await queue.intake(FailingDesk(), url=f"{queue.url}-missing").check()


async def test_a_broken_invariant_is_not_waited_out(queue: Queue) -> None:
    class BrokenDesk(FailingDesk):
        async def offer(self, raw: bytes, principal: str) -> Admission:
            raise AssertionError("broken")

    await queue.send(message())

    with pytest.raises(AssertionError, match="broken"):
        await queue.intake(BrokenDesk()).run()
    assert await queue.depth() == 1


def test_a_refusal_names_the_field() -> None:
    with pytest.raises(RefusedError, match="color"):
        read_job_message(message(color="red"))
