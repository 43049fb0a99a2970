"""What an outsider checks: certificates against the evidence in the tenant's bucket, with files alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from rekeyd.demo.clients import Clients
from rekeyd.demo.processes import Operator
from rekeyd.demo.proof import Finding
from rekeyd.demo.stage import Stage
from rekeyd.domain.certificate import evidence_prefix


async def certificates_hold(
    operator: Operator, clients: Clients, stage: Stage, job_ids: Sequence[str]
) -> Finding:
    """Each job's certificate is signed, and all its evidence, fetched from the bucket, leads to its root."""
    folder = operator.config.parent
    public = await _written(folder / "signer.pem", await operator.read("certificate", "public-key"))
    faults, leaves = [], 0
    for job_id in job_ids:
        certificate = await _written(
            folder / f"{job_id}.json", await operator.read("certificate", "show", job_id)
        )
        evidence = await _fetched(folder / f"{job_id}-evidence", clients, stage, job_id)
        said = await operator.ask(
            *("certificate", "verify", str(certificate), "--public-key", str(public)),
            *("--evidence", str(evidence)),
        )
        assert isinstance(said, dict)
        leaves += int(said["objects"] or 0)
        if not (said["ok"] and said["evidence"]):
            faults.append(f"{job_id}: {said}")
    return Finding("certified", "the certificates hold, with all their evidence", leaves, tuple(faults))


async def _fetched(folder: Path, clients: Clients, stage: Stage, job_id: str) -> Path:
    """A job's evidence, as whoever may read the bucket gets it."""
    await asyncio.to_thread(folder.mkdir)
    target = stage.target
    pages = clients.s3.get_paginator("list_objects_v2")
    async for page in pages.paginate(Bucket=target.bucket, Prefix=target.prefix + evidence_prefix(job_id)):
        for each in page.get("Contents", []):
            answer = await clients.s3.get_object(Bucket=target.bucket, Key=each["Key"])
            async with answer["Body"] as body:
                data = await body.read()
            await asyncio.to_thread((folder / each["Key"].rpartition("/")[2]).write_bytes, data)
    return folder


async def _written(path: Path, text: str) -> Path:
    await asyncio.to_thread(path.write_text, text, encoding="utf-8", errors="surrogatepass")
    return path
