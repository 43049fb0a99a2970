"""Keys that anybody can look up."""

from __future__ import annotations

import hashlib
import json
from math import isqrt

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from rekeyd.custody.material import MATERIAL_BYTES
from rekeyd.custody.weak import weakness
from rekeyd.custody.well_known import DERIVATIONS, PUBLISHED, WORDS, is_well_known

PUBLISHED_REASON = "it is published: a test vector, or the hash of a common word"


def refused_as_published(key: bytes) -> bool:
    assert len(key) == MATERIAL_BYTES
    with memoryview(key) as view:
        return is_well_known(view) and weakness(bytearray(key)) is not None


@pytest.mark.parametrize("key", PUBLISHED)
def test_published_keys_are_refused_in_either_order_of_their_bytes(key: str) -> None:
    assert refused_as_published(bytes.fromhex(key))
    assert refused_as_published(bytes.fromhex(key)[::-1])


@pytest.mark.parametrize(
    ("key", "plain", "cipher"),
    [
        (  # NIST SP 800-38A, F.1.5
            "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
            "6bc1bee22e409f96e93d7e117393172a",
            "f3eed1bdb5d2a03c064b5a7e3db181f8",
        ),
        (  # NIST AESAVS, B.3
            "c47b0294dbbbee0fec4757f22ffeee3587ca4730c3d33b691df38bab076bc558",
            "00000000000000000000000000000000",
            "46f2fb342d6f0ab477476fc501242c5f",
        ),
    ],
)
def test_published_aes_keys_are_the_published_ones(key: str, plain: str, cipher: str) -> None:
    encryptor = Cipher(AES256(bytes.fromhex(key)), ECB()).encryptor()  # noqa: S305 - a test vector is one block

    assert encryptor.update(bytes.fromhex(plain)).hex() == cipher
    assert key in PUBLISHED


def test_published_keys_of_curves_are_the_published_ones() -> None:
    """RFC 8032, 7.1 and RFC 7748, 6.1: by the public keys beside them."""
    signing = {
        Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key)).public_key().public_bytes_raw().hex()
        for key in PUBLISHED
    }
    agreeing = {
        X25519PrivateKey.from_private_bytes(bytes.fromhex(key)).public_key().public_bytes_raw().hex()
        for key in PUBLISHED
    }

    assert signing >= {
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    }
    assert agreeing >= {
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    }


def test_the_constants_of_hashes_are_roots_of_primes() -> None:
    """FIPS 180-4, 4.2.2, 5.3.3 and 5.3.5."""
    primes = (2, 3, 5, 7, 11, 13, 17, 19)
    square = b"".join((isqrt(prime << 64) % 2**32).to_bytes(4, "big") for prime in primes)
    wide = b"".join((isqrt(prime << 128) % 2**64).to_bytes(8, "big") for prime in primes[:4])

    assert {square.hex(), wide.hex()} <= set(PUBLISHED)


@pytest.mark.parametrize(
    "word", ["", "0", "password", "test", "secret", "changeme", "key", "rekeyd", "hunter2", "Hello, World!"]
)
@pytest.mark.parametrize("ending", ["", "\n", "123", "!"])
def test_hashes_of_common_words_are_refused(word: str, ending: str) -> None:
    for written in (word, word.capitalize(), word.upper()):
        seed = (written + ending).encode()
        once = hashlib.sha256(seed)
        long = hashlib.sha512(seed).digest()
        for key in (
            once.digest(),
            hashlib.sha256(once.digest()).digest(),
            hashlib.sha256(once.hexdigest().encode()).digest(),
            once.hexdigest()[:32].encode(),
            long[:32],
            long[32:],
            hashlib.sha3_256(seed).digest(),
            hashlib.md5(seed, usedforsecurity=False).digest() * 2,
            hashlib.md5(seed, usedforsecurity=False).hexdigest().encode(),
        ):
            assert weakness(bytearray(key)) is not None


@pytest.mark.parametrize(
    "seed", [bytes(32), b"\xff" * 32, b"\x01", bytes(range(32)), b"123456", b"2024", b"0042"[2:]]
)
def test_hashes_of_constants_and_numbers_are_refused_as_published(seed: bytes) -> None:
    assert weakness(bytearray(hashlib.sha256(seed).digest())) == PUBLISHED_REASON


def test_every_way_to_make_a_key_of_a_word_makes_a_key() -> None:
    assert {len(derive(word.encode())) for derive in DERIVATIONS for word in WORDS} == {MATERIAL_BYTES}
    assert len(set(WORDS)) == len(WORDS)


def test_what_openssl_makes_of_a_password_is_refused() -> None:
    """`openssl enc -aes-256-cbc -nosalt -md md5 -k password -P` prints it."""
    key = bytes.fromhex("5f4dcc3b5aa765d61d8327deb882cf992b95990a9151374abd8ff8c5a7a0fe08")

    assert weakness(bytearray(key)) == PUBLISHED_REASON


def test_hashes_of_what_nobody_guesses_pass() -> None:
    for number in range(200):
        seed = json.dumps(["nobody guesses", number]).encode()
        assert all(weakness(bytearray(derive(seed))) is None for derive in DERIVATIONS)
