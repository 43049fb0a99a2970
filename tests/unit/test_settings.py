"""Settings: what is taken, what is refused, and that example and schema say the same as the model."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from rekeyd.settings import Settings, SettingsError, load_settings

CONFIG = Path(__file__).parents[2] / "config"
EXAMPLE = CONFIG / "rekeyd.example.toml"
SCHEMA = CONFIG / "rekeyd.schema.json"
YOURS = {"stores.s3.account_id", "migrate.source_pattern", "migrate.target_pattern"}

PATTERNS = """
[migrate]
source_pattern = "s3://shared/tenants/{tenant}/"
target_pattern = "s3://byok-{tenant_hash}/"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rekeyd.toml"


def faults(file: Path, text: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(file, environ or {})
    assert str(caught.value).splitlines() == [f"{key}: {why}" for key, why in caught.value.faults]
    return dict(caught.value.faults)


def loaded(file: Path, text: str, environ: Mapping[str, str] | None = None) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load_settings(file, environ or {})


def leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# --- example and schema ---


def test_the_example_is_complete_and_states_the_defaults() -> None:
    example = dict(leaves(tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))))
    defaults = dict(leaves(json.loads(Settings().model_dump_json())))

    assert example.keys() == defaults.keys()
    assert {key for key in example if example[key] != defaults[key]} == YOURS


def test_the_example_can_be_used() -> None:
    settings = load_settings(EXAMPLE, {})

    source, target = settings.require_patterns()
    assert str(source.locate("acme", "source")) == "s3://shared/tenants/acme/"
    assert target.locate("acme", "target").bucket.startswith("byok-")


def test_the_schema_is_current() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "rekeyd.settings"], capture_output=True, text=True, check=True
    )

    assert SCHEMA.read_text(encoding="utf-8") == printed.stdout, (
        "run: python -m rekeyd.settings > config/rekeyd.schema.json"
    )


def test_the_example_fits_the_schema() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)

    jsonschema.validate(tomllib.loads(EXAMPLE.read_text(encoding="utf-8")), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"ledger": {"path": "x"}}, schema)


def test_every_key_is_described() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    sections = {**schema["$defs"], "Settings": schema}
    tables = {
        "ledger",
        "stores",
        "custody",
        "audit",
        "intake",
        "telemetry",
        "migrate",
        "limits",
        "aws",
        "wrapping",
        "sqs",
    }

    assert not [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, value in section["properties"].items()
        if key not in tables and not value.get("description")
    ]
    assert all(section.get("description") for section in sections.values())


# --- what is taken ---


def test_nothing_set_is_the_defaults() -> None:
    assert load_settings(None, {}) == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().ledger.url = "sqlite:///x"  # type: ignore[misc]


def test_the_environment_overrides_the_file(file: Path) -> None:
    settings = loaded(
        file,
        '[ledger]\nurl = "sqlite:///one"\n[limits]\njobs_max = 2\n',
        {
            "REKEYD_LEDGER__URL": "sqlite:///two",
            "REKEYD_LIMITS__POLL_SECONDS": "0.25",
            "REKEYD_STORES__S3__REGION": "eu-west-1",
            "REKEYD_STORES__MINIO__ENDPOINT_URL": "https://minio.example",
            "REKEYD_STORES__MINIO__BATCH_DELETE_CONDITIONS": "false",
            "REKEYD_INTAKE__SQS__KINDS": "migrate,",
            "REKEYD_TELEMETRY__LOG_LEVEL": "debug",
        },
    )

    assert settings.ledger.path == Path("/two")
    assert (settings.limits.jobs_max, settings.limits.poll_seconds) == (2, 0.25)
    assert settings.stores.keys() == {"s3", "minio"}
    assert settings.stores["s3"].region == "eu-west-1"
    assert not settings.stores["minio"].batch_delete_conditions
    assert settings.intake.sqs.kinds == ("migrate",)
    assert settings.telemetry.log_level == "debug"


@pytest.mark.parametrize("kind", ["migrate", "rotate", "revoke", "reinstate", "verify"])
def test_an_intake_may_be_let_ask_for_every_kind_of_the_contract(file: Path, kind: str) -> None:
    assert loaded(file, f"[intake.sqs]\nkinds = ['{kind}']").intake.sqs.kinds == (kind,)


def test_an_intake_may_ask_for_all_but_reinstating_unless_it_is_told_otherwise(file: Path) -> None:
    assert loaded(file, "").intake.sqs.kinds == ("migrate", "rotate", "verify", "revoke")


