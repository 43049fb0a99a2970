"""An archived key destroyed on request: only where nobody needs it, once, and on record."""

from __future__ import annotations

import json

import pytest

from rekeyd.domain.custody import BroughtKey
from rekeyd.domain.errors import ConflictError, RefusedError
from rekeyd.domain.job import ReceivedJob, read_job_message
from rekeyd.ledger.port import Ledger
from tests.contract.ledger.stories import ALIAS as ALIASES
from tests.contract.ledger.stories import KEY, bodies, claimed, dedicated, versions

FORMER, BROUGHT, NEW = KEY + "acme", KEY + "acme-2", KEY + "acme-3"
ALIAS = ALIASES + "acme"

PROOF = {"looked_at": {"byok-acme": 3}}


async def archived(ledger: Ledger) -> None:
    """A dedicated tenant that was rotated to a key that it brought, and from that to one of its own."""
    await ledger.finish_job(await dedicated(ledger, versions(2)), "completed", None)
    brought = BroughtKey(arn=BROUGHT, fingerprint="f", alias_arn=ALIAS, made=True, requests=())
    await ledger.record_accepted("acme", "maria", brought)
    await rotate(ledger, "rotate-1", {"kind": "accepted", "ref": BROUGHT}, FORMER)
    await rotate(ledger, "rotate-2", {"kind": "kms", "arn": NEW, "alias": ALIAS}, BROUGHT)


async def rotate(ledger: Ledger, job_id: str, key: dict[str, str], former: str) -> None:
    await ledger.admit_tenant_job(about(job_id, "rotate", key=key), "upstream")
    claim = await claimed(ledger)
    await ledger.redirect_key(claim)
    await ledger.archive_key(claim, former, {})
    await ledger.finish_job(claim, "completed", None)


def about(job_id: str, kind: str, **more: object) -> ReceivedJob:
    body = {"schema": "rekeyd.job/1", "id": job_id, "kind": kind, "tenant": "acme", **more}
    return read_job_message(json.dumps(body).encode())


async def test_it_is_destroyed_once_and_on_record(ledger: Ledger) -> None:
    await archived(ledger)

    key = await ledger.destroy_key("acme", "maria", BROUGHT, PROOF)
    assert await ledger.destroy_key("acme", "maria", BROUGHT, PROOF) == key

    assert (key.state, key.former_state) == ("destroyed", "archived")
    records = [each for each in await bodies(ledger) if each["action"] == "key.state"]
    (record,) = [each for each in records if each["outcome"] == "destroyed"]
    assert (record["actor"], record["tenant"], record["key"]) == ("maria", "acme", BROUGHT)
    assert (record["former"], record["proof"]) == ("archived", PROOF)


@pytest.mark.parametrize(
    ("tenant", "ref", "words"),
    [("another", BROUGHT, "is no key of another"), ("acme", KEY + "never", "is no key of acme")],
)
async def test_a_key_that_is_not_the_tenants_is_refused(
    ledger: Ledger, tenant: str, ref: str, words: str
) -> None:
    await archived(ledger)
    with pytest.raises(RefusedError, match=words):
        await ledger.destroy_key(tenant, "maria", ref, PROOF)


async def test_the_tenants_own_is_its_owners_to_delete(ledger: Ledger) -> None:
    await archived(ledger)
    with pytest.raises(RefusedError, match="its owner deletes it"):
        await ledger.destroy_key("acme", "maria", FORMER, PROOF)


async def test_one_that_is_in_use_is_not(ledger: Ledger) -> None:
    await archived(ledger)
    await rotate(ledger, "rotate-3", {"kind": "accepted", "ref": BROUGHT}, NEW)
    with pytest.raises(ConflictError, match="is active: only an archived key is destroyed"):
        await ledger.destroy_key("acme", "maria", BROUGHT, PROOF)


async def test_one_that_an_unfinished_job_names_is_not(ledger: Ledger) -> None:
    await archived(ledger)
    key = {"kind": "accepted", "ref": BROUGHT}
    await ledger.admit_tenant_job(about("rotate-3", "rotate", key=key), "upstream")
    with pytest.raises(ConflictError, match="is the key of rotate-3, which isn't finished"):
        await ledger.destroy_key("acme", "maria", BROUGHT, PROOF)


async def test_one_of_a_revoked_tenant_is_not(ledger: Ledger) -> None:
    await archived(ledger)
    await ledger.admit_tenant_job(about("revoke-1", "revoke"), "upstream")
    with pytest.raises(ConflictError, match="acme is revoked, not dedicated"):
        await ledger.destroy_key("acme", "maria", BROUGHT, PROOF)


async def test_a_destroyed_one_can_not_be_rotated_to(ledger: Ledger) -> None:
    await archived(ledger)
    await ledger.destroy_key("acme", "maria", BROUGHT, PROOF)
    again = about("rotate-3", "rotate", key={"kind": "accepted", "ref": BROUGHT})
    with pytest.raises(RefusedError, match="is destroyed: nothing can be written under it"):
        await ledger.admit_tenant_job(again, "upstream")


async def test_one_that_a_revocation_has_destroyed_waits_for_the_reinstatement(ledger: Ledger) -> None:
    await archived(ledger)
    await ledger.destroy_key("acme", "maria", BROUGHT, PROOF)
    await ledger.admit_tenant_job(about("revoke-1", "revoke"), "upstream")
    with pytest.raises(ConflictError, match="acme is revoked, not dedicated"):
        await ledger.destroy_key("acme", "maria", BROUGHT, PROOF)
