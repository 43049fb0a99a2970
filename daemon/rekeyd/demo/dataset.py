"""What the demo loads: a made tenant, the same at each run, or the user's own files. Nothing here is sent.

The embedded S3 (SeaweedFS) rewrites or hides a few names that S3 keeps: a leading or doubled slash, a
backslash, `.uploads` and `.versions`, a segment over 255 bytes; and it can't copy a name with a control
character under a key. None is made, and a file so named is left out with the reason.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
import os
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rekeyd.domain.errors import RefusedError
from rekeyd.domain.objects import KEY_BYTES_MAX

MIB = 1024**2

SMALL_OBJECTS = 2_000
OTHER_TENANT_OBJECTS = 60
LARGE_SIZES_BYTES = (24 * MIB, 32 * MIB + 1, 40 * MIB, 28 * MIB - 7)

UNKNOWN_TYPE = "binary/octet-stream"
"""What S3 gives an object whose uploader says nothing. (SeaweedFS guesses in place of `application/octet-stream`.)"""

_SEGMENT_BYTES_MAX = 255
_HIDDEN_SEGMENTS = frozenset({".uploads", ".versions"})
_PREFIX_BYTES_SPARED = 64

ODD_NAMES = (
    "name with spaces.txt",
    " leading and trailing ",
    "plus+plus.txt",
    "percent%.txt",
    "escaped%2Fslash.txt",
    "hash#mark.txt",
    "question?mark=1&x=y.txt",
    "quotes'\"<and>.xml",
    "semi;colon:comma,at@dollar$.txt",
    "braces{pipe|caret^tilde~}.txt",
    "Übergröße/straße.txt",
    "decomposed/e\u0301te\u0301.txt",
    "日本語/バックアップ.bin",
    "emoji/🔑🗝.txt",
    "trailing.dot.",
    ".hidden/.dotfile",
    f"long/{'n' * 250}.txt",
    f"deep/{'/'.join(f'level-{level:02}' for level in range(40))}/leaf.txt",
)


@dataclass(frozen=True, slots=True)
class Made:
    """Bytes that follow from a text: the same at each run, equal to no other object's."""

    seed: str
    size_bytes: int

    def parts(self, part_bytes: int) -> Iterator[bytes]:
        """The bytes in order, each part but the last of `part_bytes`."""
        for first in range(0, self.size_bytes, part_bytes):
            length = min(part_bytes, self.size_bytes - first)
            yield hashlib.shake_128(f"{self.seed}\0{first}".encode()).digest(length)


@dataclass(frozen=True, slots=True)
class Given:
    """Bytes as they stand here."""

    content: bytes

    @property
    def size_bytes(self) -> int:
        """How many there are."""
        return len(self.content)

    def parts(self, part_bytes: int) -> Iterator[bytes]:
        """The bytes in order, each part but the last of `part_bytes`."""
        for first in range(0, len(self.content), part_bytes):
            yield self.content[first : first + part_bytes]


@dataclass(frozen=True, slots=True)
class InFile:
    """A user's file: opened for reading only, and only while it is loaded."""

    path: Path
    size_bytes: int

    def parts(self, part_bytes: int) -> Iterator[bytes]:
        """The bytes in order as they are now; what was sent is what counts, should the file change."""
        with self.path.open("rb") as opened:
            while part := opened.read(part_bytes):
                yield part


@dataclass(frozen=True, slots=True)
class Item:
    """One object to load."""

    key: str
    """Relative to the tenant's prefix."""
    content: Made | Given | InFile
    headers: Mapping[str, str]
    """By their names in HTTP, lower case. The content type is always given: stores guess it differently."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    checksum: Literal["CRC64NVME", "CRC32"] = "CRC64NVME"
    """What the uploader lets the store check and keep."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file that isn't loaded, and why."""

    name: str
    reason: str


def made_tenant() -> tuple[Item, ...]:
    """The tenant whose data are moved: about 2,000 objects, 175 MiB."""
    return (
        *(_small(number) for number in range(SMALL_OBJECTS)),
        *(_zero(number) for number in range(40)),
        *(_odd(name) for name in ODD_NAMES),
        *(_large(number, size_bytes) for number, size_bytes in enumerate(LARGE_SIZES_BYTES)),
        *_medium(),
        _compressed(),
    )


def other_tenant() -> tuple[Item, ...]:
    """A neighbour in the same bucket, some of its keys equal to the tenant's. Nothing of it may change."""
    return tuple(
        Item(
            _small_key(number),
            Made(f"other/{number}", 1_000 + number),
            {"content-type": "application/json"},
            {"owner": "somebody else"},
            {"tier": "gold"} if number % 2 else {},
        )
        for number in range(OTHER_TENANT_OBJECTS)
    )


