"""What should stand in a dedicated bucket, by all the evidence there is of it: of its move, and of each rotation since.

A rotation may write every object anew, under another ETag and another id; but the bytes are those of before. So what
was learnt of them by the move, with both sides read, still holds of what stands there now: each version is followed
through the rotations, and all checksums on that way are its own. Where two of them differ, its bytes were damaged in
between, whatever the later one says.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from rekeyd.domain.certificate import Certificate, EvidenceSum
from rekeyd.domain.leaves import Leaf, RekeyedHow, VersionEvidence, crc64nvme_value
from rekeyd.domain.objects import Location
from rekeyd.domain.signed import NotHeldError, utf8
from rekeyd.jobs.evidence_reading import evidence_lines
from rekeyd.stores.port import ObjectStore

EVIDENCES_MAX = 32
"""So many certificates' evidence is read side by side, a file of each in memory; of more rotations the latest."""

_SAME_BYTES: tuple[RekeyedHow | None, ...] = ("updated", "copied", "streamed")
"""Where what is there now was made of what was there before. `found` may be a writer's."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One copy that should stand, as the newest evidence names it."""

    key: str
    version_id: str | None
    etag: str
    size_bytes: int
    encryption_key: str | None
    checksums: frozenset[int]
    """All CRC64NVMEs that its bytes were certified with; none where no evidence has one."""


def compared_with(certificates: Sequence[Certificate]) -> list[Certificate]:
    """Those whose evidence says what stands in the bucket of the latest, in the order in which it came to be.

    `certificates` are a tenant's, the oldest first. Of several jobs of one move the latest says all that it is about;
    a rotation comes after the move, whenever a migration was asked for again.
    """
    bucket = [Location.parse(each.target) for each in certificates[-1:]]
    here = [each for each in certificates if _is_in(each, bucket)]
    moves = {(each.source, each.target): each for each in here if each.rotation is None}
    rotations = [each for each in here if each.rotation is not None and each.evidence.leaves]
    kept = max(EVIDENCES_MAX - len(moves), 1)
    return [*moves.values(), *rotations[-kept:]]


def _is_in(certificate: Certificate, wanted: Sequence[Location]) -> bool:
    target = Location.parse(certificate.target)
    return any((target.store, target.bucket) == (each.store, each.bucket) for each in wanted)


def expected_copies(leaves: Sequence[Leaf]) -> list[Expected]:
    """What should stand under a key of which these leaves speak, the oldest evidence first. Raises NotHeldError.

    A bucket that keeps no versions has one copy, the latest; in another one each version's id names one.
    """
    known: dict[tuple[str, str | None, str], frozenset[int]] = {}
    standing: dict[tuple[str, str | None], Expected] = {}
    for leaf in leaves:
        for version in leaf.versions:
            target, key = version.target, leaf.target_key
            if target is None or version.marker or key is None:
                continue
            after = (key, target.version_id, target.etag)
            checksums = known.get(after, frozenset()) | _certified(key, version)
            if version.how in _SAME_BYTES:
                before = (key, version.source.version_id, version.source.etag)
                checksums |= known.get(before, frozenset())
            known[after] = checksums
            standing[key, target.version_id] = Expected(
                key, target.version_id, target.etag, target.size_bytes, version.encryption_key, checksums
            )
    return list(standing.values())


def _certified(key: str, version: VersionEvidence) -> frozenset[int]:
    crc = None if version.target is None else version.target.crc64nvme
    if crc is not None:
        return frozenset({crc64nvme_value(crc)})
    if version.how is None:
        # It lies in the tenant's bucket: what it says is not ours to assert.
        raise NotHeldError("unreadable", f"no checksum of the copy {key!r}")
    return frozenset()


async def by_object(
    objects: ObjectStore, certificates: Sequence[Certificate]
) -> AsyncGenerator[Sequence[Leaf]]:
    """The leaves of each object, from these certificates' evidence in turn, object by object.

    Raises NotHeldError where the evidence of one isn't what was certified: when it ends, or before. Until then
    nothing of it is proven.
    """
    async with AsyncExitStack() as closing:
        streams = [
            await closing.enter_async_context(aclosing(_leaves(objects, each))) for each in certificates
        ]
        heads = [await anext(stream, None) for stream in streams]
        while names := [head[0] for head in heads if head is not None]:
            first, found = min(names), list[Leaf]()
            for number, head in enumerate(heads):
                if head is not None and head[0] == first:
                    found.append(head[1])
                    heads[number] = await anext(streams[number], None)
            yield found


async def _leaves(objects: ObjectStore, certificate: Certificate) -> AsyncGenerator[tuple[bytes, Leaf]]:
    """A certificate's leaves, each with the bytes of the key that its object should have in the target: they ascend."""
    source, target = Location.parse(certificate.source), Location.parse(certificate.target)
    sums = EvidenceSum()
    try:
        async for line in evidence_lines(objects, certificate):
            leaf = Leaf.of_data(line)
            sums.add(line, leaf)
            yield utf8(target.prefix + leaf.key.removeprefix(source.prefix)), leaf
        sums.check(certificate)
    except NotHeldError as error:
        detail = f"{error.fault.detail} (of the certificate of {certificate.job.id})"
        raise NotHeldError(error.fault.name, detail) from error
