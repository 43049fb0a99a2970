"""Commands on a ledger that is not there, or is none, with the real service: a plain error, and nothing is made."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from rekeyd.cli import commands
from rekeyd.custody.pem_signing import PemSigner
from rekeyd.jobs.checkpoints import make_checkpoint
from rekeyd.ledger.sql import SqlLedger
from rekeyd.service.checks import check
from rekeyd.settings import load_settings
from tests.doubles.certificates import sign

MESSAGE = {
    "schema": "rekeyd.job/1",
    "id": "acme-migrate-1",
    "kind": "migrate",
    "tenant": "acme",
    "source": "s3://shared/tenants/acme/",
    "key": {
        "kind": "kms",
        "arn": "arn:aws:kms:us-east-1:111122223333:key/1234",
        "alias": "arn:aws:kms:us-east-1:111122223333:alias/acme",
    },
}
QUESTIONS = [
    ("jobs",),
    ("job", "acme-migrate-1"),
    ("job", "acme-migrate-1", "--watch"),
    ("placement", "acme"),
    ("resume", "acme-migrate-1"),
    ("cancel", "acme-migrate-1"),
    ("audit", "verify"),
]
Run = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the ledger would be: not there yet."""
    return tmp_path / "var" / "rekeyd"


@pytest.fixture
def config(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "rekeyd.toml"
    path.write_text(
        f"""
[ledger]
url = "sqlite://{folder}/ledger.db"
[stores.s3]
endpoint_url = "http://127.0.0.1:1"
[migrate]
source_pattern = "s3://shared/tenants/{{tenant}}/"
target_pattern = "s3://byok-{{tenant}}/"
""",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def run(config: Path) -> Run:
    def invoke(*arguments: str, **more: Any) -> Result:  # noqa: ANN401 - CliRunner's own
        return CliRunner().invoke(commands.app, ["--config", str(config), *arguments], **more)

    return invoke


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
@pytest.mark.parametrize("as_json", [False, True])
def test_asking_a_ledger_that_is_not_there_makes_none(
    run: Run, folder: Path, question: tuple[str, ...], as_json: bool
) -> None:
    result = run(*question, *(["--json"] if as_json else []))

    assert (result.exit_code, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1
    assert f"there is no ledger {folder}/ledger.db" in result.stderr
    assert not folder.parent.exists()


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
@pytest.mark.parametrize("tables", [0, 1])
def test_asking_a_file_that_is_no_ledger_leaves_it_as_it_is(
    run: Run, folder: Path, question: tuple[str, ...], tables: int
) -> None:
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "ledger.db") as db:
        if tables:
            db.execute("CREATE TABLE somebody_elses (id INTEGER)")
    db.close()
    before = (folder / "ledger.db").read_bytes()

    result = run(*question)

    assert (result.exit_code, result.stdout) == (3, "")
    assert "schema is missing" in result.stderr
    assert (folder / "ledger.db").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["ledger.db"]


def test_submitting_begins_a_ledger_that_can_then_be_asked(run: Run, folder: Path) -> None:
    submitted = run("submit", "-", input=json.dumps(MESSAGE))

    assert (submitted.exit_code, submitted.stdout) == (0, "acme-migrate-1\n")
    assert (folder / "ledger.db").stat().st_mode & 0o777 == 0o600
    jobs = json.loads(run("jobs", "--json").stdout)
    assert [job["id"] for job in jobs] == ["acme-migrate-1"]
    assert json.loads(run("audit", "verify", "--json").stdout)["ok"] is True
    assert run("cancel", "acme-migrate-1").stdout == "acme-migrate-1 is cancelled\n"


async def looked_at(config: Path) -> tuple[bool, bool, str]:
    """What `check` finds of the ledger: well, reachable, and in which words. Without credentials it ends there."""
    (found, *_) = await check(load_settings(config, {}))
    assert found.name == "ledger"
    return found.ok, found.reachable, f"{found.detail} {found.advice}"


@pytest.fixture
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("_nobody")
async def test_checking_says_that_a_ledger_can_be_made_and_makes_none(config: Path, folder: Path) -> None:
    ok, _, words = await looked_at(config)

    assert ok
    assert "isn't there yet" in words
    assert not folder.parent.exists()


@pytest.mark.usefixtures("_nobody")
async def test_checking_says_why_a_ledger_can_not_be_made(config: Path, folder: Path) -> None:
    folder.parent.write_text("in the way", encoding="utf-8")

    ok, reachable, words = await looked_at(config)

    assert (ok, reachable) == (False, False)
    assert f"{folder.parent} is no folder" in words
    assert "ledger.url" in words


@pytest.mark.usefixtures("_nobody")
async def test_checking_opens_a_ledger_that_is_there(config: Path, folder: Path) -> None:
    await (await SqlLedger.open(f"sqlite://{folder}/ledger.db")).close()
    assert await looked_at(config) == (True, True, f"sqlite://{folder}/ledger.db ")

    with sqlite3.connect(folder / "ledger.db") as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    ok, reachable, words = await looked_at(config)
    assert (ok, reachable) == (False, False)
    assert "9999" in words


@pytest.mark.usefixtures("_nobody")
def test_checking_without_credentials_reaches_nothing(run: Run) -> None:
    result = run("check", "--json")

    assert result.exit_code == 3
    found = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert found["credentials"]["reachable"] is False
    assert "AWS_PROFILE" in found["credentials"]["advice"]


def test_checkpoints_that_were_kept_elsewhere_are_compared_with_the_trail(run: Run, folder: Path) -> None:
    run("submit", "-", input=json.dumps(MESSAGE))
    signer = PemSigner.read_or_make(folder / "ledger.db.signing-key.pem")
    text = asyncio.run(checkpointed(folder / "ledger.db", signer))
    kept = folder / "kept"
    kept.mkdir()
    assert "has no checkpoint in it" in run("audit", "verify", "--checkpoint", str(kept)).stderr
    (kept / "000000000001.json").write_text(text)
    assert run("audit", "verify", "--checkpoint", str(kept)).exit_code == 0

    later = sign(json.loads(text)["statement"] | {"number": 2}, signer._key)
    (kept / "000000000002.json").write_text(later)
    missing = run("audit", "verify", "--checkpoint", str(kept))
    assert (missing.exit_code, "was kept elsewhere, and is missing here" in missing.stdout) == (1, True)

    (kept / "000000000002.json").write_text(
        sign(json.loads(later)["statement"], Ed25519PrivateKey.generate())
    )
    foreign = run("audit", "verify", "--checkpoint", str(kept))
    assert (foreign.exit_code, "--checkpoint: other_signer" in foreign.stderr) == (2, True)


async def checkpointed(ledger_file: Path, signer: PemSigner) -> str:
    ledger = await SqlLedger.open(f"sqlite://{ledger_file}")
    assert await make_checkpoint(ledger, signer, "daemon-1")
    (checkpoint,) = await ledger.checkpoints(0, 10)
    await ledger.close()
    return checkpoint.text
