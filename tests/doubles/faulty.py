"""A store whose answers follow a script: errors before a call took effect or after, delays, changes in between, lies.

The idea is kopia's internal/faulty. A `Script` says what happens at the n-th call of an operation; what it doesn't
mention goes through unchanged. Every call is noted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

from rekeyd.domain.bucket_policy import Policy
from rekeyd.domain.errors import ClaimLostError, StoreError, UnavailableError
from rekeyd.domain.objects import Attributes, ByteSpan, ObjectHead, ObjectLock, ObjectVersion
from rekeyd.jobs.conditions import PROOF_PREFIX
from rekeyd.stores.buckets import BucketControl, BucketDescription, BucketRules
from rekeyd.stores.port import (
    LIST_OBJECTS_MAX,
    Content,
    DeleteOutcome,
    IfMatches,
    ListingPage,
    LiveClaim,
    ObjectStore,
    ObjectStream,
    Part,
    UnderKey,
    Upload,
    VersionsPage,
    WriteCondition,
    Written,
)

T = TypeVar("T")

MUTATING = frozenset(
    {
        "put",
        "copy",
        "begin_upload",
        "put_part",
        "copy_part",
        "complete_upload",
        "abort_upload",
        "hide",
        "delete",
        "create",
        "enable_versioning",
        "set_tags",
        "set_default_key",
        "block_public_access",
        "set_policy",
        "expire_unfinished_uploads",
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the port."""

    store: str
    operation: str
    bucket: str
    keys: tuple[str, ...] = ()
    versions: tuple[ObjectVersion, ...] = ()
    """Those that are to be deleted."""
    claim: LiveClaim | None = None
    """Of one that may act later: under which it is made."""

    @property
    def mutates(self) -> bool:
        return self.operation in MUTATING

    @property
    def proves(self) -> bool:
        """Whether it is part of the proof that a store heeds conditions: about none of a tenant's objects."""
        return bool(self.keys) and all(key.startswith(PROOF_PREFIX) for key in self.keys)


class Fault:
    """What happens at some calls. Each method adds something and gives the fault itself."""

    def __init__(self, matches: Callable[[Call], bool], nth: int, times: int | None) -> None:
        self._matches = matches
        self._skips = nth - 1
        self._left = times
        self._before: list[Callable[[Call], Awaitable[None]]] = []
        self._after: list[Callable[[Call, Any], Awaitable[Any]]] = []
        self._later: asyncio.Event | None = None
        self.acted = asyncio.Event()
        """Set once what was to take effect later has, or has been refused."""
        self.applied = 0

    def applies(self, call: Call) -> bool:
        """Whether it does, to this call. Counts."""
        if not self._matches(call):
            return False
        if self._skips:
            self._skips -= 1
            return False
        if self._left is not None:
            if not self._left:
                return False
            self._left -= 1
        self.applied += 1
        return True

    def fails(self, error: type[StoreError], code: str = "") -> Self:
        """Raise before the call takes effect."""

        async def fail(call: Call) -> None:
            raise error(call.operation, "scripted", code=code)

        self._before.append(fail)
        return self

    def loses_answer(self, error: type[StoreError]) -> Self:
        """Raise after the call took effect."""

        async def lose(call: Call, _answer: object) -> None:
            raise error(call.operation, "scripted: the answer is lost")

        self._after.append(lose)
        return self

    def acts_later(self, when: asyncio.Event) -> Self:
        """For `put` and `set_default_key`: no answer comes, and the call takes effect only then."""
        self._later = when
        return self

    async def act_later(self, call: Call, do: Callable[[], Awaitable[object]]) -> asyncio.Task[None] | None:
        """The task in which the call takes effect, where that is later."""
        if self._later is None:
            return None
        assert call.claim is not None, "such calls don't act later"
        later = self._later

        async def act() -> None:
            await later.wait()
            with contextlib.suppress(StoreError, ClaimLostError):
                await do()
            self.acted.set()

        call.claim.unanswered(call.claim.call_deadline())
        return asyncio.create_task(act())

    def waits(self, seconds: float) -> Self:
        """Be late, before the call takes effect."""

        async def wait(_call: Call) -> None:
            await asyncio.sleep(seconds)

        self._before.append(wait)
        return self

    def hangs(self, arrived: asyncio.Event) -> Self:
        """Say that the call has come, and never go on."""

        async def hang(_call: Call) -> None:
            arrived.set()
            await asyncio.Event().wait()

        self._before.append(hang)
        return self

    def first(self, do: Callable[[], object]) -> Self:
        """Do something before the call takes effect."""

        async def happen(_call: Call) -> None:
            do()

        self._before.append(happen)
        return self

    def first_await(self, do: Callable[[Call], Awaitable[None]]) -> Self:
        """Await something before the call takes effect."""
        self._before.append(do)
        return self

    def then(self, do: Callable[[], object]) -> Self:
        """Do something once the call took effect."""

        async def happen(_call: Call, answer: object) -> object:
            do()
            return answer

        self._after.append(happen)
        return self

    def then_await(self, do: Callable[[Call], Awaitable[None]]) -> Self:
        """Await something once the call took effect, before its answer comes."""

        async def happen(call: Call, answer: object) -> object:
            await do(call)
            return answer

        self._after.append(happen)
        return self

    def answers(self, change: Callable[[Any], object]) -> Self:
        """Give another answer."""

        async def lie(_call: Call, answer: object) -> object:
            return change(answer)

        self._after.append(lie)
        return self

    def gives_bytes(self, change: Callable[[bytes], bytes]) -> Self:
        """For `read`: give other bytes."""
        return self.answers(lambda stream: _Altered(stream, change))

    async def before(self, call: Call) -> None:
        for do in self._before:
            await do(call)

    async def after(self, call: Call, answer: object) -> object:
        for do in self._after:
            answer = await do(call, answer)
        return answer


