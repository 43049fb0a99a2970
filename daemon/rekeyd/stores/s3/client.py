"""A thin signed S3 client on aiohttp: one request a call, its answer or its error, nothing in between.

Header bytes go out and come in as they are: URLs are never normalised, bodies never decompressed, redirects
never followed, no environment, cookie or default header adds anything. The one thing that is done by itself
is to send a call again to the region in which the store says the bucket is: such a call had no effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import TracebackType
from typing import Protocol

import aiohttp
from yarl import URL

from rekeyd.domain.errors import (
    ClaimLostError,
    InterruptedTransferError,
    StoreError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import Content, LiveClaim
from rekeyd.stores.s3.config import Address, S3Config, locate
from rekeyd.stores.s3.errors import Refusal, embedded_refusal, read_refusal, translate
from rekeyd.stores.s3.outflow import Outflow
from rekeyd.stores.s3.signing import Credentials, SigningScope, authorize, encode_query
from rekeyd.stores.s3.xml import Element, MalformedAnswer, parse_as

REGIONS_REMEMBERED_MAX = 10_000
"""Buckets whose region is remembered; the one learnt first is forgotten first."""

_SKEW_SECONDS_MIN = 60.0
_PUT_OFF_STEPS = 3  # so often is a deadline put off before it would have come
_SENDINGS_MAX = 2  # one, and another in the region that the first one named
_REDIRECTING = frozenset({301, 307, 400})
_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_ONE_WRITE_BYTES_MAX = 1024 * 1024
_EMPTY = BytesContent(b"")


class FrozenCredentials(Protocol):
    """What aiobotocore gives of credentials that are good now."""

    @property
    def access_key(self) -> str | None:
        """The id, which is no secret."""

    @property
    def secret_key(self) -> str | None:
        """What requests are signed with."""

    @property
    def token(self) -> str | None:
        """Of a session, sent along."""


class CredentialSource(Protocol):
    """aiobotocore's credentials: they refresh themselves when they are asked for."""

    async def get_frozen_credentials(self) -> FrozenCredentials:
        """Credentials that are good now."""


@dataclass(frozen=True, slots=True)
class S3Request:
    """One request. With a claim it changes something, and ends by the claim's deadline."""

    operation: str
    method: str
    bucket: str
    key: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """Lower-case names."""
    content: Content = _EMPTY
    claim: LiveClaim | None = None
    publishes: bool = False
    """What others see changes by it."""
    takes_long: bool = False
    """The store may be silent for long before it answers: only the deadline bounds the wait."""
    moved_bytes: int = 0
    """What the store copies or puts together before it answers."""


@dataclass(frozen=True, slots=True)
class S3Answer:
    """A success: its headers, and its body where that was read as a whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def request_id(self) -> str:
        """The store's name for the call."""
        return self.headers.get("x-amz-request-id", "")


