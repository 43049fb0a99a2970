"""Locations: what is one, and when two overlap."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rekeyd.domain.errors import RefusedError
from rekeyd.domain.objects import KEY_BYTES_MAX, ByteSpan, Location

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

prefixes = st.lists(st.sampled_from(["", "a", "ab", "b", ".", "..", "ü", "a b", "%2F"]), max_size=3).map(
    lambda names: "".join(f"{name}/" for name in names)
)
locations = st.builds(Location, st.sampled_from(["s3", "minio"]), st.sampled_from(["one", "two"]), prefixes)


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("s3://shared/tenants/acme/", Location("s3", "shared", "tenants/acme/")),
        ("s3://byok-acme/", Location("s3", "byok-acme", "")),
        ("my_store-2://a.b-3//", Location("my_store-2", "a.b-3", "/")),
        ("s3://shared/a//b/../%2F/", Location("s3", "shared", "a//b/../%2F/")),
        ("s3://shared/s3://x/", Location("s3", "shared", "s3://x/")),
    ],
)
def test_a_location_is_read_as_it_stands(text: str, location: Location) -> None:
    assert Location.parse(text) == location
    assert str(location) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "shared/tenants/",
        "://shared/",
        "s3:/shared/",
        "S3://shared/",
        "3s://shared/",
        "s3://shared",
        "s3:///tenants/",
        "s3://sh/",
        "s3://" + "b" * 64 + "/",
        "s3://Shared/",
        "s3://sha red/",
        "s3://-shared/",
        "s3://shared-/",
        "s3://shared\n/",
        "s3\n://shared/",
        "s3://shared/tenants",
        "s3://shared/tenants/acme",
        "s3://shared/" + "p" * (KEY_BYTES_MAX - 1) + "/",
        "s3://shared/" + "ü" * (KEY_BYTES_MAX // 2) + "/",
    ],
)
def test_what_is_no_location_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        Location.parse(text, "source")
    assert refused.value.field == "source"


def test_the_longest_prefix_leaves_room_for_a_key() -> None:
    longest = "s3://shared/" + "p" * (KEY_BYTES_MAX - 2) + "/"

    assert len(Location.parse(longest).prefix) == KEY_BYTES_MAX - 1


@patient
@given(locations)
def test_reading_undoes_writing(location: Location) -> None:
    assert Location.parse(str(location)) == location


@patient
@given(st.text())
@example("s3://b\ud800cd/")
@example("s3://bcd/\ud800/")
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f"s3://bcd/{text}", f"s3://{text}/", f"{text}://bcd/"):
        try:
            assert str(Location.parse(candidate)) == candidate
        except RefusedError as refused:
            assert refused.field == "location"  # noqa: PT017 - either will do


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("s3://one/a/", "s3://one/a/", True),
        ("s3://one/a/", "s3://one/a/b/", True),
        ("s3://one/", "s3://one/a/", True),
        ("s3://one/", "s3://one/", True),
        ("s3://one/a/", "s3://one/b/", False),
        ("s3://one/a/", "s3://one/ab/", False),
        ("s3://one/a/", "s3://one/A/", False),
        ("s3://one/a/", "s3://one//a/", False),
        ("s3://one/a/", "s3://one/%61/", False),
        ("s3://one/ü/", "s3://one/u\u0308/", False),
        ("s3://one/a/", "s3://two/a/", False),
        ("s3://one/a/", "minio://one/a/", False),
    ],
)
def test_overlap(one: str, other: str, overlap: bool) -> None:
    assert Location.parse(one).overlaps(Location.parse(other)) is overlap


@patient
@given(locations, locations, st.sampled_from(["", "a", "ab/x", "b/a/k", "ü/"]))
def test_locations_that_share_a_key_overlap(one: Location, other: Location, name: str) -> None:
    assert one.overlaps(other) == other.overlaps(one)
    assert one.overlaps(one)
    key = one.prefix + name
    if (one.store, one.bucket) == (other.store, other.bucket) and key.startswith(other.prefix):
        assert one.overlaps(other)


def test_a_span_has_a_size() -> None:
    assert ByteSpan(3, 10).size_bytes == 7
