"""The certificate of a finished job: a signed statement that needs nothing else to be read, and little to be checked.

It speaks of each object by a Merkle root over the evidence (domain.leaves), so that it stays short however many there
are: whoever has the evidence checks all of it, whoever has a proof checks one object. docs/certificate.md says what it
proves, and what it doesn't.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from rekeyd.domain.audit import canonical_json
from rekeyd.domain.leaves import EVIDENCE_SCHEMA, Leaf
from rekeyd.domain.merkle import MerkleTree, proves
from rekeyd.domain.objects import OWN_PREFIX, CarryState
from rekeyd.domain.signed import (
    NotHeldError,
    PublicKey,
    strict_json,
    unverified_statement,
    utf8,
    verified_statement,
)

CERTIFICATE_SCHEMA: Literal["rekeyd.certificate/1"] = "rekeyd.certificate/1"
PROOF_SCHEMA: Literal["rekeyd.proof/1"] = "rekeyd.proof/1"

SHOWN_MAX = 100
"""So many objects and uploads of a kind are named in a certificate; all are counted."""

Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}\z")]
Natural = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class JobFacts(_Part):
    """Which job it is about."""

    id: str
    kind: str
    requested_by: str | None
    created_at: str
    started_at: str | None


class KeyFacts(_Part):
    """The customer key under which the data lie."""

    kind: str
    reference: str
    """By which the provider knows it: an ARN."""
    fingerprint: str | None
    """The SHA-256 of its material, where that was ever known to rekeyd."""


class PlacementFacts(_Part):
    """The switch that the certificate comes after."""

    phase: str
    epoch: Natural
    writes_from: str | None


class Sum(_Part):
    """How many there are of a kind."""

    objects: Natural
    versions: Natural
    """Delete markers included."""
    bytes: Natural
    """In the source."""


class EvidenceFacts(_Part):
    """Where the evidence is, and the root over it."""

    schema_name: Literal["rekeyd.evidence/1"] = Field(default=EVIDENCE_SCHEMA, alias="schema")
    location: str
    """The bucket's location and the keys' beginning."""
    files: Natural
    """Their keys go on with eight digits from 00000000 on, and `.jsonl`."""
    leaves: Natural
    root: Sha256Hex
    tree: Literal["rfc9162-sha256"] = "rfc9162-sha256"


class Kept(_Part):
    """An object whose source was not deleted."""

    key: str
    outcome: CarryState
    reason: str
    until: str | None
    """When what keeps it ends, where that is known: a retention. None for a legal hold, or any other reason."""


class Found(_Part):
    """What the source was found to hold under a key after the retirement."""

    key: str
    versions: Natural
    bytes: Natural
    known_as: CarryState | None
    """What the ledger knows of the key; None: it has never heard of it, so it was neither moved nor deleted."""


class UnfinishedUpload(_Part):
    """An upload in the source that was neither completed nor aborted."""

    key: str
    upload_id: str


class RemainingFacts(_Part):
    """What remains in the source, and until when: by the evidence, and by a last listing."""

    kept: Natural
    """Objects that are listed in the evidence as anything but `deleted`."""
    kept_shown: Annotated[tuple[Kept, ...], Field(max_length=SHOWN_MAX)]
    locked: Natural
    """How many of them an Object Lock keeps."""
    locked_until: str | None
    """When the last of the retentions ends; None where there is none."""
    listed_at: str
    found: Sum
    """All versions and markers that were listed then."""
    markers: Natural
    unknown: Natural
    """Keys of which the ledger has never heard."""
    found_shown: Annotated[tuple[Found, ...], Field(max_length=SHOWN_MAX)]
    uploads: Natural
    uploads_shown: Annotated[tuple[UnfinishedUpload, ...], Field(max_length=SHOWN_MAX)]


class UnderKeyFacts(_Part):
    """What lay under one key when every version in the bucket was looked at, rekeyd's own objects included."""

    reference: str
    """The key's ARN; where there is none, the kind of encryption."""
    current: Natural
    """Objects as readers see them."""
    lasting: Natural
    """Those of them that nothing brings under another key as they are: archived ones, say."""
    noncurrent: Natural
    """Older versions."""
    bucket_key: Natural
    """Versions of either kind that were written with an S3 Bucket Key, where the store says so."""
    bytes: Natural


