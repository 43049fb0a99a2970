"""`rekeyd key public` and `rekeyd key wrap`: the real command, on the real modules."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import secrets
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from typer.testing import CliRunner, Result

from rekeyd.cli import commands
from rekeyd.custody.wrapping import PemUnwrapper, public_half
from rekeyd.domain.custody import Errand
from rekeyd.domain.key import WrappedKey

SETTINGS = '[ledger]\nurl = "sqlite:///nowhere/ledger.db"\n[custody.wrapping]\nprivate_key_file = "{path}"\n'


@cache
def our_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    path = tmp_path / "rekeyd-public.pem"
    path.write_text(public_half(our_key().public_key()).pem)
    return path


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(commands.app, ["key", *map(str, args)], env={"REKEYD_CONFIG": ""})


def unwrapped(printed: str) -> bytes:
    async def unwrap() -> bytes:
        wrapped = WrappedKey.model_validate_json(printed)
        async with PemUnwrapper(our_key()).unwrapped(Errand("acme", "job"), wrapped) as material:
            return bytes(material.buffer)

    return asyncio.run(unwrap())


def test_a_key_is_made_and_wrapped(public_key: Path) -> None:
    first, second = run("wrap", "--public-key", public_key), run("wrap", "--public-key", public_key)

    assert first.exit_code == second.exit_code == 0
    assert unwrapped(first.stdout) != unwrapped(second.stdout)
    assert "kept nowhere" in first.stderr
    assert set(json.loads(first.stdout)) == {"kind", "wrapped_key", "sha256", "material", "wrapping_key"}


def test_a_key_of_the_tenants_is_taken(public_key: Path, tmp_path: Path) -> None:
    key = secrets.token_bytes(32)
    (tmp_path / "my-key").write_bytes(key)

    done = run("wrap", "--public-key", public_key, "--key-file", tmp_path / "my-key")

    assert (done.exit_code, done.stderr) == (0, "")
    assert unwrapped(done.stdout) == key
    assert json.loads(done.stdout)["sha256"] == base64.b64encode(hashlib.sha256(key).digest()).decode()


def test_a_key_that_is_made_can_be_kept(public_key: Path, tmp_path: Path) -> None:
    kept = tmp_path / "my-key"

    done = run("wrap", "--public-key", public_key, "--new-key-file", kept)

    assert unwrapped(done.stdout) == kept.read_bytes()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    again = run("wrap", "--public-key", public_key, "--new-key-file", kept)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "File exists" in again.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "32 raw bytes"),
        (secrets.token_bytes(31), "32 raw bytes"),
        (secrets.token_bytes(33), "32 raw bytes"),
        (secrets.token_hex(32).encode(), "32 raw bytes"),
        (bytes(32), "counts"),
        (b"correct horse battery staple, ok", "text"),
        (None, "No such file"),
    ],
    ids=["empty", "short", "long", "hex", "zeros", "text", "missing"],
)
def test_what_is_no_key_is_refused_and_never_shown(
    public_key: Path, tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "my-key"
    if content is not None:
        path.write_bytes(content)

    done = run("wrap", "--public-key", public_key, "--key-file", path)

    assert (done.exit_code, done.stdout) == (2, "")
    assert words in done.stderr
    assert "horse" not in done.stderr


def test_what_is_no_public_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "public.pem"
    path.write_text("no key")

    assert run("wrap", "--public-key", path).exit_code == 2
    assert run("wrap", "--public-key", tmp_path / "missing").exit_code == 2


def test_a_key_is_either_made_or_taken(public_key: Path, tmp_path: Path) -> None:
    both = run(
        "wrap", "--public-key", public_key, "--key-file", tmp_path / "a", "--new-key-file", tmp_path / "b"
    )

    assert both.exit_code == 2
    assert not (tmp_path / "b").exists()


def private_key_file(tmp_path: Path, mode: int = 0o600) -> Path:
    path = tmp_path / "private.pem"
    path.write_bytes(
        our_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    path.chmod(mode)
    return path


def settings_with(tmp_path: Path, private: Path | str) -> Path:
    path = tmp_path / "rekeyd.toml"
    path.write_text(SETTINGS.format(path=private))
    return path


def test_the_public_key_is_printed(tmp_path: Path) -> None:
    config = settings_with(tmp_path, private_key_file(tmp_path))

    done = run("public", "--config", config)

    assert done.exit_code == 0
    assert done.stdout == public_half(our_key().public_key()).pem
    fingerprint = public_half(our_key().public_key()).fingerprint
    assert fingerprint in done.stderr
    printed = json.loads(run("public", "--config", config, "--json").stdout)
    assert printed == {"public_key": done.stdout, "fingerprint": fingerprint}


def test_a_systemd_credential_is_named_without_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private_key_file(tmp_path, 0o440)
    config = settings_with(tmp_path, "private.pem")

    assert run("public", "--config", config).exit_code == 2
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert run("public", "--config", config).exit_code == 0


@pytest.mark.parametrize("mode", [0o644, 0o440])
def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    done = run("public", "--config", settings_with(tmp_path, private_key_file(tmp_path, mode)))

    assert done.exit_code == 2
    assert "custody.wrapping.private_key_file" in done.stderr
    assert "chmod 0600" in done.stderr


def test_without_a_private_key_there_is_no_public_one(tmp_path: Path) -> None:
    done = run("public", "--config", settings_with(tmp_path, ""))

    assert done.exit_code == 2
    assert "custody.wrapping" in done.stderr


def test_wrapping_loads_no_sdk(public_key: Path) -> None:
    script = (
        "import sys; from rekeyd.cli.commands import app\n"
        f"try: app(['key', 'wrap', '--public-key', {str(public_key)!r}])\n"
        "except SystemExit as end: assert end.code == 0, end\n"
        "assert not {'aiobotocore', 'botocore', 'sqlalchemy'} & sys.modules.keys(), 'an SDK was loaded'"
    )

    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