class Script:
    """What happens at which calls, of one or several stores; and which there were."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.page_objects_max = LIST_OBJECTS_MAX
        """How many objects a page of a listing has at the most."""
        self.before_each: Callable[[Call], None] | None = None
        """Told of every call before it is made."""
        self._faults: list[Fault] = []
        self._acting: set[asyncio.Task[None]] = set()

    def on(
        self,
        operation: str,
        *,
        store: str | None = None,
        bucket: str | None = None,
        key: str | None = None,
        nth: int = 1,
        times: int | None = 1,
    ) -> Fault:
        """A fault at the `nth` such call, and at as many as `times` says (None: all) from it on.

        A proof's calls are meant only where their key is named.
        """

        def matches(call: Call) -> bool:
            return (
                call.operation == operation
                and store in (None, call.store)
                and bucket in (None, call.bucket)
                and (not call.proves if key is None else key in call.keys)
            )

        fault = Fault(matches, nth, times)
        self._faults.append(fault)
        return fault

    def always(
        self, operation: str, *, store: str | None = None, bucket: str | None = None, key: str | None = None
    ) -> Fault:
        """A fault at every such call."""
        return self.on(operation, store=store, bucket=bucket, key=key, times=None)

    def clear(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def count(self, operation: str, bucket: str | None = None) -> int:
        """How often it was called, a proof's calls apart."""
        return sum(
            call.operation == operation and bucket in (None, call.bucket) and not call.proves
            for call in self.calls
        )

    def mutations(self) -> list[Call]:
        """The calls that change something, in order."""
        return [call for call in self.calls if call.mutates]

    async def play(self, call: Call, do: Callable[[], Awaitable[T]]) -> T:
        """Make the call as the script says."""
        self.calls.append(call)
        if self.before_each is not None:
            self.before_each(call)
        faults = [fault for fault in self._faults if fault.applies(call)]
        for fault in faults:
            await fault.before(call)
            acting = await fault.act_later(call, do)
            if acting is not None:
                self._acting.add(acting)
                raise UnavailableError(call.operation, "scripted: no answer")
        answer: Any = await do()
        for fault in faults:
            answer = await fault.after(call, answer)
        given: T = answer
        return given


class _Altered:
    """A stream whose bytes aren't those of the object."""

    def __init__(self, inner: ObjectStream, change: Callable[[bytes], bytes]) -> None:
        self._inner = inner
        self._change = change

    @property
    def head(self) -> ObjectHead:
        return self._inner.head

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._change(b"".join([chunk async for chunk in self._inner.chunks()]))


class _Sent:
    """The claim of one call: what acts late has the deadline with which it was sent."""

    def __init__(self, claim: LiveClaim) -> None:
        self._claim = claim
        self._deadline: float | None = None

    def call_deadline(self) -> float:
        if self._deadline is None:
            self._deadline = self._claim.call_deadline()
        return self._deadline

    def closing_deadline(self) -> float:
        return self._claim.closing_deadline()

    def unanswered(self, deadline: float) -> None:
        self._claim.unanswered(deadline)


def as_it_is(key: str) -> str:
    return key


