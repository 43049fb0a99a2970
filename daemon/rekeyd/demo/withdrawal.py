"""The tenant withdraws its key by rekeyd, and gives it back: asked of the daemon, shown by the stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from rekeyd.demo import proof
from rekeyd.demo.clients import Clients
from rekeyd.demo.load import Loaded
from rekeyd.demo.processes import Operator
from rekeyd.demo.proof import Finding
from rekeyd.demo.stage import TENANT, Stage

REVOKE_ID, REINSTATE_ID = f"{TENANT}-revoke-1", f"{TENANT}-reinstate-1"


async def withdraw(
    clients: Clients, stage: Stage, operator: Operator, chosen: Mapping[str, Loaded]
) -> list[Finding]:
    """Revoke: afterwards no read of these objects succeeds, whoever asks, and placement sends nobody there."""
    job = await _done(operator, {"id": REVOKE_ID, "kind": "revoke"})
    said = await operator.ask("placement", TENANT)
    assert isinstance(said, dict)
    result = job.get("result") or {}
    faults = [f"the job is {job['state']}: {job['error']}"] if job["state"] != "completed" else []
    faults += [f"{name}: {said[name]}" for name in ("reads", "writes") if said[name]]
    if not isinstance(result, dict) or result.get("keys") != {stage.key_arn: "disabled"}:
        faults.append(f"the result is {result}")
    claim = "revoke: the job is completed, the key disabled, placement sends nobody there"
    return [
        Finding("revoked", claim, 1, tuple(faults)),
        await proof.unreadable_when_revoked(clients.s3_impatient, stage.target, chosen),
    ]


async def give_back(
    clients: Clients, stage: Stage, operator: Operator, chosen: Mapping[str, Loaded]
) -> list[Finding]:
    """Reinstate: the same objects are read again, byte for byte."""
    job = await _done(operator, {"id": REINSTATE_ID, "kind": "reinstate", "undoes": REVOKE_ID})
    faults = [f"the job is {job['state']}: {job['error']}"] if job["state"] != "completed" else []
    return [
        Finding("reinstated", "reinstate: the job is completed", 1, tuple(faults)),
        await proof.readable_when_reinstated(clients.s3, stage.target, chosen),
    ]


async def _done(operator: Operator, about: Mapping[str, str]) -> dict[str, object]:
    """Hand a job in, and wait for its end; gives it as `job ID --json` shows it."""
    message = {"schema": "rekeyd.job/1", "tenant": TENANT, "requested_by": "rekeyd demo", **about}
    file = operator.config.parent / f"{about['id']}.json"
    await asyncio.to_thread(file.write_text, json.dumps(message), encoding="utf-8")
    await operator.ask("submit", str(file))
    job = await operator.ask("job", about["id"], "--watch")
    assert isinstance(job, dict)
    return job
