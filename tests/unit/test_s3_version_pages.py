"""Pages of versions: what is read of them is what stands there, or it is no page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.errors import StoreRefusedError
from rekeyd.domain.objects import ObjectVersion
from rekeyd.stores.s3.version_pages import Listed, VersionsAsked, grouped, history, parse_versions
from rekeyd.stores.s3.xml import MalformedAnswer, fits_xml
from tests.doubles.versions import page, version

ASKED = VersionsAsked("p/")
PAGE = (
    b'<?xml version="1.0"?><ListVersionsResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>'
    b"<DeleteMarker><Key>p/a+b</Key><VersionId>m</VersionId><IsLatest>true</IsLatest></DeleteMarker>"
    b"<Version><Key>p/a+b</Key><VersionId>null</VersionId><IsLatest>false</IsLatest>"
    b"<ETag>&quot;e&quot;</ETag><Size>7</Size><LastModified>then</LastModified></Version></ListVersionsResult>"
)
versions = st.builds(
    lambda name, version_id, marker: version(f"p/{name}", version_id, marker=marker),
    st.text(min_size=1),
    st.text("abcXYZ019._-", min_size=1),
    st.booleans(),
)


def test_a_page_is_read() -> None:
    answered = parse_versions(PAGE, ASKED)

    assert answered.listed == (
        Listed(ObjectVersion("p/a b", 0, "", "m", marker=True), latest=True),
        Listed(ObjectVersion("p/a b", 7, "e", "null", "then"), latest=False),
    )
    assert (answered.folders, answered.more) == ((), False)


@given(st.lists(st.tuples(versions, st.booleans()), max_size=20), st.booleans())
def test_a_page_is_read_as_it_was_written(listed: list[tuple[ObjectVersion, bool]], truncated: bool) -> None:
    answered = parse_versions(page(listed, truncated=truncated and bool(listed)), ASKED)

    assert [(one.version, one.latest) for one in answered.listed] == listed
    assert answered.more == (truncated and bool(listed))


@given(st.lists(st.tuples(versions, st.booleans()), max_size=20))
def test_a_page_that_encodes_nothing_is_read_or_refused(listed: list[tuple[ObjectVersion, bool]]) -> None:
    body = page(listed, encoded=False)
    if not all(fits_xml(one.key) for one, _ in listed):
        with pytest.raises(MalformedAnswer):
            parse_versions(body, ASKED)
    elif any("\N{REPLACEMENT CHARACTER}" in one.key for one, _ in listed):
        with pytest.raises(StoreRefusedError):
            parse_versions(body, ASKED)
    else:
        assert [(one.version, one.latest) for one in parse_versions(body, ASKED).listed] == listed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<ListVersionsResult/>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        b"<Error><Code>InternalError</Code></Error>",
        b"<ListVersionsResult><IsTruncated>true</IsTruncated></ListVersionsResult>",
        PAGE.replace(b"<IsTruncated>false</IsTruncated>", b""),
        PAGE.replace(b"<IsTruncated>false<", b"<IsTruncated>perhaps<"),
        PAGE.replace(b"<Key>p/a+b<", b"<Key>q/a+b<"),
        PAGE.replace(b"<Key>p/a+b</Key><VersionId>null", b"<VersionId>null"),
        PAGE.replace(b"<VersionId>m</VersionId>", b""),
        PAGE.replace(b"<VersionId>null<", b"<VersionId><"),
        PAGE.replace(b"<IsLatest>true</IsLatest>", b""),
        PAGE.replace(b"<IsLatest>true<", b"<IsLatest>1<"),
        PAGE.replace(b"<Size>7<", b"<Size>-7<"),
        PAGE.replace(b"<ETag>&quot;e&quot;</ETag>", b""),
        PAGE.replace(b"p/a+b", b"p/%ff"),
        PAGE.replace(
            b"</ListVersionsResult>",
            b"<CommonPrefixes><Prefix>p/x/</Prefix></CommonPrefixes></ListVersionsResult>",
        ),
        PAGE[:-10],
    ],
)
def test_what_makes_no_sense_is_no_page(body: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        parse_versions(body, ASKED)


@pytest.mark.parametrize(
    "asked",
    [
        VersionsAsked("p/", limit=1),
        VersionsAsked("p/", after_key="p/a b"),
        VersionsAsked("p/", after_key="p/a b", after_version="null"),
    ],
)
def test_what_was_not_asked_for_is_no_page(asked: VersionsAsked) -> None:
    with pytest.raises(MalformedAnswer):
        parse_versions(PAGE, asked)


@pytest.mark.parametrize("folder", ["p/x", "q/x/"])
def test_what_is_no_folder_there_is_no_page(folder: str) -> None:
    with pytest.raises(MalformedAnswer):
        parse_versions(page([], [folder]), VersionsAsked("p/", delimiter="/"))


def test_versions_that_stand_apart_or_twice_are_no_history() -> None:
    a1, a2, b = (Listed(version(*of), latest=True) for of in (("a", "1"), ("a", "2"), ("b", "1")))

    assert grouped([a1, a2, b]) == [(a1, a2), (b,)]
    for listed in ([a1, b, a2], [a1, a1]):
        with pytest.raises(MalformedAnswer):
            grouped(listed)


@pytest.mark.parametrize("latest", [[False, False], [False, True], [True, True]])
def test_a_history_begins_with_the_one_that_is_the_latest(latest: list[bool]) -> None:
    listed = [Listed(version("a", str(number)), each) for number, each in enumerate(latest)]

    with pytest.raises(MalformedAnswer):
        history(listed)


def test_a_history_is_given_the_oldest_first() -> None:
    listed = [Listed(version("a", name), name == "3") for name in "321"]

    assert [one.version_id for one in history(listed).chain] == ["1", "2", "3"]
