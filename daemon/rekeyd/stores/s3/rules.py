"""A bucket's policy and lifecycle rules: asked for, and changed without touching what is somebody else's.

After "GetBucketPolicy", "PutBucketPolicy", "GetBucketLifecycleConfiguration" and "PutBucketLifecycleConfiguration"
(Amazon S3 API Reference).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, TypeVar

from rekeyd.domain.bucket_policy import Policy
from rekeyd.domain.errors import StoreError, UnavailableError
from rekeyd.stores.buckets import BucketRules
from rekeyd.stores.port import LiveClaim

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client as BotoClient

_Answer = TypeVar("_Answer")

NOT_IMPLEMENTED = frozenset({"NotImplemented", "MethodNotAllowed"})
"""How stores say that they don't have a call of AWS's."""

UPLOADS_RULE_ID = "rekeyd-unfinished-uploads"
"""The one lifecycle rule that is ours."""

Rule = Mapping[str, Any]
"""A lifecycle rule, as the SDK gives it."""


class Owned(TypedDict):
    """A bucket, and the account that must own it."""

    Bucket: str
    ExpectedBucketOwner: NotRequired[str]


class Ask(Protocol):
    """Makes a call within its time, and translates what goes wrong."""

    async def __call__(
        self, operation: str, call: Callable[[], Awaitable[_Answer]], claim: LiveClaim | None = None
    ) -> _Answer: ...


async def read_rules(ask: Ask, s3: BotoClient, owned: Owned) -> BucketRules:
    """What the port calls `describe_rules`, with two requests."""
    policy = await _or_none(_read_policy(ask, s3, owned))
    lifecycle = await _or_none(_read_lifecycle(ask, s3, owned))
    return BucketRules(policy, None if lifecycle is None else expiry_days(lifecycle.get("Rules", [])))


async def write_policy(ask: Ask, s3: BotoClient, owned: Owned, policy: Policy, claim: LiveClaim) -> bool:
    """See `set_policy`."""
    text = json.dumps(policy)

    async def put() -> bool:
        await ask("PutBucketPolicy", lambda: s3.put_bucket_policy(**owned, Policy=text), claim)
        return True

    return await _or_none(put()) or False


async def write_expiry(ask: Ask, s3: BotoClient, owned: Owned, days: int, claim: LiveClaim) -> bool:
    """See `expire_unfinished_uploads`."""

    async def put() -> bool:
        lifecycle = await _read_lifecycle(ask, s3, owned)
        # Left out, it would fall back to its default ("PutBucketLifecycleConfiguration").
        name = "TransitionDefaultMinimumObjectSize"
        kept: dict[str, Any] = {name: lifecycle[name]} if name in lifecycle else {}
        rules: Any = with_expiry(lifecycle.get("Rules", []), days)
        await ask(
            "PutBucketLifecycleConfiguration",
            lambda: s3.put_bucket_lifecycle_configuration(
                **owned, LifecycleConfiguration={"Rules": rules}, **kept
            ),
            claim,
        )
        return True

    return await _or_none(put()) or False


def with_expiry(rules: Sequence[Rule], days: int) -> list[Rule]:
    """The rules, with ours among them. Where theirs are in the former form, so is ours: S3 takes no mixture."""
    others = [rule for rule in rules if rule.get("ID") != UPLOADS_RULE_ID]
    former = any("Filter" not in rule for rule in others)
    everything: Rule = {"Prefix": ""} if former else {"Filter": {"Prefix": ""}}
    ours = {
        "ID": UPLOADS_RULE_ID,
        "Status": "Enabled",
        **everything,
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
    }
    return [*others, ours]


def expiry_days(rules: Sequence[Rule]) -> int:
    """After how many days every unfinished upload of the bucket is aborted, 0 where no rule says so of all."""
    days = [
        int(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"])
        for rule in rules
        if rule.get("Status") == "Enabled"
        and "DaysAfterInitiation" in rule.get("AbortIncompleteMultipartUpload", {})
        and _is_for_all(rule)
    ]
    return min(days, default=0)


def _is_for_all(rule: Rule) -> bool:
    """Whether a rule is for the whole bucket: a filter by tags or sizes can't hold an unfinished upload."""
    chosen = {**rule.get("Filter", {}), **({"Prefix": rule["Prefix"]} if "Prefix" in rule else {})}
    return not chosen.pop("Prefix", "") and not chosen


async def _read_policy(ask: Ask, s3: BotoClient, owned: Owned) -> Policy:
    try:
        answer = await ask("GetBucketPolicy", lambda: s3.get_bucket_policy(**owned))
    except StoreError as error:
        if error.code == "NoSuchBucketPolicy":
            return {}
        raise
    try:
        policy = json.loads(answer["Policy"])
    except ValueError as error:
        raise UnavailableError("GetBucketPolicy", "its answer is not JSON") from error
    if not isinstance(policy, dict) or not isinstance(policy.get("Statement"), dict | list):
        raise UnavailableError("GetBucketPolicy", "its answer is not a policy")
    return policy


async def _read_lifecycle(ask: Ask, s3: BotoClient, owned: Owned) -> Mapping[str, Any]:
    try:
        return await ask(
            "GetBucketLifecycleConfiguration", lambda: s3.get_bucket_lifecycle_configuration(**owned)
        )
    except StoreError as error:
        if error.code == "NoSuchLifecycleConfiguration":
            return {}
        raise


async def _or_none(call: Awaitable[_Answer]) -> _Answer | None:
    """What a call gives, None where the store doesn't have it."""
    try:
        return await call
    except StoreError as error:
        if error.code in NOT_IMPLEMENTED:
            return None
        raise
