"""The KMS key for which tenants wrap theirs: `check` says when it won't do, and `serve` doesn't begin with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rekeyd import __version__
from rekeyd.domain.errors import RefusedError
from rekeyd.ledger.sql import SqlLedger
from rekeyd.service import adapters, custody, daemon
from rekeyd.service.checks import check
from rekeyd.service.findings import CheckFinding
from rekeyd.settings import Settings, load_settings
from rekeyd.telemetry import Metrics
from tests.contract.custodies import session_with
from tests.doubles.kms import KmsDouble, served

WRAPPING_KEY = "arn:aws:kms:us-east-1:111122223333:key/00000001-0000-4000-8000-000000000000"

MakeSettings = Callable[[str], Settings]


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Settings whose wrapping key is in the KMS at an address; everything else is out of reach."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDUSE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setattr(custody, "get_session", lambda: session_with("AKIDUSE", "secret"))

    def make(kms_endpoint: str) -> Settings:
        path = tmp_path / "rekeyd.toml"
        path.write_text(
            f"""
[ledger]
url = "sqlite://{tmp_path}/ledger.db"
[stores.s3]
endpoint_url = "http://127.0.0.1:1"
[custody.aws]
endpoint_url = "{kms_endpoint}"
[custody.wrapping]
kms_key_arn = "{WRAPPING_KEY}"
[telemetry]
listen = "127.0.0.1:0"
[migrate]
source_pattern = "s3://shared/tenants/{{tenant}}/"
target_pattern = "s3://byok-{{tenant}}/"
"""
        )
        return load_settings(path, {})

    return make


@pytest.fixture
async def kms() -> AsyncIterator[KmsDouble]:
    async with served(KmsDouble()) as double:
        yield double


async def found(settings: Settings) -> CheckFinding:
    (finding,) = [each for each in await check(settings) if each.name == "wrapping key"]
    return finding


async def tools_open(settings: Settings, tmp_path: Path) -> bool:
    """Whether the daemon gets as far as to have all that it works with."""
    ledger = await SqlLedger.open(f"sqlite://{tmp_path}/other.db", make=True)
    try:
        async with adapters.open_tools(settings, ledger, Metrics(__version__)):
            return True
    finally:
        await ledger.close()


@pytest.mark.parametrize("spec", ["RSA_2048", "RSA_3072"])
async def test_a_wrapping_key_of_fewer_bits_is_found_and_not_served_with(
    settings_of: MakeSettings, kms: KmsDouble, spec: str
) -> None:
    assert kms.make_key(spec=spec).arn == WRAPPING_KEY
    settings = settings_of(kms.endpoint_url)

    finding = await found(settings)

    assert (finding.ok, finding.reachable) == (False, True)
    assert spec in finding.detail
    assert "RSA_4096" in finding.advice
    assert await daemon.serve(settings) == 2


async def test_one_of_4096_bits_will_do(settings_of: MakeSettings, kms: KmsDouble, tmp_path: Path) -> None:
    kms.make_key(spec="RSA_4096")
    settings = settings_of(kms.endpoint_url)

    assert (await found(settings)).ok
    assert await tools_open(settings, tmp_path)


async def test_a_key_service_that_is_away_keeps_nobody_from_serving(
    settings_of: MakeSettings, tmp_path: Path
) -> None:
    settings = settings_of("http://127.0.0.1:1")

    finding = await found(settings)

    assert (finding.ok, finding.reachable) == (False, False)
    assert await tools_open(settings, tmp_path)


async def test_what_is_refused_at_the_start_names_the_setting(
    settings_of: MakeSettings, kms: KmsDouble, tmp_path: Path
) -> None:
    kms.make_key(spec="RSA_2048")
    with pytest.raises(RefusedError) as refused:
        await tools_open(settings_of(kms.endpoint_url), tmp_path)
    assert refused.value.field == "custody.wrapping"
