"""The scene before the story begins: the vendor's bucket and wrapping key, the queue, the settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rekeyd.demo.bringing import make_wrapping_key
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
    queue_url: str
    dead_letter_url: str

    def message(self, key: Mapping[str, object]) -> str:
        """The job as an upstream service would send it, under the key that the tenant brings."""
        return json.dumps(
            {
                "schema": "rekeyd.job/1",
                "id": JOB_ID,
                "kind": "migrate",
                "tenant": TENANT,
                "source": str(self.source),
                "target": str(self.target),
                "key": key,
                "options": {"cutover": "catch_up", "grace_seconds": 0},
                "requested_by": "rekeyd demo",
            }
        )


async def set_stage(clients: Clients, sandbox: Sandbox) -> Stage:
    """Make the shared bucket with the vendor's own encryption, and the queues.

    Neither target bucket nor tenant's key is made: that is rekeyd's work.
    """
    # SSE-S3 is how most shared buckets lie; SeaweedFS can't copy parts out of objects under another KMS key.
    await clients.s3.create_bucket(Bucket=BUCKET)
    await clients.s3.put_bucket_encryption(
        Bucket=BUCKET,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
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
        queue_url=queue["QueueUrl"],
        dead_letter_url=dead_letters["QueueUrl"],
    )


def write_settings(folder: Path, sandbox: Sandbox, stage: Stage) -> Path:
    """The settings file, and the vendor's wrapping key beside it.

    Nobody writes to this source, so the waits of the pause are short. What a stopped rotation may have under way ends
    with its lease: that is short as well.
    """
    path = folder / "rekeyd.toml"
    values: dict[str, dict[str, str | float]] = {
        "ledger": {"url": f"sqlite://{folder / LEDGER_NAME}"},
        "stores.s3": {
            "region": sandbox.region,
            "endpoint_url": sandbox.s3_endpoint,
            "batch_delete_conditions": True,
        },
        "custody.aws": {"region": sandbox.region, "endpoint_url": sandbox.kms_endpoint},
        "custody.wrapping": {"private_key_file": str(make_wrapping_key(folder))},
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
        "limits": {
            "poll_seconds": 0.1,
            "lease_seconds": 12,
            "request_seconds_max": 4,
            "connect_seconds_max": 2,
        },
    }
    lines: list[str] = []
    for table, settings in values.items():
        # JSON's strings and numbers are TOML's as well.
        lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in settings.items()), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
