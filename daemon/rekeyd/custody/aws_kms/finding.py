"""The keys that we made in AWS KMS, found again: by the alias that marks their material, or by their tags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from rekeyd.custody.aws_kms.calls import KmsCalls, KmsRefusedError
from rekeyd.domain.custody import FINGERPRINT_TAG, TENANT_TAG
from rekeyd.domain.errors import KeyForbiddenError

_CANDIDATES_MAX = 500
_SECONDS_BETWEEN = 0.12
"""ListResourceTags is meant for ten a second ("Request quotas", AWS KMS Developer Guide)."""


async def tags_of(calls: KmsCalls, arn: str, *, noted: bool = True) -> Mapping[str, str]:
    """A key's tags. KMS allows 50 of them, in one page ("ListResourceTags", AWS KMS API Reference)."""
    answer = await calls.ask(
        "ListResourceTags", arn, lambda kms: kms.list_resource_tags(KeyId=arn), noted=noted
    )
    return {str(tag["TagKey"]): str(tag["TagValue"]) for tag in answer.get("Tags", ())}


async def unmarked_key(calls: KmsCalls, tenant: str, fingerprint: str) -> str | None:
    """The ARN of a key that was made for this material and has no alias yet; None where there is none.

    A crash between CreateKey and CreateAlias leaves such a one. Only keys without any alias are looked at, since every
    key of ours gets one at once; of those at most 500, so that an account full of others' doesn't hold us for ever.
    What is overlooked stays behind without material, and is no more than a monthly fee.
    """
    aliased = {
        str(alias.get("TargetKeyId"))
        async for alias in _pages(calls, "list_aliases", "ListAliases", "Aliases", page=100)
    }
    looked_at = 0
    async for key in _pages(calls, "list_keys", "ListKeys", "Keys", page=1000):
        if key["KeyId"] in aliased:
            continue
        if looked_at == _CANDIDATES_MAX:
            return None
        if looked_at:
            await asyncio.sleep(_SECONDS_BETWEEN)
        looked_at += 1
        try:
            tags = await tags_of(calls, str(key["KeyArn"]), noted=False)
        except (KeyForbiddenError, KmsRefusedError):
            # The policies of keys that we make let us look: this one isn't.
            continue
        if (tags.get(TENANT_TAG), tags.get(FINGERPRINT_TAG)) == (tenant, fingerprint):
            return str(key["KeyArn"])
    return None


async def _pages(
    calls: KmsCalls, method: str, operation: str, items: str, *, page: int
) -> AsyncIterator[Mapping[str, Any]]:
    marker: dict[str, str] = {}
    while True:
        answer = await calls.ask(
            operation,
            "all keys",
            lambda kms, marker=marker: getattr(kms, method)(Limit=page, **marker),  # type: ignore[misc]
            noted=False,
        )
        for item in answer.get(items, ()):
            yield item
        if not answer.get("Truncated") or not answer.get("NextMarker"):
            return
        marker = {"Marker": str(answer["NextMarker"])}
