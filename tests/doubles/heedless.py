"""A store in memory that doesn't heed one kind of condition, as some compatible stores don't."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from rekeyd.domain.errors import PreconditionError, StoreRefusedError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.memory import MemoryStore, Shelf
from rekeyd.stores.port import DeleteOutcome, IfAbsent, IfMatches, LiveClaim, Upload, WriteCondition, Written
from rekeyd.transfer.route import head_or_none

T = TypeVar("T")

Manner = Literal[
    "acts",  # as if there were no condition
    "acts and refuses",  # it answers 412, and does it nevertheless
    "doesn't know it",  # 501
]


Operation = Literal["put", "copy", "complete_upload", "delete", "delete of several", "hide"]


@dataclass(frozen=True, slots=True)
class Deafness:
    """Which condition a store doesn't heed where it doesn't hold. A delete has only one."""

    operation: Operation
    condition: type[WriteCondition] = IfMatches
    manner: Manner = "acts"


class HeedlessStore(MemoryStore):
    """See above. What isn't named it does like any other."""

    def __init__(self, shelf: Shelf, deafness: Deafness, *, name: str = "memory") -> None:
        super().__init__(shelf, name=name)
        self._deafness = deafness

    async def put(self, bucket: str, key: str, *about: Any, **named: Any) -> Written:  # noqa: ANN401 - the port's own
        do = super().put
        return await self._write("put", bucket, key, named, lambda: do(bucket, key, *about, **named))

    async def copy(self, bucket: str, key: str, **named: Any) -> Written:  # noqa: ANN401
        do = super().copy
        return await self._write("copy", bucket, key, named, lambda: do(bucket, key, **named))

    async def complete_upload(self, upload: Upload, *about: Any, **named: Any) -> Written:  # noqa: ANN401
        do = super().complete_upload
        return await self._write(
            "complete_upload", upload.bucket, upload.key, named, lambda: do(upload, *about, **named)
        )

    async def hide(self, bucket: str, key: str, **named: Any) -> Written:  # noqa: ANN401
        do = super().hide
        return await self._write("hide", bucket, key, named, lambda: do(bucket, key, **named))

    async def delete(
        self, bucket: str, versions: Sequence[ObjectVersion], *, claim: LiveClaim
    ) -> Sequence[DeleteOutcome]:
        deaf = self._deafness
        operation = "delete" if len(versions) == 1 else "delete of several"
        standing = [await self._standing(bucket, version.key) for version in versions]
        etags = [None if each is None else each.etag for each in standing]
        broken = all(etag not in (None, version.etag) for etag, version in zip(etags, versions, strict=True))
        if deaf.operation != operation or not broken:
            return await super().delete(bucket, versions, claim=claim)
        if deaf.manner == "doesn't know it":
            return [DeleteOutcome(version, "failed", "NotImplemented") for version in versions]
        await super().delete(bucket, [each for each in standing if each is not None], claim=claim)
        return [
            DeleteOutcome(version, "deleted" if deaf.manner == "acts" else "changed") for version in versions
        ]

    async def _write(
        self, operation: str, bucket: str, key: str, named: dict[str, Any], do: Callable[[], Awaitable[T]]
    ) -> T:
        """Make the call with a condition that holds, where the one it has doesn't and isn't heeded."""
        deaf, condition = self._deafness, named["condition"]
        standing = await self._standing(bucket, key)
        holds = (
            standing is None
            if isinstance(condition, IfAbsent)
            else (standing is not None and standing.etag == condition.etag)
        )
        if deaf.operation != operation or holds or not isinstance(condition, deaf.condition):
            return await do()
        if deaf.manner == "doesn't know it":
            raise StoreRefusedError(operation, "no conditions here", code="NotImplemented")
        named["condition"] = IfAbsent() if standing is None else IfMatches(standing.etag)
        answer = await do()
        if deaf.manner == "acts and refuses":
            raise PreconditionError(operation, "too late")
        return answer

    async def _standing(self, bucket: str, key: str) -> ObjectVersion | None:
        head = await head_or_none(self, bucket, key)
        return None if head is None else head.version
