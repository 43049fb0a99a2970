"""What the store port can be asked, as data, and what a guard around it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from rekeyd.stores.port import ObjectStream

Answer = TypeVar("Answer")

Lane = Literal[
    "read",  # bytes come from the store
    "write",  # bytes go to the store, or move within it
    "control",  # short questions: heads, listings, tags, buckets
]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of the port."""

    name: str
    lane: Lane
    mutates: bool


LIST_PAGE = Operation("list_page", "control", mutates=False)
LIST_VERSIONS = Operation("list_versions", "control", mutates=False)
HEAD = Operation("head", "control", mutates=False)
READ = Operation("read", "read", mutates=False)
READ_TAGS = Operation("read_tags", "control", mutates=False)
PUT = Operation("put", "write", mutates=True)
COPY = Operation("copy", "write", mutates=True)
UPDATE_ENCRYPTION = Operation("update_encryption", "control", mutates=True)
BEGIN_UPLOAD = Operation("begin_upload", "control", mutates=True)
PUT_PART = Operation("put_part", "write", mutates=True)
COPY_PART = Operation("copy_part", "write", mutates=True)
COMPLETE_UPLOAD = Operation("complete_upload", "control", mutates=True)
ABORT_UPLOAD = Operation("abort_upload", "control", mutates=True)
LIST_UPLOADS = Operation("list_uploads", "control", mutates=False)
HIDE = Operation("hide", "control", mutates=True)
DELETE = Operation("delete", "control", mutates=True)

DESCRIBE_BUCKET = Operation("describe_bucket", "control", mutates=False)
CHANGE_BUCKET = Operation("change_bucket", "control", mutates=True)


class Guard(Protocol):
    """What is done around each call, whichever it is."""

    async def run(self, operation: Operation, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Make the call, as often and whenever the guard sees fit. Its answer, or its last error."""

    def reading(
        self, opened: AbstractAsyncContextManager[ObjectStream]
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Open a read once; what holds for it lasts until the stream is left."""
