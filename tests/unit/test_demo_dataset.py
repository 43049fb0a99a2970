"""What the demo loads: the same made set at each run, and the user's files, which are only read."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from rekeyd.demo.dataset import (
    LARGE_SIZES_BYTES,
    MIB,
    SMALL_OBJECTS,
    Given,
    InFile,
    Made,
    files_of,
    made_tenant,
    other_tenant,
)
from rekeyd.demo.load import PART_BYTES
from rekeyd.domain.errors import RefusedError


def test_the_made_set_is_what_the_demo_promises() -> None:
    items = made_tenant()
    keys = [item.key for item in items]
    size_bytes = sum(item.content.size_bytes for item in items)

    assert len(set(keys)) == len(keys) > SMALL_OBJECTS
    assert 150 * MIB < size_bytes < 250 * MIB
    assert all(size > PART_BYTES for size in LARGE_SIZES_BYTES)
    assert sum(item.content.size_bytes > PART_BYTES for item in items) == len(LARGE_SIZES_BYTES)
    assert sum(item.content.size_bytes == 0 for item in items) >= 10
    for character in " +%#?ß日🔑":
        assert any(character in key for key in keys), character
    assert max(len(key) for key in keys) > 250
    assert {name for item in items for name in item.headers} == {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    }
    assert all("content-type" in item.headers for item in items)
    assert any(item.metadata for item in items)
    assert any(item.tags for item in items)


def test_the_embedded_store_keeps_every_made_name() -> None:
    for item in (*made_tenant(), *other_tenant()):
        segments = item.key.split("/")
        assert all(segments), item.key
        assert not {".", "..", ".uploads", ".versions"} & set(segments)
        assert max(len(segment.encode()) for segment in segments) <= 255
        assert "\\" not in item.key
    assert not {item.key for item in made_tenant()} & {
        "/".join(item.key.split("/")[:depth])
        for item in made_tenant()
        for depth in range(1, item.key.count("/") + 1)
    }


def test_made_bytes_are_the_same_at_each_run_and_no_others_are_equal() -> None:
    made = Made("large/0", 3 * MIB + 5)

    assert hashlib.sha256(b"".join(made.parts(MIB))).hexdigest() == (
        hashlib.sha256(b"".join(Made("large/0", 3 * MIB + 5).parts(MIB))).hexdigest()
    )
    assert [len(part) for part in made.parts(MIB)] == [MIB, MIB, MIB, 5]
    assert b"".join(made.parts(MIB)) != b"".join(Made("large/1", 3 * MIB + 5).parts(MIB))
    assert max(Counter(made.parts(MIB)).values()) == 1


def test_given_bytes_come_in_parts() -> None:
    assert list(Given(b"abcde").parts(2)) == [b"ab", b"cd", b"e"]
    assert list(Given(b"").parts(2)) == []


def test_files_are_named_by_their_path_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "ü+%#.json").write_bytes(b"content")
    (tmp_path / "empty").write_bytes(b"")

    items, left_out = files_of(tmp_path)

    assert {item.key: item.content.size_bytes for item in items} == {"a b/ü+%#.json": 7, "empty": 0}
    assert {item.key: item.headers["content-type"] for item in items} == {
        "a b/ü+%#.json": "application/json",
        "empty": "binary/octet-stream",
    }
    assert left_out == ()
    assert all(isinstance(item.content, InFile) for item in items)
    assert [b"".join(item.content.parts(3)) for item in items if item.key != "empty"] == [b"content"]


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "file").write_bytes(b"x")
    (folder / "to-file").symlink_to(outside / "secret")
    (folder / "to-folder").symlink_to(outside)
    (folder / "to-nothing").symlink_to("nowhere")

    items, left_out = files_of(folder)

    assert [item.key for item in items] == ["file"]
    assert {left.name: left.reason for left in left_out} == dict.fromkeys(
        ("to-file", "to-folder", "to-nothing"), "is a link"
    )


def test_what_can_not_be_loaded_is_left_out_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "back\\slash").write_bytes(b"x")
    (tmp_path / "tab\there").write_bytes(b"x")
    (tmp_path / ".versions").mkdir()
    (tmp_path / ".versions" / "x").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/not-\xff-utf8"))).write_bytes(b"x")

    items, left_out = files_of(tmp_path)

    assert [item.key for item in items] == ["file"]
    assert len(left_out) == 5
    assert all(left.reason for left in left_out)
    for left in left_out:
        left.name.encode()  # every name can be printed


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="--data"):
        files_of(tmp_path)
