"""Settings become adapters: what is known of AWS without being told, and what every other store must be told."""

from __future__ import annotations

import pytest

import rekeyd
from rekeyd.domain.errors import MissingCredentialsError
from rekeyd.service.adapters import open_stores, s3_config
from rekeyd.settings import LimitsSettings, S3StoreSettings, Settings
from rekeyd.telemetry import Metrics

LIMITS = LimitsSettings(
    request_seconds_max=7, connect_seconds_max=3, bytes_per_second_min=1024 * 1024, connections_max=150
)
AWS = S3StoreSettings(region="eu-central-1", account_id="111122223333")
OWN = S3StoreSettings(endpoint_url="https://s3.example")


def test_aws_needs_no_telling() -> None:
    config = s3_config("s3", AWS, LIMITS)

    assert (config.name, config.region, config.endpoint_url) == ("s3", "eu-central-1", "")
    assert config.account_id == "111122223333"
    assert config.batch_delete_conditions, "DeleteObjects heeds ETags there"
    assert config.keeps_every_key
    assert not config.counts_tags, "only where rekeyd may read tags: that must be told"


def test_of_any_other_store_nothing_is_supposed() -> None:
    config = s3_config("minio", OWN, LIMITS)

    assert (config.name, config.endpoint_url, config.account_id) == ("minio", "https://s3.example", "")
    assert not config.batch_delete_conditions
    assert not config.keeps_every_key
    assert not config.counts_tags


@pytest.mark.parametrize("store", [AWS, OWN])
@pytest.mark.parametrize("flag", ["batch_delete_conditions", "keeps_every_key", "counts_tags"])
def test_what_is_told_of_a_store_holds(store: S3StoreSettings, flag: str) -> None:
    assert getattr(s3_config("s3", store.model_copy(update={flag: True}), LIMITS), flag) is True


def test_the_bounds_are_those_of_the_settings() -> None:
    config = s3_config("s3", AWS, LIMITS)

    assert config.answer_seconds_max == config.read_gap_seconds_max == 7
    assert config.connect_seconds_max == 3
    assert config.bytes_per_second_min == 1024 * 1024
    assert config.connections_max == 150


def settings_with(**stores: S3StoreSettings) -> Settings:
    return Settings(stores=stores)


async def test_public_access_must_be_blocked_on_aws_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "AKID")

    async with open_stores(settings_with(s3=AWS, minio=OWN), Metrics(rekeyd.__version__)) as stores:
        assert {name: store.is_aws for name, store in stores.items()} == {
            "s3": True,
            "minio": False,
        }
        assert {name: store.region for name, store in stores.items()} == {
            "s3": "eu-central-1",
            "minio": "us-east-1",
        }
        assert {store.objects.name for store in stores.values()} == {"s3", "minio"}


async def test_stores_are_not_opened_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(MissingCredentialsError):
        async with open_stores(settings_with(s3=OWN), Metrics(rekeyd.__version__)):
            pass
