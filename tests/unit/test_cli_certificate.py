"""`rekeyd certificate`: printed from the ledger, checked from files alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner, Result

from rekeyd.cli import commands
from rekeyd.domain.job import read_job_message
from rekeyd.domain.objects import Location
from rekeyd.ledger.sql import SqlLedger
from tests.doubles.certificates import LEAVES, public_key_of, signed_certificate

SIGNED = signed_certificate()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(commands.app, [str(each) for each in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A certificate, its signer's key, its evidence in two files, and a proof."""
    (tmp_path / "certificate.json").write_bytes(SIGNED.raw)
    (tmp_path / "key.pem").write_text(SIGNED.public_key.pem)
    (tmp_path / "evidence").mkdir()
    for number, lines in enumerate((SIGNED.lines[:3], SIGNED.lines[3:])):
        data = b"".join(line + b"\n" for line in lines)
        (tmp_path / "evidence" / f"{number:08d}.jsonl").write_bytes(data)
    (tmp_path / "proof.json").write_bytes(SIGNED.proof(5))
    return tmp_path


def verify(folder: Path, *more: str, certificate: str = "certificate.json") -> Result:
    return run(
        "certificate", "verify", str(folder / certificate), "--public-key", str(folder / "key.pem"), *more
    )


def evidence(*paths: Path) -> list[str]:
    return [word for path in paths for word in ("--evidence", str(path))]


def test_a_certificate_that_holds(folder: Path) -> None:
    result = verify(folder)

    assert result.exit_code == 0
    assert "certificate: holds: job acme-migrate-1 of acme, 7 objects" in result.stdout


def test_with_its_evidence_and_a_proof(folder: Path) -> None:
    result = verify(folder, *evidence(folder / "evidence", folder / "proof.json"), "--json")

    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert said == {
        "ok": True,
        "job": "acme-migrate-1",
        "tenant": "acme",
        "objects": 7,
        "evidence": True,
        "proven": [LEAVES[5].model_dump(mode="json")],
        "faults": [],
    }
    words = verify(folder, *evidence(folder / "evidence", folder / "proof.json")).stdout
    assert "evidence: holds, of all 7 objects" in words
    assert "proof: holds: 'tenants/acme/b/locked' is remaining in the source" in words


def test_evidence_files_may_come_in_any_order(folder: Path) -> None:
    files = sorted((folder / "evidence").iterdir(), reverse=True)

    assert verify(folder, *evidence(*files)).exit_code == 0


@pytest.mark.parametrize(
    ("spoil", "about", "name"),
    [
        ("certificate.json", "certificate", "signature_wrong"),
        ("key.pem", "certificate", "other_signer"),
        ("evidence/00000001.jsonl", "evidence", "evidence_changed"),
        ("-evidence/00000001.jsonl", "evidence", "evidence_missing"),
        ("proof.json", "proof", "proof_wrong"),
    ],
)
def test_what_does_not_hold_is_named_and_ends_with_1(folder: Path, spoil: str, about: str, name: str) -> None:
    if spoil.startswith("-"):
        (folder / spoil.removeprefix("-")).unlink()
    elif spoil == "key.pem":
        (folder / spoil).write_text(public_key_of(Ed25519PrivateKey.generate()).pem)
    else:
        data = (folder / spoil).read_bytes()
        changed = data.replace(b'"etag":"copy-', b'"etag":"COPY-').replace(
            b'"tenant":"acme"', b'"tenant":"evil"'
        )
        assert changed != data
        (folder / spoil).write_bytes(changed)

    result = verify(folder, *evidence(folder / "evidence", folder / "proof.json"), "--json")

    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["ok"], [fault["name"] for fault in said["faults"]]) == (False, [name])
    assert about in said["faults"][0]["about"]
    assert verify(folder, *evidence(folder / "evidence", folder / "proof.json")).exit_code == 1


@pytest.mark.parametrize("also", [(), ("proof.json",)])
def test_a_folder_without_evidence_is_evidence_that_is_missing(folder: Path, also: tuple[str, ...]) -> None:
    (folder / "empty").mkdir()
    paths = evidence(folder / "empty", *(folder / each for each in also))

    result = verify(folder, *paths, "--json")

    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["ok"], said["evidence"]) == (False, False)
    assert [(fault["about"], fault["name"]) for fault in said["faults"]] == [("evidence", "evidence_missing")]
    assert "evidence_missing: 0 of 7 objects" in verify(folder, *paths).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("certificate", "verify", "nowhere.json", "--public-key", "{}/key.pem"),
        ("certificate", "verify", "{}/certificate.json", "--public-key", "nowhere.pem"),
        ("certificate", "verify", "{}/certificate.json", "--public-key", "{}/proof.json"),
        ("certificate", "verify", "{}/certificate.json"),
        (
            "certificate",
            "verify",
            "{}/certificate.json",
            "--public-key",
            "{}/key.pem",
            "--evidence",
            "nowhere",
        ),
        ("certificate", "verify"),
    ],
)
def test_what_can_not_be_checked_is_unusable(folder: Path, arguments: tuple[str, ...]) -> None:
    assert run(*(each.format(folder) for each in arguments)).exit_code == 2


