"""One place by two names, and one name for two places.

| trap that others fell into | must hold here |
|---|---|
| source equals or overlaps target, through another spelling too | refused |
| keys altered: `/a`, `a//b`, `a/`, `+`, `%2F`, unicode, control characters, zero bytes | same key, same bytes,
or refused |
| silent skips | listed = verified + excluded with a reason, else never complete |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize
from urllib.parse import unquote

import pytest

from rekeyd.domain.errors import RefusedError, StoreRefusedError
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import LocationPattern, admitted_locations
from rekeyd.ledger.port import ObjectRow, SegmentClaim
from rekeyd.settings import SettingsError, load_settings
from tests.jobs.conftest import MakeWorld
from tests.jobs.world import SETTLED, SOURCE, TENANT, Data, World, eventually

SPELLINGS = [
    "s3://shared/tenants/acme/",
    "s3://shared/tenants/acme/below/",
    "s3://shared/tenants/",
    "s3://shared/",
    "s3://shared//tenants/acme/",
    "s3://shared/tenants//acme/",
    "s3://shared/./tenants/acme/",
    "s3://shared/tenants/other/../acme/",
    "s3://shared/tenants%2Facme/",
    "s3://shared/tenants/%61cme/",
    "s3://shared/Tenants/Acme/",
    "s3://SHARED/tenants/acme/",
    "S3://shared/tenants/acme/",
    "s3b://shared/tenants/acme/",
    "s3://shared./tenants/acme/",
    "s3://shared/tenants/acme",
]


@pytest.mark.parametrize("target", SPELLINGS)
def test_source_equals_or_overlaps_target_through_another_spelling_too(target: str) -> None:
    source_pattern = LocationPattern.parse("s3://shared/tenants/{tenant}/", "source_pattern")
    target_pattern = LocationPattern.parse("s3://byok-{tenant}/", "target_pattern")
    with pytest.raises(RefusedError) as refused:
        admitted_locations(TENANT, str(SOURCE), target, source_pattern, target_pattern)
    assert refused.value.field == "target"


ENDPOINT = "http://127.0.0.1:8333"


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [
        ("s3://b-{tenant}/data/", ENDPOINT),
        ("s3://b-{tenant}/", ENDPOINT),
        ("s3://b-{tenant}/data//", ENDPOINT),
        ("s3://b-{tenant}/./data/", ENDPOINT),
        ("s3b://b-{tenant}/data/", ENDPOINT),
        ("s3b://b-{tenant}/", ENDPOINT + "/"),
        ("s3b://b-{tenant}/", "HTTP://127.0.0.1:8333"),
        ("s3b://b-{tenant}/", "http://localhost:8333"),
        ("s3b://b-{tenant}/", "http://[::1]:8333"),
    ],
)
def test_source_equals_or_overlaps_target_in_the_settings_by_another_name_of_the_store(
    tmp_path: Path, target: str, endpoint: str
) -> None:
    file = tmp_path / "rekeyd.toml"
    lines = {
        "stores.s3.endpoint_url": ENDPOINT,
        "stores.s3b.endpoint_url": endpoint,
        "migrate.source_pattern": "s3://b-{tenant}/data/",
        "migrate.target_pattern": target,
    }
    file.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in lines.items()))
    with pytest.raises(SettingsError, match=r"migrate\.target_pattern.* overlaps"):
        load_settings(file, {})


async def test_source_equals_or_overlaps_target_by_another_name_of_the_store(make_world: MakeWorld) -> None:
    """The source is empty, so that nothing in the target betrays it: refused before anything is written."""
    world = make_world(server_side=True)
    world.service = "one for both names"
    world.target = Location("s4", SOURCE.bucket, "elsewhere/")
    async with world.process() as process:
        job = await process.move()
    assert job.state == "failed"
    assert "one bucket" in str(job.error)
    assert world.script.mutations() == []
    assert world.shelf.buckets[SOURCE.bucket].tags == {}


KEYS = [
    "/a",
    "//a",
    "a//b",
    "a/",
    "a/./b",
    "a/../b",
    "..",
    "a+b c",
    "a%2Fb",
    "a%2fb",
    "%",
    "a?b#c&d=e",
    "a\\b",
    "größe/日本",
    "gro\u0308ße",
    "gr\u00f6ße",
    "tab\tnewline\nreturn\r",
    "\x01\x1f\x7f",
    "nul\x00byte",
    "\ufffe\uffff",
    "'\"<&>",
    " ",
    "A",
    "a",
]


def odd_objects() -> dict[str, Data]:
    """Each has other bytes, so that none can take another's place; one has none at all."""
    return {key: Data(f"the bytes of {index}".encode()) for index, key in enumerate(KEYS)} | {
        "empty": Data(b"")
    }


@pytest.mark.parametrize("server_side", [False, True], ids=["streamed", "server_side"])
@pytest.mark.parametrize("versioned", [False, True], ids=["unversioned", "versioned"])
async def test_keys_altered(make_world: MakeWorld, server_side: bool, versioned: bool) -> None:
    """Same keys, same bytes."""
    world = make_world(server_side=server_side, versioned=versioned)
    objects = world.fill(odd_objects())
    async with world.process() as process:
        await process.move()
        await world.assert_moved(process.direct, objects)


