"""What a rotation takes, estimated from a listing."""

from __future__ import annotations

from dataclasses import replace

from rekeyd.domain.objects import ObjectVersion
from rekeyd.transfer.plan import PlanLimits
from rekeyd.transfer.rekey_estimate import REQUEST_SECONDS, RotationEstimate, estimate
from rekeyd.transfer.rekey_plan import RekeyFacts

MIB = 1024**2
LIMITS = PlanLimits(single_put_bytes_max=8 * MIB, part_bytes=8 * MIB, copy_object_bytes_max=16 * MIB)
FACTS = RekeyFacts("arn:aws:kms:us-east-1:111122223333:key/new", LIMITS, updates=False, copies_in_place=True)
SMALL, LARGE = ObjectVersion("small", MIB, "1"), ObjectVersion("large", 40 * MIB, "2")


def test_what_a_store_copies_costs_requests_and_no_bytes() -> None:
    found = estimate([SMALL, LARGE], FACTS, reencrypts=True)

    assert (found.objects, found.bytes, found.streamed_bytes) == (2, 41 * MIB, 0)
    assert found.ways == {"copy": 1, "copy_parts": 1}
    assert found.requests["copy"] == 1
    assert found.requests["copy_part"] == 3
    assert found.kms_calls == 2 + 8


def test_what_goes_through_us_is_read_and_written() -> None:
    found = estimate([SMALL, LARGE], replace(FACTS, copies_in_place=False), reencrypts=True)

    assert found.streamed_bytes == 41 * MIB
    assert (found.requests["get"], found.requests["put"], found.requests["put_part"]) == (6, 1, 5)
    assert found.seconds(64) > 41 / 100 / 2


def test_older_versions_are_updated_or_stay() -> None:
    history = ObjectVersion("k", 3, "b", "2", older=(ObjectVersion("k", 2, "a", "1"),))

    stays = estimate([history], FACTS, reencrypts=True)
    follows = estimate([history], replace(FACTS, updates=True), reencrypts=True)

    assert (stays.older_versions, stays.ways) == (1, {"copy": 1, "leave": 1})
    assert (follows.ways, follows.requests["update"]) == ({"update": 2}, 2)
    assert stays.bytes == follows.bytes == 5


def test_a_mere_redirection_writes_nothing() -> None:
    found = estimate([SMALL, LARGE], FACTS, reencrypts=False)

    assert found.ways == {"leave": 2}
    assert set(found.requests) == {"list", "head"}
    assert found.kms_calls == 0


def test_pages_add_up_and_time_follows_from_the_requests() -> None:
    page = estimate([SMALL] * 3, FACTS, reencrypts=True)

    total = RotationEstimate().with_page(page).with_page(page)

    view = total.view(2)
    assert (view["objects"], view["bytes"]) == (6, 6 * MIB)
    assert view["requests_total"] == 2 * sum(page.requests.values())
    assert total.seconds(2) == round(sum(total.requests.values()) * REQUEST_SECONDS / 2, 1)
