"""Stores that don't copy an object onto itself under another key as S3 does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rekeyd.domain.errors import InterruptedTransferError, StoreRefusedError
from rekeyd.stores.memory import MemoryStore
from rekeyd.stores.port import Written


class ChecksChecksums(MemoryStore):
    """Refuses a wrong checksum in S3's word for it ("Error responses", Amazon S3 API Reference: BadDigest)."""

    async def put(self, bucket: str, key: str, *rest: Any, **named: Any) -> Written:  # noqa: ANN401 - passed on
        """See the port."""
        try:
            return await super().put(bucket, key, *rest, **named)
        except InterruptedTransferError as error:
            raise InterruptedTransferError("put", str(error), code="BadDigest") from error


class RefusesSelfCopy(ChecksChecksums):
    """Refuses it in S3's words for a copy that changes nothing, as SeaweedFS does where no directive is `REPLACE`.

    S3 itself refuses only what changes neither metadata, class, redirect location nor encryption ("CopyObject",
    Amazon S3 API Reference).
    """

    async def copy(self, bucket: str, key: str, **named: Any) -> Written:  # noqa: ANN401 - passed on
        """See the port."""
        if (named["source_bucket"], named["source"].key) == (bucket, key):
            raise StoreRefusedError("copy", "to itself without changing anything", code="InvalidRequest")
        return await super().copy(bucket, key, **named)


class KeepsKeyInSelfCopy(ChecksChecksums):
    """Answers 200, and leaves the object under the key that it had, as SeaweedFS does with `REPLACE`."""

    async def copy(self, bucket: str, key: str, **named: Any) -> Written:  # noqa: ANN401 - passed on
        """See the port."""
        before = self._shelf.buckets[bucket].objects.get(key)
        written = await super().copy(bucket, key, **named)
        if (named["source_bucket"], named["source"].key) == (bucket, key) and before is not None:
            objects = self._shelf.buckets[bucket].objects
            objects.replace(key, replace(objects[key], encryption=before.encryption))
        return written


class ChecksNothing(RefusesSelfCopy):
    """Takes whatever arrives, as an S3-compatible store of before checksums does."""

    async def put(self, bucket: str, key: str, *rest: Any, **named: Any) -> Written:  # noqa: ANN401 - passed on
        """See the port."""
        return await super().put(bucket, key, *rest, **{**named, "crc64nvme": None})


class KnowsNoSelfCopy(ChecksNothing):
    """Answers 501, as SeaweedFS does to UploadPartCopy from an encrypted source, and takes whatever arrives."""

    async def copy(self, bucket: str, key: str, **named: Any) -> Written:  # noqa: ANN401 - passed on
        """See the port."""
        raise StoreRefusedError("copy", f"of {named['source'].key} to {bucket}/{key}", code="NotImplemented")
