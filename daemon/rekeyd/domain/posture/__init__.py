"""How well a key is protected against loss and misuse: facts in, findings out. Pure.

What isn't known is `unknown`, never passed: every finding names the facts that it needs, and none is `ok` without them.
"""

from __future__ import annotations

from rekeyd.domain.posture.access import access_findings
from rekeyd.domain.posture.facts import (
    Expected,
    Fact,
    Grant,
    Grants,
    KeyAttributes,
    KeyFacts,
    KeyReference,
    Known,
    Rotation,
    Rotations,
    Unknown,
    UnknownCause,
)
from rekeyd.domain.posture.finding import SEVERITIES, Finding, Severity, at_least, rank
from rekeyd.domain.posture.key_itself import key_findings

__all__ = [
    "SEVERITIES",
    "Expected",
    "Fact",
    "Finding",
    "Grant",
    "Grants",
    "KeyAttributes",
    "KeyFacts",
    "KeyReference",
    "Known",
    "Rotation",
    "Rotations",
    "Severity",
    "Unknown",
    "UnknownCause",
    "at_least",
    "judge",
    "rank",
]


def judge(facts: KeyFacts, expected: Expected) -> tuple[Finding, ...]:
    """Every finding, the worst first; equally severe ones in a fixed order."""
    findings = (*key_findings(facts, expected), *access_findings(facts, expected))
    return tuple(sorted(findings, key=lambda finding: rank(finding.severity)))
