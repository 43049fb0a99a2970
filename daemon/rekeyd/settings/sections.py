"""The sections of the settings: every key with its type, bounds, default and description."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from rekeyd.domain.job import GRACE_SECONDS_MAX
from rekeyd.settings.addresses import (
    absolute_path,
    endpoint_address,
    kms_key,
    listen_address,
    location_or_empty,
    principals,
    queue_address,
    role,
    service_of,
    signing_key,
    sqlite_address,
)

KIB = 1024
MIB = 1024**2
GIB = 1024**3

T = TypeVar("T")


def _at_least_one(kinds: tuple[T, ...]) -> tuple[T, ...]:
    if not kinds:
        raise ValueError("name at least one kind, or leave queue_url empty")
    return kinds


JobKind = Literal["migrate", "rotate", "revoke", "reinstate", "verify"]
"""Every kind that a job message may have, whatever this release does."""
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,}(-[a-z0-9]+)+$")]
EndpointUrl = Annotated[str, AfterValidator(endpoint_address)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Attempts = Annotated[int, Field(ge=1, le=100)]
Concurrency = Annotated[int, Field(ge=1, le=10_000)]


class Section(BaseModel):
    """Frozen, strict, closed to unknown keys. The text below a key describes it in the schema."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        validate_default=True,
    )


class LedgerSettings(Section):
    """The durable record of tenants, keys, jobs, segments and objects."""

    url: Annotated[str, AfterValidator(sqlite_address)] = "sqlite:///var/lib/rekeyd/ledger.db"
    """A SQLite file on a local disk, by its whole path: `sqlite:///var/lib/rekeyd/ledger.db`."""

    @property
    def path(self) -> Path:
        """The file. The path is absolute: `sqlite:////var` and `sqlite:///var` are both `/var`."""
        return Path("/" + self.url.removeprefix("sqlite://").lstrip("/"))


class S3StoreSettings(Section):
    """An S3 or S3-compatible store, named in locations by the name of its table."""

    provider: Literal["s3"] = "s3"
    """What kind of store it is."""
    region: Region = "us-east-1"
    """Where buckets are made. A bucket that exists is used in its own region."""
    endpoint_url: EndpointUrl = ""
    """For S3-compatible stores, in path style. Empty: AWS. Plain http on loopback only."""
    account_id: Annotated[str, StringConstraints(pattern=r"^([0-9]{12})?$")] = ""
    """The account that must own the buckets, named with every request. Required on AWS."""
    batch_delete_conditions: bool = False
    """Of S3-compatible stores: whether DeleteObjects honours an object's ETag, as on AWS. Where not, objects are
    deleted one by one."""
    counts_tags: bool = False
    """Whether an object without a tag count has no tags. True saves two requests an object; only where rekeyd may
    read the tags of every object: AWS leaves the count out for whoever may not."""
    keeps_every_key: bool = False
    """Of S3-compatible stores: whether keys like `a//b` or `/a` stay as they are. Where not, they are refused."""

    @property
    def service(self) -> str:
        """Who answers: two stores of the settings with the same one hold the same buckets."""
        return service_of(self.endpoint_url)


class AwsCustodySettings(Section):
    """AWS KMS, where customer keys are described, and made of what tenants bring."""

    region: Region = "us-east-1"
    """Where most keys are. A key of another region is asked for there."""
    endpoint_url: EndpointUrl = ""
    """For an emulator or a VPC endpoint. Empty: AWS. Plain http on loopback only."""
    sts_endpoint_url: EndpointUrl = ""
    """Of STS, where the roles below are assumed. Empty: AWS; or `endpoint_url`, an emulator's on loopback."""
    provision_role_arn: Annotated[str, AfterValidator(role)] = ""
    """The role that makes keys, imports into them and points aliases; assumed for that alone. Empty: ourselves."""
    revoke_role_arn: Annotated[str, AfterValidator(role)] = ""
    """The role that disables, enables, deletes imported material; assumed for that alone. Empty: ourselves."""
    break_glass_role_arn: Annotated[str, AfterValidator(role)] = ""
    """The role that has keys deleted and changes their policies; assumed for that alone. Empty: ourselves."""
    use_principal_arns: Annotated[tuple[str, ...], Field(strict=False), AfterValidator(principals)] = ()
    """The roles that read and write tenants' data, rekeyd's among them, named in the policies of keys that we make.
    Empty: whom the account's IAM policies let. Either way through S3 alone, and in the tenant's bucket alone."""

    @property
    def sts_endpoint(self) -> str:
        """Where STS is. Plain http is an emulator's, which is both."""
        emulated = self.endpoint_url if self.endpoint_url.startswith("http://") else ""
        return self.sts_endpoint_url or emulated


