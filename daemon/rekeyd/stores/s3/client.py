"""A thin signed S3 client on aiohttp: one request a call, its answer or its error, nothing in between.

Header bytes go out and come in as they are: URLs are never normalised, bodies never decompressed, redirects
never followed, no environment, cookie or default header adds anything. The one thing that is done by itself
is to send a call again to the region in which the store says the bucket is: such a call had no effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

import aiohttp
from yarl import URL

from rekeyd.domain.errors import (
    StoreError,
    StoreRefusedError,
    UnavailableError,
)
from rekeyd.stores.s3.config import Address, S3Config, locate
from rekeyd.stores.s3.deadline import deadline_of, put_off, unanswered_told
from rekeyd.stores.s3.errors import Refusal, embedded_refusal, read_refusal, translate
from rekeyd.stores.s3.outflow import Outflow
from rekeyd.stores.s3.request import S3Answer, S3Request, body_of
from rekeyd.stores.s3.response import Held, read_answer
from rekeyd.stores.s3.signing import Credentials, SigningScope, authorize, encode_query
from rekeyd.stores.s3.xml import Element, MalformedAnswer, parse_as

REGIONS_REMEMBERED_MAX = 10_000
"""Buckets whose region is remembered; the one learnt first is forgotten first."""

_SKEW_SECONDS_MIN = 60.0
_SENDINGS_MAX = 2  # one, and another in the region that the first one named
_REDIRECTING = frozenset({301, 307, 400})
_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


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
            body = await read_answer(response, request, self.config.answer_bytes_max)
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
                    async with body_of(request) as body:
                        bound.reschedule(deadline_of(request, self.config.answer_seconds_max))
                        sent = True
                        with (
                            unanswered_told(request, bound),
                            put_off(request, bound, self.config.bytes_per_second_min),
                            Held(await self._send(request, region, credentials, body)) as response,
                        ):
                            if response.status < HTTPStatus.MULTIPLE_CHOICES:
                                if streams:
                                    bound.reschedule(None)
                                yield response
                                return
                            answer = await read_answer(response, request, self.config.answer_bytes_max)
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


def _unsent(request: S3Request, error: Exception, body: bytes | Outflow | None) -> Exception:
    """What a failure to send, or to get the head of an answer, is."""
    if isinstance(body, Outflow) and body.failure is not None:
        # The last of the content was held back: the store has nothing to publish.
        return body.failure
    unavailable = UnavailableError(request.operation, f"no answer: {type(error).__name__} {error}")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        unavailable.outcome_unknown = False
    return unavailable