Rotated = Literal[
    "brought",  # every object that can be was brought under the key
    "redirected",  # what is written lies under the key; what was there stays as it was
    "rotated by its provider",  # the same reference, new material: nothing was moved
    "active already",  # the tenant's data lie under the key: nothing was moved
]


class RotationFacts(_Part):
    """What a rotation came to. Of one that moved nothing there is no evidence, and nothing was looked at."""

    did: Rotated
    former_keys: tuple[str, ...]
    """Those that were in use when it began, by which the ledger knows them."""
    looked_at: str | None
    """When every version in the bucket was looked at last; None where none was."""
    under_key: UnderKeyFacts | None
    """What lay under the rotation's key then."""
    under_others: Annotated[tuple[UnderKeyFacts, ...], Field(max_length=SHOWN_MAX)]
    """What lay under any other."""
    archived: tuple[str, ...]
    """The former keys that were put away: no current object and no upload of before is under them."""
    unfinished_uploads: Natural
    """Those that may have been begun under a former key, and aren't finished."""


class Certificate(_Part):
    """What is signed. Times are RFC 3339 in UTC, by the ledger's clock."""

    schema_name: Literal["rekeyd.certificate/1"] = Field(default=CERTIFICATE_SCHEMA, alias="schema")
    tenant: str
    job: JobFacts
    source: str
    target: str
    key: KeyFacts
    placement: PlacementFacts
    total: Sum
    outcomes: dict[CarryState, Sum]
    evidence: EvidenceFacts
    remaining: RemainingFacts | None
    """None where nothing was to be retired: of a rotation."""
    rotation: RotationFacts | None = None
    """Of a rotation alone."""
    audit_heads: dict[str, tuple[Natural, Sha256Hex]]
    """Of each chain of the audit trail the last record's number and hash, as they stood at `certified_at`."""
    certified_at: str
    rekeyd: str
    """The version that made it."""
    signer: Sha256Hex
    """The fingerprint of the public key: the SHA-256 of its SubjectPublicKeyInfo."""

    def statement(self) -> dict[str, object]:
        """As JSON; of a job that is no rotation without a word about one."""
        without = {"rotation"} if self.rotation is None else set[str]()
        return self.model_dump(mode="json", by_alias=True, exclude=without)


def evidence_prefix(job_id: str) -> str:
    """How the keys of a job's evidence begin, in the target's bucket."""
    return f"{OWN_PREFIX}evidence/{job_id}/"


def evidence_key(job_id: str, number: int) -> str:
    """The key of one of its pieces."""
    return f"{evidence_prefix(job_id)}{number:08d}.jsonl"


def certificate_key(job_id: str) -> str:
    """The key of a job's certificate, in the target's bucket."""
    return f"{OWN_PREFIX}certificates/{job_id}.json"


def verify_certificate(raw: bytes, public_key: PublicKey) -> Certificate:
    """The certificate that these bytes are, signed by this key and at one with itself. Raises NotHeldError."""
    statement = verified_statement(raw, public_key, CERTIFICATE_SCHEMA)
    certificate = parse_statement(statement)
    if certificate.signer != public_key.fingerprint:
        raise NotHeldError("other_signer", f"the statement names the signer {certificate.signer}")
    _check_sums(certificate)
    return certificate


def certificate_of(text: str) -> Certificate:
    """What a certificate says that the ledger has: unchecked. Raises NotHeldError where it is none."""
    statement, _ = unverified_statement(utf8(text), CERTIFICATE_SCHEMA)
    return parse_statement(statement)


