"""What AWS KMS says about a key, call by call, in the words of posture. Each raises what the SDK raises."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rekeyd.domain.posture import Grant, Grants, KeyAttributes, Rotation, Rotations

if TYPE_CHECKING:
    from types_aiobotocore_kms.client import KMSClient

PAGE_ENTRIES = 100
"""Grants or rotations asked for at once: the most that KMS gives of grants ("ListGrants")."""
PAGES_MAX = 50
"""Of what is longer, the rest stays unread, and is said to be."""


async def description(kms: KMSClient, name: str) -> KeyAttributes:
    """What the key is that an ARN names, or at which an alias points (DescribeKey)."""
    said: Mapping[str, Any] = (await kms.describe_key(KeyId=name))["KeyMetadata"]
    regions = said.get("MultiRegionConfiguration") or {}
    members = [regions.get("PrimaryKey") or {}, *(regions.get("ReplicaKeys") or ())]
    own = str(said["Arn"])
    elsewhere = {
        str(each["Region"]) for each in members if each.get("Arn", own) != own and each.get("Region")
    }
    return KeyAttributes(
        arn=own,
        state=_text(said.get("KeyState")),
        manager=_text(said.get("KeyManager")),
        usage=_text(said.get("KeyUsage")),
        spec=_text(said.get("KeySpec")),
        origin=_text(said.get("Origin")),
        multi_region=_flag(said.get("MultiRegion")),
        replica_regions=tuple(sorted(elsewhere)),
        deletion_at=_time(said.get("DeletionDate")),
        expiration=_text(said.get("ExpirationModel")),
        valid_to=_time(said.get("ValidTo")),
        key_store_id=_text(said.get("CustomKeyStoreId")),
    )


async def policy(kms: KMSClient, key_arn: str) -> str:
    """The key policy's JSON (GetKeyPolicy)."""
    return str((await kms.get_key_policy(KeyId=key_arn, PolicyName="default"))["Policy"])


async def grants(kms: KMSClient, key_arn: str) -> Grants:
    """Its grants, PAGES_MAX pages at most (ListGrants)."""
    found: list[Grant] = []
    marker: dict[str, Any] = {}
    for _ in range(PAGES_MAX):
        page = await kms.list_grants(KeyId=key_arn, Limit=PAGE_ENTRIES, **marker)
        found += map(_grant, page["Grants"])
        if not page.get("Truncated"):
            return Grants(tuple(found), complete=True)
        marker = {"Marker": page["NextMarker"]}
    return Grants(tuple(found), complete=False)


def _grant(entry: Mapping[str, Any]) -> Grant:
    return Grant(
        grant_id=str(entry.get("GrantId", "")),
        grantee=str(entry.get("GranteePrincipal") or entry.get("GranteeServicePrincipal") or ""),
        operations=tuple(map(str, entry.get("Operations", ()))),
        constrained=bool(entry.get("Constraints")),
    )


async def rotation(kms: KMSClient, key_arn: str) -> Rotation:
    """Whether it is rotated by itself (GetKeyRotationStatus)."""
    answer: Mapping[str, Any] = await kms.get_key_rotation_status(KeyId=key_arn)
    days = answer.get("RotationPeriodInDays")
    return Rotation(
        automatic=bool(answer["KeyRotationEnabled"]), period_days=None if days is None else int(days)
    )


async def rotations(kms: KMSClient, key_arn: str) -> Rotations:
    """The rotations that took place, PAGES_MAX pages at most (ListKeyRotations)."""
    times: list[float] = []
    count = 0
    marker: dict[str, Any] = {}
    for _ in range(PAGES_MAX):
        page = await kms.list_key_rotations(KeyId=key_arn, Limit=PAGE_ENTRIES, **marker)
        count += len(page["Rotations"])
        times += (at for each in page["Rotations"] if (at := _time(each.get("RotationDate"))) is not None)
        if not page.get("Truncated"):
            return Rotations(count, max(times, default=None), complete=True)
        marker = {"Marker": page["NextMarker"]}
    return Rotations(count, max(times, default=None), complete=False)


async def tags(kms: KMSClient, key_arn: str) -> Mapping[str, str]:
    """Its tags (ListResourceTags)."""
    # "You can have up to 50 tags" a resource (AWS Tagging User Guide): one page holds them.
    answer = await kms.list_resource_tags(KeyId=key_arn, Limit=50)
    return {str(each["TagKey"]): str(each["TagValue"]) for each in answer["Tags"]}


async def aliases(kms: KMSClient, key_arn: str) -> tuple[str, ...]:
    """The ARNs of the aliases that point at it (ListAliases)."""
    # A key has at most 50 ("Resource quotas", AWS KMS Developer Guide): one page holds them.
    answer = await kms.list_aliases(KeyId=key_arn, Limit=PAGE_ENTRIES)
    return tuple(sorted(str(each["AliasArn"]) for each in answer["Aliases"]))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _flag(value: object) -> bool | None:
    return None if value is None else bool(value)


def _time(value: datetime | None) -> float | None:
    return None if value is None else value.timestamp()
