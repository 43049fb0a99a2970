"""Histories on a real server: written as a tenant's writers do, and read back version by version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rekeyd.demo.dataset import MIB
from rekeyd.domain.objects import OWN_PREFIX, Location
from tests.e2e.harness import Scene, Tenant

History = list[bytes | None]
"""A key's versions, the oldest first; None is a delete marker."""


def without_idle_markers(history: Sequence[bytes | None]) -> History:
    """Without markers that hide nothing: they change nothing for any reader, and aren't carried."""
    return [
        each
        for index, each in enumerate(history)
        if each is not None or (index and history[index - 1] is not None)
    ]


@dataclass(slots=True)
class Histories:
    """What writers were acknowledged, by key."""

    scene: Scene
    written: dict[str, History] = field(default_factory=dict)

    async def enable(self, bucket: str) -> None:
        await self.scene.clients.s3.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )

    async def put(self, where: Location, key: str, body: bytes) -> None:
        """Put a version. It is on record once it was acknowledged."""
        await self.scene.clients.s3.put_object(Bucket=where.bucket, Key=where.prefix + key, Body=body)
        self.written.setdefault(key, []).append(body)

    async def put_in_parts(self, where: Location, key: str, *parts: bytes) -> None:
        s3, bucket, name = self.scene.clients.s3, where.bucket, where.prefix + key
        upload = (await s3.create_multipart_upload(Bucket=bucket, Key=name))["UploadId"]
        etags = [
            (await s3.upload_part(Bucket=bucket, Key=name, UploadId=upload, PartNumber=number, Body=part))[
                "ETag"
            ]
            for number, part in enumerate(parts, start=1)
        ]
        await s3.complete_multipart_upload(
            Bucket=bucket,
            Key=name,
            UploadId=upload,
            MultipartUpload={
                "Parts": [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
            },
        )
        self.written.setdefault(key, []).append(b"".join(parts))

    async def delete(self, where: Location, key: str) -> None:
        """Write a marker over what stands."""
        await self.scene.clients.s3.delete_object(Bucket=where.bucket, Key=where.prefix + key)
        self.written[key].append(None)

    async def make_all_kinds(self, tenant: Tenant) -> None:
        """From before versioning, one, several, hidden, reborn, empty, and in parts."""
        where = tenant.source
        await self.put(where, "null/one", b"written before there were versions")
        await self.put(where, "null/overwritten", b"before")
        await self.put(where, "null/hidden", b"before")
        await self.enable(where.bucket)
        await self.put(where, "null/overwritten", b"after")
        await self.delete(where, "null/hidden")
        for number in range(12):
            for version in range(1 + number % 3):
                await self.put(where, f"several/{number:02}", f"{number}.{version}".encode())
        await self.put(where, "hidden", b"hidden")
        await self.delete(where, "hidden")
        await self.put(where, "reborn", b"first life")
        await self.delete(where, "reborn")
        await self.put(where, "reborn", b"second life")
        for body in (b"", b"full", b""):
            await self.put(where, "empty", body)
        await self.put_in_parts(where, "large", b"1" * (5 * MIB), b"2" * MIB)
        await self.put(where, "large", b"smaller")
        await self.put_in_parts(where, "large", b"3" * (5 * MIB), b"4" * (2 * MIB))

    async def found(self, where: Location) -> dict[str, History]:
        """Every version and marker that stands below a location but rekeyd's own, its bytes read by its id.

        SDKs tell versions and markers apart and so lose their order; SeaweedFS's newer ids are the lesser ones
        (measured on 4.48), and `null` is from before there were any.
        """
        s3, listed = self.scene.clients.s3, []
        pages = s3.get_paginator("list_object_versions").paginate(Bucket=where.bucket, Prefix=where.prefix)
        async for page in pages:
            for version in page.get("Versions", []):
                answer = await s3.get_object(
                    Bucket=where.bucket, Key=version["Key"], VersionId=version["VersionId"]
                )
                async with answer["Body"] as body:
                    data: bytes | None = await body.read()
                listed.append((version["Key"], version["VersionId"], version["IsLatest"], data))
            listed += [
                (marker["Key"], marker["VersionId"], marker["IsLatest"], None)
                for marker in page.get("DeleteMarkers", [])
            ]
        histories: dict[str, History] = {}
        for key, version_id, latest, data in sorted(listed, key=_newest_first, reverse=True):
            name = key.removeprefix(where.prefix)
            if name.startswith(OWN_PREFIX):
                continue
            histories.setdefault(name, []).append(data)
            assert latest == (version_id == min(each[1] for each in listed if each[0] == key)), key
        return histories


def _newest_first(listed: tuple[str, str, bool, bytes | None]) -> tuple[str, str]:
    return listed[0], listed[1]