def test_variables_of_the_command_are_not_settings() -> None:
    environ = {
        "REKEYD_CONFIG": "x",
        "REKEYD_PRINCIPAL": "x",
        "REKEYD_TOKEN": "x",
        "REKEYD_SANDBOX_ANYTHING": "x",
        "PATH": "x",
    }

    assert load_settings(None, environ) == Settings()


@pytest.mark.parametrize("url", ["sqlite:///var/l.db", "sqlite:////var/l.db"])
def test_a_ledger_is_a_whole_path(file: Path, url: str) -> None:
    assert loaded(file, f'ledger.url = "{url}"').ledger.path == Path("/var/l.db")


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:9464", "127.0.0.1", 9464),
        ("[::1]:0", "::1", 0),
        ("metrics.example:80", "metrics.example", 80),
    ],
)
def test_a_telemetry_address(file: Path, listen: str, host: str, port: int) -> None:
    telemetry = loaded(file, f'telemetry.listen = "{listen}"').telemetry

    assert (telemetry.host, telemetry.port) == (host, port)


@pytest.mark.parametrize(
    ("queue_url", "region", "signing_region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/111122223333/jobs", "", "eu-west-1"),
        ("https://sqs.eu-west-1.amazonaws.com/111122223333/jobs", "us-west-2", "us-west-2"),
        ("", "", "us-east-1"),
    ],
)
def test_a_queue_is_signed_for_in_its_region(
    file: Path, queue_url: str, region: str, signing_region: str
) -> None:
    sqs = loaded(file, f'[intake.sqs]\nqueue_url = "{queue_url}"\nregion = "{region}"').intake.sqs

    assert sqs.signing_region == signing_region


@pytest.mark.parametrize("host", ["127.0.0.1:8333", "localhost:8333", "[::1]:8333"])
def test_plain_http_is_for_loopback(file: Path, host: str) -> None:
    assert loaded(file, f'stores.s3.endpoint_url = "http://{host}/"').stores["s3"].endpoint_url == (
        f"http://{host}"
    )


# --- what is refused ---


