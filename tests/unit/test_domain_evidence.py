"""The judgement: verified only where all is known and equal."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rekeyd.domain.evidence import Evidence, Judgement, evidence_of, judge
from rekeyd.domain.objects import (
    Attributes,
    Checksum,
    ChecksumOrigin,
    Encryption,
    ObjectHead,
    ObjectVersion,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

KEY = "arn:aws:kms:us-east-1:111122223333:key/1"
SOURCE = Evidence(
    size_bytes=9,
    checksum=Checksum(7, "computed_by_provider"),
    attributes=Attributes(headers={"content-type": "text/plain"}, metadata={"origin": "tape"}),
    tags={"tier": "cold"},
    encryption=Encryption("AES256"),
)
TARGET = replace(SOURCE, checksum=Checksum(7, "read"), encryption=Encryption("aws:kms", KEY))

origins = st.sampled_from(get_args(ChecksumOrigin))
checksums = st.none() | st.builds(Checksum, st.integers(0, 3), origins)
evidence = st.builds(
    Evidence,
    size_bytes=st.integers(0, 2),
    checksum=checksums,
    attributes=st.builds(
        Attributes,
        headers=st.dictionaries(st.sampled_from(["content-type", "expires"]), st.sampled_from("ab")),
        metadata=st.dictionaries(st.sampled_from("xy"), st.sampled_from("ab")),
    ),
    tags=st.none() | st.dictionaries(st.sampled_from("xy"), st.sampled_from("ab")),
    encryption=st.builds(Encryption, st.sampled_from(["aws:kms", "AES256", ""]), st.sampled_from([KEY, ""])),
)


def test_equal_and_known_is_verified() -> None:
    assert judge(SOURCE, TARGET, KEY) == Judgement("verified")


def with_attributes(**changes: Any) -> Evidence:  # noqa: ANN401 - whatever the class takes
    return replace(TARGET, attributes=replace(TARGET.attributes, **changes))


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (replace(TARGET, size_bytes=8), "size"),
        (replace(TARGET, checksum=Checksum(8, "read")), "crc64nvme"),
        (with_attributes(headers={"content-type": "text/html"}), "header content-type"),
        (with_attributes(headers={}), "header content-type"),
        (
            with_attributes(headers={"content-type": "text/plain", "expires": "0"}),
            "header expires",
        ),
        (with_attributes(metadata={"origin": "disk"}), "metadata origin"),
        (with_attributes(metadata={"origin": "tape", "a": ""}), "metadata a"),
        (with_attributes(metadata={}), "metadata origin"),
        (replace(TARGET, tags={}), "tag tier"),
        (replace(TARGET, tags={"tier": "hot"}), "tag tier"),
        (replace(TARGET, tags={"tier": "cold", "x": "y"}), "tag x"),
        (replace(TARGET, encryption=Encryption("AES256")), "encryption"),
        (replace(TARGET, encryption=Encryption("")), "encryption"),
        (replace(TARGET, encryption=Encryption("aws:kms")), "encryption"),
        (replace(TARGET, encryption=Encryption("aws:kms", KEY[:-1] + "2")), "encryption"),
        (replace(TARGET, encryption=Encryption("aws:kms:dsse", KEY)), "encryption"),
    ],
)
def test_each_difference_is_a_mismatch_and_named(target: Evidence, named: str) -> None:
    verdict = judge(SOURCE, target, KEY)

    assert verdict.verdict == "mismatch"
    (reason,) = verdict.reasons
    assert reason.startswith(named)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize(
    "gap",
    [{"checksum": None}, {"checksum": Checksum(7, "carried")}, {"tags": None}],
    ids=["no-checksum", "carried", "no-tags"],
)
def test_what_is_not_known_is_never_equal(side: str, gap: dict[str, Any]) -> None:
    sides = {"source": SOURCE, "target": TARGET}
    sides[side] = replace(sides[side], **gap)

    verdict = judge(sides["source"], sides["target"], KEY)

    assert verdict.verdict == "inconclusive"
    (reason,) = verdict.reasons
    assert side in reason


def test_two_unknowns_are_not_equal() -> None:
    nothing = {"checksum": None, "tags": None}

    verdict = judge(replace(SOURCE, **nothing), replace(TARGET, **nothing), KEY)  # type: ignore[arg-type]

    assert verdict.verdict == "inconclusive"
    assert len(verdict.reasons) == 4


def test_a_carried_checksum_that_differs_says_nothing() -> None:
    assert judge(SOURCE, replace(TARGET, checksum=Checksum(8, "carried")), KEY).verdict == "inconclusive"


def test_a_difference_weighs_more_than_a_gap() -> None:
    target = replace(TARGET, checksum=None, size_bytes=8)

    assert judge(SOURCE, target, KEY).verdict == "mismatch"


@patient
@given(evidence, evidence)
def test_verified_means_all_known_and_equal(source: Evidence, target: Evidence) -> None:
    verdict = judge(source, target, KEY)

    if verdict.verdict == "verified":
        assert source.size_bytes == target.size_bytes
        assert source.checksum is not None
        assert target.checksum is not None
        assert source.checksum.crc64nvme == target.checksum.crc64nvme
        assert "carried" not in {source.checksum.origin, target.checksum.origin}
        assert source.attributes.headers == target.attributes.headers
        assert source.attributes.metadata == target.attributes.metadata
        assert source.tags == target.tags is not None
        assert target.encryption == Encryption("aws:kms", KEY)
    assert bool(verdict.reasons) == (verdict.verdict != "verified")


@patient
@given(evidence)
def test_equal_evidence_is_never_a_mismatch_of_content(both: Evidence) -> None:
    target = replace(both, encryption=Encryption("aws:kms", KEY))

    assert judge(both, target, KEY).verdict != "mismatch"


@pytest.mark.parametrize(
    ("tag_count", "read", "tags"),
    [(0, None, {}), (1, None, None), (None, None, None), (1, {"a": "b"}, {"a": "b"}), (None, {}, {})],
)
def test_tags_are_known_where_there_are_none(
    tag_count: int | None, read: dict[str, str] | None, tags: dict[str, str] | None
) -> None:
    head = ObjectHead(
        version=ObjectVersion("k", 9, "e"),
        attributes=Attributes(),
        tag_count=tag_count,
        encryption=Encryption(""),
        crc64nvme=None,
    )

    assert evidence_of(head, None, read).tags == tags