class FaultyStore:
    """A whole object store under a script. `keeps_as` says under which key the store keeps what it is given."""

    def __init__(
        self, inner: ObjectStore, script: Script, *, keeps_as: Callable[[str], str] = as_it_is
    ) -> None:
        self._inner = inner
        self._script = script
        self._keeps_as = keeps_as

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def computes_copied_checksums(self) -> bool:
        return self._inner.computes_copied_checksums

    @property
    def updates_keys_of(self) -> str:
        return self._inner.updates_keys_of

    def _call(self, operation: str, bucket: str, *keys: str) -> Call:
        return Call(self.name, operation, bucket, keys)

    def _kept(self, version: ObjectVersion) -> ObjectVersion:
        return replace(version, key=self._keeps_as(version.key))

    async def list_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> ListingPage:
        bounded = min(limit, self._script.page_objects_max)
        return await self._script.play(
            self._call("list_page", bucket, prefix),
            lambda: self._inner.list_page(bucket, prefix, after=after, limit=bounded),
        )

    async def list_versions_page(
        self, bucket: str, prefix: str, *, after: str | None = None, limit: int = LIST_OBJECTS_MAX
    ) -> VersionsPage:
        bounded = min(limit, self._script.page_objects_max)
        return await self._script.play(
            self._call("list_versions_page", bucket, prefix),
            lambda: self._inner.list_versions_page(bucket, prefix, after=after, limit=bounded),
        )

    async def head(self, bucket: str, key: str, version_id: str | None = None) -> ObjectHead:
        head = await self._script.play(
            self._call("head", bucket, key),
            lambda: self._inner.head(bucket, self._keeps_as(key), version_id),
        )
        return replace(head, version=replace(head.version, key=key))

    @asynccontextmanager
    async def _read(
        self, bucket: str, version: ObjectVersion, span: ByteSpan | None
    ) -> AsyncGenerator[ObjectStream]:
        opened = self._inner.read(bucket, self._kept(version), span)
        stream = await self._script.play(self._call("read", bucket, version.key), opened.__aenter__)
        try:
            yield stream
        finally:
            await opened.__aexit__(None, None, None)

    def read(
        self, bucket: str, version: ObjectVersion, span: ByteSpan | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]:
        return self._read(bucket, version, span)

    async def read_tags(self, bucket: str, version: ObjectVersion) -> Mapping[str, str]:
        return await self._script.play(
            self._call("read_tags", bucket, version.key),
            lambda: self._inner.read_tags(bucket, self._kept(version)),
        )

    async def put(
        self,
        bucket: str,
        key: str,
        content: Content,
        attributes: Attributes,
        *,
        condition: WriteCondition,
        under: UnderKey | None,
        crc64nvme: int | None,
        claim: LiveClaim,
    ) -> Written:
        sent = _Sent(claim)
        return await self._script.play(
            replace(self._call("put", bucket, key), claim=sent),
            lambda: self._inner.put(
                bucket,
                self._keeps_as(key),
                content,
                attributes,
                condition=condition,
                under=under,
                crc64nvme=crc64nvme,
                claim=sent,
            ),
        )

    async def copy(
        self,
        bucket: str,
        key: str,
        *,
        source_bucket: str,
        source: ObjectVersion,
        condition: WriteCondition,
        under: UnderKey,
        storage_class: str = "STANDARD",
        attributes: Attributes | None = None,
        lock: ObjectLock | None = None,
        claim: LiveClaim,
    ) -> Written:
        return await self._script.play(
            self._call("copy", bucket, key),
            lambda: self._inner.copy(
                bucket,
                self._keeps_as(key),
                source_bucket=source_bucket,
                source=self._kept(source),
                condition=condition,
                under=under,
                storage_class=storage_class,
                attributes=attributes,
                lock=lock,
                claim=claim,
            ),
        )

    async def update_encryption(
        self, bucket: str, version: ObjectVersion, *, under: UnderKey, claim: LiveClaim
    ) -> str:
        return await self._script.play(
            self._call("update_encryption", bucket, version.key),
            lambda: self._inner.update_encryption(bucket, self._kept(version), under=under, claim=claim),
        )

    async def begin_upload(
        self, bucket: str, key: str, attributes: Attributes, *, under: UnderKey | None, claim: LiveClaim
    ) -> Upload:
        return await self._script.play(
            self._call("begin_upload", bucket, key),
            lambda: self._inner.begin_upload(
                bucket, self._keeps_as(key), attributes, under=under, claim=claim
            ),
        )

    async def put_part(self, upload: Upload, number: int, content: Content, *, claim: LiveClaim) -> Part:
        return await self._script.play(
            self._call("put_part", upload.bucket, upload.key),
            lambda: self._inner.put_part(upload, number, content, claim=claim),
        )

    async def copy_part(
        self,
        upload: Upload,
        number: int,
        *,
        source_bucket: str,
        source: ObjectVersion,
        span: ByteSpan,
        claim: LiveClaim,
    ) -> Part:
        return await self._script.play(
            self._call("copy_part", upload.bucket, upload.key),
            lambda: self._inner.copy_part(
                upload,
                number,
                source_bucket=source_bucket,
                source=self._kept(source),
                span=span,
                claim=claim,
            ),
        )

    async def complete_upload(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        condition: WriteCondition,
        crc64nvme: int | None,
        claim: LiveClaim,
    ) -> Written:
        return await self._script.play(
            self._call("complete_upload", upload.bucket, upload.key),
            lambda: self._inner.complete_upload(
                upload, parts, condition=condition, crc64nvme=crc64nvme, claim=claim
            ),
        )

    async def abort_upload(self, upload: Upload, *, claim: LiveClaim) -> None:
        await self._script.play(
            self._call("abort_upload", upload.bucket, upload.key),
            lambda: self._inner.abort_upload(upload, claim=claim),
        )

    async def list_uploads(self, bucket: str, prefix: str) -> Sequence[Upload]:
        return await self._script.play(
            self._call("list_uploads", bucket, prefix), lambda: self._inner.list_uploads(bucket, prefix)
        )

    async def hide(self, bucket: str, key: str, *, condition: IfMatches, claim: LiveClaim) -> Written:
        return await self._script.play(
            self._call("hide", bucket, key),
            lambda: self._inner.hide(bucket, self._keeps_as(key), condition=condition, claim=claim),
        )

    async def delete(
        self, bucket: str, versions: Sequence[ObjectVersion], *, claim: LiveClaim
    ) -> Sequence[DeleteOutcome]:
        call = Call(self.name, "delete", bucket, tuple(each.key for each in versions), tuple(versions))
        kept = [self._kept(version) for version in versions]
        outcomes = await self._script.play(call, lambda: self._inner.delete(bucket, kept, claim=claim))
        return [
            replace(outcome, version=version) for outcome, version in zip(outcomes, versions, strict=True)
        ]


