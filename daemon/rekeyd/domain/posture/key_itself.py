"""Findings about a key itself: where it is, what state it is in, who manages it, how it is rotated, what names it.

The words are KMS's own (AWS KMS API Reference, "KeyMetadata", "GetKeyRotationStatus", "ListKeyRotations").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from rekeyd.domain.job import utc_timestamp
from rekeyd.domain.posture.facts import (
    Expected,
    KeyAttributes,
    KeyFacts,
    Known,
    Rotation,
    Rotations,
    together,
)
from rekeyd.domain.posture.finding import Finding, Remark, asked, listed

_YEAR_DAYS = 366
_DAY_SECONDS = 86_400
_PRODUCTION = re.compile(r"(?:^|[^a-z])(?:prod|production|live)(?:[^a-z]|$)", re.IGNORECASE)


def key_findings(facts: KeyFacts, expected: Expected) -> tuple[Finding, ...]:
    """What the key is, and where."""
    described = facts.description
    return (
        asked("state", described, _state, "enable the key, or find out who disabled it, and why"),
        asked(
            "pending_deletion",
            described,
            _deletion,
            "cancel the deletion (kms:CancelKeyDeletion) before that time, then enable the key",
        ),
        asked("usage", described, _usage, "make a symmetric key for encryption: S3 takes no other"),
        asked("manager", described, _manager, "make a customer managed key: only its owner decides over it"),
        asked(
            "same_account_as_data",
            facts.data_accounts,
            lambda accounts: _account(facts, accounts, "the data"),
            "keep the key in an account of its own, out of reach of those who administer the data",
        ),
        asked(
            "same_account_as_daemon",
            facts.daemon_account,
            lambda account: _account(facts, frozenset({account}), "the daemon"),
            "keep the key in the tenant's own account: the vendor's administrators decide over theirs",
        ),
        asked(
            "rotation",
            together(described, facts.rotation),
            lambda both: _rotation(*both, facts),
            "enable automatic rotation (kms:EnableKeyRotation); imported material is rotated by hand",
        ),
        asked(
            "single_region",
            described,
            _region,
            "where the data must be readable without this region, use a multi-Region key and replicate both",
        ),
        asked(
            "expiring_material",
            described,
            _material,
            "import the same material again with KEY_MATERIAL_DOES_NOT_EXPIRE, before that time",
        ),
        asked(
            "key_store",
            described,
            _key_store,
            "be sure that the key store is as available as the data must be, and who may disconnect it",
        ),
        _alias(facts, expected),
        asked(
            "tagged_production",
            facts.tags,
            _tags,
            "keep a key for the backups alone, apart from those of production",
        ),
    )


def _state(key: KeyAttributes) -> Iterator[Remark]:
    match key.state:
        case "Enabled":
            yield Remark("ok", "it is enabled")
        case "Disabled":
            yield Remark("high", "it is disabled: nothing under it can be read")
        case "PendingDeletion" | "PendingReplicaDeletion" | "PendingImport" | "Unavailable":
            yield Remark("high", f"it is in the state {key.state}: nothing under it can be read")
        case "Creating" | "Updating":
            yield Remark("low", f"it is in the state {key.state}")
        case None:
            yield Remark("unknown", "its state wasn't said")
        case other:
            yield Remark("unknown", f"it is in the state {other}, which isn't known here")


def _deletion(key: KeyAttributes) -> Iterator[Remark]:
    if key.state is None:
        yield Remark("unknown", "its state wasn't said")
    elif key.state in ("PendingDeletion", "PendingReplicaDeletion") or key.deletion_at is not None:
        at = utc_timestamp(key.deletion_at) or "a time that wasn't said"
        yield Remark("critical", f"it will be deleted at {at}; then nothing brings the data back")
    else:
        yield Remark("ok", "no deletion is scheduled")


def _usage(key: KeyAttributes) -> Iterator[Remark]:
    if key.usage is None or key.spec is None:
        yield Remark("unknown", "what it is for wasn't said")
    elif (key.usage, key.spec) == ("ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT"):
        yield Remark("ok", "it is a symmetric key for encryption")
    else:
        yield Remark("critical", f"it is {key.spec} for {key.usage}: S3 can't use it")


def _manager(key: KeyAttributes) -> Iterator[Remark]:
    match key.manager:
        case "CUSTOMER":
            yield Remark("ok", "it is customer managed")
        case "AWS":
            yield Remark(
                "critical", "it is managed by AWS: its policy can't be changed, nor can it be revoked"
            )
        case other:
            yield Remark("unknown", f"its manager is {other or 'not said'}")


def _account(facts: KeyFacts, accounts: frozenset[str], whose: str) -> Iterator[Remark]:
    key_account = facts.reference.account
    if not accounts:
        yield Remark("unknown", f"the account of {whose} isn't known")
    elif key_account in accounts:
        yield Remark("high", f"key and {whose} are both in account {key_account}")
    else:
        yield Remark("ok", f"the key is in account {key_account}, {whose} in {listed(sorted(accounts))}")


def _rotation(key: KeyAttributes, rotation: Rotation, facts: KeyFacts) -> Iterator[Remark]:
    if rotation.automatic:
        if rotation.period_days is not None and rotation.period_days > _YEAR_DAYS:
            yield Remark("low", f"it is rotated every {rotation.period_days} days")
        else:
            yield Remark("ok", f"it is rotated every {rotation.period_days or 365} days")
        return
    by_hand = key.origin is not None and key.origin != "AWS_KMS"
    why = f"material of origin {key.origin} can only be rotated by hand" if by_hand else "rotation is off"
    history = facts.rotations.value if isinstance(facts.rotations, Known) else None
    last_at = None if history is None else history.last_at
    if last_at is not None and facts.looked_at - last_at <= _YEAR_DAYS * _DAY_SECONDS:
        yield Remark("low", f"{why}; last rotated by hand at {utc_timestamp(last_at)}")
    else:
        yield Remark("medium", f"{why}; {_told_history(history)}")


def _told_history(history: Rotations | None) -> str:
    if history is None:
        return "whether it was rotated by hand isn't known"
    if not history.count:
        return "it was never rotated"
    return f"last rotated by hand at {utc_timestamp(history.last_at) or 'a time that was not said'}"


def _region(key: KeyAttributes) -> Iterator[Remark]:
    if key.multi_region is None:
        yield Remark("unknown", "whether it is a multi-Region key wasn't said")
    elif not key.multi_region or not key.replica_regions:
        yield Remark("low", "it is in one region: without that region nothing under it can be read")
    else:
        text = (
            f"it is in {listed(key.replica_regions)}, too; each replica has a policy of its own: look at each"
        )
        yield Remark("ok", text)


def _material(key: KeyAttributes) -> Iterator[Remark]:
    match key.origin, key.expiration:
        case None, _:
            yield Remark("unknown", "where its material comes from wasn't said")
        case "EXTERNAL", "KEY_MATERIAL_EXPIRES":
            at = utc_timestamp(key.valid_to) or "a time that wasn't said"
            yield Remark("high", f"its imported material expires at {at}; nothing can be read from then on")
        case "EXTERNAL", "KEY_MATERIAL_DOES_NOT_EXPIRE":
            yield Remark("ok", "its imported material doesn't expire")
        case "EXTERNAL", _:
            yield Remark("unknown", "whether its imported material expires wasn't said")
        case origin, _:
            yield Remark("ok", f"no material was imported: its origin is {origin}")


def _key_store(key: KeyAttributes) -> Iterator[Remark]:
    match key.origin:
        case "AWS_KMS" | "EXTERNAL" if key.key_store_id is None:
            yield Remark("ok", "its material is kept by KMS itself")
        case "EXTERNAL_KEY_STORE":
            text = f"it lies in the external key store {key.key_store_id}: AWS promises nothing of its availability"
            yield Remark("medium", text)
        case None:
            yield Remark("unknown", "where its material is kept wasn't said")
        case origin:
            text = f"it lies in the custom key store {key.key_store_id} ({origin}), which may be disconnected"
            yield Remark("low", text)


def _alias(facts: KeyFacts, expected: Expected) -> Finding:
    mend = "point the alias at the key that the data are under (kms:UpdateAlias), or name the right key"
    if facts.reference.is_alias or expected.alias:

        def judge(target_and_key: tuple[str, KeyAttributes]) -> Iterator[Remark]:
            target, key = target_and_key
            name = expected.alias or facts.reference.arn
            if target == key.arn:
                yield Remark("ok", f"{name} points at {target}")
            else:
                yield Remark("high", f"{name} points at {target}, not at {key.arn}")

        return asked("alias", together(facts.alias_target, facts.description), judge, mend)

    def any_alias(aliases: tuple[str, ...]) -> Iterator[Remark]:
        if aliases:
            yield Remark("ok", f"{listed(aliases)} {'points' if len(aliases) == 1 else 'point'} at it")
        else:
            yield Remark("low", "no alias points at it: jobs name a key by both")

    return asked("alias", facts.aliases, any_alias, mend)


def _tags(tags: Mapping[str, str]) -> Iterator[Remark]:
    said = [f"{name}={value}" for name, value in sorted(tags.items())]
    production = [each for each in said if _PRODUCTION.search(each)]
    if production:
        yield Remark("medium", f"its tags say that production uses it: {listed(production)}")
    else:
        yield Remark("ok", f"no tag says that production uses it: {listed(said) or 'there are none'}")
