"""What still needs an archived key: any version under it, ours too, and an upload of before; not its own canary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from rekeyd.domain.errors import ConflictError
from rekeyd.domain.objects import Attributes, Encryption
from rekeyd.jobs.canaries import key_canary
from rekeyd.jobs.needs import check_unneeded
from rekeyd.jobs.tools import Store
from rekeyd.stores.memory import MemoryStore
from rekeyd.stores.port import HISTORY_VERSIONS_MAX, UnderKey
from tests.doubles.claim import Claim
from tests.jobs.conftest import MakeWorld
from tests.jobs.test_rotate import moved, rotated
from tests.jobs.world import KEY, TARGET_BUCKET, Data, Process, World

UNDER_FORMER = Encryption("aws:kms", KEY.arn)


async def looked(process: Process) -> int:
    """How many versions were looked at, the key's archival being just now."""
    (former,) = [key for key in await process.direct.tenant_keys() if key.arn == KEY.arn]
    assert former.state == "archived"
    return await check_unneeded(store_of(process), TARGET_BUCKET, KEY.arn, KEY.arn, former.changed_at, 4)


def store_of(process: Process) -> Store:
    return process.tools.stores["s4"]


async def test_after_a_rotation_that_brought_everything_nothing_does(world: World) -> None:
    async with world.process() as process:
        objects = await moved(world, process)
        await rotated(world, process)
        world.put_into(world.target_shelf, TARGET_BUCKET, key_canary(KEY.arn), Data(b"canary"), UNDER_FORMER)
        assert await looked(process) > len(objects), "rekeyd's own as well"


PUT: dict[str, Callable[[World], None]] = {
    "a tenant's": lambda world: put(world, "late"),
    "one of ours": lambda world: put(world, ".rekeyd/something"),
}


def put(world: World, key: str) -> None:
    world.put_into(world.target_shelf, TARGET_BUCKET, key, Data(b"x"), UNDER_FORMER)


@pytest.mark.parametrize("whose", PUT)
async def test_an_object_under_it_does(world: World, whose: str) -> None:
    async with world.process() as process:
        await moved(world, process)
        await rotated(world, process)
        PUT[whose](world)
        with pytest.raises(
            ConflictError, match=r"1 versions in byok-acme are under .* still: '(late|\.rekeyd/.*)'"
        ):
            await looked(process)


async def test_an_older_version_under_it_does(make_world: MakeWorld) -> None:
    world = make_world(versioned=True)
    world.put_versions("grown", Data(b"first"), Data(b"second"))
    async with world.process() as process:
        await process.move()
        world.use_another_key()
        await rotated(world, process)
        with pytest.raises(ConflictError, match=r"[1-9] versions in byok-acme are .*an older version"):
            await looked(process)


@pytest.mark.parametrize(("begun", "needs"), [("before", True), ("never said", True), ("after", False)])
async def test_an_unfinished_upload_that_may_be_under_it_does(
    world: World, begun: str, *, needs: bool
) -> None:
    async with world.process() as process:
        await moved(world, process)
        await rotated(world, process)
        writer = MemoryStore(world.target_shelf, name="s4")
        upload = await writer.begin_upload(
            TARGET_BUCKET, "late", Attributes(), under=UnderKey(KEY.arn), claim=Claim()
        )
        at = {"before": "2020-01-01T00:00:00Z", "never said": None, "after": "2999-01-01T00:00:00Z"}[begun]
        world.target_shelf.uploads[upload.upload_id].upload = replace(upload, begun_at=at)
        if needs:
            with pytest.raises(ConflictError, match=r"1 uploads to byok-acme were begun before .*'late'"):
                await looked(process)
        else:
            await looked(process)


async def test_a_history_that_is_too_long_to_be_looked_at_may(make_world: MakeWorld) -> None:
    world = make_world(versioned=True)
    world.put("grown", Data(b"first"))
    async with world.process() as process:
        await process.move()
        world.use_another_key()
        await rotated(world, process)
        objects = world.target_shelf.buckets[TARGET_BUCKET].objects
        chain = objects._chains["grown"]
        chain[:0] = [
            replace(chain[0], version_id=f"older-{number}") for number in range(HISTORY_VERSIONS_MAX)
        ]
        with pytest.raises(ConflictError, match="too long to be looked at: 'grown'"):
            await looked(process)
