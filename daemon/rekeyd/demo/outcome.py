"""How the demo ended: figures, and everything that was to be proven."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rekeyd.demo.dataset import LeftOut
from rekeyd.demo.proof import Finding
from rekeyd.domain.objects import Location


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one run."""

    what: str
    """Which data were moved, in words."""
    objects: int
    size_bytes: int
    source: Location
    target: Location
    key_arn: str
    alias_arn: str
    seconds: Mapping[str, float]
    """How long each step took."""
    job: Mapping[str, object] | None
    """The job as `job ID --json` shows it; None where it never reached the ledger."""
    findings: tuple[Finding, ...]
    left_out: tuple[LeftOut, ...]
    log_tail: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is as it should be."""
        return bool(self.findings) and all(finding.ok for finding in self.findings)

    def document(self) -> dict[str, object]:
        """All of it, for `--json`."""
        move_seconds = self.seconds.get("move")
        return {
            "ok": self.ok,
            "what": self.what,
            "objects": self.objects,
            "bytes": self.size_bytes,
            "source": str(self.source),
            "target": str(self.target),
            "key": self.key_arn,
            "alias": self.alias_arn,
            "objects_per_second": round(self.objects / move_seconds, 1) if move_seconds else None,
            "bytes_per_second": round(self.size_bytes / move_seconds) if move_seconds else None,
            "seconds": {step: round(seconds, 3) for step, seconds in self.seconds.items()},
            "job": self.job,
            "proofs": [
                {
                    "name": finding.name,
                    "claim": finding.claim,
                    "ok": finding.ok,
                    "checked": finding.checked,
                    "faults": list(finding.faults),
                }
                for finding in self.findings
            ],
            "left_out": [{"name": left.name, "reason": left.reason} for left in self.left_out],
            "log_tail": [] if self.ok else list(self.log_tail),
        }