@pytest.mark.parametrize(
    ("key", "keeps_as"),
    [
        ("/a", lambda key: key.lstrip("/")),
        ("a//b", lambda key: re.sub("/+", "/", key)),
        ("a/", lambda key: key.rstrip("/")),
        ("a/../b", lambda key: key.replace("a/../", "")),
        ("a%2Fb", unquote),
        ("a+b", lambda key: key.replace("+", " ")),
        ("gro\u0308ße", lambda key: normalize("NFC", key)),
        ("gr\u00f6ße", lambda key: normalize("NFD", key)),
        ("a\tb", lambda key: key.replace("\t", "")),
        ("nul\x00byte", lambda key: key.partition("\x00")[0]),
    ],
)
async def test_keys_altered_by_the_target(world: World, key: str, keeps_as: Callable[[str], str]) -> None:
    """What it keeps under another key it gives back under both: the source stays, and nothing is switched."""
    objects = world.fill({key: Data(b"data"), "kept": Data(b"kept")})
    world.keeps_as = lambda name: name if name == "kept" or name.startswith(".rekeyd/") else keeps_as(name)
    async with world.process() as process:
        job = await process.move()
        record, _ = await process.direct.placement(TENANT)
    assert job.state == "held", job
    assert record is not None
    assert record.phase == "shared"
    assert {name: data.content for name, data in world.in_source().items()} == {
        name: data.content for name, data in objects.items()
    }


def _without_the_last(rows: Sequence[ObjectRow]) -> Sequence[ObjectRow]:
    return rows[:-1]


async def test_silent_skips(world: World) -> None:
    """A worker leaves one object of each segment out and says that it's done: the job never completes by that."""
    objects = world.fill({name: Data(name.encode()) for name in ("a", "b", "c")})
    async with world.process() as process:
        skipped: list[str] = []

        async def leave_out(claim: SegmentClaim) -> Sequence[ObjectRow]:
            rows = await process.direct.segment_rows(claim)
            skipped.extend(row.source.key for row in rows[-1:])
            return _without_the_last(rows)

        vars(process.seen_ledger)["segment_rows"] = leave_out
        await world.admit(process.direct)

        async def skipped_again_and_again() -> bool:
            return len(skipped) >= 4 or (await process.direct.job("job-1")).state in SETTLED

        async with process.working():
            await eventually(skipped_again_and_again)
            job = await process.direct.job("job-1")
            record, _ = await process.direct.placement(TENANT)
    assert job.state in {"running", "held"}, job
    assert job.counts.objects_verified + job.counts.objects_excluded < job.counts.objects_listed
    assert record is not None
    assert record.phase != "dedicated"
    assert set(world.in_source()) == set(objects)
    await world.expire_leases()
    await world.make_due()
    async with world.process("daemon-2") as process:
        if (await process.direct.job("job-1")).state == "held":
            await process.direct.resume_job("job-1", "an operator")
        done = await process.work(until=("completed",))
        assert done.counts.objects_listed == done.counts.objects_verified == len(objects)
        await world.assert_moved(process.direct, objects)


async def test_silent_skips_of_what_has_nothing_to_carry(make_world: MakeWorld) -> None:
    """Excluded is counted apart, and reported; the sum is exact."""
    world = make_world(versioned=True)
    world.put_versions("a", Data(b"a"))
    world.put_versions("ghost", None)
    async with world.process() as process:
        job = await process.move()
    counts = job.counts
    assert (counts.objects_listed, counts.objects_verified, counts.objects_excluded) == (2, 1, 1)
    assert "ghost" in str(job.error)


async def test_silent_skips_of_what_the_store_refuses(world: World) -> None:
    """One object of many can't be carried: nothing is switched, and it is named."""
    objects = world.fill()
    world.script.always("put", key="a/small").fails(StoreRefusedError)
    async with world.process() as process:
        job = await process.move()
        record, _ = await process.direct.placement(TENANT)
    assert (job.state, job.held_reason) == ("held", "unverified_objects")
    assert "'tenants/acme/a/small'" in str(job.error)
    assert job.counts.objects_verified == len(objects) - 1
    assert record is not None
    assert record.phase == "shared"
    assert set(world.in_source()) == set(objects)


async def test_silent_skips_of_what_nobody_asks_after(world: World) -> None:
    """The job's own look at what failed is blind: the commit of the switch counts by itself, and refuses."""
    objects = world.fill()
    world.timings = replace(world.timings, passes_max=1)
    world.object_attempts_max = 1
    world.script.always("put", key="a/small").fails(StoreRefusedError)

    async def none(*_: object) -> Sequence[tuple[str, str]]:
        return []

    async with world.process() as process:
        vars(process.seen_ledger)["failed_objects"] = none
        job = await process.move()
        record, _ = await process.direct.placement(TENANT)
    assert (job.state, job.held_reason) == ("held", "pause_too_short")
    assert record is not None
    assert record.phase == "shared"
    assert set(world.in_source()) == set(objects)