class WrappingSettings(Section):
    """Our private key, for which tenants wrap theirs. Both empty: no wrapped keys are taken."""

    private_key_file: Annotated[str, AfterValidator(signing_key)] = ""
    """An RSA private key of 4,096 bits, PEM, mode 0600, by its whole path; or the name of a systemd credential. The ARN
    of a KMS key will do here, too."""
    kms_key_arn: Annotated[str, AfterValidator(kms_key)] = ""
    """An asymmetric KMS key of ours instead, for ENCRYPT_DECRYPT, of the spec RSA_4096: nobody can copy it."""

    @property
    def key_arn(self) -> str | None:
        """The KMS key, where it is one."""
        named = self.kms_key_arn or self.private_key_file
        return named if named.startswith("arn:") else None

    @property
    def credential(self) -> str | None:
        """The name of a systemd credential, where it is one."""
        named = self.private_key_file
        return named if named and not named.startswith(("arn:", "/")) else None


class CustodySettings(Section):
    """Key services, and keys that are brought."""

    aws: AwsCustodySettings = AwsCustodySettings()
    wrapping: WrappingSettings = WrappingSettings()


AbsolutePath = Annotated[str, AfterValidator(absolute_path)]


class AuditSettings(Section):
    """The record of all that is done, and the signatures under what is said of it."""

    signing_key_file: Annotated[str, AfterValidator(signing_key)] = ""
    """What signs certificates and checkpoints: an Ed25519 private key, PEM, mode 0600, by its whole path; the name of
    a systemd credential; or the ARN of a KMS key (ECC_NIST_EDWARDS25519). Empty: a file beside the ledger, made by
    `serve`."""
    former_public_key_files: Annotated[tuple[AbsolutePath, ...], Field(strict=False)] = ()
    """The public halves of the signing keys of before, PEM: what they signed counts still."""
    checkpoint_seconds: Annotated[float, Field(ge=1, le=604_800)] = 3_600
    """How often a signed checkpoint is made of where the audit trail stands, where it has grown."""
    checkpoint_location: Annotated[str, AfterValidator(location_or_empty)] = ""
    """Where checkpoints are written as well, a bucket with Object Lock best: `s3://bucket/prefix/`. Empty: nowhere."""

    @property
    def signing_key_arn(self) -> str | None:
        """The KMS key, where it is one."""
        return self.signing_key_file if self.signing_key_file.startswith("arn:") else None

    @property
    def signing_credential(self) -> str | None:
        """The name of a systemd credential, where it is one."""
        named = self.signing_key_file
        return named if named and not named.startswith(("arn:", "/")) else None


class SqsIntakeSettings(Section):
    """Jobs through Amazon SQS. The queue needs a redrive policy: refused messages stay in it."""

    queue_url: Annotated[str, AfterValidator(queue_address)] = ""
    """The queue's address. Empty: this intake is off."""
    endpoint_url: EndpointUrl = ""
    """For an emulator or a VPC endpoint. Empty: AWS. Plain http on loopback only."""
    region: Region | Literal[""] = ""
    """The queue's region. Empty: the one in `queue_url`, or else us-east-1."""
    kinds: Annotated[tuple[JobKind, ...], Field(strict=False), AfterValidator(_at_least_one)] = (
        "migrate",
        "rotate",
        "verify",
        "revoke",
    )
    """What messages may ask for; others are refused. A `revoke` that destroys is never taken from a queue."""
    wait_seconds: Annotated[int, Field(ge=0, le=20)] = 20
    """How long one receive waits for a message: SQS allows 20."""
    visibility_seconds: Annotated[int, Field(ge=5, le=43_200)] = 60
    """How long a received message is hidden from others: admission must end within it."""
    batch_messages_max: Annotated[int, Field(ge=1, le=10)] = 10
    """How many messages one receive takes: SQS allows 10."""

    @property
    def signing_region(self) -> str:
        """The region to sign for: as given, or as the queue's address on AWS says."""
        named = re.search(r"//sqs(?:-fips)?\.([a-z0-9-]+)\.", self.queue_url)
        return self.region or (named[1] if named else "us-east-1")


class IntakeSettings(Section):
    """How jobs arrive, apart from the command line."""

    sqs: SqsIntakeSettings = SqsIntakeSettings()


class TelemetrySettings(Section):
    """What operators watch."""

    listen: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:9464"
    """Where /metrics, /healthz and /readyz are served, without a token."""
    log_format: Literal["json", "console"] = "json"
    """One JSON object a line, or colours for a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged of rekeyd's own; libraries log from warning on."""

    @property
    def host(self) -> str:
        """The host of `listen`, without brackets."""
        return str(urlsplit(f"//{self.listen}").hostname)

    @property
    def port(self) -> int:
        """The port of `listen`; 0 lets the system choose."""
        return int(urlsplit(f"//{self.listen}").port or 0)


