"""The checksum of a request about a bucket, where S3 requires one."""

from __future__ import annotations

import base64
import hashlib
from typing import Any


def with_content_md5(params: dict[str, Any], **_: object) -> None:
    """A botocore handler of `before-call`: send what every compatible store knows in place of the SDK's CRC32.

    S3 takes Content-MD5 wherever it requires a checksum ("Checking object integrity", Amazon S3 User Guide).
    """
    checksum = params.get("context", {}).get("checksum", {})
    if checksum.pop("request_algorithm", None) is None:
        return
    params["headers"].pop("x-amz-sdk-checksum-algorithm", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
