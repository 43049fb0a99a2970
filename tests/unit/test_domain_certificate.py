"""A certificate holds as it was signed, and no other way: every field, every byte, every piece of evidence."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.certificate import (
    check_evidence,
    check_proof,
    is_proof,
    verify_certificate,
)
from rekeyd.domain.signed import FaultName, NotHeldError, PublicKey, utf8
from tests.doubles.certificates import LEAVES, Signed, leaf, public_key_of, sign, signed_certificate

SIGNED = signed_certificate()

Path_ = tuple[str | int, ...]


def fields(value: object, at: Path_ = ()) -> Iterator[Path_]:
    """The way to everything that has a value of its own."""
    match value:
        case dict() if value:
            for name, each in value.items():
                yield from fields(each, (*at, name))
        case list() if value:
            for index, each in enumerate(value):
                yield from fields(each, (*at, index))
        case _:
            yield at


def changed(value: object) -> object:
    """Another value of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return (value[:-1] + ("0" if value[-1] != "0" else "1")) if value else "x"
        case None:
            return "x"
        case _:
            return ["x"]


def tampered(document: Any, at: Path_) -> bytes:  # noqa: ANN401 - JSON
    copy = json.loads(json.dumps(document))
    place = copy
    for name in at[:-1]:
        place = place[name]
    place[at[-1]] = changed(place[at[-1]])
    return utf8(canonical_json(copy))


def fault_of(raw: bytes, public_key: PublicKey | None = None) -> FaultName:
    with pytest.raises(NotHeldError) as refused:
        verify_certificate(raw, public_key or SIGNED.public_key)
    return refused.value.fault.name


def test_a_certificate_holds_as_it_was_signed() -> None:
    assert verify_certificate(SIGNED.raw, SIGNED.public_key) == SIGNED.certificate


def test_its_spelling_as_json_does_not_count() -> None:
    pretty = json.dumps(json.loads(SIGNED.raw), indent=2).encode()

    assert pretty != SIGNED.raw
    assert verify_certificate(pretty, SIGNED.public_key) == SIGNED.certificate


@pytest.mark.parametrize("at", list(fields(json.loads(SIGNED.raw))), ids=lambda at: ".".join(map(str, at)))
def test_a_change_in_any_field_is_refused(at: Path_) -> None:
    assert fault_of(tampered(json.loads(SIGNED.raw), at)) in {"signature_wrong", "other_signer", "unreadable"}


@pytest.mark.parametrize(
    "at", list(fields(json.loads(SIGNED.raw)["statement"])), ids=lambda at: ".".join(map(str, at))
)
def test_a_field_that_is_left_out_is_refused(at: Path_) -> None:
    document = json.loads(SIGNED.raw)
    place = document["statement"]
    for name in at[:-1]:
        place = place[name]
    del place[at[-1]]

    assert fault_of(json.dumps(document).encode()) in {"signature_wrong", "unreadable"}


@given(st.integers(0, len(SIGNED.raw) - 1), st.integers(1, 255))
def test_any_byte_with_another_value_is_refused(at: int, bits: int) -> None:
    raw = bytearray(SIGNED.raw)
    raw[at] ^= bits

    fault_of(bytes(raw))


@given(st.integers(0, len(SIGNED.raw) - 1))
def test_a_file_that_ends_early_is_refused(length: int) -> None:
    assert fault_of(SIGNED.raw[:length]) == "unreadable"


def test_another_key_than_the_signers_is_named() -> None:
    assert fault_of(SIGNED.raw, public_key_of(Ed25519PrivateKey.generate())) == "other_signer"


def test_whoever_signs_for_another_is_found_out() -> None:
    other = Ed25519PrivateKey.generate()
    raw = utf8(sign(SIGNED.certificate.statement(), other))

    assert fault_of(raw, public_key_of(other)) == "other_signer"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"statement":{},"signature":{}}',
        b'{"statement":1,"signature":2}',
        b'{"statement":{"schema":"rekeyd.certificate/2"},"signature":{}}',
        SIGNED.raw[:-1] + b',"more":1}',
        SIGNED.raw.replace(b'"tenant":"acme"', b'"tenant":"evil","tenant":"acme"'),
        SIGNED.raw.replace(b'"epoch":3', b'"epoch":3.0'),
        SIGNED.raw.replace(b'"epoch":3', b'"epoch":NaN'),
        b"[" * 100_000,
    ],
)
def test_what_is_no_certificate_is_unreadable(raw: bytes) -> None:
    assert fault_of(raw) == "unreadable"


