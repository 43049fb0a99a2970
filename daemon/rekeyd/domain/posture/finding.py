"""What posture finds, and how severe it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from rekeyd.domain.posture.facts import Fact, Unknown

Severity = Literal[
    "critical",  # the data can be lost, or read by anybody, as things stand
    "high",  # one person, one mistake or one date away from it
    "unknown",  # it couldn't be seen: it may be as bad as any
    "medium",  # more power, or less protection, than is needed
    "low",  # to be known; may be meant so
    "ok",  # looked at, and well
]
SEVERITIES: tuple[Severity, ...] = ("critical", "high", "unknown", "medium", "low", "ok")
"""The worst first."""

NAMED_MAX = 10
"""How many things of a kind an evidence names; of more it says how many."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was seen, and how severe it is by itself."""

    severity: Severity
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What was asked of a key, and what was found."""

    name: str
    severity: Severity
    evidence: str
    """What was seen, or why it couldn't be."""
    mend: str
    """What to do about it; empty where it is well."""


def rank(severity: Severity) -> int:
    """0 for the worst."""
    return SEVERITIES.index(severity)


def at_least(severity: Severity, limit: Severity) -> bool:
    """Whether a severity is as severe as a limit, or worse. `unknown` is worse than `medium`."""
    return rank(severity) <= rank(limit)


def asked(name: str, fact: Fact[T], judge: Callable[[T], Iterable[Remark]], mend: str) -> Finding:
    """The finding about a fact: what isn't known is `unknown`, and never anything better."""
    if isinstance(fact, Unknown):
        return Finding(name, "unknown", fact.reason, fact.mend)
    return found(name, tuple(judge(fact.value)), mend)


def found(name: str, remarks: Sequence[Remark], mend: str) -> Finding:
    """The finding that remarks amount to: as severe as the worst of them. None at all is a broken invariant."""
    assert remarks, f"{name}: nothing was remarked"
    severity = min((remark.severity for remark in remarks), key=rank)
    told = sorted(
        (remark for remark in remarks if (remark.severity == "ok") is (severity == "ok")),
        key=lambda remark: rank(remark.severity),
    )
    evidence = listed([remark.text for remark in told], "; ")
    return Finding(name, severity, evidence, "" if severity == "ok" else mend)


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """Names in one line; of too many the first, and how many more there are."""
    every = list(dict.fromkeys(names))
    shown = every[:NAMED_MAX]
    if len(every) > NAMED_MAX:
        shown.append(f"and {len(every) - NAMED_MAX} more")
    return separator.join(shown)
