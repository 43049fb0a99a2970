"""Lifecycle rules: ours beside those of others, and what all of them say of unfinished uploads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rekeyd.stores.s3.rules import UPLOADS_RULE_ID, Rule, expiry_days, with_expiry

LOGS: Rule = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3}}
FORMER: Rule = {"ID": "old", "Status": "Enabled", "Prefix": "old/", "Expiration": {"Days": 3}}


def aborting(days: int | None, **changes: object) -> Rule:
    abort = {} if days is None else {"DaysAfterInitiation": days}
    return {"ID": "x", "Status": "Enabled", "Filter": {}, "AbortIncompleteMultipartUpload": abort, **changes}


@pytest.mark.parametrize("before", [[], [LOGS], [FORMER], [LOGS, aborting(30)]])
def test_others_rules_stay_and_ours_comes_once(before: Sequence[Rule]) -> None:
    after = with_expiry(before, 7)

    assert after[:-1] == list(before)
    assert after[-1]["ID"] == UPLOADS_RULE_ID
    assert expiry_days(after) == 7
    assert with_expiry(after, 7) == after
    assert with_expiry(after, 5) == [
        *before,
        {**after[-1], "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 5}},
    ]


def test_ours_has_the_form_of_the_others() -> None:
    """S3 refuses a configuration in which one rule has a Filter and another the Prefix of before."""
    assert with_expiry([FORMER], 7)[-1]["Prefix"] == ""
    assert "Filter" not in with_expiry([FORMER], 7)[-1]
    assert with_expiry([LOGS], 7)[-1]["Filter"] == {"Prefix": ""}
    assert "Prefix" not in with_expiry([LOGS], 7)[-1]


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([], 0),
        ([LOGS], 0),
        ([aborting(7)], 7),
        ([aborting(7), aborting(2)], 2),
        ([aborting(7), aborting(2, Status="Disabled")], 7),
        ([aborting(7, Filter={"Prefix": ""})], 7),
        ([aborting(7, Filter={"Prefix": "a/"})], 0),
        ([aborting(7, Filter={"Tag": {"Key": "a", "Value": "b"}})], 0),
        ([aborting(7, Filter={"And": {"Prefix": "", "ObjectSizeGreaterThan": 1}})], 0),
        ([{**aborting(7), "Prefix": "", "Filter": {}}], 7),
        ([{**FORMER, "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7}}], 0),
        ([aborting(None)], 0),
    ],
)
def test_only_what_holds_for_the_whole_bucket_counts(rules: Sequence[Rule], days: int) -> None:
    assert expiry_days(rules) == days
