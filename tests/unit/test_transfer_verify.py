"""Evidence: by the cheapest way that is sound, and every single difference is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from rekeyd.domain.errors import NotFoundError, PreconditionError
from rekeyd.domain.evidence import Evidence, evidence_of
from rekeyd.domain.objects import Attributes, Checksum, Encryption
from rekeyd.stores.memory.shelf import Stored
from rekeyd.transfer.checksum import crc64nvme
from rekeyd.transfer.verify import Verification, may_be_rewritten, verify_copy
from tests.doubles.ends import DRESSED, KEY_ARN, MEBIBYTE, SOURCE, TARGET, Ends

DATA = b"the content"


async def verified(ends: Ends, *, computes: bool = False, source_crc: bool = True) -> Verification:
    """Verify what stands in the target against what stands in the source."""
    route = ends.route
    source_head = await route.source.head(SOURCE.bucket, SOURCE.prefix + "name")
    checksum = Checksum(crc64nvme(DATA), "computed_by_provider") if source_crc else None
    source: Evidence = evidence_of(source_head, checksum, DRESSED.tags)
    target_head = await route.target.head(TARGET.bucket, "name")
    ends.script.calls.clear()
    return await verify_copy(
        route, source_head.version, source, target_head, target_computes=computes, means=ends.means
    )


def equal_ends(*, read_back: bool = False) -> Ends:
    ends = Ends(read_back=read_back)
    ends.put(DATA)
    ends.put_target(DATA)
    return ends


@pytest.mark.parametrize(
    ("computes", "read_back", "source_crc", "reads", "evidence"),
    [
        (True, False, True, [], "computed_by_provider/computed_by_provider"),
        (True, True, True, [TARGET.bucket], "computed_by_provider/read"),
        (False, False, True, [TARGET.bucket], "computed_by_provider/read"),
        (True, False, False, [SOURCE.bucket], "read/computed_by_provider"),
        (False, False, False, [SOURCE.bucket, TARGET.bucket], "read/read"),
        (True, True, False, [SOURCE.bucket, TARGET.bucket], "read/read"),
    ],
)
async def test_what_is_read_and_what_is_believed(
    computes: bool, read_back: bool, source_crc: bool, reads: list[str], evidence: str
) -> None:
    ends = equal_ends(read_back=read_back)
    found = await verified(ends, computes=computes, source_crc=source_crc)
    assert found.judgement.verdict == "verified"
    assert found.crc64nvme == crc64nvme(DATA)
    assert found.evidence == evidence
    assert [call.bucket for call in ends.script.calls if call.operation == "read"] == reads


async def test_a_target_without_a_checksum_is_read() -> None:
    ends = equal_ends()
    ends.script.always("head", bucket=TARGET.bucket).answers(lambda head: replace(head, crc64nvme=None))
    assert (await verified(ends, computes=True)).evidence == "computed_by_provider/read"


async def test_a_carried_checksum_hides_no_damage() -> None:
    """The target reports the source's own, and holds other bytes."""
    ends = equal_ends()
    ends.put_target(b"the c0ntent")
    ends.script.always("head", bucket=TARGET.bucket).answers(
        lambda head: replace(head, crc64nvme=crc64nvme(DATA))
    )
    found = await verified(ends, computes=False)
    assert found.judgement.verdict == "mismatch"
    assert found.judgement.reasons == ("crc64nvme differs",)


async def test_read_back_sees_through_a_lying_checksum_of_a_store_that_computes() -> None:
    ends = equal_ends(read_back=True)
    ends.put_target(b"the c0ntent")
    ends.script.always("head", bucket=TARGET.bucket).answers(
        lambda head: replace(head, crc64nvme=crc64nvme(DATA))
    )
    assert (await verified(ends, computes=True)).judgement.verdict == "mismatch"


def _with(**changes: object) -> Callable[[Stored], Stored]:
    return lambda stored: replace(stored, **changes)  # type: ignore[arg-type] # names of its fields


def _dressed(**changes: object) -> Callable[[Stored], Stored]:
    attributes: Attributes = replace(DRESSED, **changes)  # type: ignore[arg-type] # names of its fields
    return _with(attributes=attributes)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_with(data=b"the c0ntent"), "crc64nvme differs"),
        (_with(data=DATA[:-1]), "size: "),
        (_dressed(headers={**DRESSED.headers, "content-type": "text/html"}), "header content-type differs"),
        (_dressed(headers={"content-type": "text/plain"}), "header cache-control differs"),
        (_dressed(headers={**DRESSED.headers, "expires": "0"}), "header expires differs"),
        (_dressed(metadata={}), "metadata origin differs"),
        (_dressed(metadata={"origin": "a test", "more": ""}), "metadata more differs"),
        (_dressed(tags={}), "tag kind differs"),
        (_dressed(tags={**DRESSED.tags, "team": "red"}), "tag team differs"),
        (_with(encryption=Encryption("AES256")), "encryption: the target reports AES256"),
        (_with(encryption=Encryption("")), "encryption: the target reports none"),
        (_with(encryption=Encryption("aws:kms", KEY_ARN + "2")), "encryption: the target reports the key"),
    ],
)
async def test_every_single_difference_is_a_mismatch(change: Callable[[Stored], Stored], reason: str) -> None:
    ends = equal_ends()
    objects = ends.target_shelf.buckets[TARGET.bucket].objects
    objects["name"] = change(objects["name"])
    found = await verified(ends)
    assert found.judgement.verdict == "mismatch"
    assert any(each.startswith(reason) for each in found.judgement.reasons), found.judgement.reasons


@pytest.mark.parametrize("side", [SOURCE, TARGET])
@pytest.mark.parametrize("gone", [False, True])
async def test_a_version_that_goes_while_it_is_read_gives_no_verdict(side: object, gone: bool) -> None:
    ends = equal_ends()

    def change() -> None:
        if side is SOURCE:
            ends.remove() if gone else ends.put(DATA)
        else:
            objects = ends.target_shelf.buckets[TARGET.bucket].objects
            objects.pop("name") if gone else ends.put_target(DATA)

    bucket = SOURCE.bucket if side is SOURCE else TARGET.bucket
    ends.script.on("read", bucket=bucket).first(change)
    with pytest.raises((NotFoundError, PreconditionError)):
        await verified(ends, source_crc=False)


async def test_a_large_object_is_read_in_spans_and_damage_in_any_is_seen() -> None:
    data = bytes(range(256)) * (11 * MEBIBYTE // 256)
    ends = Ends()
    ends.put(data)
    ends.put_target(data[:-1] + b"?")
    found = await verified(ends, source_crc=False)
    assert found.judgement.verdict == "mismatch"
    assert ends.script.count("read", SOURCE.bucket) == 3
    assert found.crc64nvme == crc64nvme(data[:-1] + b"?")
    assert ends.budget.bytes_in_flight == 0


@pytest.mark.parametrize(
    "key", ["a//b", "/a", "a/", "./x", "a/../b", "a\\b", "a\nb", "..", "a\x7f", "%2F", "a+b", "ä"]
)
def test_keys_that_a_store_might_rewrite(key: str) -> None:
    assert may_be_rewritten(key)


@pytest.mark.parametrize("key", ["a", "a/b", "a/.b", "a..b/c", "日/本", "...", "a b"])
def test_keys_that_stay_what_they_are(key: str) -> None:
    assert not may_be_rewritten(key)