def test_a_signature_for_another_kind_of_statement_is_none() -> None:
    statement = SIGNED.certificate.statement() | {"schema": "rekeyd.checkpoint/1"}
    document = json.loads(sign(statement, SIGNED.key))
    document["statement"]["schema"] = "rekeyd.certificate/1"

    assert fault_of(json.dumps(document).encode()) == "signature_wrong"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"total": {"objects": 8, "versions": 7, "bytes": 30}}, "8 objects, and 7 pieces"),
        ({"total": {"objects": 7, "versions": 9, "bytes": 30}}, "9 versions in all, 7 by"),
        ({"total": {"objects": 7, "versions": 7, "bytes": 31}}, "31 bytes in all, 30 by"),
        ({"remaining": SIGNED.certificate.statement()["remaining"] | {"kept": 1}}, "1 kept, 2 by"),  # type: ignore[operator] # it is an object
    ],
)
def test_numbers_that_do_not_agree_are_refused_whoever_signs_them(
    change: dict[str, object], words: str
) -> None:
    raw = utf8(sign(SIGNED.certificate.statement() | change, SIGNED.key))

    with pytest.raises(NotHeldError, match=words) as refused:
        verify_certificate(raw, SIGNED.public_key)
    assert refused.value.fault.name == "contradictory"


def evidence_fault(lines: list[bytes], signed: Signed = SIGNED) -> FaultName:
    with pytest.raises(NotHeldError) as refused:
        check_evidence(signed.certificate, lines)
    return refused.value.fault.name


def test_all_the_evidence_holds() -> None:
    check_evidence(SIGNED.certificate, SIGNED.lines)


@pytest.mark.parametrize(
    "at", list(fields(json.loads(SIGNED.lines[1]))), ids=lambda at: ".".join(map(str, at))
)
def test_a_change_in_any_field_of_the_evidence_is_refused(at: Path_) -> None:
    lines = SIGNED.lines
    lines[1] = tampered(json.loads(lines[1]), at)

    assert evidence_fault(lines) in {"evidence_changed", "unreadable"}


def test_evidence_that_is_missing_added_doubled_or_out_of_order_is_refused() -> None:
    lines = SIGNED.lines

    assert evidence_fault(lines[:-1]) == "evidence_missing"
    assert evidence_fault(lines[1:]) == "evidence_missing"
    assert evidence_fault([]) == "evidence_missing"
    assert evidence_fault([*lines, leaf("ý").data()]) == "evidence_changed"
    assert evidence_fault([lines[0], *lines]) == "evidence_changed"
    assert evidence_fault([lines[1], lines[0], *lines[2:]]) == "evidence_changed"


def test_sums_that_are_not_those_of_the_evidence_are_refused() -> None:
    outcomes = SIGNED.certificate.statement()["outcomes"]
    assert isinstance(outcomes, dict)
    swapped = outcomes | {
        "remaining": outcomes["excluded"] | {"bytes": 11},
        "deleted": outcomes["deleted"] | {"bytes": 9},
    }
    raw = utf8(sign(SIGNED.certificate.statement() | {"outcomes": swapped}, SIGNED.key))
    certificate = verify_certificate(raw, SIGNED.public_key)

    with pytest.raises(NotHeldError, match="evidence_contradicts"):
        check_evidence(certificate, SIGNED.lines)


@pytest.mark.parametrize("index", range(len(LEAVES)))
def test_a_proof_proves_its_object(index: int) -> None:
    assert is_proof(SIGNED.proof(index))
    assert check_proof(SIGNED.certificate, SIGNED.proof(index)) == LEAVES[index]


@pytest.mark.parametrize(
    "at", list(fields(json.loads(SIGNED.proof(2)))), ids=lambda at: ".".join(map(str, at))
)
def test_a_change_in_any_field_of_a_proof_is_refused(at: Path_) -> None:
    with pytest.raises(NotHeldError) as refused:
        check_proof(SIGNED.certificate, tampered(json.loads(SIGNED.proof(2)), at))
    assert refused.value.fault.name in {"proof_wrong", "proof_of_another", "unreadable"}


def test_a_proof_for_another_certificate_is_named_so() -> None:
    other = signed_certificate(LEAVES[:3], "acme-migrate-2")

    with pytest.raises(NotHeldError, match="proof_of_another"):
        check_proof(SIGNED.certificate, other.proof(0))


@pytest.mark.parametrize("raw", [b"", b"{}", SIGNED.raw, SIGNED.lines[0], b"\n".join(SIGNED.lines)])
def test_what_is_no_proof_is_not_taken_for_one(raw: bytes) -> None:
    assert not is_proof(raw)
    with pytest.raises(NotHeldError, match="unreadable"):
        check_proof(SIGNED.certificate, raw)


def test_what_docs_certificate_md_says_of_checking_by_hand_is_so(tmp_path: Path) -> None:
    document = json.loads(SIGNED.raw)
    digest = hashlib.sha256(utf8(canonical_json(document["statement"]))).hexdigest()
    (tmp_path / "signed").write_text(f"rekeyd.certificate/1 {digest}", encoding="ascii")
    (tmp_path / "signature").write_bytes(base64.b64decode(document["signature"]["value"]))
    (tmp_path / "key.pem").write_text(SIGNED.public_key.pem, encoding="ascii")
    openssl = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", "key.pem", "-rawin", "-in", "signed"]
    try:
        said = subprocess.run(
            [*openssl, "-sigfile", "signature"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl")

    assert "Successfully" in said.stdout, said.stderr
