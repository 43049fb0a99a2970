"""Which way a version goes under another key, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.domain.objects import Attributes, Encryption, ObjectHead, ObjectLock, ObjectVersion
from rekeyd.transfer.plan import PlanLimits
from rekeyd.transfer.rekey_plan import RekeyFacts, RekeyWay, plan_rekey

NEW = "arn:aws:kms:us-east-1:111122223333:key/new"
FORMER = Encryption("aws:kms", "arn:aws:kms:us-east-1:111122223333:key/former")
LIMITS = PlanLimits(single_put_bytes_max=10, part_bytes=10, copy_object_bytes_max=100)
FACTS = RekeyFacts(NEW, LIMITS, updates=False, copies_in_place=True)
UPDATING = replace(FACTS, updates=True)
HEAD = ObjectHead(ObjectVersion("k", 100, "etag"), Attributes(), 0, FORMER, 1)
LOCKED = replace(HEAD, attributes=Attributes(lock=ObjectLock(legal_hold=True)))
LARGE = replace(HEAD, version=ObjectVersion("k", 101, "etag"))


def of(algorithm: str, key: str = "") -> ObjectHead:
    return replace(HEAD, encryption=Encryption(algorithm, key))


@pytest.mark.parametrize(
    ("head", "facts", "current", "way"),
    [
        (of("aws:kms", NEW), UPDATING, True, "none"),
        (of("aws:kms", NEW), FACTS, False, "none"),
        (HEAD, FACTS, True, "copy"),
        (LARGE, FACTS, True, "copy_parts"),
        (HEAD, replace(FACTS, copies_in_place=False), True, "stream"),
        (LARGE, replace(FACTS, copies_in_place=False), True, "stream"),
        (HEAD, FACTS, False, "leave"),
        (replace(HEAD, archived=True), FACTS, True, "leave"),
        (HEAD, UPDATING, True, "update"),
        (LARGE, UPDATING, False, "update"),
        (replace(HEAD, archived=True), UPDATING, True, "update"),
        (of("AES256"), UPDATING, True, "update"),
        (of(""), UPDATING, True, "copy"),
        (LOCKED, UPDATING, True, "copy"),
        (LOCKED, UPDATING, False, "leave"),
        (of("aws:kms:dsse", FORMER.key), UPDATING, True, "leave"),
        (of("aws:kms:dsse", NEW), UPDATING, True, "leave"),
        (of("SSE-C"), UPDATING, False, "leave"),
    ],
)
def test_the_way_follows_from_what_the_store_says_of_a_version(
    head: ObjectHead, facts: RekeyFacts, current: bool, way: RekeyWay
) -> None:
    plan = plan_rekey(head, facts, current=current)

    assert plan.way == way
    assert plan.reason
