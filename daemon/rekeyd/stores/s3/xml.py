"""S3's XML: requests' bodies are built, answers' bodies are read, strictly.

An answer that isn't what S3's API Reference describes raises MalformedAnswer: it is never read as an empty
page or an empty success.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes
from xml.parsers import expat
from xml.sax.saxutils import escape

from rekeyd.domain.objects import ObjectVersion

_DEPTH_MAX = 16
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
# What XML 1.0 can't hold, not even as a character reference (W3C, "Extensible Markup Language (XML) 1.0",
# production 2, Char).
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class MalformedAnswer(Exception):  # noqa: N818 - it says what the answer is; errors.py makes an error of it
    """An answer's body isn't the XML that it ought to be."""


class Element:
    """An element: its name without a namespace, its text, its children."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def find(self, name: str) -> Element | None:
        """The first child of this name."""
        return next((child for child in self.children if child.name == name), None)

    def all(self, name: str) -> Iterator[Element]:
        """The children of this name."""
        return (child for child in self.children if child.name == name)

    def get(self, name: str) -> str:
        """The text of the child of this name, empty where there is none."""
        child = self.find(name)
        return "" if child is None else child.text

    def require(self, name: str) -> str:
        """The text of the child of this name. Raises MalformedAnswer where there is none."""
        child = self.find(name)
        if child is None:
            raise MalformedAnswer(f"<{self.name}> without <{name}>")
        return child.text


def parse(body: bytes) -> Element:
    """Read a document. Raises MalformedAnswer; declarations of types and entities are refused."""
    top = Element("")
    stack = [top]

    def start(name: str, _attributes: dict[str, str]) -> None:
        if len(stack) > _DEPTH_MAX:
            raise MalformedAnswer("nested too deeply")
        element = Element(name.rpartition(":")[2])
        stack[-1].children.append(element)
        stack.append(element)

    def end(_name: str) -> None:
        stack.pop()

    def data(text: str) -> None:
        stack[-1].text += text

    def doctype(*_declaration: object) -> None:
        raise MalformedAnswer("declares a document type")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = doctype
    try:
        # S3 sends whitespace to keep a connection alive before the document is known ("CopyObject", Amazon
        # S3 API Reference), but XML allows none before its declaration.
        parser.Parse(body.lstrip(b" \t\r\n"), True)
    except expat.ExpatError as error:
        raise MalformedAnswer(f"not XML: {error}") from error
    return top.children[0]


def parse_as(body: bytes, *roots: str) -> Element:
    """Read a document whose root must be one of `roots`, or `Error`, which the caller looks at."""
    root = parse(body)
    if root.name not in roots and root.name != "Error":
        raise MalformedAnswer(f"<{root.name}> where <{roots[0]}> is due")
    return root


def bare_etag(text: str) -> str:
    """An ETag without its quotes, however the store wrote them."""
    return text.strip().removeprefix("W/").strip('"')


@dataclass(frozen=True, slots=True)
class ListedPage:
    """A page of ListObjectsV2, as it was answered."""

    objects: tuple[ObjectVersion, ...]
    token: str | None
    """The continuation token; None where this page is the last one."""


def parse_listing(body: bytes, prefix: str, limit: int) -> ListedPage:
    """Read a page of ListObjectsV2 that was asked for with encoding-type=url. Raises MalformedAnswer."""
    root = parse(body)
    if root.name != "ListBucketResult":
        raise MalformedAnswer(f"<{root.name}> where <ListBucketResult> is due")
    encoded = root.get("EncodingType") == "url"
    objects = tuple(_listed(contents, encoded=encoded) for contents in root.all("Contents"))
    _check_page(root, objects, prefix, limit)
    match root.require("IsTruncated"):
        case "false":
            return ListedPage(objects, None)
        case "true" if objects:
            return ListedPage(objects, root.require("NextContinuationToken"))
        case said:
            raise MalformedAnswer(f"IsTruncated {said!r} with {len(objects)} objects")


def _listed(contents: Element, *, encoded: bool) -> ObjectVersion:
    key = size = etag = modified = None
    for child in contents.children:
        if child.name == "Key":
            key = decode_key(child.text) if encoded else child.text
        elif child.name == "Size":
            size = child.text
        elif child.name == "ETag":
            etag = bare_etag(child.text)
        elif child.name == "LastModified":
            modified = child.text or None
    if not key or not etag or size is None or not size.isdecimal():
        raise MalformedAnswer("<Contents> without a key, a size or an ETag")
    return ObjectVersion(key, int(size), etag, modified=modified)