@pytest.mark.parametrize(
    ("text", "key", "word"),
    [
        ("[ledgers]\n", "ledgers", "no such setting"),
        ("[limits]\njobs = 1", "limits.jobs", "no such setting"),
        ("[stores.s3]\nsecret_access_key = 'x'", "stores.s3.secret_access_key", "no such setting"),
        ("[intake.sqs]\nqueue = 'x'", "intake.sqs.queue", "no such setting"),
        ("[limits]\njobs_max = '4'", "limits.jobs_max", "integer"),
        ("[limits]\njobs_max = 0", "limits.jobs_max", "greater"),
        ("[limits]\npoll_seconds = inf", "limits.poll_seconds", "finite"),
        ("[limits]\npoll_seconds = nan", "limits.poll_seconds", "finite"),
        ("[limits]\npart_bytes = 5242879", "limits.part_bytes", "5242880"),
        ("[limits]\ncopy_object_bytes_max = 5368709121", "limits.copy_object_bytes_max", "5368709120"),
        ("ledger.url = 'postgresql://u@h/db'", "ledger.url", "SQLite only"),
        ("ledger.url = 'sqlite://ledger.db'", "ledger.url", "whole path"),
        ("ledger.url = 'sqlite:///:memory:'", "ledger.url", "whole path"),
        ("ledger.url = ''", "ledger.url", "SQLite only"),
        ("ledger = 3", "ledger", "dictionary"),
        ("stores.s3.provider = 'azure'", "stores.s3.provider", "'s3'"),
        ("stores.s3.account_id = '123'", "stores.s3.account_id", "pattern"),
        ("stores.s3.region = 'Europe'", "stores.s3.region", "pattern"),
        ("stores.S3.region = 'eu-west-1'", "stores.S3", "pattern"),
        ("stores.a__b.region = 'eu-west-1'", "stores.a__b", "pattern"),
        ("stores.s3.endpoint_url = 'http://minio:9000'", "stores.s3.endpoint_url", "in the clear"),
        ("stores.s3.endpoint_url = 'http://10.0.0.1'", "stores.s3.endpoint_url", "in the clear"),
        ("stores.s3.endpoint_url = 'https://k:s@minio'", "stores.s3.endpoint_url", "credentials"),
        ("stores.s3.endpoint_url = 'https://minio/x'", "stores.s3.endpoint_url", "no path"),
        ("stores.s3.endpoint_url = 'minio:9000'", "stores.s3.endpoint_url", "https://"),
        ("custody.aws.endpoint_url = 'http://kms'", "custody.aws.endpoint_url", "in the clear"),
        ("intake.sqs.queue_url = 'https://sqs.example'", "intake.sqs.queue_url", "name included"),
        ("intake.sqs.kinds = ['teleport']", "intake.sqs.kinds.0", "'migrate'"),
        ("intake.sqs.kinds = []", "intake.sqs.kinds", "at least one"),
        ("intake.sqs.wait_seconds = 21", "intake.sqs.wait_seconds", "20"),
        ("telemetry.listen = '9464'", "telemetry.listen", "HOST:PORT"),
        ("telemetry.listen = 'h:99999'", "telemetry.listen", ""),
        ("telemetry.log_level = 'loud'", "telemetry.log_level", "'debug'"),
        ("audit.signing_key_file = 'arn:aws:kms:key'", "audit.signing_key_file", "whole ARN"),
        ("audit.signing_key_file = '../key.pem'", "audit.signing_key_file", "whole path"),
        ("audit.checkpoint_seconds = 0", "audit.checkpoint_seconds", "1"),
        ("audit.checkpoint_location = 'vault'", "audit.checkpoint_location", "<store>://"),
    ],
)
def test_a_wrong_key_is_named(file: Path, text: str, key: str, word: str) -> None:
    found = faults(file, text)

    assert list(found) == [key]
    assert word in found[key]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (PATTERNS, "stores.s3.account_id"),
        (PATTERNS + "[stores.s3]\naccount_id='111122223333'\n[stores.former]", "stores.former.account_id"),
        (PATTERNS + "[stores.minio]\nendpoint_url='https://m'", "migrate.source_pattern"),
        ("migrate.source_pattern = 's3://shared/'", "migrate.source_pattern"),
        ("migrate.source_pattern = 's3://shared/{name}/'", "migrate.source_pattern"),
        ("migrate.target_pattern = 's3://byok/{tenant}/'", "migrate.target_pattern"),
        ("migrate.pause_seconds_max = 74", "migrate.pause_seconds_max"),
        ("limits.lease_seconds = 44", "limits.lease_seconds"),
        ("limits.connect_seconds_max = 30", "limits.connect_seconds_max"),
        ("limits.backoff_seconds_base = 21", "limits.backoff_seconds_base"),
        ("limits.part_bytes = 268435457", "limits.buffer_bytes_max"),
        ("limits.single_put_bytes_max = 268435457", "limits.buffer_bytes_max"),
        ("limits.connections_max = 143", "limits.connections_max"),
        (
            "intake.sqs.queue_url = 'https://queue.example/1/jobs'",
            "intake.sqs.endpoint_url",
        ),
        ("audit.checkpoint_location = 's4://vault/'", "audit.checkpoint_location"),
        (
            "audit.checkpoint_location = 's3://shared/vault/'\nmigrate.source_pattern = 's3://shared/{tenant}/'",
            "audit.checkpoint_location",
        ),
    ],
)
def test_a_contradiction_names_the_key(file: Path, text: str, key: str) -> None:
    assert key in faults(file, text)


def test_source_and_target_may_not_overlap(file: Path) -> None:
    text = """
        stores.s3.account_id = "111122223333"
        migrate.source_pattern = "s3://b-{tenant}/"
        migrate.target_pattern = "s3://b-{tenant}/byok/"
    """

    assert "overlaps" in faults(file, text)["migrate.target_pattern"]


