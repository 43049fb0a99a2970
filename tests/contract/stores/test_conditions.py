"""The proof that a store heeds conditions, on stores that do and on one that doesn't."""

from __future__ import annotations

import time
from dataclasses import replace

from rekeyd.jobs.conditions import PROOF_PREFIX, Keys, first_unheeded, first_unheeded_delete
from rekeyd.jobs.own_objects import Ground, write_own
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.control import S3BucketControl
from rekeyd.stores.s3.store import open_s3_store
from tests.contract.stores.conftest import LACKS, REGION, Stand, session_with
from tests.doubles.claim import Claim

KEYS = Keys.of("acme")


def ground_of(stand: Stand) -> Ground:
    return Ground(stand.store, stand.bucket, stand.under, stand.claim)


async def assert_nothing_left(stand: Stand) -> None:
    stand.prefix = ""
    assert await stand.listed(PROOF_PREFIX) == []
    assert await stand.store.list_uploads(stand.bucket, PROOF_PREFIX) == []


async def test_a_store_is_shown_to_heed_the_conditions_of_copies(stand: Stand) -> None:
    found = await first_unheeded(ground_of(stand), KEYS, copies=True)

    if "conditional_copy" in LACKS[stand.kind]:
        assert found == "Copy (If-None-Match: *) is carried out although the condition doesn't hold"
    else:
        assert found is None
    await assert_nothing_left(stand)


async def test_a_store_is_shown_to_heed_the_conditions_of_writes(stand: Stand) -> None:
    found = await first_unheeded(ground_of(stand), KEYS, copies=False)

    if "conditional_complete" in LACKS[stand.kind]:
        assert found == (
            "Complete (If-Match with another ETag) is carried out although the condition doesn't hold"
        )
    else:
        assert found is None
    await assert_nothing_left(stand)


async def test_a_store_is_shown_to_heed_the_condition_of_a_delete(stand: Stand) -> None:
    for _ in range(2):
        assert await first_unheeded_delete(ground_of(stand), KEYS) is None
        await assert_nothing_left(stand)


async def test_a_versioned_bucket_is_shown_to_heed_conditions_and_no_version_is_left(stand: Stand) -> None:
    stand.bucket = f"versioned-{stand.prefix[:12]}"
    await stand.control.create(stand.bucket, REGION, versioned=True, claim=stand.claim)
    ground = replace(ground_of(stand), keeps_versions=True)

    for _ in range(2):
        found = await first_unheeded(ground, KEYS, copies=False)

        assert (found is None) is ("conditional_complete" not in LACKS[stand.kind]), found
        page = await stand.store.list_versions_page(stand.bucket, "")
        assert (page.histories, page.too_long) == ((), ())


async def test_what_an_attempt_that_died_has_left_is_no_hindrance_and_is_removed(stand: Stand) -> None:
    for key in KEYS.both:
        await write_own(ground_of(stand), key, b"left")
    assert await first_unheeded_delete(ground_of(stand), KEYS) is None

    await assert_nothing_left(stand)


async def test_a_store_that_ignores_conditions_in_a_batch_is_found_out(moto_s3_endpoint: str) -> None:
    """It is what `batch_delete_conditions` says of a store: here wrongly."""
    session = session_with("AKIDMOTO", "secret")
    credentials = await session.get_credentials()
    assert credentials is not None
    config = S3Config("moto", REGION, moto_s3_endpoint, batch_delete_conditions=True)
    claim = Claim()
    async with (
        open_s3_store(config, credentials, now=time.time) as store,
        S3BucketControl(config, session) as control,
    ):
        await control.create("batch", REGION, claim=claim)
        found = await first_unheeded_delete(Ground(store, "batch", None, claim), KEYS)

    assert found == (
        "Delete of several (If-Match with another ETag) is carried out although the condition doesn't hold"
    )