def test_checking_needs_no_settings_no_ledger_and_no_sdk(folder: Path) -> None:
    words = [
        *("certificate", "verify", str(folder / "certificate.json"), "--public-key", str(folder / "key.pem")),
        *evidence(folder / "evidence", folder / "proof.json"),
    ]
    heavy = ("botocore", "aiobotocore", "aiohttp", "sqlalchemy", "awscrt", "sqlite3", "rekeyd.service.daemon")
    code = (
        "import sys\n"
        "from rekeyd.cli.commands import app\n"
        f"app({words!r}, standalone_mode=False)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"REKEYD_CONFIG": "/nowhere/rekeyd.toml", "REKEYD_LEDGER__URL": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[]"


# --- from the ledger ---


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rekeyd.toml"
    path.write_text(
        f"""
[ledger]
url = "sqlite://{tmp_path}/ledger.db"
[stores.s3]
endpoint_url = "http://127.0.0.1:1"
[migrate]
source_pattern = "s3://shared/tenants/{{tenant}}/"
target_pattern = "s3://byok-{{tenant}}/"
"""
    )
    return path


async def record(folder: Path, text: str | None, job_id: str = "acme-migrate-1") -> None:
    """A job in the ledger, and its certificate."""
    message = {
        "schema": "rekeyd.job/1",
        "id": job_id,
        "kind": "migrate",
        "tenant": "acme",
        "source": "s3://shared/tenants/acme/",
        "key": {
            "kind": "kms",
            "arn": "arn:aws:kms:us-east-1:111122223333:key/1234",
            "alias": "arn:aws:kms:us-east-1:111122223333:alias/acme",
        },
    }
    ledger = await SqlLedger.open(f"sqlite://{folder}/ledger.db")
    source, target = Location.parse("s3://shared/tenants/acme/"), Location.parse("s3://byok-acme/")
    await ledger.admit(read_job_message(json.dumps(message).encode()), source, target, 0, "upstream")
    claim = await ledger.claim_job("daemon-1", 60)
    assert claim is not None
    if text is not None:
        await ledger.record_certificate(claim, text)
    await ledger.close()


@pytest.mark.parametrize(
    "words", [("acme-migrate-1",), ("show", "acme-migrate-1"), ("--json", "acme-migrate-1")]
)
def test_a_jobs_certificate_is_printed_as_it_was_signed(config: Path, words: tuple[str, ...]) -> None:
    asyncio.run(record(config.parent, SIGNED.raw.decode()))

    result = run("--config", str(config), "certificate", *words)

    assert (result.exit_code, result.stdout_bytes) == (0, SIGNED.raw + b"\n")
    assert run("certificate", words[-1], "--config", str(config)).stdout_bytes == SIGNED.raw + b"\n"


@pytest.mark.parametrize("job_id", ["verify", "public-key", "show"])
def test_a_job_with_the_name_of_a_command_is_shown_too(config: Path, job_id: str) -> None:
    asyncio.run(record(config.parent, SIGNED.raw.decode(), job_id))

    assert run("--config", str(config), "certificate", "show", job_id).stdout_bytes == SIGNED.raw + b"\n"
    assert "certificate show JOB" in " ".join(run("certificate", "--help").stdout.split())


def test_a_job_without_a_certificate_and_no_such_job_are_told_apart(config: Path) -> None:
    asyncio.run(record(config.parent, None))

    without = run("--config", str(config), "certificate", "acme-migrate-1")
    unknown = run("--config", str(config), "certificate", "nobody")

    assert (without.exit_code, without.stdout, unknown.exit_code) == (1, "", 1)
    assert "acme-migrate-1 has no certificate: it is running" in without.stderr
    assert "there is no job nobody" in unknown.stderr


def test_the_public_key_is_that_of_the_key_beside_the_ledger(config: Path) -> None:
    asked = ("--config", str(config), "certificate", "public-key")
    missing = run(*asked)
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "`rekeyd serve` makes it" in missing.stderr
    assert not list(config.parent.glob("*.pem")), "who only asks makes none"

    from rekeyd.custody.pem_signing import PemSigner  # noqa: PLC0415 - as the daemon does

    made = PemSigner.read_or_make(config.parent / "ledger.db.signing-key.pem")
    expected = asyncio.run(made.public_key())
    assert run(*asked).stdout == expected.pem
    assert json.loads(run(*asked, "--json").stdout) == {
        "algorithm": "ed25519",
        "fingerprint": expected.fingerprint,
        "pem": expected.pem,
    }
