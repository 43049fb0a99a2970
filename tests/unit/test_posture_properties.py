"""What holds of every finding: nothing unseen is passed, and no added Allow makes anything better."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from rekeyd.domain.posture import (
    SEVERITIES,
    Expected,
    Grant,
    Grants,
    KeyFacts,
    KeyReference,
    Known,
    Severity,
    Unknown,
    at_least,
    judge,
    rank,
)
from rekeyd.domain.posture.finding import NAMED_MAX, Remark, found
from tests.unit.test_posture import EXPECTED, GOOD, NOW, described, finding, under
from tests.unit.test_posture_holders import FOREIGN, HOME, KEY, USER, a_statement

FACTS = [each.name for each in fields(KeyFacts) if each.name not in ("reference", "looked_at", "looker")]
NEEDS = {
    "description": {
        *("state", "pending_deletion", "usage", "manager", "rotation", "single_region"),
        *("expiring_material", "key_store"),
    },
    "policy": {
        *(
            "who_can_disable",
            "who_can_delete",
            "who_can_change_policy",
            "who_can_grant",
            "wildcard_principals",
        ),
        *("service_condition", "administrators_can_use", "deletion_window", "shared_with_services"),
    },
    "grants": {"grants"},
    "rotation": {"rotation"},
    "rotations": set(),
    "tags": {"tagged_production"},
    "aliases": {"alias"},
    "alias_target": set(),
    "daemon_account": {"same_account_as_daemon"},
    "data_accounts": {"same_account_as_data"},
}


def missing(names: set[str]) -> KeyFacts:
    unseen: dict[str, Any] = dict.fromkeys(names, Unknown("denied", "so it is"))
    return replace(GOOD, **unseen)


@pytest.mark.parametrize("name", FACTS)
def test_what_is_not_seen_is_never_passed(name: str) -> None:
    facts = missing({name})

    unknown = {each.name for each in judge(facts, EXPECTED) if each.severity == "unknown"}

    assert unknown == NEEDS[name]
    assert all(finding(each, facts).mend and "so it is" in finding(each, facts).evidence for each in unknown)


def test_nothing_seen_is_nothing_ok() -> None:
    facts = KeyFacts(KeyReference.parse(KEY, "REF"), NOW)

    assert {each.severity for each in judge(facts, Expected())} == {"unknown"}


@given(some.sets(some.sampled_from(FACTS)))
def test_no_missing_fact_makes_anything_better(names: set[str]) -> None:
    facts = missing(names)

    assert all(
        rank(finding(each.name, facts).severity) <= rank(each.severity) for each in judge(GOOD, EXPECTED)
    )
    assert not {each.name for each in judge(facts, EXPECTED) if each.severity == "ok"} & {
        name for fact in names for name in NEEDS[fact]
    }


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        ("state", {"state", "pending_deletion"}),
        ("manager", {"manager"}),
        ("usage", {"usage"}),
        ("spec", {"usage"}),
        ("origin", {"expiring_material", "key_store"}),
        ("multi_region", {"single_region"}),
    ],
)
def test_what_describe_key_leaves_out_is_not_passed(attribute: str, names: set[str]) -> None:
    facts = described(**{attribute: None})

    assert {each.name for each in judge(facts, EXPECTED) if each.severity != "ok"} == names
    assert all(finding(name, facts).severity == "unknown" for name in names)


@settings(max_examples=300, deadline=None)
@given(
    some.lists(a_statement(), max_size=4),
    a_statement() | some.just({"Effect": "Allow", "Strange": True}) | some.just("not a statement"),
    some.sampled_from([Expected(), EXPECTED, Expected(frozenset({HOME, FOREIGN}))]),
)
def test_an_added_statement_never_makes_posture_better_unless_it_denies(
    before: list[dict[str, Any]],
    added: object,
    expected: Expected,
) -> None:
    if isinstance(added, dict):
        added = {**added, "Effect": "Allow"}
    now = {each.name: each for each in judge(under(*before, added), expected)}

    for each in judge(under(*before), expected):
        assert rank(now[each.name].severity) <= rank(each.severity), (each, now[each.name])


@settings(max_examples=200, deadline=None)
@given(some.lists(a_statement(), max_size=4), a_statement())
def test_an_added_denial_never_makes_it_more_than_it_was_who_may_do_something(
    before: list[dict[str, Any]], added: dict[str, Any]
) -> None:
    after = {each.name: each for each in judge(under(*before, {**added, "Effect": "Deny"}), EXPECTED)}

    for each in judge(under(*before), EXPECTED):
        assert rank(after[each.name].severity) >= rank(each.severity), (each, after[each.name])


@given(some.lists(some.sampled_from(SEVERITIES), min_size=1))
def test_a_finding_is_as_severe_as_its_worst_remark(severities: list[Severity]) -> None:
    remarks = [Remark(each, f"{number} is {each}") for number, each in enumerate(severities)]

    one = found("x", remarks, "mend it")

    assert rank(one.severity) == min(map(rank, severities))
    assert one.severity in one.evidence
    assert (one.mend == "") is (one.severity == "ok")


def test_findings_stand_with_the_worst_first_and_an_evidence_has_its_bounds() -> None:
    grants = Grants(tuple(Grant(f"g{n}", USER, ("Decrypt",), False) for n in range(100)), complete=True)
    facts = replace(described(state="Disabled", manager="AWS"), grants=Known(grants))

    findings = judge(facts, EXPECTED)

    assert [rank(each.severity) for each in findings] == sorted(rank(each.severity) for each in findings)
    assert findings[0].severity == "critical"
    assert f"and {100 - NAMED_MAX} more" in finding("grants", facts).evidence


def test_unknown_is_worse_than_medium() -> None:
    assert at_least("unknown", "medium")
    assert at_least("unknown", "unknown")
    assert not at_least("unknown", "high")
