"""Who signs, as the settings say; how `check` finds it, and what `serve` does with a key that won't do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from aiobotocore.session import AioSession

from rekeyd.custody.kms_signing import KmsSigner
from rekeyd.custody.pem_signing import PemSigner
from rekeyd.domain.errors import RefusedError
from rekeyd.service import daemon, kms_signer
from rekeyd.service.checks import check
from rekeyd.service.findings import CheckFinding
from rekeyd.service.signing import open_signer
from rekeyd.settings import Settings, load_settings
from tests.contract.test_signing import session
from tests.doubles.kms_signing import ARN, KmsDouble, serving

MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Settings with this signing key; everything else is out of reach, and nobody has credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    def make(signing_key_file: str = "", kms_endpoint: str = "http://127.0.0.1:1") -> Settings:
        path = tmp_path / "rekeyd.toml"
        path.write_text(
            f"""
[ledger]
url = "sqlite://{tmp_path}/ledger.db"
[stores.s3]
endpoint_url = "http://127.0.0.1:1"
[custody.aws]
endpoint_url = "{kms_endpoint}"
[audit]
signing_key_file = "{signing_key_file}"
[telemetry]
listen = "127.0.0.1:0"
[migrate]
source_pattern = "s3://shared/tenants/{{tenant}}/"
target_pattern = "s3://byok-{{tenant}}/"
"""
        )
        return load_settings(path, {})

    return make


def keys_in(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("*.pem")]


async def found(settings: Settings) -> CheckFinding:
    (finding,) = [each for each in await check(settings) if each.name == "signing key"]
    return finding


async def test_a_key_is_made_beside_the_ledger_by_whoever_serves_alone(
    settings_of: MakeSettings, tmp_path: Path
) -> None:
    settings = settings_of()
    with pytest.raises(RefusedError, match="`rekeyd serve` makes it"):
        await open_signer(settings)
    finding = await found(settings)
    assert finding.ok
    assert "isn't there yet" in finding.detail
    assert keys_in(tmp_path) == []

    made = await (await open_signer(settings, make=True)).public_key()

    assert keys_in(tmp_path) == ["ledger.db.signing-key.pem"]
    assert await (await open_signer(settings)).public_key() == made
    assert (await found(settings)).detail == f"its public key is {made.fingerprint}"


async def test_a_named_file_is_never_made(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(str(tmp_path / "key.pem"))
    with pytest.raises(RefusedError, match=r"audit\.signing_key_file"):
        await open_signer(settings, make=True)

    made = PemSigner.read_or_make(tmp_path / "key.pem")

    assert await (await open_signer(settings)).public_key() == await made.public_key()


async def test_a_name_is_that_of_a_systemd_credential(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of("signing-key")
    with pytest.raises(RefusedError, match="there are none here"):
        await open_signer(settings, environ={})
    made = PemSigner.read_or_make(tmp_path / "signing-key")
    (tmp_path / "signing-key").chmod(0o440)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert await (await open_signer(settings, environ=environ)).public_key() == await made.public_key()
    # So is the same by its whole path, which a unit file writes as %d/signing-key.
    whole = settings_of(str(tmp_path / "signing-key"))
    assert await (await open_signer(whole, environ=environ)).public_key() == await made.public_key()
    with pytest.raises(RefusedError, match="mode 0440"):
        await open_signer(whole, environ={})


async def test_an_arn_is_a_key_in_kms(settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    known: AioSession = session()
    monkeypatch.setattr(kms_signer, "get_session", lambda: known)
    double = KmsDouble()
    async with serving(double) as url:
        settings = settings_of(ARN, url)
        signer = await open_signer(settings)
        assert isinstance(signer, KmsSigner)
        assert double.asked == [], "it isn't asked before it is used"
        assert (await found(settings)).ok
        double.error = "AccessDeniedException"
        refused = await found(settings)
        assert (refused.ok, refused.reachable) == (False, True)
        assert "kms:Sign" in refused.advice
    away = await found(settings)
    assert (away.ok, away.reachable) == (False, False)


async def test_a_file_that_others_can_read_is_found_and_not_served_with(
    settings_of: MakeSettings, tmp_path: Path
) -> None:
    PemSigner.read_or_make(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o644)
    settings = settings_of(str(tmp_path / "key.pem"))

    finding = await found(settings)

    assert not finding.ok
    assert "chmod 0600" in finding.detail
    assert await daemon.serve(settings) == 2
