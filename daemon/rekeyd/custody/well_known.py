"""Keys that anybody can look up: published test vectors and constants, and what becomes of common words.

They are kept and looked up by their SHA-256. A key's own is public in any case, being its fingerprint, so that neither
the time that it takes nor what it leaves in memory tells anything of the key.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Final

PUBLISHED: Final = (
    # NIST SP 800-38A, F.1.5: the AES-256 examples of every mode
    "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
    # RFC 8439, A.5: ChaCha20-Poly1305
    "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
    # IEEE 1619: the digits of e and of pi, keys of the XTS examples
    "2718281828459045235360287471352662497757247093699959574966967627",
    "3141592653589793238462643383279502884197169399375105820974944592",
    # RFC 3686, section 6: the three AES-CTR examples with 256 bits
    "776beff2851db06f4c8a0542c8696f6c6a81af1eec96b4d37fc1d689e6c1c104",
    "f6d66d6bd52d59bb0796365879eff886c66dd51a5b6a99744b50590c87a23884",
    "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
    # NIST CAVP, gcmEncryptExtIV256: the first AES-GCM example
    "b52c505a37d78eda5dd34f20c22540ea1b58963cf8e5bf8ffa85f9f2492505b4",
    # NIST AESAVS, B.3: the first AES-256 key of the key tests
    "c47b0294dbbbee0fec4757f22ffeee3587ca4730c3d33b691df38bab076bc558",
    # RFC 8032, 7.1: the secret keys of the first three Ed25519 examples
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    # RFC 7748, 6.1: Alice's and Bob's secret keys
    "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
    "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
    # FIPS 180-4, 5.3.3 and 4.2.2: SHA-256's first state and first constants
    "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19",
    "428a2f9871374491b5c0fbcfe9b5dba53956c25b59f111f1923f82a4ab1c5ed5",
    # FIPS 180-4, 5.3.5: the first half of SHA-512's first state
    "6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82ba54ff53a5f1d36f1",
    # pi's first 256 bits after the point, with which Blowfish begins
    "243f6a8885a308d313198a2e03707344a4093822299f31d0082efa98ec4e6c89",
    # FIPS 197, 5.1.1: the first two rows of AES's S-box
    "637c777bf26b6fc53001672bfed7ab76ca82c97dfa5947f0add4a2af9ca472c0",
)
_SINGLE_WORDS: Final = """
0 1 a abc abcd abcdef abc123 access account acme admin administrator aes aes256 alice api apikey archive archiver
asdf asdfgh authentication autumn aws azure backup backups banana bar baseball baz bob bucket byok changeit
changeme cloud company crypto customer customerkey data database debug default demo dev development dragon dummy
encrypt encryption encryptionkey example fake foo foobar football freedom god guest hello helloworld hunter2
iloveyou key keys kms letmein localhost login love lorem mask master masterkey merlin michael monkey mykey
mypassword mysecret none null ninja nobody nothing ok oracle owner p@ssw0rd p@ssword pass passphrase passw0rd
password passwd pepper postgres princess private privatekey prod production pw pwd q1w2e3r4 qazwsx qwer1234 qwerty
qwertyuiop random rekeyd root s3 s3cr3t salt sample secret secretkey secure security seed server service shadow
spring staging storage string summer sunshine superman superuser supersecret symmetric system temp tenant test
test1 test123 testing testkey tester todo token trustno1 undefined unknown user username vault vendor welcome
winter word wrapped x xxx yes you zxcvbn 1q2w3e4r 1qaz2wsx
"""
WORDS: Final = (
    *_SINGLE_WORDS.split(),
    "",
    "hello world",
    "Hello World",
    "Hello, World!",
    "hello, world",
    "master key",
    "my key",
    "my password",
    "my secret",
    "my secret key",
    "secret key",
    "this is a test",
    "correct horse battery staple",
    "correcthorsebatterystaple",
    "The quick brown fox jumps over the lazy dog",
    "The quick brown fox jumps over the lazy dog.",
)
"""What people take when they need some word."""
_ENDINGS: Final = ("", "\n", "\r\n", "\0", "!", "1", "12", "123", "1234", "12345", "123!")
_DIGITS: Final = "1234567890"
_NUMBERS_END: Final = 10_000
_FILLED_BYTES_MAX: Final = 64
_KEY_BYTES: Final = 32


def is_well_known(view: memoryview) -> bool:
    """Published, or the hash of a common word, number or constant: 2^-239, as there are fewer than 2^17 of them."""
    return hashlib.sha256(view).digest() in _fingerprints()


@functools.cache
def _fingerprints() -> frozenset[bytes]:
    return frozenset(hashlib.sha256(key).digest() for key in _keys())


def _keys() -> Iterator[bytes]:
    for text in PUBLISHED:
        key = bytes.fromhex(text)
        yield key
        yield key[::-1]  # some write the least byte first
    for seed in _seeds():
        for derive in DERIVATIONS:
            yield derive(seed)
    for number in range(_NUMBERS_END):
        yield _sha256(str(number).encode())


def _seeds() -> Iterator[bytes]:
    for word in WORDS:
        for written in {word, word.capitalize(), word.upper()}:
            for ending in _ENDINGS:
                yield (written + ending).encode()
        yield word.encode("utf-16-le")
    for length in range(1, len(_DIGITS) + 1):
        yield _DIGITS[:length].encode()
    for byte in range(256):
        yield bytes([byte])
    for filler in (b"\0", b"\1", b"\xff"):
        for length in range(2, _FILLED_BYTES_MAX + 1):
            yield filler * length
    for length in (16, 32, 64):
        yield bytes(range(length))


def _sha256(seed: bytes) -> bytes:
    return hashlib.sha256(seed).digest()


def _openssl_md5(seed: bytes) -> bytes:
    """What `openssl enc -nosalt -md md5` makes of a password: EVP_BytesToKey. Its default today is SHA-256 itself."""
    first = hashlib.md5(seed, usedforsecurity=False).digest()
    return first + hashlib.md5(first + seed, usedforsecurity=False).digest()


DERIVATIONS: Final[tuple[Callable[[bytes], bytes], ...]] = (
    _sha256,
    lambda seed: _sha256(_sha256(seed)),
    lambda seed: _sha256(_sha256(seed).hex().encode()),
    lambda seed: hashlib.sha512(seed).digest()[:_KEY_BYTES],
    lambda seed: hashlib.sha512(seed).digest()[_KEY_BYTES:],
    lambda seed: hashlib.sha384(seed).digest()[:_KEY_BYTES],
    lambda seed: hashlib.sha3_256(seed).digest(),
    lambda seed: hashlib.blake2b(seed, digest_size=_KEY_BYTES).digest(),
    lambda seed: hashlib.blake2s(seed).digest(),
    _openssl_md5,
)
"""How 32 bytes are made of a word. Shorter hashes, doubled, padded or as hex, are refused as patterns and as text."""
