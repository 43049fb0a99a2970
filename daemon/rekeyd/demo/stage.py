"""The scene before the story begins: the vendor's bucket, the tenant's key, the queue, the settings."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rekeyd.demo.clients import Clients
from rekeyd.domain.objects import Encryption, Location
from rekeyd.sandbox import Sandbox

TENANT = "acme"
NEIGHBOUR = "globex"
JOB_ID = "acme-migrate-1"
BUCKET = "vendor-backups"
LEDGER_NAME = "ledger.db"
VENDOR_ENCRYPTION = Encryption("AES256")

QUEUE_RECEIVES_MAX = 3


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is there before rekeyd is."""

    source: Location
    neighbour: Location
    target: Location
    key_arn: str
    alias_arn: str
    queue_url: str
    dead_letter_url: str

    @property
    def message(self) -> str:
        """The job as an upstream service would send it."""
        return json.dumps(
            {
                "schema": "rekeyd.job/1",
                "id": JOB_ID,
                "kind": "migrate",
                "tenant": TENANT,
                "source": str(self.source),
                "target": str(self.target),
                "key": {"kind": "kms", "arn": self.key_arn, "alias": self.alias_arn},
                "options": {"cutover": "catch_up", "grace_seconds": 0},
                "requested_by": "rekeyd demo",
            }
        )


async def set_stage(clients: Clients, sandbox: Sandbox) -> Stage:
    """Make the shared bucket with the vendor's own encryption, the tenant's key with an alias, the queues.

    The target bucket isn't made: that is rekeyd's work.
    """
    # SSE-S3 is how most shared buckets lie; SeaweedFS can't copy parts out of objects under another KMS key.
    await clients.s3.create_bucket(Bucket=BUCKET)
    await clients.s3.put_bucket_encryption(
        Bucket=BUCKET,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    key = await clients.kms.create_key(Description=f"{TENANT}'s own key")
    await clients.kms.create_alias(AliasName=f"alias/{TENANT}", TargetKeyId=key["KeyMetadata"]["KeyId"])
    key_arn = key["KeyMetadata"]["Arn"]
    dead_letters = await clients.sqs.create_queue(QueueName="rekeyd-jobs-dead-letters")
    redrive = {
        "deadLetterTargetArn": f"arn:aws:sqs:{sandbox.region}:{sandbox.account_id}:rekeyd-jobs-dead-letters",
        "maxReceiveCount": QUEUE_RECEIVES_MAX,
    }
    queue = await clients.sqs.create_queue(
        QueueName="rekeyd-jobs", Attributes={"RedrivePolicy": json.dumps(redrive)}
    )
    return Stage(
        source=Location("s3", BUCKET, f"tenants/{TENANT}/"),
        neighbour=Location("s3", BUCKET, f"tenants/{NEIGHBOUR}/"),
        target=Location("s3", f"byok-{TENANT}", ""),
        key_arn=key_arn,
        alias_arn=f"{key_arn.partition(':key/')[0]}:alias/{TENANT}",
        queue_url=queue["QueueUrl"],
        dead_letter_url=dead_letters["QueueUrl"],
    )


def write_settings(folder: Path, sandbox: Sandbox, stage: Stage) -> Path:
    """The settings file: nobody writes to this source, so the waits of the pause are short."""
    path = folder / "rekeyd.toml"
    values: dict[str, dict[str, str | float]] = {
        "ledger": {"url": f"sqlite://{folder / LEDGER_NAME}"},
        "stores.s3": {
            "region": sandbox.region,
            "endpoint_url": sandbox.s3_endpoint,
            "batch_delete_conditions": True,
        },
        "custody.aws": {"region": sandbox.region, "endpoint_url": sandbox.kms_endpoint},
        "intake.sqs": {"queue_url": stage.queue_url, "endpoint_url": sandbox.sqs_endpoint},
        "telemetry": {"listen": "127.0.0.1:0"},
        "migrate": {
            "source_pattern": f"s3://{BUCKET}/tenants/{{tenant}}/",
            "target_pattern": "s3://byok-{tenant}/",
            "grace_seconds": 0,
            "placement_ttl_seconds": 1,
            "write_seconds_max": 1,
            "pause_seconds_max": 60,
        },
        "limits": {"poll_seconds": 0.1},
    }
    lines: list[str] = []
    for table, settings in values.items():
        # JSON's strings and numbers are TOML's as well.
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in settings.items()), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