def files_of(folder: Path) -> tuple[tuple[Item, ...], tuple[LeftOut, ...]]:
    """The user's files, by their path below `folder`. Links are not followed, nothing is written.

    Raises RefusedError where there is none that can be loaded.
    """
    items: list[Item] = []
    left_out: list[LeftOut] = []
    unread: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(parent) / name
            found = _file(path, path.relative_to(folder).as_posix())
            if isinstance(found, Item):
                items.append(found)
            else:
                left_out.append(found)
    left_out += [LeftOut(_printable(str(error.filename)), str(error.strerror)) for error in unread]
    if not items:
        raise RefusedError("--data", f"{folder} holds no file that can be loaded")
    return tuple(items), tuple(left_out)


def _file(path: Path, key: str) -> Item | LeftOut:
    try:
        status = path.lstat()
    except OSError as error:
        return LeftOut(_printable(key), str(error.strerror))
    reason = _unusable_name(key)
    if not stat.S_ISREG(status.st_mode):
        reason = "is a link" if stat.S_ISLNK(status.st_mode) else "is not a file"
    elif not os.access(path, os.R_OK):
        reason = "may not be read"
    if reason:
        return LeftOut(_printable(key), reason)
    guessed, encoding = mimetypes.guess_type(path.name)
    headers = {"content-type": guessed or UNKNOWN_TYPE}
    if encoding is not None:
        headers["content-type"] = f"application/{encoding}"
    return Item(key, InFile(path, status.st_size), headers, {"mtime": str(int(status.st_mtime))})


def _unusable_name(key: str) -> str:
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if len(encoded) > KEY_BYTES_MAX - _PREFIX_BYTES_SPARED:
        return "its path is too long for a key"
    segments = key.split("/")
    if any(len(segment.encode()) > _SEGMENT_BYTES_MAX for segment in segments):
        return "a part of its path is too long for the embedded store"
    if "\\" in key or any(unicodedata.category(character) == "Cc" for character in key):
        return "its name has characters that the embedded store can't keep or copy"
    if _HIDDEN_SEGMENTS & set(segments):
        return "the embedded store keeps its own things under this name"
    return ""


def _printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _small_key(number: int) -> str:
    suffix = ("json", "chunk")[number % 2]
    return f"2026/11/{number % 28 + 1:02}/node-{number % 7}/{number:05}.{suffix}"


def _small(number: int) -> Item:
    headers = {"content-type": ("application/json", UNKNOWN_TYPE)[number % 2]}
    metadata, tags = {}, {}
    if number % 3 == 0:
        metadata = {"backup-id": f"b-{number // 100}", "sequence": str(number)}
    if number % 12 == 0:
        headers |= {"cache-control": "max-age=60, private", "content-language": "de, en"}
        metadata["label"] = "=?utf-8?q?R=C3=BCckgrat?="
    if number % 20 == 0:
        headers |= {
            "content-disposition": f'attachment; filename="chunk {number}.json"',
            "expires": "Wed, 01 Jan 2031 00:00:00 GMT",
        }
    if number % 8 == 0:
        tags = {"retention": "7y", "owner": "team größe + co", "empty": ""}
    # From 120 bytes to 24 KiB, many small and few large, as backups of configurations are.
    size_bytes = 120 + (number * 7_919) % 3_000 + (21_000 if number % 9 == 0 else 0)
    return Item(
        _small_key(number),
        Made(f"small/{number}", size_bytes),
        headers,
        metadata,
        tags,
        checksum="CRC32" if number % 10 == 0 else "CRC64NVME",
    )


def _zero(number: int) -> Item:
    tags = {"marker": "yes"} if number % 4 == 0 else {}
    return Item(f"markers/{number:02}.done", Given(b""), {"content-type": "text/plain"}, {}, tags)


def _odd(name: str) -> Item:
    return Item(
        f"odd/{name}",
        Made(f"odd/{name}", 777),
        {"content-type": "text/plain; charset=utf-8"},
        {"odd": "yes"},
    )


def _large(number: int, size_bytes: int) -> Item:
    return Item(
        f"images/disk-{number}.img",
        Made(f"large/{number}", size_bytes),
        {"content-type": "application/x-raw-disk-image", "cache-control": "no-transform"},
        {"disk": str(number)},
        {"kind": "image"},
    )


def _medium() -> Iterator[Item]:
    for number in range(14):
        yield Item(
            f"databases/dump-{number:02}.bin",
            Made(f"medium/{number}", MIB * (1 + number % 6) + number),
            {"content-type": UNKNOWN_TYPE},
        )


def _compressed() -> Item:
    content = gzip.compress(b"what is stored compressed must stay so\n" * 500, mtime=0)
    headers = {"content-type": "text/plain", "content-encoding": "gzip"}
    return Item("logs/backup.log", Given(content), headers)
