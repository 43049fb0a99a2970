"""What `--json` prints. Scripts are built on these names: they change only by addition."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias

from rekeyd.domain.job import Job, utc_timestamp
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import Placement

if TYPE_CHECKING:
    from rekeyd.cli.chains import ChainFinding, TrailFinding
    from rekeyd.cli.progress import Progress
    from rekeyd.service import CheckFinding

JsonObject: TypeAlias = dict[str, object]


def job_view(job: Job) -> JsonObject:
    """One job, as `job ID --json` and each item of `jobs --json`. Times are RFC 3339 in UTC."""
    return {
        "id": job.id,
        "kind": job.message.kind,
        "tenant": job.tenant,
        "state": job.state,
        "phase": job.phase,
        "held_reason": job.held_reason,
        "error": job.error,
        "source": str(job.source),
        "target": str(job.target),
        "key": {
            "kind": job.named_key.kind,
            "ref": job.key_ref,
            "arn": job.named_key.arn,
            "alias": job.named_key.alias,
            "fingerprint": job.key_fingerprint,
        },
        "grace_seconds": job.grace_seconds,
        "approved_by": job.approved_by,
        "accepted_by": job.accepted_by,
        "result": job.result,
        "attempts": job.attempts,
        **asdict(job.counts),
        "created_at": utc_timestamp(job.created_at),
        "started_at": utc_timestamp(job.started_at),
        "finished_at": utc_timestamp(job.finished_at),
    }


def progress_view(progress: Progress) -> JsonObject:
    """What `job ID --json` says beyond the job itself; null where it isn't known."""
    return {
        "objects_per_second": progress.objects_per_second,
        "bytes_per_second": progress.bytes_per_second,
        "seconds_left": progress.seconds_left,
    }


def placement_view(placement: Placement) -> JsonObject:
    """Where a tenant's data live, and until when that may be acted on."""
    return {
        "tenant": placement.tenant,
        "phase": placement.phase,
        "source": str(placement.source),
        "target": _text(placement.target),
        "key_state": placement.key_state,
        "epoch": placement.epoch,
        "reads": [str(location) for location in placement.reads],
        "writes": [str(location) for location in placement.writes],
        "deletes": placement.deletes,
        "writes_from": utc_timestamp(placement.writes_from),
        "expires_at": utc_timestamp(placement.expires_at),
    }


def check_view(finding: CheckFinding) -> JsonObject:
    """One thing that `check` looked at."""
    return {
        "name": finding.name,
        "ok": finding.ok,
        "reachable": finding.reachable,
        "detail": finding.detail,
        "advice": finding.advice,
    }


def chain_view(finding: ChainFinding) -> JsonObject:
    """One chain of the audit trail; `broken` is null where all of it holds."""
    broken = finding.broken
    return {
        "chain": finding.chain,
        "records": finding.records,
        "broken": None if broken is None else {"sequence": broken.sequence, "reason": broken.reason},
    }


def trail_view(finding: TrailFinding) -> JsonObject:
    """The whole audit trail."""
    broken = finding.broken_checkpoint
    return {
        "ok": finding.holds,
        "chains": [chain_view(chain) for chain in finding.chains],
        "checkpoints": {
            "checked": finding.checkpoints,
            "broken": None if broken is None else {"number": broken.number, "reason": broken.reason},
        },
        "broken_certificate": finding.broken_certificate,
    }


def _text(location: Location | None) -> str | None:
    return None if location is None else str(location)
