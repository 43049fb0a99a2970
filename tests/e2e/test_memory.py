"""However large the objects are, what is held of them in memory is bounded by the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rekeyd.demo.dataset import MIB
from tests.e2e.harness import Scene, large_items, small_items
from tests.e2e.test_kills import JOB

pytestmark = pytest.mark.asyncio(loop_scope="session")

BUFFER_BYTES_MAX = 16 * MIB
OBJECTS, OBJECT_BYTES = 10, 22 * MIB
GROWTH_BYTES_MAX = 48 * MIB
"""The buffer, and what connections, the allocator and first use of the code take. The data are 220 MiB."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
async def test_memory_stays_bounded_however_much_is_streamed(scene: Scene) -> None:
    await scene.open(
        target_store="s3b",
        limits={"buffer_bytes_max": BUFFER_BYTES_MAX, "objects_in_flight_max": 64, "request_seconds_max": 10}
        | {"lease_seconds": 20},
    )
    first = await scene.tenant("first", small_items(100))
    acme = await scene.tenant("acme", large_items(OBJECTS, OBJECT_BYTES))
    await scene.admit(first.message())
    async with scene.serving() as served, scene.ledger() as ledger:
        # By a first migration the code is loaded, and connections have been made.
        await ledger.until_state("first-migrate-1", "completed")
        before = peak_bytes(served.pid)
        await scene.admit(acme.message(options={"verify": "read_back"}))
        await ledger.until_state(JOB, "completed")
        grown = peak_bytes(served.pid) - before
        assert grown < GROWTH_BYTES_MAX, f"{grown / MIB:.0f} MiB"
        print(f"grown by {grown / MIB:.0f} MiB from {before / MIB:.0f}")  # noqa: T201 - a measurement
    await scene.assert_moved(acme)


def peak_bytes(pid: int) -> int:
    """The most memory that the process has had resident."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
