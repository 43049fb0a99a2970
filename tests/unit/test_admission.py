"""The desk: what is asked of the ledger, and what never gets that far."""

import json
from typing import Any, cast

import pytest

from rekeyd.domain.errors import ConflictError, LedgerError, RefusedError
from rekeyd.domain.job import KNOWN_KINDS, Job, ReceivedJob
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import LocationPattern
from rekeyd.intake.admission import AdmissionDesk
from rekeyd.ledger.port import Admission, Ledger

ARN = "arn:aws:kms:us-east-1:111122223333"


def message(**changes: object) -> bytes:
    body = {
        "schema": "rekeyd.job/1",
        "id": "acme-1",
        "kind": "migrate",
        "tenant": "acme",
        "source": "s3://shared/tenants/acme/",
        "key": {"kind": "kms", "arn": f"{ARN}:key/1", "alias": f"{ARN}:alias/acme"},
    }
    return json.dumps(body | changes).encode()


class AskedLedger:
    """Remembers what it was asked; what it says is what it was given."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Location, Location, int, str]] = []
        self.overtaking: list[tuple[str, str]] = []
        self.error: Exception | None = None

    async def admit(
        self,
        received: ReceivedJob,
        source: Location,
        target: Location,
        grace_seconds: int,
        principal: str,
    ) -> Admission:
        self.asked.append((received.message.id, source, target, grace_seconds, principal))
        if self.error is not None:
            raise self.error
        return Admission(cast("Job", None), created=True)

    async def admit_tenant_job(self, received: ReceivedJob, principal: str) -> Admission:
        self.overtaking.append((received.message.id, principal))
        return Admission(cast("Job", None), created=True)

    async def check(self) -> None:
        if self.error is not None:
            raise self.error


def desk(ledger: AskedLedger, **about: Any) -> AdmissionDesk:  # noqa: ANN401 - the desk's own
    return AdmissionDesk(
        cast("Ledger", ledger),
        source_pattern=LocationPattern.parse("s3://shared/tenants/{tenant}/", "source_pattern"),
        target_pattern=LocationPattern.parse("s3://byok-{tenant}/", "target_pattern"),
        grace_seconds=604_800,
        **about,
    )


async def test_what_the_message_leaves_out_comes_from_the_settings() -> None:
    ledger = AskedLedger()

    admission = await desk(ledger).offer(message(), "sqs:AIDA")

    assert admission.created
    source, target = Location("s3", "shared", "tenants/acme/"), Location("s3", "byok-acme", "")
    assert ledger.asked == [("acme-1", source, target, 604_800, "sqs:AIDA")]


@pytest.mark.parametrize("grace_seconds", [0, 60])
async def test_what_the_message_says_holds(grace_seconds: int) -> None:
    ledger = AskedLedger()
    body = message(target="s3://byok-acme/", options={"grace_seconds": grace_seconds})

    await desk(ledger).offer(body, "somebody")

    assert ledger.asked[0][3] == grace_seconds


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"color": "red"}, "color"),
        ({"kind": "shred"}, "kind"),
        ({"source": "s3://shared/tenants/other/"}, "source"),
        ({"source": "s3://shared/tenants/"}, "source"),
        ({"target": "s3://byok-other/"}, "target"),
        ({"target": "s3://shared/tenants/acme/"}, "target"),
        ({"target": "s3://shared/"}, "target"),
        ({"target": "s3://shared/tenants/acme/x/"}, "target"),
        ({"tenant": "..", "source": "s3://shared/tenants/../"}, "tenant"),
        ({"tenant": ".", "source": "s3://shared/tenants/./"}, "tenant"),
        ({"tenant": "A", "source": "s3://shared/tenants/A/"}, "target"),
    ],
)
async def test_what_is_refused_never_reaches_the_ledger(changes: dict[str, object], field: str) -> None:
    ledger = AskedLedger()

    with pytest.raises(RefusedError) as refused:
        await desk(ledger).offer(message(**changes), "somebody")

    assert refused.value.field == field
    assert ledger.asked == []


async def test_an_intake_asks_only_for_what_it_may() -> None:
    ledger = AskedLedger()

    with pytest.raises(RefusedError, match="kind: migrate may not be asked for here"):
        await desk(ledger, kinds=frozenset()).offer(message(), "somebody")
    assert frozenset({"migrate", "rotate", "revoke", "reinstate", "verify"}) == KNOWN_KINDS


@pytest.mark.parametrize("mode", ["disable", "destroy"])
async def test_what_destroys_is_taken_only_where_it_may_be_asked_for(mode: str) -> None:
    ledger = AskedLedger()
    raw = overtaking("revoke", options={"mode": mode})

    await desk(ledger).offer(raw, "a person")
    assert ledger.overtaking == [("acme-1", "a person")]
    if mode == "destroy":
        with pytest.raises(RefusedError, match="destroy may not be asked for here"):
            await desk(ledger, may_destroy=False).offer(raw, "a queue")
    else:
        await desk(ledger, may_destroy=False).offer(raw, "a queue")


async def test_what_reinstates_names_what_it_undoes() -> None:
    ledger = AskedLedger()
    with pytest.raises(RefusedError, match="undoes"):
        await desk(ledger).offer(overtaking("reinstate"), "a person")
    await desk(ledger).offer(overtaking("reinstate", undoes="acme-revoke-1"), "a person")
    assert ledger.overtaking == [("acme-1", "a person")]


def overtaking(kind: str, **fields: object) -> bytes:
    body = {"schema": "rekeyd.job/1", "id": "acme-1", "kind": kind, "tenant": "acme"}
    return json.dumps(body | fields).encode()


@pytest.mark.parametrize(
    "error", [ConflictError("another body"), LedgerError("locked"), RefusedError("key", "taken")]
)
async def test_what_the_ledger_says_is_said(error: Exception) -> None:
    ledger = AskedLedger()
    ledger.error = error

    with pytest.raises(type(error)) as raised:
        await desk(ledger).offer(message(), "somebody")
    assert raised.value is error


async def test_whether_anything_can_be_admitted_is_the_ledgers_to_say() -> None:
    ledger = AskedLedger()
    await desk(ledger).check()

    ledger.error = LedgerError("locked")
    with pytest.raises(LedgerError):
        await desk(ledger).check()
