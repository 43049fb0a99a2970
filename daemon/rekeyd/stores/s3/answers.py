"""What S3's answers mean for the port: writes, parts, pages. Pure."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from rekeyd.domain.errors import UnavailableError
from rekeyd.stores.port import Part, Upload, Written
from rekeyd.stores.s3 import headers as s3
from rekeyd.stores.s3.request import S3Answer, S3Request
from rekeyd.stores.s3.xml import Element, ListedPage, MalformedAnswer, bare_etag

# A cursor says itself what it is, so that it stays valid whatever later versions make of it.
_TOKEN = "token:"  # noqa: S105 - not a secret
_KEY = "key:"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@contextmanager
def reading(request: S3Request, answer: S3Answer) -> Generator[None]:
    """Make UnavailableError of an answer that can't be read."""
    try:
        yield
    except MalformedAnswer as malformed:
        raise UnavailableError(
            request.operation, f"its answer: {malformed}", request_id=answer.request_id
        ) from malformed


def written(request: S3Request, answer: S3Answer, etag: str, stated: Mapping[str, str]) -> Written:
    """A write that succeeded; `stated` holds what is said of its checksum, as headers."""
    return Written(
        etag=present_etag(request, etag),
        version_id=s3.version_id(answer.headers),
        crc64nvme=s3.full_object_crc(stated),
        encryption=s3.read_encryption(answer.headers),
        request_id=answer.request_id,
    )


def stated_checksum(root: Element) -> dict[str, str]:
    """What the body of Copy's or Complete's answer says of the checksum, as if it were headers."""
    return {
        "etag": root.get("ETag"),
        "x-amz-checksum-type": root.get("ChecksumType"),
        s3.CRC_HEADER: root.get("ChecksumCRC64NVME"),
    }


def part(request: S3Request, number: int, etag: str, size_bytes: int, crc: str) -> Part:
    """A part that the store acknowledged; `crc` is base64, empty where none was said."""
    return Part(number, present_etag(request, etag), size_bytes, s3.decode_crc(crc))


def part_query(upload: Upload, number: int) -> tuple[tuple[str, str], ...]:
    """The query that names a part."""
    return (("partNumber", str(number)), ("uploadId", upload.upload_id))


def present_etag(request: S3Request, said: str) -> str:
    """The ETag that a success must name: without it nothing is known to have been written."""
    etag = bare_etag(said)
    if not etag:
        raise UnavailableError(request.operation, "the answer names no ETag")
    return etag


def cursor_query(cursor: str | None) -> tuple[tuple[str, str], ...]:
    """The query that resumes a listing. Raises ValueError for what isn't a cursor of ours."""
    if cursor is None:
        return ()
    if cursor.startswith(_TOKEN):
        return (("continuation-token", cursor.removeprefix(_TOKEN)),)
    if cursor.startswith(_KEY):
        return (("start-after", cursor.removeprefix(_KEY)),)
    raise ValueError(f"{cursor!r} is not a cursor that a listing gave")


def next_cursor(page: ListedPage, cursor: str | None) -> str | None:
    """Where the next page begins. Raises MalformedAnswer where it would be this page again.

    The store's own token is taken: SeaweedFS leaves out what lies below `K/` when it is to start after a key
    `K`. But its token is the last key as it is, damaged where XML can't hold that key; then the key it is.
    """
    if page.token is None:
        return None
    last = page.objects[-1].key
    damaged = not page.token or (_REPLACEMENT in page.token and _REPLACEMENT not in last)
    following = _KEY + last if damaged else _TOKEN + page.token
    if following == cursor:
        raise MalformedAnswer("the same page comes again")
    return following
