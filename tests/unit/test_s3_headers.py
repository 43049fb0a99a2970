"""What headers say of locks, archives and versions, and how they are asked for. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.errors import StoreRefusedError, UnavailableError
from rekeyd.domain.objects import Attributes, ObjectLock
from rekeyd.stores.content import BytesContent
from rekeyd.stores.s3 import headers as s3
from tests.contract.stores.test_writing import Chunks

times = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 1, 1))  # noqa: DTZ001 - UTC is added
locks = st.one_of(
    st.just(ObjectLock(legal_hold=True)),
    st.builds(
        ObjectLock,
        st.sampled_from(["GOVERNANCE", "COMPLIANCE"]),
        times.map(lambda time: time.replace(tzinfo=UTC).isoformat()),
        st.booleans(),
    ),
)


@given(locks)
def test_a_lock_is_read_as_it_was_sent(lock: ObjectLock) -> None:
    assert s3.read_lock("HeadObject", s3.lock_headers(lock)) == lock


@pytest.mark.parametrize("headers", [{}, {"x-amz-object-lock-legal-hold": "OFF"}])
def test_no_lock_is_none(headers: dict[str, str]) -> None:
    assert s3.read_lock("HeadObject", headers) is None
    assert s3.lock_headers(None) == {}


@pytest.mark.parametrize(
    ("mode", "until"),
    [
        ("GOVERNANCE", None),
        (None, "2030-01-01T00:00:00Z"),
        ("OTHER", "2030-01-01T00:00:00Z"),
        ("GOVERNANCE", "soon"),
    ],
)
def test_a_lock_that_makes_no_sense_is_none_either(mode: str | None, until: str | None) -> None:
    said = {"x-amz-object-lock-mode": mode, "x-amz-object-lock-retain-until-date": until}

    with pytest.raises(UnavailableError):
        s3.read_lock("HeadObject", {name: value for name, value in said.items() if value is not None})


@pytest.mark.parametrize(
    ("headers", "archived"),
    [
        ({}, False),
        ({"x-amz-storage-class": "STANDARD_IA"}, False),
        ({"x-amz-storage-class": "GLACIER_IR"}, False),
        ({"x-amz-storage-class": "GLACIER"}, True),
        ({"x-amz-storage-class": "DEEP_ARCHIVE"}, True),
        ({"x-amz-storage-class": "GLACIER", "x-amz-restore": 'ongoing-request="true"'}, True),
        (
            {
                "x-amz-storage-class": "GLACIER",
                "x-amz-restore": 'ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"',
            },
            False,
        ),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING"}, False),
        ({"x-amz-storage-class": "INTELLIGENT_TIERING", "x-amz-archive-status": "ARCHIVE_ACCESS"}, True),
        (
            {
                "x-amz-storage-class": "INTELLIGENT_TIERING",
                "x-amz-archive-status": "DEEP_ARCHIVE_ACCESS",
                "x-amz-restore": 'ongoing-request="false"',
            },
            False,
        ),
    ],
)
def test_what_must_be_restored_is_archived(headers: dict[str, str], archived: bool) -> None:
    head = s3.read_head("HeadObject", "k", None, {"etag": '"e"', **headers}, 1, whole=True, counts_tags=True)

    assert head.archived == archived


@pytest.mark.parametrize(
    ("asked", "said", "named"),
    [
        (None, None, None),
        (None, "null", None),
        (None, "v1", "v1"),
        ("null", "null", "null"),
        ("null", None, "null"),
        ("v1", "v1", "v1"),
    ],
)
def test_null_is_said_only_where_it_was_asked_for(
    asked: str | None, said: str | None, named: str | None
) -> None:
    headers = {"etag": '"e"', **({} if said is None else {"x-amz-version-id": said})}

    head = s3.read_head("HeadObject", "k", asked, headers, 1, whole=True, counts_tags=True)

    assert head.version.version_id == named


def test_a_copy_has_its_sources_attributes_or_those_that_are_given() -> None:
    copied = {"x-amz-metadata-directive": "COPY", "x-amz-tagging-directive": "COPY"}
    held = {"x-amz-object-lock-legal-hold": "ON"}
    assert s3.directive_headers("CopyObject", None, None) == copied
    assert s3.directive_headers("CopyObject", None, ObjectLock(legal_hold=True)) == {**copied, **held}
    given = Attributes(
        {"content-type": "text/plain"}, {"a": "b"}, {"t": "1"}, "GLACIER", ObjectLock(legal_hold=True)
    )
    assert s3.directive_headers("CopyObject", given, None) == {
        "content-type": "text/plain",
        "x-amz-meta-a": "b",
        "x-amz-tagging": "t=1",
        **held,
        "x-amz-metadata-directive": "REPLACE",
        "x-amz-tagging-directive": "REPLACE",
    }


def test_what_is_locked_is_sent_with_a_checksum() -> None:
    content = BytesContent(b"data")
    assert s3.put_checksum_headers("PutObject", content, None, locked=False) == {}
    assert s3.put_checksum_headers("PutObject", content, None, locked=True) == {
        "content-md5": "jXd/OF09/siBXSD3SWAm3A=="
    }
    known = {"x-amz-checksum-crc64nvme": "AAAAAAAAAAc="}
    assert s3.put_checksum_headers("PutObject", content, 7, locked=False) == known
    assert s3.put_checksum_headers("PutObject", content, 7, locked=True) == {
        **known,
        "x-amz-sdk-checksum-algorithm": "CRC64NVME",
    }
    with pytest.raises(StoreRefusedError):
        s3.put_checksum_headers("PutObject", Chunks(4, [b"data"]), None, locked=True)
