"""The command: what it prints where, and with which status it ends. The service is a double here."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import rekeyd
from rekeyd.cli import asking, commands, invocation
from rekeyd.domain.audit import GENESIS, AuditRecord, seal
from rekeyd.domain.errors import (
    ConflictError,
    CustodyError,
    DistrustedError,
    LedgerError,
    RefusedError,
    StoreRefusedError,
    UnavailableError,
    UnknownJobError,
)
from rekeyd.domain.job import Counts, Job, JobState, read_job_message
from rekeyd.domain.objects import Location
from rekeyd.domain.tenant import PlacementRecord
from rekeyd.ledger.port import Admission, Checkpoint, TenantKey
from rekeyd.settings import Settings
from tests.doubles.keys import A_KEY, A_NAMED_KEY

SETTINGS = """
[ledger]
url = "sqlite:///nowhere/ledger.db"
[stores.s3]
endpoint_url = "http://127.0.0.1:1"
[migrate]
source_pattern = "s3://shared/tenants/{tenant}/"
target_pattern = "s3://byok-{tenant}/"
"""
KEY = "arn:aws:kms:us-east-1:111122223333:key/1234"
MESSAGE = {
    "schema": "rekeyd.job/1",
    "id": "acme-migrate-1",
    "kind": "migrate",
    "tenant": "acme",
    "source": "s3://shared/tenants/acme/",
    "key": {"kind": "kms", "arn": KEY, "alias": "arn:aws:kms:us-east-1:111122223333:alias/acme"},
}
JOB = Job(
    message=read_job_message(json.dumps(MESSAGE).encode()).message,
    source=Location("s3", "shared", "tenants/acme/"),
    target=Location("s3", "byok-acme", ""),
    grace_seconds=60,
    move_id=1,
    named_key=A_NAMED_KEY,
    state="running",
    phase="copy",
    held_reason=None,
    error=None,
    attempts=0,
    counts=Counts(100, 40, 1, 0, 5000, 2000),
    created_at=1_800_000_000.0,
    started_at=1_800_000_001.5,
    finished_at=None,
)


@dataclass(frozen=True)
class CheckFinding:
    name: str
    ok: bool
    detail: str = "it is so"
    advice: str = ""
    reachable: bool = True


@dataclass
class LedgerDouble:
    """Gives what it was told to give; a job may be a sequence of how it looks, one look after the other."""

    looks: list[Job] = field(default_factory=lambda: [JOB])
    record: PlacementRecord | None = None
    records: list[AuditRecord] = field(default_factory=list)
    error: Exception | None = None
    asked: list[tuple[object, ...]] = field(default_factory=list)
    keys: list[TenantKey] = field(default_factory=list)
    claims_end: list[float] = field(default_factory=lambda: [0.0])

    def _note(self, *asked: object) -> None:
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    async def now(self) -> float:
        return 1_800_000_021.5

    async def job(self, job_id: str) -> Job:
        self._note("job", job_id)
        if job_id != JOB.id:
            raise UnknownJobError(job_id)
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def jobs(self, *, tenant: str | None, state: str | None, limit: int) -> Sequence[Job]:
        self._note("jobs", tenant, state, limit)
        return self.looks

    async def resume_job(self, job_id: str, principal: str) -> Job:
        self._note("resume", job_id, principal)
        return self.looks[0]

    async def cancel_job(self, job_id: str, principal: str) -> Job:
        self._note("cancel", job_id, principal)
        return replace(JOB, state="cancelled")

    async def claims_end_in(self, job_id: str) -> float:
        self._note("claims_end_in", job_id)
        return self.claims_end.pop(0)

    async def tenant_keys(self, tenant: str | None = None) -> list[TenantKey]:
        self._note("tenant_keys", tenant)
        return self.keys

    async def approve_job(self, job_id: str, principal: str) -> Job:
        self._note("approve", job_id, principal)
        return replace(JOB, approved_by=principal)

    async def placement(self, tenant: str) -> tuple[PlacementRecord | None, float]:
        self._note("placement", tenant)
        return self.record, 1_800_000_000.0

    async def chains(self) -> Sequence[str]:
        return ["main"]

    async def audit_records(self, chain: str) -> AsyncIterator[AuditRecord]:
        self._note("audit", chain)
        for record in self.records:
            yield record

    async def checkpoints(self, after: int, limit: int) -> Sequence[Checkpoint]:
        self._note("checkpoints", after, limit)
        return []


class ServiceDouble(ModuleType):
    def __init__(self) -> None:
        super().__init__("rekeyd.service")
        self.ledger = LedgerDouble()
        self.findings: list[CheckFinding] = []
        self.offered: list[tuple[bytes, str]] = []
        self.admitted: Admission | Exception = Admission(JOB, created=True)
        self.served = 0
        self.moved_unknown = False

    @asynccontextmanager
    async def open_ledger(self, settings: Settings, *, make: bool = False) -> AsyncIterator[LedgerDouble]:
        assert settings.ledger.url == "sqlite:///nowhere/ledger.db"
        yield self.ledger

    def admission(self, _settings: Settings, _ledger: LedgerDouble) -> ServiceDouble:
        return self

    async def offer(self, raw: bytes, principal: str) -> Admission:
        self.offered.append((raw, principal))
        if isinstance(self.admitted, Exception):
            raise self.admitted
        return self.admitted

    async def check_unknown_tenant(self, _settings: Settings, tenant: str) -> None:
        self.ledger.asked.append(("unknown", tenant))
        if self.moved_unknown:
            raise DistrustedError("older than the target")

    async def check(self, _settings: Settings) -> Sequence[CheckFinding]:
        return self.findings

    async def serve(self, _settings: Settings) -> int:
        return self.served


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> ServiceDouble:
    double = ServiceDouble()
    monkeypatch.setitem(sys.modules, "rekeyd.service", double)
    monkeypatch.setattr(rekeyd, "service", double, raising=False)
    monkeypatch.setattr(asking, "service", double)
    monkeypatch.setattr(asking, "WATCH_SECONDS", 0)
    return double


Run = Callable[..., Result]


@pytest.fixture
def run(service: ServiceDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("REKEYD_CONFIG", "REKEYD_PRINCIPAL"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "rekeyd.toml"
    config.write_text(SETTINGS, encoding="utf-8")

    def invoke(*arguments: str, **more: Any) -> Result:  # noqa: ANN401 - CliRunner's own
        return CliRunner().invoke(commands.app, ["--config", str(config), *arguments], **more)

    return invoke


def printed(result: Result, status: int = 0) -> Any:  # noqa: ANN401 - any JSON
    assert result.exit_code == status, result.output
    return json.loads(result.stdout)


def test_version() -> None:
    result = CliRunner().invoke(commands.app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"rekeyd {rekeyd.__version__}\n")


def test_job_json_has_the_fields_of_the_contract(run: Run) -> None:
    view = printed(run("job", JOB.id, "--json"))

    assert (
        view.items()
        >= {
            "id": "acme-migrate-1",
            "kind": "migrate",
            "tenant": "acme",
            "state": "running",
            "phase": "copy",
            "held_reason": None,
            "error": None,
            "objects_listed": 100,
            "objects_verified": 40,
            "objects_excluded": 1,
            "objects_deleted": 0,
            "bytes_listed": 5000,
            "bytes_verified": 2000,
            "created_at": "2027-01-15T08:00:00.000Z",
            "started_at": "2027-01-15T08:00:01.500Z",
            "finished_at": None,
            "bytes_per_second": 100.0,
            "seconds_left": 30.0,
        }.items()
    )


def test_a_job_as_people_read_it(run: Run) -> None:
    result = run("job", JOB.id)

    assert result.exit_code == 0
    assert "copying and verifying" in result.stdout
    assert "100 bytes/s" in result.stdout
    assert "30 s" in result.stdout


@pytest.mark.parametrize(
    ("state", "status"), [("completed", 0), ("failed", 1), ("held", 1), ("cancelled", 1)]
)
def test_watching_ends_with_the_job(run: Run, service: ServiceDouble, state: JobState, status: int) -> None:
    last = replace(JOB, state=state, phase="done", error="because [so]")
    service.ledger.looks = [replace(JOB, state="queued", phase="queued"), JOB, JOB, last]

    result = run("job", JOB.id, "--watch")

    assert result.exit_code == status
    assert "because [so]" in result.stdout
    assert "copying and verifying: 41/100 objects" in result.stderr


def test_watching_in_json_prints_one_document(run: Run, service: ServiceDouble) -> None:
    service.ledger.looks = [JOB, replace(JOB, state="held", held_reason="key_disabled")]

    result = run("job", JOB.id, "--watch", "--json")

    assert printed(result, 1)["held_reason"] == "key_disabled"
    assert result.stderr == ""


def test_looking_at_a_failed_job_succeeds(run: Run, service: ServiceDouble) -> None:
    service.ledger.looks = [replace(JOB, state="failed", error="no")]

    assert run("job", JOB.id).exit_code == 0


def test_jobs(run: Run, service: ServiceDouble) -> None:
    view = printed(run("jobs", "--tenant", "acme", "--state", "running", "--limit", "7", "--json"))

    assert [job["id"] for job in view] == ["acme-migrate-1"]
    assert service.ledger.asked == [("jobs", "acme", "running", 7)]
    assert "acme-migrate-1" in run("jobs").stdout


def test_no_jobs(run: Run, service: ServiceDouble) -> None:
    service.ledger.looks = []

    assert printed(run("jobs", "--json")) == []
    assert run("jobs").stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [("jobs", "--limit", "0"), ("jobs", "--limit", "1001"), ("jobs", "--state", "lost"), ("job",), ("no",)],
)
def test_unusable_arguments(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)

    assert (result.exit_code, result.stdout) == (2, "")


def test_submit_prints_the_id(run: Run, service: ServiceDouble, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("{}", encoding="utf-8")

    result = run("submit", str(tmp_path / "job.json"), env={"REKEYD_PRINCIPAL": "upstream"})

    assert (result.exit_code, result.stdout, result.stderr) == (0, "acme-migrate-1\n", "")
    assert service.offered == [(b"{}", "upstream")]


def test_submit_reads_standard_input(run: Run, service: ServiceDouble) -> None:
    service.admitted = Admission(JOB, created=False)

    result = run("submit", "-", input=b"{}")

    assert (result.exit_code, result.stdout) == (0, "acme-migrate-1\n")
    assert "known already" in result.stderr
    assert service.offered[0][0] == b"{}"
    assert printed(run("submit", "-", "--json", input=b"{}"))["created"] is False


def test_submit_without_a_file(run: Run) -> None:
    result = run("submit", "/nowhere/job.json")

    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "rekeyd: FILE: /nowhere/job.json can't be read: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RefusedError("key.arn", "is wrong"), 2, "key.arn: is wrong"),
        (ConflictError("acme-migrate-1 is known with another body"), 1, "another body"),
        (UnknownJobError("other"), 1, "there is no job other"),
        (LedgerError("database is\nlocked"), 3, "database is locked"),
        (CustodyError("no answer"), 3, "no answer"),
        (UnavailableError("GetObject", "no answer"), 3, "no answer"),
        (StoreRefusedError("GetObject", "bad"), 1, "bad"),
    ],
)
def test_an_error_is_one_line_and_a_status(
    run: Run, service: ServiceDouble, error: Exception, status: int, words: str
) -> None:
    service.admitted = error

    result = run("submit", "-", input=b"{}")

    assert (result.exit_code, result.stdout) == (status, "")
    assert len(result.stderr.splitlines()) == 1
    assert words in result.stderr


def test_an_unknown_job(run: Run) -> None:
    result = run("job", "other", "--json")

    assert (result.exit_code, result.stdout) == (1, "")


def test_resume_and_cancel_name_who_asks(run: Run, service: ServiceDouble) -> None:
    result = run("resume", JOB.id, env={"REKEYD_PRINCIPAL": "maria"})
    assert (result.exit_code, result.stdout) == (0, "acme-migrate-1 is running\n")

    view = printed(run("cancel", JOB.id, "--json"))

    assert view["state"] == "cancelled"
    assert service.ledger.asked == [
        ("resume", JOB.id, "maria"),
        ("cancel", JOB.id, invocation.principal()),
        ("claims_end_in", JOB.id),
    ]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_cancel_is_done_once_every_claim_has_ended(
    run: Run, service: ServiceDouble, options: tuple[str, ...]
) -> None:
    service.ledger.claims_end = [0.3, 0.1, 0.0]

    began = time.monotonic()
    result = run("cancel", JOB.id, *options)

    assert time.monotonic() - began >= 0.4
    assert (result.exit_code, service.ledger.claims_end) == (0, [])
    assert "waiting until every claim that was held on it has ended, 1 s at most" in result.stderr
    assert "waiting" not in result.stdout


def test_a_placement_that_the_ledger_can_not_know_is_not_shown(run: Run, service: ServiceDouble) -> None:
    service.ledger.record = PlacementRecord(
        "acme", JOB.source, JOB.target, "shared", 3, "active", distrusted="it is older than the target"
    )

    result = run("placement", "acme", "--json")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "it is older than the target" in result.stderr


def test_placement_of_a_tenant_that_the_ledger_knows(run: Run, service: ServiceDouble) -> None:
    service.ledger.record = PlacementRecord(
        "acme", JOB.source, JOB.target, "dedicated", 3, "active", writes_from=1_800_000_005.0
    )

    assert printed(run("placement", "acme", "--json")) == {
        "tenant": "acme",
        "phase": "dedicated",
        "source": "s3://shared/tenants/acme/",
        "target": "s3://byok-acme/",
        "key_state": "active",
        "epoch": 3,
        "reads": ["s3://byok-acme/"],
        "writes": ["s3://byok-acme/"],
        "deletes": "allow",
        "writes_from": "2027-01-15T08:00:05.000Z",
        "expires_at": "2027-01-15T08:00:10.000Z",
    }


def test_placement_of_a_tenant_that_it_does_not_know(run: Run) -> None:
    view = printed(run("placement", "globex", "--json"))

    assert (view["phase"], view["epoch"], view["target"], view["key_state"]) == ("shared", 0, None, None)
    assert view["reads"] == view["writes"] == ["s3://shared/tenants/globex/"]
    assert "s3://shared/tenants/globex/" in run("placement", "globex").stdout


def test_placement_of_a_tenant_that_moved_before_the_ledger_was_restored(
    run: Run, service: ServiceDouble
) -> None:
    service.moved_unknown = True

    result = run("placement", "globex", "--json")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "older than the target" in result.stderr


def test_placement_of_no_tenant(run: Run, service: ServiceDouble) -> None:
    assert run("placement", "a/b").exit_code == 2
    assert service.ledger.asked == []


def chain(*bodies: str) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    for body in bodies:
        before = records[-1].hash if records else GENESIS
        records.append(seal("main", len(records) + 1, {"said": body}, before))
    return records


def test_a_whole_audit_trail(run: Run, service: ServiceDouble) -> None:
    service.ledger.records = chain("a", "b", "c")

    assert printed(run("audit", "verify", "--json")) == {
        "ok": True,
        "chains": [{"chain": "main", "records": 3, "broken": None}],
        "checkpoints": {"checked": 0, "broken": None},
        "broken_certificate": None,
    }
    assert run("audit", "verify").exit_code == 0


def test_a_broken_audit_trail_names_its_first_bad_record(run: Run, service: ServiceDouble) -> None:
    records = chain("a", "b", "c", "d")
    records[1] = replace(records[1], body='{"said":"B"}')
    service.ledger.records = records

    view = printed(run("audit", "verify", "--json"), 1)
    result = run("audit", "verify")

    assert view["chains"][0]["broken"]["sequence"] == 2
    assert result.exit_code == 1
    assert "record 2" in result.stdout


def test_an_audit_trail_that_can_not_be_read(run: Run, service: ServiceDouble) -> None:
    service.ledger.error = LedgerError("gone")

    assert run("audit", "verify").exit_code == 3


@pytest.mark.parametrize(
    ("findings", "status"),
    [
        ([CheckFinding("ledger", ok=True)], 0),
        ([CheckFinding("ledger", ok=True), CheckFinding("store", ok=False, advice="open [it]")], 1),
        (
            [
                CheckFinding("store", ok=False),
                CheckFinding("key", ok=False, advice="open [it]", reachable=False),
            ],
            3,
        ),
    ],
)
def test_check(run: Run, service: ServiceDouble, findings: list[CheckFinding], status: int) -> None:
    service.findings = findings

    result = run("check")
    view = printed(run("check", "--json"), status)

    assert result.exit_code == status
    assert [finding["ok"] for finding in view] == [finding.ok for finding in findings]
    assert set(view[0]) == {"name", "ok", "reachable", "detail", "advice"}
    assert ("open [it]" in result.stdout) == (status != 0)


def test_serve_ends_with_the_daemons_status(run: Run, service: ServiceDouble) -> None:
    service.served = 4

    assert run("serve").exit_code == 4


def test_serve_refuses_to_start_without_patterns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("", encoding="utf-8")

    result = run("serve", "--config", str(tmp_path / "empty.toml"))

    assert result.exit_code == 2
    assert "migrate.source_pattern" in result.stderr
    assert "migrate.target_pattern" in result.stderr


def test_settings_with_an_unknown_key(run: Run, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("[ledger]\nurll = 'x'\n", encoding="utf-8")

    result = run("jobs", "--config", str(tmp_path / "wrong.toml"))

    assert (result.exit_code, result.stdout) == (2, "")
    assert "ledger.urll" in result.stderr


def test_settings_named_by_the_environment(run: Run, tmp_path: Path) -> None:
    named = {"REKEYD_CONFIG": str(tmp_path / "rekeyd.toml")}

    assert CliRunner().invoke(commands.app, ["jobs"], env=named).exit_code == 0
    assert CliRunner().invoke(commands.app, ["jobs"], env={"REKEYD_CONFIG": "/nowhere"}).exit_code == 2


def test_the_principal_is_the_user_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REKEYD_PRINCIPAL", raising=False)
    monkeypatch.setenv("LOGNAME", "somebody else")  # a claim of the environment, not the system's

    assert invocation.principal() != "somebody else"
    monkeypatch.setenv("REKEYD_PRINCIPAL", "maria")
    assert invocation.principal() == "maria"


A_TENANT_KEY = TenantKey(
    ref=A_KEY.arn,
    tenant="acme",
    kind="kms",
    state="revoked",
    former_state="active",
    arn=A_KEY.arn,
    alias=A_KEY.alias,
    created_at=1_800_000_000.0,
    changed_at=1_800_000_001.5,
)


def test_keys_are_listed_with_state_reference_and_dates(run: Run, service: ServiceDouble) -> None:
    service.ledger.keys = [A_TENANT_KEY]

    (view,) = printed(run("key", "list", "acme", "--json"))

    assert view == {
        "ref": A_KEY.arn,
        "tenant": "acme",
        "kind": "kms",
        "state": "revoked",
        "former_state": "active",
        "arn": A_KEY.arn,
        "alias": A_KEY.alias,
        "fingerprint": None,
        "created_at": "2027-01-15T08:00:00.000Z",
        "changed_at": "2027-01-15T08:00:01.500Z",
    }
    assert service.ledger.asked == [("tenant_keys", "acme")]
    shown = run("key", "list").stdout
    assert A_KEY.arn in shown
    assert "revoked" in shown


def test_where_there_are_no_keys_nothing_is_listed(run: Run) -> None:
    result = run("key", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no such keys" in result.stderr


def test_approve_names_who_approves(run: Run, service: ServiceDouble) -> None:
    view = printed(run("approve", JOB.id, "--json"))
    ((_, job_id, who),) = service.ledger.asked
    assert (job_id, view["approved_by"]) == (JOB.id, who)
