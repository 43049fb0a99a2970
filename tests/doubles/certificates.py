"""A certificate made by hand, with its evidence and its signing key, for tests of what is made of it."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rekeyd.domain.certificate import (
    Certificate,
    EvidenceFacts,
    EvidenceSum,
    Found,
    JobFacts,
    Kept,
    KeyFacts,
    PlacementFacts,
    RemainingFacts,
    Sum,
    UnfinishedUpload,
    proof_text,
)
from rekeyd.domain.leaves import Copied, Leaf, VersionEvidence, crc64nvme_text
from rekeyd.domain.objects import CarryState
from rekeyd.domain.signed import PublicKey, signed_text, signing_input, utf8

KEY_ARN = "arn:aws:kms:us-east-1:111122223333:key/acme"


def public_key_of(key: Ed25519PrivateKey) -> PublicKey:
    return PublicKey.of_pem(
        key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def sign(statement: dict[str, object], key: Ed25519PrivateKey) -> str:
    """A statement, signed."""
    return signed_text(statement, public_key_of(key), key.sign(signing_input(statement)))


def leaf(name: str, outcome: CarryState = "deleted", reason: str = "", size_bytes: int = 10) -> Leaf:
    """The evidence of one object without a history."""
    crc = crc64nvme_text(size_bytes)
    copied = None
    if outcome != "excluded":
        copied = Copied(
            version_id=None,
            etag=f"copy-{name}",
            size_bytes=size_bytes,
            crc64nvme=crc,
            checksum_origin="computed_by_provider",
        )
    source = Copied(
        version_id=None, etag=f"etag-{name}", size_bytes=size_bytes, crc64nvme=crc, checksum_origin="streamed"
    )
    version = VersionEvidence(
        marker=False,
        modified="2026-01-31T12:00:00.000Z",
        source=source,
        target=copied,
        encryption_key=None if copied is None else KEY_ARN,
    )
    return Leaf(
        key=f"tenants/acme/{name}",
        target_key=None if copied is None else name,
        outcome=outcome,
        reason=reason,
        delete_requests=("request-1",) if outcome == "deleted" else (),
        versions=(version,),
    )


LEAVES = (
    *(leaf(f"a/{number}", size_bytes=number) for number in range(5)),
    leaf(
        "b/locked", "remaining", "Object Lock keeps a version of it in the source until 2030-01-31T00:00:00Z"
    ),
    leaf("ü/\n excluded", "excluded", "an ACL that can't travel"),
)


@dataclass(frozen=True, slots=True)
class Signed:
    """A certificate, and what belongs to it."""

    key: Ed25519PrivateKey
    certificate: Certificate
    leaves: tuple[Leaf, ...]

    @property
    def public_key(self) -> PublicKey:
        return public_key_of(self.key)

    @property
    def raw(self) -> bytes:
        return utf8(sign(self.certificate.statement(), self.key))

    @property
    def lines(self) -> list[bytes]:
        return [each.data() for each in self.leaves]

    def proof(self, index: int) -> bytes:
        sums = EvidenceSum()
        for number, each in enumerate(self.leaves):
            sums.add(each.data(), each, watch=number == index)
        return utf8(proof_text(self.certificate, self.leaves[index], sums))


def signed_certificate(leaves: tuple[Leaf, ...] = LEAVES, job_id: str = "acme-migrate-1") -> Signed:
    """One with every field in use."""
    key, sums = Ed25519PrivateKey.generate(), EvidenceSum()
    for each in leaves:
        sums.add(each.data(), each)
    kept = [each for each in leaves if each.outcome != "deleted"]
    certificate = Certificate(
        tenant="acme",
        job=JobFacts(
            id=job_id,
            kind="migrate",
            requested_by="maria",
            created_at="2026-01-31T10:00:00.000Z",
            started_at="2026-01-31T10:00:01.000Z",
        ),
        source="s3://shared/tenants/acme/",
        target="s3://byok-acme/",
        key=KeyFacts(kind="kms", reference=KEY_ARN, fingerprint="ab" * 32),
        placement=PlacementFacts(phase="dedicated", epoch=3, writes_from="2026-01-31T11:00:00.000Z"),
        total=sums.total,
        outcomes=sums.outcomes,
        evidence=EvidenceFacts(
            location=f"s3://byok-acme/.rekeyd/evidence/{job_id}/",
            files=1,
            leaves=len(leaves),
            root=sums.tree.root().hex(),
        ),
        remaining=RemainingFacts(
            kept=len(kept),
            kept_shown=tuple(
                Kept(key=each.key, outcome=each.outcome, reason=each.reason, until="2030-01-31T00:00:00Z")
                for each in kept
            ),
            locked=1,
            locked_until="2030-01-31T00:00:00Z",
            listed_at="2026-01-31T12:00:00.000Z",
            found=Sum(objects=1, versions=2, bytes=20),
            markers=1,
            unknown=1,
            found_shown=(Found(key="tenants/acme/late", versions=2, bytes=20, known_as="remaining"),),
            uploads=1,
            uploads_shown=(UnfinishedUpload(key="tenants/acme/u", upload_id="upload-1"),),
        ),
        audit_heads={"main": (35, "cd" * 32)},
        certified_at="2026-01-31T12:00:00.000Z",
        rekeyd="0.1.0",
        signer=public_key_of(key).fingerprint,
    )
    return Signed(key, certificate, leaves)
