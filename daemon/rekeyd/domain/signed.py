"""Signed statements: a JSON object, and beside it the Ed25519 signature of its one canonical form.

What is signed is short, so that a key service signs it too (kms:Sign takes 4,096 bytes; AWS KMS API Reference, "Sign"):
the statement's schema, a space, and the SHA-256 of its canonical JSON in hex. The schema keeps a signature for one
kind of statement from passing for one of another kind.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.errors import RekeydError

ALGORITHM = "ed25519"

FaultName = Literal[
    "unreadable",  # it isn't JSON of the kind that is expected, or a field is missing, unknown or of another kind
    "other_signer",  # it names another public key than the one that it is checked with
    "signature_wrong",  # the signature isn't this key's over this statement: something was changed
    "contradictory",  # its own numbers don't agree
    "evidence_missing",  # there are fewer pieces of evidence than the statement speaks of
    "evidence_changed",  # the evidence isn't that over which the root was made
    "evidence_contradicts",  # the evidence is, and says something else than the statement
    "proof_of_another",  # the proof belongs to another statement
    "proof_wrong",  # the proof doesn't lead from the object to the root
]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a statement, or its evidence, doesn't hold."""

    name: FaultName
    detail: str


class NotHeldError(RekeydError):
    """What was checked doesn't hold."""

    def __init__(self, name: FaultName, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.fault = Fault(name, detail)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key, by its DER (SubjectPublicKeyInfo, RFC 8410)."""

    der: bytes

    @classmethod
    def of_pem(cls, pem: bytes) -> PublicKey:
        """Read a PEM file's contents. Raises ValueError for anything but an Ed25519 public key."""
        try:
            return cls._of(serialization.load_pem_public_key(pem))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("is not the PEM of an Ed25519 public key") from error

    @classmethod
    def of_der(cls, der: bytes) -> PublicKey:
        """Read a SubjectPublicKeyInfo. Raises ValueError likewise."""
        try:
            return cls._of(serialization.load_der_public_key(der))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError("is not the SubjectPublicKeyInfo of an Ed25519 public key") from error

    @classmethod
    def _of(cls, key: object) -> PublicKey:
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("another kind of key")  # noqa: TRY004 - what was read is wrong, not who calls
        return cls(
            key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the DER, in hex."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def pem(self) -> str:
        """As a PEM file has it."""
        text = base64.b64encode(self.der).decode()
        return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"

    def verifies(self, signature: bytes, data: bytes) -> bool:
        """Whether the signature is this key's over exactly these bytes."""
        key = serialization.load_der_public_key(self.der)
        assert isinstance(key, Ed25519PublicKey), "checked when it was read"
        try:
            key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def signing_input(statement: Mapping[str, object]) -> bytes:
    """The bytes that are signed for a statement, which names its `schema`."""
    digest = hashlib.sha256(utf8(canonical_json(statement))).hexdigest()
    return f"{statement['schema']} {digest}".encode()


def signed_text(statement: Mapping[str, object], public_key: PublicKey, signature: bytes) -> str:
    """The document: the statement and its signature, as canonical JSON."""
    beside = {
        "algorithm": ALGORITHM,
        "public_key": public_key.fingerprint,
        "value": base64.b64encode(signature).decode(),
    }
    return canonical_json({"statement": statement, "signature": beside})


def verified_statement(raw: bytes, public_key: PublicKey, schema: str) -> dict[str, object]:
    """The statement of a document that this key has signed. Raises NotHeldError."""
    statement, signature = unverified_statement(raw, schema)
    if signature.get("algorithm") != ALGORITHM or signature.keys() != {"algorithm", "public_key", "value"}:
        raise NotHeldError("unreadable", f"the signature isn't one of {ALGORITHM}")
    if signature["public_key"] != public_key.fingerprint:
        raise NotHeldError(
            "other_signer",
            f"signed by {signature['public_key']!r}, checked with the key {public_key.fingerprint}",
        )
    try:
        value = base64.b64decode(str(signature["value"]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotHeldError("signature_wrong", "the signature isn't base64") from error
    if base64.b64encode(value).decode() != signature["value"]:
        raise NotHeldError("signature_wrong", "the signature isn't base64 in its one spelling")
    if not public_key.verifies(value, signing_input(statement)):
        raise NotHeldError("signature_wrong", "the signature isn't this key's over this statement")
    return statement


def unverified_statement(raw: bytes, schema: str) -> tuple[dict[str, object], dict[str, object]]:
    """Statement and signature of a document, whoever signed it. Raises NotHeldError."""
    document = strict_json(raw)
    if not isinstance(document, dict) or document.keys() != {"statement", "signature"}:
        raise NotHeldError("unreadable", "is not an object with a statement and a signature")
    statement, signature = document["statement"], document["signature"]
    if not isinstance(statement, dict) or not isinstance(signature, dict):
        raise NotHeldError("unreadable", "statement and signature are not both objects")
    if statement.get("schema") != schema:
        raise NotHeldError("unreadable", f"is {statement.get('schema')!r}, not {schema}")
    return statement, signature


def strict_json(raw: bytes) -> object:
    """What these bytes say, where everybody would read the same: no field twice, no fractions. Raises NotHeldError."""
    try:
        return json.loads(
            raw.decode("utf-8", "surrogatepass"),
            object_pairs_hook=_without_repeats,
            parse_float=_no_fraction,
            parse_constant=_no_fraction,
        )
    except RecursionError as error:
        raise NotHeldError("unreadable", "is nested too deeply") from error
    except ValueError as error:
        raise NotHeldError("unreadable", f"is not JSON as rekeyd writes it: {error}") from error


def utf8(text: str) -> bytes:
    """The bytes of a text. A key may have code points that are none by themselves: they stay as they are."""
    return text.encode("utf-8", "surrogatepass")


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


def _no_fraction(text: str) -> object:
    raise ValueError(f"{text} is no whole number")
