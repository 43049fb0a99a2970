"""A store that lists times of whole seconds, and gives the same bytes the same ETag."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rekeyd.stores.port import ListingPage
from tests.jobs.world import SOURCE, Data, World


@pytest.mark.parametrize("passes", [2, 3])
async def test_metadata_put_again_within_the_second_are_those_that_are_published(
    world: World, passes: int
) -> None:
    """Listed, carried, put again with other metadata: nothing in the next listing tells."""
    objects = world.fill({"a": Data.of(b"data", origin="first"), "b": Data(b"data")})
    later = Data.of(b"data", origin="second")

    def as_s3_says(page: ListingPage) -> ListingPage:
        # A time that is never long ago: also then the last pass is the last.
        return replace(
            page,
            objects=tuple(replace(each, modified="2999-01-01T00:00:00.000Z") for each in page.objects),
        )

    def put_again() -> None:
        kept = world.shelf.buckets[SOURCE.bucket].objects
        former = kept[SOURCE.prefix + "a"]
        world.put("a", later)
        kept[SOURCE.prefix + "a"] = replace(kept[SOURCE.prefix + "a"], etag=former.etag)

    world.timings = replace(world.timings, passes_max=2)
    world.script.always("list_page", bucket=SOURCE.bucket).answers(as_s3_says)
    world.script.on("list_page", bucket=SOURCE.bucket, nth=passes).first(put_again)
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, {"a": later, "b": objects["b"]})