class FaultyControl:
    """A control plane under a script."""

    def __init__(self, inner: BucketControl, script: Script, store: str) -> None:
        self._inner = inner
        self._script = script
        self._store = store

    def _call(self, operation: str, bucket: str) -> Call:
        return Call(self._store, operation, bucket)

    async def describe(self, bucket: str) -> BucketDescription | None:
        return await self._script.play(self._call("describe", bucket), lambda: self._inner.describe(bucket))

    async def create(
        self,
        bucket: str,
        region: str,
        *,
        versioned: bool = False,
        object_lock: bool = False,
        claim: LiveClaim,
    ) -> None:
        await self._script.play(
            self._call("create", bucket),
            lambda: self._inner.create(
                bucket, region, versioned=versioned, object_lock=object_lock, claim=claim
            ),
        )

    async def enable_versioning(self, bucket: str, *, claim: LiveClaim) -> None:
        await self._script.play(
            self._call("enable_versioning", bucket),
            lambda: self._inner.enable_versioning(bucket, claim=claim),
        )

    async def set_tags(self, bucket: str, tags: Mapping[str, str], *, claim: LiveClaim) -> None:
        await self._script.play(
            self._call("set_tags", bucket), lambda: self._inner.set_tags(bucket, tags, claim=claim)
        )

    async def set_default_key(self, bucket: str, key_arn: str, *, claim: LiveClaim) -> None:
        sent = _Sent(claim)
        call = Call(self._store, "set_default_key", bucket, claim=sent)
        await self._script.play(call, lambda: self._inner.set_default_key(bucket, key_arn, claim=sent))

    async def block_public_access(self, bucket: str, *, claim: LiveClaim) -> bool:
        return await self._script.play(
            self._call("block_public_access", bucket),
            lambda: self._inner.block_public_access(bucket, claim=claim),
        )

    async def describe_rules(self, bucket: str) -> BucketRules:
        return await self._script.play(
            self._call("describe_rules", bucket), lambda: self._inner.describe_rules(bucket)
        )

    async def set_policy(self, bucket: str, policy: Policy, *, claim: LiveClaim) -> bool:
        return await self._script.play(
            self._call("set_policy", bucket), lambda: self._inner.set_policy(bucket, policy, claim=claim)
        )

    async def expire_unfinished_uploads(self, bucket: str, days: int, *, claim: LiveClaim) -> bool:
        return await self._script.play(
            self._call("expire_unfinished_uploads", bucket),
            lambda: self._inner.expire_unfinished_uploads(bucket, days, claim=claim),
        )