class S3Client:
    """Signed requests to one store, over a bounded pool of connections."""

    def __init__(
        self,
        config: S3Config,
        http: aiohttp.ClientSession,
        credentials: CredentialSource,
        now: Callable[[], float],
    ) -> None:
        self.config = config
        self._http = http
        self._credentials = credentials
        self._now = now
        self._skew_seconds = 0.0
        self._regions: dict[str, str] = {}
        self._usual = self._silence(config.answer_seconds_max)
        self._reading = self._silence(config.read_gap_seconds_max)
        self._patient = self._silence(None)

    def _silence(self, seconds_max: float | None) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=None, sock_connect=self.config.connect_seconds_max, sock_read=seconds_max
        )

    @classmethod
    @asynccontextmanager
    async def opened(
        cls, config: S3Config, credentials: CredentialSource, now: Callable[[], float]
    ) -> AsyncGenerator[S3Client]:
        """A client for as long as the context lasts; `now` gives the seconds of the epoch."""
        connector = aiohttp.TCPConnector(
            limit=config.connections_max,
            keepalive_timeout=config.idle_connection_seconds_max,
        )
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.connect_seconds_max),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=_AUTOMATIC_HEADERS,
            read_bufsize=config.read_buffer_bytes,
        ) as http:
            # aiohttp would send PUT and DELETE again by itself on a connection that was found closed.
            # Whether such a call took effect isn't known: only the caller may repeat it.
            assert http._retry_connection, "aiohttp no longer repeats requests the way that is turned off"  # noqa: SLF001
            http._retry_connection = False  # noqa: SLF001
            yield cls(config, http, credentials, now)

    def region_of(self, bucket: str) -> str:
        """The bucket's region as far as it is known, the store's own otherwise."""
        return self._regions.get(bucket, self.config.region)

    async def call(self, request: S3Request) -> S3Answer:
        """Make a call and read its answer. Raises StoreError, ClaimLostError."""
        async with self.exchange(request) as response:
            body = await _read_answer(response, request, self.config.answer_bytes_max)
            return S3Answer(response.status, response.headers, body)

    async def call_for_xml(self, request: S3Request, *roots: str) -> tuple[Element, S3Answer]:
        """Make a call whose success is a document. An error inside a 200 is one whose outcome isn't known."""
        answer = await self.call(request)
        try:
            root = parse_as(answer.body, *roots)
        except MalformedAnswer as malformed:
            raise UnavailableError(
                request.operation, f"its answer: {malformed}", request_id=answer.request_id
            ) from malformed
        if root.name == "Error":
            error = translate(request.operation, embedded_refusal(root, answer.headers))
            error.outcome_unknown = True
            raise error
        return root, answer

    @asynccontextmanager
    async def exchange(
        self, request: S3Request, *, streams: bool = False
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """Send a request and give its successful response, whose body isn't read yet.

        The claim's deadline, or `answer_seconds_max` where there is none, bounds the whole context; where the
        body streams, only what precedes it, and the silences in it. Leaving early drops the connection.
        """
        for sending in range(1, _SENDINGS_MAX + 1):
            region = self.region_of(request.bucket)
            sent = False
            try:
                async with asyncio.timeout(self.config.answer_seconds_max) as bound:
                    credentials = await self._frozen_credentials(request)
                    async with _body(request) as body:
                        bound.reschedule(self._deadline(request))
                        sent = True
                        with (
                            _unanswered_told(request, bound),
                            self._put_off(request, bound),
                            _Held(await self._send(request, region, credentials, body)) as response,
                        ):
                            if response.status < HTTPStatus.MULTIPLE_CHOICES:
                                if streams:
                                    bound.reschedule(None)
                                yield response
                                return
                            answer = await _read_answer(response, request, self.config.answer_bytes_max)
                            refusal = read_refusal(request.method, response.status, response.headers, answer)
                            if not refusal.spoken and refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                                # Somebody between here and the store, which may have it and still be at it.
                                passed_on = self._refused(request, refusal, response.headers)
                                passed_on.outcome_unknown = True
                                raise passed_on
            except TimeoutError as error:
                late = UnavailableError(request.operation, "no answer in time")
                late.outcome_unknown = sent
                raise late from error
            if sending == _SENDINGS_MAX or not self._learns_region(request.bucket, region, refusal):
                raise self._refused(request, refusal, response.headers)

    def _deadline(self, request: S3Request) -> float:
        now = asyncio.get_running_loop().time()
        if request.claim is None:
            return now + self.config.answer_seconds_max
        deadline = request.claim.call_deadline()
        if deadline <= now:
            raise ClaimLostError(f"{request.operation}: its deadline has passed")
        return deadline

    @contextmanager
    def _put_off(self, request: S3Request, bound: asyncio.Timeout) -> Generator[None]:
        """Put a mutating call's deadline off while its claim is renewed: as long as its bytes may take, and no longer.

        At any moment the claim outlives the deadline that is in force.
        """
        claim, begun = request.claim, bound.when()
        bytes_due = max(request.content.size_bytes, request.moved_bytes)
        if claim is None or begun is None or not bytes_due:
            yield
            return
        loop = asyncio.get_running_loop()
        last = begun + bytes_due / self.config.bytes_per_second_min
        step = (begun - loop.time()) / _PUT_OFF_STEPS
        timer: asyncio.TimerHandle

        def put_off() -> None:
            nonlocal timer
            with suppress(ClaimLostError):  # then it ends at the deadline that it has
                bound.reschedule(min(claim.call_deadline(), last))
                timer = loop.call_later(step, put_off)

        timer = loop.call_later(step, put_off)
        try:
            yield
        finally:
            timer.cancel()

    async def _frozen_credentials(self, request: S3Request) -> Credentials:
        try:
            frozen = await self._credentials.get_frozen_credentials()
        except TimeoutError:
            raise
        except Exception as error:
            # aiobotocore raises whatever the source of the credentials raises.
            failed = UnavailableError(request.operation, "no credentials could be had")
            failed.outcome_unknown = False
            raise failed from error
        if not frozen.access_key or not frozen.secret_key:
            raise StoreRefusedError(request.operation, "the credentials are empty")
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or None)

    async def _send(
        self, request: S3Request, region: str, credentials: Credentials, body: bytes | Outflow | None
    ) -> aiohttp.ClientResponse:
        address, query, headers = self._signed(request, region, credentials)
        target = f"{address.base}{address.path}" + (f"?{query}" if query else "")
        try:
            return await self._http.request(
                request.method,
                URL(target, encoded=True),
                headers=headers,
                data=body,
                allow_redirects=False,
                timeout=self._timeout(request),
            )
        except (aiohttp.ClientError, OSError) as error:
            raise _unsent(request, error, body) from error

    def _signed(
        self, request: S3Request, region: str, credentials: Credentials
    ) -> tuple[Address, str, dict[str, str]]:
        config = self.config
        try:
            address = locate(config, region, request.bucket, request.key)
            query = encode_query(request.query)
            headers = {"host": address.host, **request.headers}
            if config.account_id:
                headers["x-amz-expected-bucket-owner"] = config.account_id
            scope = SigningScope.at(self._now() + self._skew_seconds, region)
            headers = authorize(request.method, address.path, query, headers, scope, credentials)
        except UnicodeEncodeError as error:
            raise StoreRefusedError(request.operation, "a key or a header has no UTF-8") from error
        if request.method in ("PUT", "POST"):
            headers["content-length"] = str(request.content.size_bytes)
        return address, query, headers

    def _timeout(self, request: S3Request) -> aiohttp.ClientTimeout:
        if request.takes_long:
            return self._patient
        return self._reading if request.method == "GET" else self._usual

    def _learns_region(self, bucket: str, used: str, refusal: Refusal) -> bool:
        """Remember the region that a refusal names. True where that is another than the one used."""
        if refusal.status not in _REDIRECTING or refusal.region in ("", used):
            return False
        if len(self._regions) >= REGIONS_REMEMBERED_MAX:
            self._regions.pop(next(iter(self._regions)))
        self._regions[bucket] = refusal.region
        return True

    def _refused(self, request: S3Request, refusal: Refusal, headers: Mapping[str, str]) -> StoreError:
        error = translate(request.operation, refusal)
        if refusal.code != "RequestTimeTooSkewed" or not self._learns_time(headers.get("date", "")):
            return error
        skewed = UnavailableError(
            request.operation, "our clock was off: it is corrected now", code=refusal.code
        )
        skewed.outcome_unknown = False
        return skewed

    def _learns_time(self, date: str) -> bool:
        """Take the store's time over. False where that changes nothing: then repeating won't help."""
        try:
            offset = parsedate_to_datetime(date).timestamp() - self._now()
        except ValueError:
            return False
        if abs(offset - self._skew_seconds) < _SKEW_SECONDS_MIN:
            return False
        self._skew_seconds = offset
        return True


