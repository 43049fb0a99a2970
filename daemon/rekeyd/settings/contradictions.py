"""Keys that contradict each other: each function gives the keys to change, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from rekeyd.domain.errors import RefusedError
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import LocationPattern
from rekeyd.settings.errors import Fault
from rekeyd.settings.sections import (
    AuditSettings,
    CustodySettings,
    LimitsSettings,
    MigrateSettings,
    S3StoreSettings,
    SqsIntakeSettings,
)

LAST_PASS_SECONDS_MIN = 5
"""What a pause must leave for its last pass once its waits are over."""

LEASE_TO_REQUEST_MIN = 1.5
"""How many of the longest calls a lease must outlast: one just renewed can begin another call."""


def pattern_faults(migrate: MigrateSettings, stores: Mapping[str, S3StoreSettings]) -> Iterator[Fault]:
    located: dict[str, Location] = {}
    for key in ("source_pattern", "target_pattern"):
        name, text = f"migrate.{key}", getattr(migrate, key)
        if not text:
            continue
        try:
            located[key] = LocationPattern.parse(text, name).locate("tenant", name)
        except RefusedError as error:
            yield name, error.reason
            continue
        if located[key].store not in stores:
            yield name, f"there is no [stores.{located[key].store}]"
    # Also of stores that no pattern names any more: the ledger may hold jobs from when one did.
    unowned = [name for name, store in stores.items() if not store.endpoint_url and not store.account_id]
    for name in sorted(unowned) if located else ():
        yield (
            f"stores.{name}.account_id",
            "is required on AWS: write the 12 digits of the account that owns the buckets",
        )
    if "target_pattern" in located and "{" not in migrate.target_pattern.split("/")[2]:
        yield (
            "migrate.target_pattern",
            "name the tenant in the bucket: a bucket has one default key, a tenant its own",
        )
    if located.keys() == {"source_pattern", "target_pattern"} and _one_bucket(
        located["source_pattern"], located["target_pattern"], stores
    ):
        yield "migrate.target_pattern", "overlaps migrate.source_pattern: use another bucket"


def _one_bucket(source: Location, target: Location, stores: Mapping[str, S3StoreSettings]) -> bool:
    """Whether it's one bucket, by whatever name of its store: there a prefix may have a second spelling, too."""
    services = {stores[name].service if name in stores else name for name in (source.store, target.store)}
    return len(services) == 1 and source.bucket == target.bucket


def time_faults(migrate: MigrateSettings, limits: LimitsSettings) -> Iterator[Fault]:
    waits = migrate.placement_ttl_seconds + migrate.write_seconds_max
    if migrate.pause_seconds_max < waits + LAST_PASS_SECONDS_MIN:
        yield (
            "migrate.pause_seconds_max",
            (
                f"is {migrate.pause_seconds_max:g}: placement_ttl_seconds, write_seconds_max and "
                f"{LAST_PASS_SECONDS_MIN} for a last pass are {waits + LAST_PASS_SECONDS_MIN:g}"
            ),
        )
    if limits.lease_seconds < limits.request_seconds_max * LEASE_TO_REQUEST_MIN:
        yield (
            "limits.lease_seconds",
            (
                f"is {limits.lease_seconds:g}: must be at least {LEASE_TO_REQUEST_MIN:g} times "
                f"request_seconds_max, {limits.request_seconds_max * LEASE_TO_REQUEST_MIN:g}"
            ),
        )
    if limits.connect_seconds_max >= limits.request_seconds_max:
        yield "limits.connect_seconds_max", "must be less than request_seconds_max"
    if limits.backoff_seconds_base > limits.backoff_seconds_max:
        yield "limits.backoff_seconds_base", "must not exceed backoff_seconds_max"


def size_faults(limits: LimitsSettings) -> Iterator[Fault]:
    for key in ("part_bytes", "single_put_bytes_max"):
        if getattr(limits, key) > limits.buffer_bytes_max:
            yield "limits.buffer_bytes_max", f"must hold at least one {key}, {getattr(limits, key)}"
    together = limits.read_requests_max + limits.write_requests_max + limits.control_requests_max
    if limits.connections_max < together:
        yield (
            "limits.connections_max",
            (
                f"must be at least read_, write_ and control_requests_max together, {together}: "
                "a write that waits for a connection would hold the read that feeds it"
            ),
        )


def queue_faults(sqs: SqsIntakeSettings) -> Iterator[Fault]:
    host = urlsplit(sqs.queue_url).hostname or ""
    on_aws = host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    if sqs.queue_url and not on_aws and not sqs.endpoint_url:
        yield "intake.sqs.endpoint_url", f"is required: queue_url is at {host}, which is not AWS"


def custody_faults(custody: CustodySettings) -> Iterator[Fault]:
    wrapping, aws = custody.wrapping, custody.aws
    if wrapping.private_key_file and wrapping.kms_key_arn:
        yield "custody.wrapping.kms_key_arn", "and private_key_file are both given: keep one, empty the other"
    roles = [arn for arn in (aws.provision_role_arn, aws.revoke_role_arn, aws.break_glass_role_arn) if arn]
    if len({arn.split(":")[4] for arn in roles}) > 1:
        yield (
            "custody.aws.provision_role_arn",
            "revoke_role_arn and break_glass_role_arn are in several accounts: keys are made in one, and ruled from it",
        )


def audit_faults(
    audit: AuditSettings, migrate: MigrateSettings, stores: Mapping[str, S3StoreSettings]
) -> Iterator[Fault]:
    if not audit.checkpoint_location:
        return
    location = Location.parse(audit.checkpoint_location)
    if location.store not in stores:
        yield "audit.checkpoint_location", f"there is no [stores.{location.store}]"
        return
    for key in ("source_pattern", "target_pattern"):
        store, _, rest = str(getattr(migrate, key)).partition("://")
        other = Location(store, rest.partition("/")[0], "")
        if other.bucket and _one_bucket(location, other, stores):
            yield "audit.checkpoint_location", f"is in the bucket of migrate.{key}: use another one"
