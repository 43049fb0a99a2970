"""The tenant changes its mind: another key, a revocation amid that, and everything back. Shown by the stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rekeyd.demo import proof
from rekeyd.demo.bringing import bring
from rekeyd.demo.clients import Clients
from rekeyd.demo.display import Narrator
from rekeyd.demo.load import Loaded
from rekeyd.demo.processes import Daemon, DemoError, Operator
from rekeyd.demo.proof import Finding
from rekeyd.demo.stage import TENANT, Stage
from rekeyd.demo.watching import watch
from rekeyd.domain.job import Job
from rekeyd.domain.objects import Encryption
from rekeyd.ledger.port import Ledger

ROTATE_ID, REVOKE_ID, REINSTATE_ID = f"{TENANT}-rotate-1", f"{TENANT}-revoke-1", f"{TENANT}-reinstate-1"

_UNDER_WAY = frozenset({"reencrypt", "prove", "certify"})
"""What is written lies under the new key by then, and what was there before is brought there or about to be."""


@dataclass(frozen=True, slots=True)
class Change:
    """Who takes part in what follows the move."""

    operator: Operator
    daemon: Daemon
    ledger: Ledger
    clients: Clients
    stage: Stage
    loaded: Mapping[str, Loaded]
    former_arn: str
    """The key under which the tenant's data were moved."""

    async def asked(self, about: Mapping[str, object]) -> None:
        """Hand a job in, as an operator does."""
        message = {"schema": "rekeyd.job/1", "tenant": TENANT, "requested_by": "rekeyd demo", **about}
        file = self.operator.config.parent / f"{about['id']}.json"
        await asyncio.to_thread(file.write_text, json.dumps(message), encoding="utf-8")
        await self.operator.read("submit", str(file))


async def change_keys(change: Change, narrator: Narrator) -> tuple[list[Finding], str]:
    """Rotate, revoke amid it, reinstate, finish. Gives the findings, and the key under which all lies in the end."""
    key_arn = await _begin_rotation(change, narrator)
    with narrator.step("revoke", "revoking") as reword:
        findings = await _revoke(change, {change.former_arn, key_arn}, reword)
    with narrator.step("reinstate", "reinstated: everything reads as before, the rotation goes on"):
        findings += await _reinstate(change)
    with narrator.step("rotate", "rotated: every object is under the second key"):
        findings += await _finish_rotation(change, key_arn)
    return findings, key_arn


async def _begin_rotation(change: Change, narrator: Narrator) -> str:
    """Gives the second key's ARN once the rotation is under way."""
    wrapped = await bring(change.operator, "second-key")
    await change.asked({"id": ROTATE_ID, "kind": "rotate", "key": wrapped})
    narrator.say(
        f"  · {TENANT} made a second key and wrapped it; job {ROTATE_ID} leads writers and data to it"
    )
    job, why_not = await watch(change.ledger, change.daemon, ROTATE_ID, lambda job: job.phase in _UNDER_WAY)
    if job is None or why_not or job.state not in {"running", "completed"}:
        raise DemoError("; ".join(["the rotation didn't begin", *_faults(job, why_not)]))
    return job.key.arn


async def _revoke(change: Change, key_arns: set[str], reword: Callable[[str], None]) -> list[Finding]:
    """Afterwards no read succeeds, whoever asks, nobody works for the tenant, and placement sends nobody there."""
    operator, chosen = change.operator, proof.sample(change.loaded)
    await change.asked({"id": REVOKE_ID, "kind": "revoke"})
    job, why_not = await watch(change.ledger, change.daemon, REVOKE_ID)
    faults = _faults(job, why_not)
    rotation = await change.ledger.job(ROTATE_ID)
    amid = rotation.state == "held"
    effective_seconds = ((job and job.result) or {}).get("effective_seconds")
    when = "amid the rotation" if amid else "after the rotation, which was over by then"
    reword(f"revoked {when}: unreadable within {effective_seconds} s; complete once all leases are over")
    said = await operator.ask("placement", TENANT)
    assert isinstance(said, dict)
    faults += [f"placement: {name}: {said[name]}" for name in ("reads", "writes") if said[name]]
    if (rotation.state, rotation.held_reason) not in {("held", "revoked"), ("completed", None)}:
        faults.append(f"the rotation is {rotation.state}: {rotation.held_reason}")
    states = await _key_states(change, key_arns)
    faults += [f"{arn} is {state}" for arn, state in states.items() if state != "Disabled"]
    held = ", the rotation held" if amid else ""
    claim = f"revoke: both keys disabled{held}, no reads or writes"
    return [
        Finding("revoked", claim, len(states), tuple(faults)),
        await proof.unreadable_when_revoked(change.clients.s3_impatient, change.stage.target, chosen),
    ]


async def _reinstate(change: Change) -> list[Finding]:
    """The same objects are read again, byte for byte."""
    chosen = proof.sample(change.loaded)
    await change.asked({"id": REINSTATE_ID, "kind": "reinstate", "undoes": REVOKE_ID})
    job, why_not = await watch(change.ledger, change.daemon, REINSTATE_ID)
    return [
        Finding("reinstated", "reinstate: the job is completed", 1, tuple(_faults(job, why_not))),
        await proof.readable_when_reinstated(change.clients.s3, change.stage.target, chosen),
    ]


async def _finish_rotation(change: Change, key_arn: str) -> list[Finding]:
    """Every object is what it was, under the second key; the first one is archived, and nothing needs it."""
    s3, target, loaded = change.clients.s3, change.stage.target, change.loaded
    job, why_not = await watch(change.ledger, change.daemon, ROTATE_ID)
    faults = _faults(job, why_not)
    listed = await change.operator.ask("key", "list", TENANT)
    assert isinstance(listed, list)
    states = {key["arn"]: key["state"] for key in listed}
    if states != {change.former_arn: "archived", key_arn: "active"}:
        faults.append(f"the keys are {states}")
    await change.clients.kms.disable_key(KeyId=change.former_arn)
    found = await proof.read_all(s3, target, loaded, lambda _count: None)
    await change.clients.kms.enable_key(KeyId=change.former_arn)
    same, under = (
        proof.same_bytes(loaded, found),
        proof.under_key(loaded, found, Encryption("aws:kms", key_arn), f"{TENANT}'s second key"),
    )
    return [
        Finding("rotated", "rotate: the job is completed, the first key archived", 1, tuple(faults)),
        Finding(
            "same_bytes_rotated",
            "rotated: every byte is the same, the first key not needed",
            same.checked,
            same.faults,
        ),
        Finding("under_second_key", under.claim, under.checked, under.faults),
    ]


async def _key_states(change: Change, key_arns: set[str]) -> dict[str, str]:
    described = [await change.clients.kms.describe_key(KeyId=arn) for arn in sorted(key_arns)]
    return {each["KeyMetadata"]["Arn"]: each["KeyMetadata"]["KeyState"] for each in described}


def _faults(job: Job | None, why_not: str) -> list[str]:
    if job is None:
        return ["the job never reached the ledger", *([why_not] if why_not else [])]
    faults = [f"the job is {job.state}: {job.error}"] if job.state != "completed" else []
    return [*faults, *([why_not] if why_not else [])]
