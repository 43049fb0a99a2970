from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.transfer.plan import (
    OBJECT_BYTES_MAX,
    PART_BYTES_CEILING,
    PART_BYTES_FLOOR,
    PARTS_MAX,
    PlanLimits,
    plan_carry,
    spans_of,
)

MIB = 1024**2
GIB = 1024**3
LIMITS = PlanLimits(single_put_bytes_max=8 * MIB, part_bytes=16 * MIB, copy_object_bytes_max=512 * MIB)

sizes = st.one_of(
    st.integers(0, OBJECT_BYTES_MAX),
    st.sampled_from([0, 1, 8 * MIB, 8 * MIB + 1, 5 * GIB - 1, 5 * GIB, 5 * GIB + 1, 50 * 10**12]),
)


@given(size_bytes=sizes, server_side=st.booleans())
def test_every_object_fits_into_the_parts_a_store_takes(size_bytes: int, server_side: bool) -> None:
    plan = plan_carry(size_bytes, server_side=server_side, limits=LIMITS)
    if plan.way in {"copy_whole", "stream_whole"}:
        return
    parts = -(-size_bytes // plan.part_bytes)
    assert 1 <= parts <= PARTS_MAX
    assert PART_BYTES_FLOOR <= plan.part_bytes <= PART_BYTES_CEILING


@given(
    size_bytes=st.integers(1, 50_000),
    part_bytes=st.integers(1, 5_000),
)
def test_spans_cover_every_byte_once_and_in_order(size_bytes: int, part_bytes: int) -> None:
    covered = [byte for span in spans_of(size_bytes, part_bytes) for byte in range(span.first, span.end)]
    assert covered == list(range(size_bytes))


@pytest.mark.parametrize(
    ("size_bytes", "server_side", "way"),
    [
        (0, False, "stream_whole"),
        (8 * MIB, False, "stream_whole"),
        (8 * MIB + 1, False, "stream_parts"),
        (0, True, "copy_whole"),
        (512 * MIB, True, "copy_whole"),
        (512 * MIB + 1, True, "copy_parts"),
    ],
)
def test_the_way_changes_exactly_at_its_limit(size_bytes: int, server_side: bool, way: str) -> None:
    assert plan_carry(size_bytes, server_side=server_side, limits=LIMITS).way == way


@pytest.mark.parametrize(("more_bytes", "way"), [(-1, "copy_whole"), (0, "copy_whole"), (1, "copy_parts")])
def test_one_request_copies_5_gib_and_not_a_byte_more(more_bytes: int, way: str) -> None:
    limits = PlanLimits(8 * MIB, 16 * MIB, copy_object_bytes_max=5 * GIB)
    assert plan_carry(5 * GIB + more_bytes, server_side=True, limits=limits).way == way


def test_the_largest_object_of_s3_is_carried_and_a_larger_one_is_refused() -> None:
    assert plan_carry(50 * 10**12, server_side=False, limits=LIMITS).way == "stream_parts"
    with pytest.raises(ValueError, match="no object has"):
        plan_carry(OBJECT_BYTES_MAX + 1, server_side=False, limits=LIMITS)