class MigrateSettings(Section):
    """How tenants are moved."""

    source_pattern: str = ""
    """Where a tenant's data are; a job naming another location is refused. Required to serve."""
    target_pattern: str = ""
    """Where they go: a bucket a tenant. What a job without `target` means. Required to serve."""
    grace_seconds: Annotated[int, Field(ge=0, le=GRACE_SECONDS_MAX)] = 604_800
    """How long the source is kept after the switch, where the job doesn't say."""
    placement_ttl_seconds: Annotated[float, Field(ge=0, le=3600)] = 10
    """How long a placement record may be used. 0 only where nobody writes to the source."""
    write_seconds_max: Annotated[float, Field(ge=0, le=3600)] = 60
    """The longest that one Put, Complete or Delete of a writer, or a presigned URL, may take."""
    pause_seconds_max: Annotated[float, Field(gt=0, le=86_400)] = 300
    """The longest a pause of the writers lasts: must exceed the two above and a last pass."""
    pass_objects_small: Annotated[int, Field(ge=0)] = 1_000
    """A pass that found at most so many changed objects is followed by a pause."""
    pass_bytes_small: Annotated[int, Field(ge=0)] = GIB
    """A pass that found at most so many changed bytes is followed by a pause."""
    passes_max: Annotated[int, Field(ge=1, le=1000)] = 10
    """After so many passes a pause is taken, however much the last of them found."""


class LimitsSettings(Section):
    """Bounds: on what runs at once, on memory, on retries and on time."""

    jobs_max: Annotated[int, Field(ge=1, le=1000)] = 4
    """Jobs that this daemon works on at once."""
    segments_in_flight_max: Annotated[int, Field(ge=1, le=1000)] = 4
    """Segments (at most 1,000 objects or 64 GiB each) that it works on at once."""
    objects_in_flight_max: Concurrency = 64
    """Objects that it copies, verifies or deletes at once."""
    buffer_bytes_max: Annotated[int, Field(ge=MIB)] = 256 * MIB
    """Bytes of objects that it holds in memory at once, however many or large the objects are."""
    part_bytes: Annotated[int, Field(ge=5 * MIB, le=5 * GIB)] = 16 * MIB
    """The size of a part; larger where an object would need more than 10,000 of them."""
    single_put_bytes_max: Annotated[int, Field(ge=0, le=5 * GIB)] = 8 * MIB
    """Up to this size an object is streamed with one request, above it in parts."""
    copy_object_bytes_max: Annotated[int, Field(ge=0, le=5 * GIB)] = 512 * MIB
    """Up to this size an object is copied by the store with one request, above it in parts."""
    parts_in_flight_max: Concurrency = 8
    """Parts of one object that are carried, or read to be verified, at once."""
    object_attempts_max: Attempts = 4
    """How often in a row an object is tried before it is given up as failed."""
    job_attempts_max: Attempts = 5
    """How often in a row a job meets an unforeseen error before it is held."""
    request_attempts_max: Attempts = 6
    """How often a request is sent before its error counts."""
    backoff_seconds_base: Seconds = 0.1
    """The first wait between attempts is up to this long, the next up to twice as long, …"""
    backoff_seconds_max: Seconds = 20
    """The longest wait between attempts."""
    request_seconds_max: Seconds = 30
    """The deadline of one mutating call without bytes, and the longest silence of a reading one."""
    bytes_per_second_min: Annotated[int, Field(ge=1024)] = 256 * KIB
    """A mutating call may take so much longer as its bytes need at this rate, while its claim is kept."""
    connect_seconds_max: Seconds = 5
    """The longest that making a connection takes."""
    lease_seconds: Seconds = 60
    """How long a claim lasts without renewal: at least 1.5 times `request_seconds_max`."""
    drain_seconds_max: Annotated[float, Field(ge=0, le=86_400)] = 30
    """How long parts in flight may go on after SIGTERM."""
    held_recheck_seconds: Seconds = 30
    """After how long a held job is looked at again, and the key of one that waits out its grace."""
    key_check_seconds: Annotated[float, Field(gt=0, le=60)] = 5
    """How often the key of a running job is checked."""
    key_watch_seconds: Seconds = 60
    """How often every tenant's key, and the configuration of its dedicated bucket, is looked at."""
    poll_seconds: Annotated[float, Field(gt=0, le=60)] = 0.5
    """How often an idle worker asks the ledger for work."""
    connections_max: Concurrency = 160
    """Connections to one store: at least as many as reads, writes and controls together."""
    read_requests_max: Concurrency = 64
    """Reads of one store at once."""
    write_requests_max: Concurrency = 64
    """Writes to one store at once."""
    control_requests_max: Concurrency = 16
    """Listings, deletions and requests about buckets at once, of one store."""
