"""Evidence read back from a target: as lines in their order, and as the proof of one object."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rekeyd.domain.certificate import Certificate, EvidenceSum, evidence_key, proof_text
from rekeyd.domain.leaves import Leaf
from rekeyd.domain.objects import Location
from rekeyd.domain.signed import NotHeldError
from rekeyd.jobs.kept_objects import read_kept
from rekeyd.stores.port import ObjectStore


async def evidence_lines(objects: ObjectStore, certificate: Certificate) -> AsyncIterator[bytes]:
    """Every line of a certificate's evidence; one file is in memory at a time.

    Whether it is the evidence that was certified, only all of it together tells. Raises NotHeldError for a file that
    isn't there, StoreError where one can't be read.
    """
    bucket = Location.parse(certificate.target).bucket
    for number in range(certificate.evidence.files):
        key = evidence_key(certificate.job.id, number)
        data = await read_kept(objects, bucket, key)
        if data is None:
            raise NotHeldError("evidence_missing", f"there is no {bucket}/{key}")
        for line in data.removesuffix(b"\n").split(b"\n"):
            yield line


async def prove_object(objects: ObjectStore, certificate: Certificate, key: str) -> str | None:
    """The document that proves what became of an object, named by its key in the source or in the target.

    None where the certificate speaks of none. Raises NotHeldError where the evidence isn't what was certified.
    """
    sums = EvidenceSum()
    proven: Leaf | None = None
    async for line in evidence_lines(objects, certificate):
        leaf = Leaf.of_data(line)
        is_meant = proven is None and key in (leaf.key, leaf.target_key)
        sums.add(line, leaf, watch=is_meant)
        proven = leaf if is_meant else proven
    sums.check(certificate)
    return None if proven is None else proof_text(certificate, proven, sums)
