"""Key material in the clear: what becomes of a buffer."""

from __future__ import annotations

import copy
import hashlib
import pickle
import secrets

import pytest

from rekeyd.custody import material as subject
from rekeyd.custody.material import Material, held, taken, wipe


def test_a_buffer_is_overwritten_when_it_was_used() -> None:
    buffer = bytearray(secrets.token_bytes(32))

    with held(buffer) as material:
        assert material.buffer is buffer
        assert any(buffer)

    assert buffer == bytes(32)


def test_a_buffer_is_overwritten_where_its_use_fails() -> None:
    buffer = bytearray(secrets.token_bytes(32))

    with pytest.raises(ZeroDivisionError), held(buffer):
        raise ZeroDivisionError

    assert buffer == bytes(32)


def test_a_buffer_is_overwritten_where_it_is() -> None:
    buffer = bytearray(secrets.token_bytes(32))
    with memoryview(buffer) as view:  # a buffer that is viewed can't be moved
        wipe(buffer)

        assert view.tobytes() == bytes(32)


def test_bytes_that_only_we_have_are_overwritten_once_they_are_in_a_buffer() -> None:
    key = secrets.token_bytes(32)
    expected = bytearray(key)

    buffer = taken(key)

    assert buffer == expected
    assert key == bytes(32)


@pytest.mark.parametrize("shared", [b"", b"a"])
def test_bytes_that_python_shares_are_left_alone(shared: bytes) -> None:
    expected = bytearray(shared)

    assert taken(shared) == expected
    assert shared == bytes(expected)


def test_material_shows_itself_to_nobody() -> None:
    key = b"\xee" * 31 + b"\xef"
    material = Material(bytearray(key))

    shown = f"{material!r} {material} {vars(subject)['Material'].__slots__}"

    assert "ee" not in shown
    assert "\\x" not in shown
    for copied in (
        lambda: pickle.dumps(material),
        lambda: copy.copy(material),
        lambda: copy.deepcopy(material),
    ):
        with pytest.raises(TypeError, match="never"):
            copied()


def test_a_digest_is_compared_as_a_whole() -> None:
    key = secrets.token_bytes(32)
    material = Material(bytearray(key))
    digest = hashlib.sha256(key).digest()

    assert material.has_digest(digest)
    for other in (bytes(32), digest[:-1], digest + b"\0", b"", digest[:-1] + bytes([digest[-1] ^ 1])):
        assert not material.has_digest(other)