@contextmanager
def _unanswered_told(request: S3Request, bound: asyncio.Timeout) -> Generator[None]:
    """Tell the claim where the call that is made within ends without its answer, however that comes about."""
    try:
        yield
    except BaseException as error:
        never_sent = isinstance(error, StoreError) and not error.outcome_unknown
        deadline = bound.when()
        if request.claim is not None and deadline is not None and request.publishes and not never_sent:
            request.claim.unanswered(deadline)
        raise


class _Held:
    """A response, whose connection is given back only where nothing more is to come or to go on it."""

    __slots__ = ("_response",)

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __enter__(self) -> aiohttp.ClientResponse:
        return self._response

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None and self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def _body(request: S3Request) -> AbstractAsyncContextManager[bytes | Outflow | None]:
    """What is sent: bytes as one write, anything else as it flows."""
    content = request.content
    if isinstance(content, BytesContent) and content.size_bytes <= _ONE_WRITE_BYTES_MAX:
        return nullcontext(content.data or None)
    return _flowing(request)


@asynccontextmanager
async def _flowing(request: S3Request) -> AsyncGenerator[Outflow | None]:
    async with request.content.open() as chunks:
        outflow = Outflow(request.operation, chunks, request.content.size_bytes)
        try:
            if request.content.size_bytes == 0:
                # Nothing is sent, so that what a content that should be empty yields is met here.
                await outflow.check_empty()
                yield None
            else:
                yield outflow
        finally:
            await outflow.aclose()


def _unsent(request: S3Request, error: Exception, body: bytes | Outflow | None) -> Exception:
    """What a failure to send, or to get the head of an answer, is."""
    if isinstance(body, Outflow) and body.failure is not None:
        # The last of the content was held back: the store has nothing to publish.
        return body.failure
    unavailable = UnavailableError(request.operation, f"no answer: {type(error).__name__} {error}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        unavailable.outcome_unknown = False
    return unavailable


async def _read_answer(response: aiohttp.ClientResponse, request: S3Request, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > bytes_max:
                raise UnavailableError(request.operation, f"an answer of over {bytes_max} bytes")
    except (aiohttp.ClientError, OSError) as error:
        raise InterruptedTransferError(
            request.operation, f"the answer ended early: {type(error).__name__}"
        ) from error
    return b"".join(chunks)


async def exact_chunks(
    response: aiohttp.ClientResponse, operation: str, size_bytes: int
) -> AsyncGenerator[bytes]:
    """A body of exactly `size_bytes`, or InterruptedTransferError."""
    left = size_bytes
    try:
        async for chunk in response.content.iter_any():
            left -= len(chunk)
            if left < 0:
                raise InterruptedTransferError(operation, f"over {size_bytes} bytes came")
            yield chunk
    except (aiohttp.ClientError, OSError) as error:
        raise InterruptedTransferError(
            operation, f"the body ended {left} bytes early: {type(error).__name__}"
        ) from error
    if left:
        raise InterruptedTransferError(operation, f"the body ended {left} bytes early")