def parse_statement(statement: Mapping[str, object]) -> Certificate:
    """Read a statement, whoever signed it. Raises NotHeldError."""
    try:
        return Certificate.model_validate_json(utf8(canonical_json(statement)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NotHeldError("unreadable", f"{where}: {first['msg']}") from error


def _check_sums(certificate: Certificate) -> None:
    total, outcomes = certificate.total, certificate.outcomes
    if certificate.evidence.leaves != total.objects:
        raise NotHeldError(
            "contradictory", f"{total.objects} objects, and {certificate.evidence.leaves} pieces of evidence"
        )
    for name in ("objects", "versions", "bytes"):
        added = sum(getattr(each, name) for each in outcomes.values())
        if added != getattr(total, name):
            raise NotHeldError(
                "contradictory", f"{getattr(total, name)} {name} in all, {added} by their outcomes"
            )
    if (certificate.remaining is None) != (certificate.rotation is not None):
        raise NotHeldError("contradictory", "it says of a rotation what remains, or of another job nothing")
    if certificate.remaining is None:
        return
    kept = sum(each.objects for outcome, each in outcomes.items() if outcome != "deleted")
    if certificate.remaining.kept != kept:
        raise NotHeldError("contradictory", f"{certificate.remaining.kept} kept, {kept} by their outcomes")


class EvidenceSum:
    """Leaves one after another: their root, what they add up to, and whether they stand in order."""

    def __init__(self) -> None:
        self.tree = MerkleTree()
        self.total = Sum(objects=0, versions=0, bytes=0)
        self.outcomes: dict[CarryState, Sum] = {}
        self._last_key: bytes | None = None

    def add(self, data: bytes, leaf: Leaf, *, watch: bool = False) -> None:
        """The next leaf, and its bytes. With `watch` it is the one that is to be proven.

        Raises NotHeldError where its key doesn't come after the one before.
        """
        key = utf8(leaf.key)
        if self._last_key is not None and key <= self._last_key:
            raise NotHeldError("evidence_changed", f"{leaf.key!r} isn't behind the key before it")
        self._last_key = key
        self.tree.append(data, watch=watch)
        self.total = _plus(self.total, leaf)
        nothing = Sum(objects=0, versions=0, bytes=0)
        self.outcomes[leaf.outcome] = _plus(self.outcomes.get(leaf.outcome, nothing), leaf)

    def check(self, certificate: Certificate) -> None:
        """Whether that is what the certificate speaks of. Raises NotHeldError."""
        evidence = certificate.evidence
        if self.tree.size < evidence.leaves:
            raise NotHeldError("evidence_missing", f"{self.tree.size} of {evidence.leaves} objects")
        if self.tree.root().hex() != evidence.root:
            raise NotHeldError("evidence_changed", "its root isn't the certificate's")
        if (self.total, self.outcomes) != (certificate.total, certificate.outcomes):
            raise NotHeldError("evidence_contradicts", "its sums aren't the certificate's")


def check_evidence(certificate: Certificate, lines: Iterable[bytes]) -> None:
    """Whether these lines are all the evidence, as it was when the certificate was made. Raises NotHeldError."""
    evidence = EvidenceSum()
    for line in lines:
        evidence.add(line, Leaf.of_data(line))
    evidence.check(certificate)


def proof_text(certificate: Certificate, leaf: Leaf, evidence: EvidenceSum) -> str:
    """The document that proves one object, the watched one: the leaf, and the hashes from it to the root."""
    return canonical_json(
        {
            "schema": PROOF_SCHEMA,
            "job": certificate.job.id,
            "root": certificate.evidence.root,
            "leaf": leaf.view(),
            "index": evidence.tree.watched,
            "path": [sibling.hex() for sibling in evidence.tree.path()],
        }
    )


class _Proof(_Part):
    schema_name: Literal["rekeyd.proof/1"] = Field(alias="schema")
    job: str
    root: Sha256Hex
    leaf: dict[str, object]
    index: Natural
    path: tuple[Sha256Hex, ...]


def check_proof(certificate: Certificate, raw: bytes) -> Leaf:
    """What is proven of the object that this document is about. Raises NotHeldError."""
    value = strict_json(raw)
    try:
        proof = _Proof.model_validate_json(utf8(canonical_json(value)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise NotHeldError("unreadable", f"no {PROOF_SCHEMA}: {where} {first['msg']}") from error
    if (proof.job, proof.root) != (certificate.job.id, certificate.evidence.root):
        raise NotHeldError("proof_of_another", f"the job {proof.job} with the root {proof.root}")
    data = utf8(canonical_json(proof.leaf))
    path = [bytes.fromhex(sibling) for sibling in proof.path]
    root = bytes.fromhex(certificate.evidence.root)
    if not proves(data, proof.index, certificate.evidence.leaves, path, root):
        raise NotHeldError("proof_wrong", f"doesn't lead from {proof.leaf.get('key')!r} to the root")
    return Leaf.of_object(proof.leaf)


def is_proof(raw: bytes) -> bool:
    """Whether a file is a proof of one object, and not lines of evidence."""
    try:
        value = strict_json(raw)
    except NotHeldError:
        return False
    return isinstance(value, dict) and value.get("schema") == PROOF_SCHEMA


def _plus(added: Sum, leaf: Leaf) -> Sum:
    return Sum(
        objects=added.objects + 1,
        versions=added.versions + len(leaf.versions),
        bytes=added.bytes + leaf.size_bytes,
    )
