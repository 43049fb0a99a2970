"""Jobs from an Amazon SQS queue.

SQS delivers at least once, and again what isn't deleted in its visibility timeout; after `maxReceiveCount`
receives the queue's redrive policy moves it to a dead-letter queue (Amazon SQS Developer Guide, "Using
dead-letter queues in Amazon SQS"). So a message is deleted only after the ledger has its job, what can't be
admitted is left alone, and nothing is received while the ledger can take nothing: waiting for it must not
use up a good message's receives.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import structlog
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from rekeyd.domain.errors import ConflictError, LedgerError, RefusedError
from rekeyd.intake.port import CountMessage, Desk, IntakeError, IntakeOutcome

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_sqs.client import SQSClient
    from types_aiobotocore_sqs.type_defs import MessageTypeDef

IDLE_SECONDS_MIN = 1.0
"""An empty receive takes at least so long, whatever the queue makes of a long poll."""

CONNECTIONS_MAX = 2

Answer = TypeVar("Answer")

log = structlog.stdlib.get_logger()


class _QueueError(IntakeError):
    """A request to the queue failed. `code` is SQS's own word, empty where there was no answer."""

    def __init__(self, text: str, code: str = "") -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class SqsQueue:
    """A queue, and how much is asked of it at once."""

    url: str
    region: str
    endpoint_url: str
    """Empty: AWS."""
    wait_seconds: int
    visibility_seconds: int
    batch_messages_max: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited: for one request, and between attempts."""

    request_seconds_max: float
    connect_seconds_max: float
    backoff_seconds_base: float
    backoff_seconds_max: float


class SqsIntake:
    """An intake of one queue. See the port.

    Retries are its own: the SDK makes none, and a request that failed is followed by a wait that grows.
    """

    name = "sqs"

    def __init__(
        self,
        session: AioSession,
        queue: SqsQueue,
        patience: Patience,
        desk: Desk,
        count: CountMessage,
        jitter: random.Random,
    ) -> None:
        self._session = session
        self._queue = queue
        self._patience = patience
        self._desk = desk
        self._count = count
        self._jitter = jitter
        self._stopping = asyncio.Event()
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether the last request to the queue succeeded."""
        return self._connected

    def stop(self) -> None:
        """Have `run` take nothing more: a long poll is cancelled at once."""
        self._stopping.set()

    async def run(self) -> None:
        """Admit what arrives until told to stop. See the port."""
        failures = 0
        async with self._client() as sqs:
            while not self._stopping.is_set():
                try:
                    await self._take_batch(sqs)
                    failures = 0
                except (IntakeError, LedgerError) as error:
                    failures += 1
                    log.warning("intake.waits", intake=self.name, reason=str(error), failures=failures)
                    await self._back_off(failures)
                    await self._await_ledger(failures)
        self._connected = False

    async def check(self) -> Sequence[str]:
        """Read the queue's attributes. See the port."""
        async with self._client() as sqs:
            answer = await self._ask(
                "GetQueueAttributes",
                sqs.get_queue_attributes(QueueUrl=self._queue.url, AttributeNames=["RedrivePolicy"]),
            )
        if "RedrivePolicy" in answer.get("Attributes", {}):
            return []
        return ["the queue has no redrive policy: refused messages come back until they expire; set one"]

    async def _take_batch(self, sqs: SQSClient) -> None:
        """Receive once, waiting as long as the queue does, and admit what came, one by one."""
        messages = await self._receive(sqs)
        while messages and not self._stopping.is_set():
            await self._take(sqs, messages.pop(0))
        if messages:
            await self._give_back(sqs, messages)

    async def _receive(self, sqs: SQSClient) -> list[MessageTypeDef]:
        began_at = asyncio.get_running_loop().time()
        # Whether the queue answers at all is to be known at once, not after a long poll.
        wait_seconds = self._queue.wait_seconds if self._connected else 0
        receiving = self._ask(
            "ReceiveMessage",
            sqs.receive_message(
                QueueUrl=self._queue.url,
                MaxNumberOfMessages=self._queue.batch_messages_max,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=self._queue.visibility_seconds,
                MessageSystemAttributeNames=["SenderId", "ApproximateReceiveCount"],
            ),
            waiting_seconds=wait_seconds,
        )
        answer = await self._unless_stopping(receiving)
        messages = [] if answer is None else list(answer.get("Messages", []))
        took_seconds = asyncio.get_running_loop().time() - began_at
        if not messages and took_seconds < IDLE_SECONDS_MIN:
            await self._pause(IDLE_SECONDS_MIN - took_seconds)
        return messages

    async def _take(self, sqs: SQSClient, message: MessageTypeDef) -> None:
        attributes = message.get("Attributes", {})
        about = log.bind(
            intake=self.name,
            message=message.get("MessageId", ""),
            receives=attributes.get("ApproximateReceiveCount", ""),
        )
        # A lone surrogate gets as far as the reading of the message, which refuses it.
        raw = message.get("Body", "").encode("utf-8", "surrogatepass")
        try:
            admission = await self._desk.offer(raw, f"sqs:{attributes.get('SenderId', '')}")
        except RefusedError as error:
            about.warning("intake.refused", field=error.field, reason=error.reason)
            self._tally("refused")
            return
        except ConflictError as error:
            about.warning("intake.conflict", reason=str(error))
            self._tally("conflict")
            return
        except LedgerError:
            self._tally("postponed")
            raise
        about.info("intake.admitted", job=admission.job.id, new=admission.created)
        self._tally("admitted" if admission.created else "known")
        await self._delete(sqs, message)

    async def _delete(self, sqs: SQSClient, message: MessageTypeDef) -> None:
        # Where this fails the message comes again, and the ledger knows its job.
        handle = message.get("ReceiptHandle", "")
        try:
            await self._ask(
                "DeleteMessage", sqs.delete_message(QueueUrl=self._queue.url, ReceiptHandle=handle)
            )
        except _QueueError as error:
            # Of a message that is deleted already: AWS answers 200, not every queue does.
            if error.code != "ReceiptHandleIsInvalid":
                raise

    async def _give_back(self, sqs: SQSClient, messages: Sequence[MessageTypeDef]) -> None:
        """Let another daemon have at once what this one won't admit. Where it fails the timeout does it."""
        entries = [
            {"Id": str(at), "ReceiptHandle": message.get("ReceiptHandle", ""), "VisibilityTimeout": 0}
            for at, message in enumerate(messages)
        ]
        await self._ask(
            "ChangeMessageVisibilityBatch",
            sqs.change_message_visibility_batch(QueueUrl=self._queue.url, Entries=entries),  # type: ignore[arg-type]
        )

    async def _await_ledger(self, failures: int) -> None:
        while not self._stopping.is_set():
            try:
                await self._desk.check()
            except LedgerError as error:
                failures += 1
                log.warning("intake.waits", intake=self.name, reason=str(error), failures=failures)
                await self._back_off(failures)
            else:
                return

    async def _ask(self, what: str, asking: Awaitable[Answer], *, waiting_seconds: float = 0) -> Answer:
        """Await one request, for a bounded time. Raises _QueueError."""
        try:
            async with asyncio.timeout(waiting_seconds + self._patience.request_seconds_max):
                answer = await asking
        except ClientError as error:
            self._connected = False
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise _QueueError(f"sqs:{what}: {error}", code.rpartition("#")[2]) from error
        except (BotoCoreError, aiohttp.ClientError, OSError, ValueError) as error:
            # TimeoutError is an OSError; ValueError is an answer that isn't SQS's.
            self._connected = False
            words = str(error) or type(error).__name__
            raise _QueueError(f"sqs:{what}: {words}") from error
        self._connected = True
        return answer

    async def _unless_stopping(self, asking: Awaitable[Answer]) -> Answer | None:
        """Await it, or give it up when told to stop."""
        answering = asyncio.ensure_future(asking)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({answering, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else None
        finally:
            answering.cancel()
            stopping.cancel()
            await asyncio.gather(answering, stopping, return_exceptions=True)

    async def _back_off(self, failures: int) -> None:
        """Wait about twice as long as the time before, at most `backoff_seconds_max`."""
        patience = self._patience
        doublings = min(failures - 1, 30)
        longest = min(patience.backoff_seconds_max, patience.backoff_seconds_base * 2**doublings)
        await self._pause(longest * self._jitter.uniform(0.5, 1))

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _tally(self, outcome: IntakeOutcome) -> None:
        self._count(self.name, outcome)

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[SQSClient]:
        config = AioConfig(
            connect_timeout=self._patience.connect_seconds_max,
            read_timeout=self._queue.wait_seconds + self._patience.request_seconds_max,
            max_pool_connections=CONNECTIONS_MAX,
            retries={"total_max_attempts": 1, "mode": "standard"},
        )
        async with self._session.create_client(
            "sqs",
            region_name=self._queue.region,
            endpoint_url=self._queue.endpoint_url or None,
            config=config,
        ) as client:
            yield client