def test_everything_wrong_is_told_at_once(file: Path) -> None:
    found = faults(file, "a = 1\n[limits]\njobs_max = 0\n", {"REKEYD_B": "1"})

    assert list(found) == ["REKEYD_B", "limits.jobs_max", "a"]


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("REKEYD_LEDGER", "x"),
        ("REKEYD_LEDGER__PATH", "x"),
        ("REKEYD_LEDGER__URL__X", "x"),
        ("REKEYD_STORES", "x"),
        ("REKEYD_STORES__S3", "x"),
        ("REKEYD_", "x"),
        ("REKEYD_STORES____REGION", "x"),
        ("REKEYD_LIMITS__JOBS_MAX", "four"),
        ("REKEYD_STORES__S3__BATCH_DELETE_CONDITIONS", "perhaps"),
        ("REKEYD_INTAKE__SQS__KINDS", "[migrate"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        load_settings(None, {variable: text})


def test_a_variable_can_not_replace_what_is_no_table(file: Path) -> None:
    assert "REKEYD_LEDGER__URL" in faults(file, "ledger = 3", {"REKEYD_LEDGER__URL": "sqlite:///x"})


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: can't be read"):
        load_settings(tmp_path / "none.toml", {})


@pytest.mark.parametrize(("content", "word"), [(b"a =", "is not TOML"), (b"\xff", "is not UTF-8")])
def test_a_file_that_is_no_settings(file: Path, content: bytes, word: str) -> None:
    file.write_bytes(content)

    with pytest.raises(SettingsError, match=word):
        load_settings(file, {})


def test_patterns_are_required_where_jobs_are_admitted(file: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().require_patterns()
    assert [key for key, _ in caught.value.faults] == ["migrate.source_pattern", "migrate.target_pattern"]

    only = loaded(
        file,
        """
        stores.s3.account_id = "111122223333"
        migrate.source_pattern = "s3://shared/{tenant}/"
        """,
    )
    with pytest.raises(SettingsError, match=r"^migrate\.target_pattern: is required"):
        only.require_patterns()


CUSTODY = "[custody.aws]\n{}\n[custody.wrapping]\n{}\n"
ROLE = "arn:aws:iam::111122223333:role/rekeyd-provision"


@pytest.mark.parametrize(
    ("aws", "wrapping", "key"),
    [
        ('provision_role_arn = "rekeyd"', "", "custody.aws.provision_role_arn"),
        ('revoke_role_arn = "arn:aws:iam::1:role/x"', "", "custody.aws.revoke_role_arn"),
        ('break_glass_role_arn = "arn:aws:iam::111122223333:user/x"', "", "custody.aws.break_glass_role_arn"),
        ('use_principal_arns = ["*"]', "", "custody.aws.use_principal_arns"),
        ('use_principal_arns = ["arn:aws:iam::111122223333:root"]', "", "custody.aws.use_principal_arns"),
        ("", 'private_key_file = "./key.pem"', "custody.wrapping.private_key_file"),
        ("", 'kms_key_arn = "/etc/key.pem"', "custody.wrapping.kms_key_arn"),
        (
            "",
            'private_key_file = "/k"\nkms_key_arn = "arn:aws:kms:us-east-1:111122223333:key/1"',
            "custody.wrapping.kms_key_arn",
        ),
        (
            f'provision_role_arn = "{ROLE}"\nrevoke_role_arn = "arn:aws:iam::444455556666:role/x"',
            "",
            "custody.aws.provision_role_arn",
        ),
    ],
)
def test_roles_and_wrapping_keys_that_cannot_be_meant_are_refused(
    tmp_path: Path, aws: str, wrapping: str, key: str
) -> None:
    path = tmp_path / "rekeyd.toml"
    path.write_text(CUSTODY.format(aws, wrapping))

    with pytest.raises(SettingsError) as caught:
        load_settings(path, {})

    assert [name for name, _ in caught.value.faults] == [key]


def test_the_wrapping_key_is_a_file_a_credential_or_in_kms(tmp_path: Path) -> None:
    arn = "arn:aws:kms:us-east-1:111122223333:key/1"
    for text, found in (
        ('private_key_file = "/k.pem"', (None, None)),
        ('private_key_file = "k.pem"', (None, "k.pem")),
        (f'private_key_file = "{arn}"', (arn, None)),
        (f'kms_key_arn = "{arn}"', (arn, None)),
    ):
        path = tmp_path / "rekeyd.toml"
        path.write_text(CUSTODY.format("", text))
        wrapping = load_settings(path, {}).custody.wrapping
        assert (wrapping.key_arn, wrapping.credential) == found


def test_an_emulators_sts_is_where_its_kms_is() -> None:
    emulated = {"REKEYD_CUSTODY__AWS__ENDPOINT_URL": "http://127.0.0.1:4566"}
    assert load_settings(None, {}).custody.aws.sts_endpoint == ""
    assert load_settings(None, emulated).custody.aws.sts_endpoint == "http://127.0.0.1:4566"
    elsewhere = {**emulated, "REKEYD_CUSTODY__AWS__STS_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert load_settings(None, elsewhere).custody.aws.sts_endpoint == "http://127.0.0.1:1"
    private = {"REKEYD_CUSTODY__AWS__ENDPOINT_URL": "https://vpce-1.kms.us-east-1.vpce.amazonaws.com"}
    assert load_settings(None, private).custody.aws.sts_endpoint == ""