def _check_page(root: Element, objects: Sequence[ObjectVersion], prefix: str, limit: int) -> None:
    # The order isn't checked: SeaweedFS walks directories, where "a/x" stands before "a-b".
    count = root.find("KeyCount")
    if count is not None and count.text != str(len(objects)):
        raise MalformedAnswer(f"KeyCount {count.text!r} with {len(objects)} objects")
    if len(objects) > limit or len({listed.key for listed in objects}) != len(objects):
        raise MalformedAnswer("more objects than asked for, or one twice")
    for listed in objects:
        if not listed.key.startswith(prefix):
            raise MalformedAnswer(f"{listed.key!r} doesn't begin with {prefix!r}")


def decode_key(text: str) -> str:
    """A key or prefix of an answer with encoding-type=url, where a space is `+` and a plus `%2B`."""
    try:
        return unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError as error:
        raise MalformedAnswer(f"{text!r} is not UTF-8") from error


@dataclass(frozen=True, slots=True)
class ListedUploads:
    """A page of ListMultipartUploads: key, upload id and when it was begun, and where the next page begins."""

    uploads: tuple[tuple[str, str, str | None], ...]
    next_markers: tuple[str, str] | None


def parse_uploads(body: bytes, prefix: str, *, encoded: bool) -> ListedUploads:
    """Read a page of ListMultipartUploads. SeaweedFS says that it encoded the keys, and doesn't."""
    root = parse(body)
    if root.name != "ListMultipartUploadsResult":
        raise MalformedAnswer(f"<{root.name}> where <ListMultipartUploadsResult> is due")

    def key_of(element: Element, name: str) -> str:
        return decode_key(element.require(name)) if encoded else element.require(name)

    uploads = tuple(
        (key_of(one, "Key"), one.require("UploadId"), one.get("Initiated") or None)
        for one in root.all("Upload")
    )
    for key, _, _ in uploads:
        if not key.startswith(prefix):
            raise MalformedAnswer(f"{key!r} doesn't begin with {prefix!r}")
    # moto says IsTruncated with a capital letter.
    if root.require("IsTruncated").lower() != "true":
        return ListedUploads(uploads, None)
    return ListedUploads(uploads, (key_of(root, "NextKeyMarker"), root.require("NextUploadIdMarker")))


def parse_tags(body: bytes) -> dict[str, str]:
    """Read GetObjectTagging's answer."""
    root = parse(body)
    tag_set = root.find("TagSet") if root.name == "Tagging" else None
    if tag_set is None:
        raise MalformedAnswer(f"<{root.name}> where <Tagging><TagSet> is due")
    return {tag.require("Key"): tag.get("Value") for tag in tag_set.all("Tag")}


def fits_xml(text: str) -> bool:
    """Whether XML 1.0 can hold the text at all."""
    return _NOT_IN_XML.search(text) is None


def complete_body(parts: Sequence[tuple[int, str, str | None]]) -> bytes:
    """The body of CompleteMultipartUpload: number, ETag and, where known, base64 CRC64NVME of each part."""
    lines = "".join(
        f'<Part><PartNumber>{number}</PartNumber><ETag>"{_escaped(etag)}"</ETag>'
        + (f"<ChecksumCRC64NVME>{crc}</ChecksumCRC64NVME>" if crc else "")
        + "</Part>"
        for number, etag, crc in parts
    )
    return f"<CompleteMultipartUpload {_NAMESPACE}>{lines}</CompleteMultipartUpload>".encode()


def delete_body(versions: Sequence[ObjectVersion]) -> bytes:
    """The body of DeleteObjects: each by version id, or by key if the ETag matches."""
    lines = "".join(
        f"<Object><Key>{_escaped(version.key)}</Key>"
        + (
            f"<VersionId>{_escaped(version.version_id)}</VersionId>"
            if version.version_id is not None
            else f'<ETag>"{_escaped(version.etag)}"</ETag>'
        )
        + "</Object>"
        for version in versions
    )
    return f"<Delete {_NAMESPACE}>{lines}</Delete>".encode()


def encryption_body(key_arn: str) -> bytes:
    """The body of UpdateObjectEncryption."""
    return (
        '<ObjectEncryption xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><SSE-KMS>'
        f"<KMSKeyArn>{_escaped(key_arn)}</KMSKeyArn><BucketKeyEnabled>false</BucketKeyEnabled>"
        "</SSE-KMS></ObjectEncryption>"
    ).encode()


def _escaped(text: str) -> str:
    # A parser turns a bare carriage return into a newline, and may trim other whitespace.
    return escape(text, {"\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"})
