"""Changing a version's key without writing it anew: UpdateObjectEncryption, where AWS has it.

It takes a KMS key of the bucket owner's own account, by its whole ARN, and changes neither ETag nor time of
modification ("UpdateObjectEncryption", Amazon S3 API Reference). Other stores don't know it.
"""

from __future__ import annotations

from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.content import BytesContent
from rekeyd.stores.port import LiveClaim, UnderKey
from rekeyd.stores.s3 import xml
from rekeyd.stores.s3.client import S3Client
from rekeyd.stores.s3.headers import content_md5
from rekeyd.stores.s3.request import S3Request


async def update_encryption(
    client: S3Client, bucket: str, version: ObjectVersion, under: UnderKey, claim: LiveClaim
) -> str:
    """Lead the version to the key, without S3 Bucket Keys. See the port."""
    body = xml.encryption_body(under.key_arn)
    pinned = () if version.version_id is None else (("versionId", version.version_id),)
    answer = await client.call(
        S3Request(
            "UpdateObjectEncryption",
            "PUT",
            bucket,
            version.key,
            query=(("encryption", ""), *pinned),
            # It has to have a checksum, as every request that configures something.
            headers={"content-md5": content_md5(body), "content-type": "application/xml"},
            content=BytesContent(body),
            claim=claim,
            publishes=True,
        )
    )
    return answer.request_id
