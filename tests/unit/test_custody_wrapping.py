"""Keys wrapped with RSA: both ends, openssl's as well, and what is said of what can't be unwrapped."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import secrets
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rekeyd.custody.material import held
from rekeyd.custody.wrapping import UNWRAPPABLE, PemUnwrapper, encrypted, oaep, public_half, wrap
from rekeyd.domain.custody import Errand
from rekeyd.domain.errors import KeyRefusedError, RefusedError
from rekeyd.domain.key import WrappedKey

ACME = Errand("acme", "job-1")
DOCS = Path(__file__).parents[2] / "docs" / "keys.md"


@cache
def our_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    hidden: serialization.KeySerializationEncryption = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


def public_pem() -> bytes:
    return public_half(our_key().public_key()).pem.encode()


def message(ciphertext: bytes, digest: bytes, wrapping_key: str | None = None) -> WrappedKey:
    return WrappedKey(
        kind="wrapped",
        wrapped_key=base64.b64encode(ciphertext).decode(),
        sha256=base64.b64encode(digest).decode(),
        material="aes-256",
        wrapping_key=wrapping_key,
    )


def ciphertext_of(content: bytes, pad: padding.AsymmetricPadding | None = None) -> bytes:
    return our_key().public_key().encrypt(content, oaep() if pad is None else pad)


async def unwrap(wrapped: WrappedKey) -> bytes:
    async with PemUnwrapper(our_key()).unwrapped(ACME, wrapped) as material:
        return bytes(material.buffer)


async def test_what_is_wrapped_is_unwrapped() -> None:
    key = secrets.token_bytes(32)
    with held(bytearray(key)) as material:
        wrapped = wrap(public_pem(), material)

    assert await unwrap(wrapped) == key
    assert wrapped.fingerprint == hashlib.sha256(key).hexdigest()
    assert wrapped.wrapping_key == public_half(our_key().public_key()).fingerprint


async def test_the_buffer_is_overwritten_when_the_context_ends() -> None:
    key = secrets.token_bytes(32)
    wrapped = message(ciphertext_of(key), hashlib.sha256(key).digest())

    async with PemUnwrapper(our_key()).unwrapped(ACME, wrapped) as material:
        buffer = material.buffer
        assert buffer == key

    assert buffer == bytes(32)


async def refusal(wrapped: WrappedKey) -> KeyRefusedError:
    with pytest.raises(KeyRefusedError) as caught:
        await unwrap(wrapped)
    return caught.value


def _flipped(bit: int) -> bytes:
    value = int.from_bytes(ciphertext_of(secrets.token_bytes(32)), "big") ^ (1 << bit)
    return value.to_bytes(256, "big")


def _odd(name: str) -> bytes:
    key, sha1, sha256 = secrets.token_bytes(32), hashes.SHA1(), hashes.SHA256()  # noqa: S303 - what openssl does unasked
    modulus = our_key().public_key().public_numbers().n
    match name:
        case "sha1":
            return ciphertext_of(key, padding.OAEP(padding.MGF1(sha1), sha1, None))
        case "mixed":
            return ciphertext_of(key, padding.OAEP(padding.MGF1(sha1), sha256, None))
        case "pkcs1":
            return ciphertext_of(key, padding.PKCS1v15())
        case "label":
            return ciphertext_of(key, padding.OAEP(padding.MGF1(sha256), sha256, b"rekeyd"))
        case "empty" | "zero":
            return bytes(256)
        case "modulus":
            return modulus.to_bytes(256, "big")
        case _:
            return (modulus - 1).to_bytes(256, "big")


MALFORMED = st.one_of(
    st.binary(min_size=256, max_size=256),  # of the right length, and anything
    st.binary(min_size=257, max_size=1024),
    st.integers(0, 2047).map(_flipped),
    st.sampled_from(["sha1", "mixed", "pkcs1", "label", "empty", "zero", "modulus", "one less"]).map(_odd),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MALFORMED)
async def test_of_every_ciphertext_that_cannot_be_unwrapped_the_same_is_said(ciphertext: bytes) -> None:
    found = await refusal(message(ciphertext, secrets.token_bytes(32)))

    assert (found.field, found.reason) == ("key.wrapped_key", UNWRAPPABLE)
    # Nor can a log with tracebacks tell: the library's own error isn't behind it.
    assert found.__cause__ is None
    assert found.__suppress_context__


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=190).filter(lambda content: len(content) != 32))
async def test_another_length_is_refused_without_showing_what_it_is(content: bytes) -> None:
    found = await refusal(message(ciphertext_of(content), hashlib.sha256(content).digest()))

    assert f"{len(content)} bytes long" in str(found)
    if len(content) > 3:
        assert content.hex() not in str(found)
        assert repr(content)[2:-1] not in str(found)


async def test_a_wrong_hash_is_told_before_anything_else_is() -> None:
    weak = bytes(32)

    found = await refusal(message(ciphertext_of(weak), hashlib.sha256(b"another").digest()))

    assert found.field == "key.sha256"
    assert "32 bytes that were wrapped" in found.reason


async def test_a_weak_key_is_refused_with_how_to_make_another() -> None:
    weak = b"correct horse battery staple, ok"

    found = await refusal(message(ciphertext_of(weak), hashlib.sha256(weak).digest()))

    assert "openssl rand 32" in found.reason
    assert "horse" not in str(found)


async def test_a_key_wrapped_for_another_public_key_is_told_which_is_ours() -> None:
    key = secrets.token_bytes(32)

    found = await refusal(message(ciphertext_of(key), hashlib.sha256(key).digest(), "0" * 64))

    assert found.field == "key.wrapping_key"
    assert public_half(our_key().public_key()).fingerprint in found.reason


def test_a_wrapped_key_shows_neither_its_ciphertext_nor_what_was_sent_for_one() -> None:
    key = secrets.token_bytes(32)
    wrapped = message(ciphertext_of(key), hashlib.sha256(key).digest())
    assert wrapped.wrapped_key not in f"{wrapped!r} {wrapped}"

    bare = base64.b64encode(key).decode()
    with pytest.raises(ValidationError) as caught:
        message(key, hashlib.sha256(key).digest())
    assert bare not in str(caught.value)
    assert "never use it again" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"wrapped_key": "!"},
        {"wrapped_key": "A" * 2052},
        {"wrapped_key": "QQ=="},
        {"sha256": base64.b64encode(bytes(31)).decode()},
        {"sha256": "A" * 44},
        {"material": "aes-128"},
        {"wrapping_key": "A" * 64},
        {"extra": 1},
    ],
)
def test_a_message_with_another_kind_of_wrapped_key_is_refused(change: dict[str, object]) -> None:
    good = message(bytes(256), bytes(32)).model_dump(exclude_none=True)
    assert WrappedKey.model_validate(good).ciphertext == bytes(256)

    with pytest.raises(ValidationError):
        WrappedKey.model_validate({**good, **change})


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


async def test_a_private_key_is_read_from_its_file(tmp_path: Path) -> None:
    for mode in (0o600, 0o400):
        path = written(tmp_path / f"{mode:o}.pem", pem_of(our_key()), mode)

        unwrapper = PemUnwrapper.read(path)

        assert (await unwrapper.public_key()).pem.encode() == public_pem()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no PEM private key"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no PEM private key"),
        (pem_of(our_key(), b"secret"), "without a password"),
        (pem_of(ec.generate_private_key(ec.SECP256R1())), "RSA one"),
        (pem_of(rsa.generate_private_key(65_537, 1024)), "1024 bits"),  # noqa: S505 - that is why
    ],
    ids=["empty", "garbage", "password", "EC", "short"],
)
def test_a_file_that_holds_no_such_key_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = written(tmp_path / "key.pem", content)

    with pytest.raises(RefusedError, match=words) as caught:
        PemUnwrapper.read(path)

    assert caught.value.field == "custody.wrapping.private_key_file"


def test_wrapping_refuses_weak_material_and_what_is_no_public_key() -> None:
    with held(bytearray(bytes(32))) as weak, pytest.raises(KeyRefusedError, match="counts"):
        wrap(public_pem(), weak)
    elliptic = ec.generate_private_key(ec.SECP256R1()).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    for pem in (b"", b"no key", elliptic.public_bytes(serialization.Encoding.PEM, form)):
        with held(bytearray(secrets.token_bytes(32))) as material, pytest.raises(RefusedError) as caught:
            wrap(pem, material)
        assert caught.value.field == "--public-key"


def test_encrypting_leaves_the_material_as_it_is_and_its_copy_empty() -> None:
    key = secrets.token_bytes(32)
    with held(bytearray(key)) as material:
        first = encrypted(our_key().public_key(), material)
        assert material.buffer == key

    assert our_key().decrypt(first, oaep()) == key


openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")


@openssl
def test_openssl_alone_wraps_a_key_as_the_documentation_shows(tmp_path: Path) -> None:
    (tmp_path / "rekeyd-public.pem").write_bytes(public_pem())
    shown = re.search(r"```sh\n(# with openssl alone\n.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None

    done = subprocess.run(
        ["sh", "-eu", "-c", shown[1]],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )

    wrapped = WrappedKey.model_validate_json(done.stdout)
    assert asyncio.run(unwrap(wrapped)) == (tmp_path / "my-key").read_bytes()
    assert wrapped.wrapping_key == public_half(our_key().public_key()).fingerprint
