"""What every finished job must leave: one certificate, in the ledger and in the target, and all its evidence."""

from __future__ import annotations

from rekeyd.domain.certificate import (
    Certificate,
    certificate_key,
    check_evidence,
    evidence_key,
    evidence_prefix,
    verify_certificate,
)
from rekeyd.domain.leaves import Leaf
from rekeyd.domain.objects import Encryption
from rekeyd.domain.signed import utf8
from rekeyd.ledger.port import Ledger
from tests.jobs.world import SOURCE, TARGET_BUCKET, World


def kept(world: World, key: str) -> bytes:
    """What stands under a key of rekeyd's own in the target, under the customer key."""
    stored = world.target_shelf.buckets[TARGET_BUCKET].objects[key]
    assert stored.encryption == Encryption("aws:kms", world.key.arn)
    return stored.data


def evidence_lines(world: World, certificate: Certificate) -> list[bytes]:
    """Every line of the evidence, from its files in their order; there are exactly as many as the certificate says."""
    job_id = certificate.job.id
    objects = world.target_shelf.buckets[TARGET_BUCKET].objects
    found = sorted(key for key in objects if key.startswith(evidence_prefix(job_id)))
    assert found == [evidence_key(job_id, number) for number in range(certificate.evidence.files)]
    files = [kept(world, key) for key in found]
    assert all(file.endswith(b"\n") for file in files)
    return [line for file in files for line in file.removesuffix(b"\n").split(b"\n")]


async def assert_certified(world: World, ledger: Ledger, job_id: str = "job-1") -> Certificate:
    """The job has its certificate and its evidence, which hold; gives what it says."""
    text = await ledger.certificate(job_id)
    assert text is not None
    assert kept(world, certificate_key(job_id)) == utf8(text)
    certificate = verify_certificate(utf8(text), await world.signer.public_key())
    check_evidence(certificate, evidence_lines(world, certificate))
    issued = await world.records(ledger, "certificate.issued")
    assert [record["job"] for record in issued].count(job_id) == 1
    for chain, (sequence, digest) in certificate.audit_heads.items():
        assert await ledger.knows_heads({chain: (sequence, digest)})
    return certificate


def leaves_of(world: World, certificate: Certificate) -> dict[str, Leaf]:
    """The evidence by the names of the objects."""
    leaves = [Leaf.of_data(line) for line in evidence_lines(world, certificate)]
    return {leaf.key.removeprefix(SOURCE.prefix): leaf for leaf in leaves}
