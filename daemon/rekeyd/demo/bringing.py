"""Keys that the tenant makes at home and wraps for the vendor: by the same commands as it would there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rekeyd.demo.processes import Operator

WRAPPING_KEY_NAME = "vendor-wrapping-key.pem"
_WRAPPING_BITS = 3072


def make_wrapping_key(folder: Path) -> Path:
    """The vendor's private key, for which tenants wrap theirs: a PEM file that its owner alone may read."""
    key = rsa.generate_private_key(65_537, _WRAPPING_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / WRAPPING_KEY_NAME
    path.touch(0o600)
    path.write_bytes(pem)
    return path


async def bring(operator: Operator, name: str) -> Mapping[str, object]:
    """Make a key of 256 bits and wrap it: the `key` of a job message. Raises DemoError where a command fails."""
    folder = operator.config.parent
    public = folder / "vendor-public-key.pem"
    await asyncio.to_thread(public.write_text, await operator.read("key", "public"), encoding="utf-8")
    printed = await operator.read(
        "key", "wrap", "--public-key", str(public), "--new-key-file", str(folder / name)
    )
    wrapped: dict[str, object] = json.loads(printed)
    return wrapped
