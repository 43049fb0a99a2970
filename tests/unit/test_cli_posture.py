"""`rekeyd key posture`: what it prints, what it asks for, and with which status it ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rekeyd.cli import commands
from rekeyd.custody.aws_posture import PostureAccess, Role
from rekeyd.domain.posture import KeyFacts, KeyReference, Known, Unknown
from rekeyd.service import posture as service_posture
from tests.unit.test_posture import DATA, GOOD, described
from tests.unit.test_posture_holders import HOME, KEEPER, KEY

ROLE = f"arn:aws:iam::{HOME}:role/auditor"
UNSEEN = Unknown("cross_account", "not from here")
SILENT = Unknown("unreachable", "nobody answers")
ASKED = ("description", "policy", "grants", "rotation", "rotations", "tags", "aliases", "alias_target")


class Gathered:
    """In the place of the adapter: gives the facts, and remembers what it was asked."""

    def __init__(self) -> None:
        self.facts: KeyFacts = GOOD
        self.asked: list[tuple[KeyReference, Role | None, str]] = []
        self.access: PostureAccess | None = None

    async def gather(
        self,
        session: object,
        access: PostureAccess,
        reference: KeyReference,
        *,
        role: Role | None,
        alias: str,
        looked_at: float,
    ) -> KeyFacts:
        self.access = access
        self.asked.append((reference, role, alias))
        return replace(
            self.facts,
            reference=reference,
            daemon_account=Unknown("unsaid", ""),
            data_accounts=Unknown("unsaid", ""),
        )


@pytest.fixture
def gathered(monkeypatch: pytest.MonkeyPatch) -> Gathered:
    double = Gathered()
    monkeypatch.setattr(service_posture, "gather_facts", double.gather)
    monkeypatch.delenv("REKEYD_CONFIG", raising=False)
    return double


def posture(*arguments: str) -> Result:
    return CliRunner().invoke(commands.app, ["key", "posture", *arguments])


def findings(*arguments: str) -> dict[str, Any]:
    result = posture(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return {each["name"]: each for each in json.loads(result.stdout)["findings"]}


ACCOUNTS = ("--data-account", DATA, "--daemon-account", DATA)
MEANT = ("--expect", KEEPER, *ACCOUNTS)


def unseen(facts: KeyFacts, why: Unknown, *names: str) -> KeyFacts:
    changes: dict[str, Any] = dict.fromkeys(names, why)
    return replace(facts, **changes)


def test_a_key_in_good_order_needs_no_settings(gathered: Gathered) -> None:
    result = posture(KEY, *MEANT, "--json")

    assert result.exit_code == 0
    said = json.loads(result.stdout)
    assert (said["key"], said["account"], said["region"], said["worst"]) == (KEY, HOME, "us-east-1", "ok")
    assert said["looked_as"] == KEEPER
    assert {each["severity"] for each in said["findings"]} == {"ok"}
    assert {each["mend"] for each in said["findings"]} == {None}


def test_people_read_the_worst_first_with_how_to_mend_it(gathered: Gathered) -> None:
    gathered.facts = described(state="Disabled", manager="AWS")

    result = posture(KEY, *MEANT)

    lines = result.stdout.splitlines()
    first, second = (next(n for n, line in enumerate(lines) if word in line) for word in ("manager", "state"))
    assert first < second
    assert "make a customer managed key" in result.stdout
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("limit", "status"), [("critical", 0), ("high", 1), ("unknown", 1), ("medium", 1), ("low", 1)]
)
def test_fail_on_is_a_limit(gathered: Gathered, limit: str, status: int) -> None:
    gathered.facts = described(state="Disabled")

    assert posture(KEY, *MEANT, "--fail-on", limit).exit_code == status


@pytest.mark.parametrize(("limit", "status"), [("high", 0), ("unknown", 1), ("medium", 1)])
def test_what_is_not_seen_fails_what_asks_for_less_than_high(
    gathered: Gathered, limit: str, status: int
) -> None:
    gathered.facts = replace(GOOD, policy=UNSEEN)

    assert posture(KEY, *MEANT, "--fail-on", limit).exit_code == status


def test_a_role_is_assumed_with_its_external_id(gathered: Gathered) -> None:
    assert posture(KEY, "--role-arn", ROLE, "--external-id", "ours").exit_code == 0
    assert gathered.asked == [(KeyReference.parse(KEY, ""), Role(ROLE, "ours"), "")]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("acme",), "REF"),
        ((KEY, "--external-id", "ours"), "--external-id"),
        ((KEY, "--role-arn", "rekeyd"), "--role-arn"),
        ((KEY, "--role-arn", ROLE, "--external-id", "not this"), "--external-id"),
        ((KEY, "--alias", KEY), "--alias"),
        ((KEY, "--alias", "acme"), "--alias"),
        ((KEY, "--data-account", "acme"), "--data-account"),
        ((KEY, "--daemon-account", "1"), "--daemon-account"),
        ((KEY, "--fail-on", "ok"), "--fail-on"),
    ],
)
def test_what_can_not_be_meant_is_refused(gathered: Gathered, arguments: tuple[str, ...], words: str) -> None:
    result = posture(*arguments)

    assert result.exit_code == 2
    assert words in result.stderr


def test_a_key_that_does_not_exist_is_refused(gathered: Gathered) -> None:
    gathered.facts = unseen(GOOD, Unknown("missing", "NotFoundException"), *ASKED)

    result = posture(KEY)

    assert result.exit_code == 2
    assert f"there is no {KEY}" in result.stderr


@pytest.mark.parametrize("cause", ["unreachable", "role"])
def test_a_key_service_that_says_nothing_is_out_of_reach(gathered: Gathered, cause: Any) -> None:  # noqa: ANN401
    gathered.facts = unseen(GOOD, replace(SILENT, cause=cause), *ASKED)

    result = posture(KEY, "--json")

    assert (result.exit_code, result.stdout) == (3, "")
    assert "nobody answers" in result.stderr


def test_a_key_service_that_refuses_everything_was_reached(gathered: Gathered) -> None:
    gathered.facts = unseen(GOOD, Unknown("denied", "AccessDeniedException"), *ASKED)

    assert {name for name, each in findings(KEY, *MEANT).items() if each["severity"] == "ok"} == {
        "same_account_as_data",
        "same_account_as_daemon",
    }


def written(folder: Path, text: str) -> tuple[str, str]:
    path = folder / "rekeyd.toml"
    path.write_text(text, encoding="utf-8")
    return "--config", str(path)


HERE = f'[stores.s3]\naccount_id = "{HOME}"\n'
AWAY = f'[stores.s3]\naccount_id = "{DATA}"\n'
NAMELESS = '[stores.other]\nendpoint_url = "http://127.0.0.1:1"\n'
DAEMON = f'[custody.aws]\nuse_principal_arns = ["arn:aws:iam::{DATA}:role/rekeyd-use"]\n'


@pytest.mark.parametrize(
    ("stores", "severity"),
    [
        (HERE, "high"),
        (AWAY, "ok"),
        # One that names no owner may be anywhere; what the others name stands.
        (AWAY + NAMELESS, "unknown"),
        (HERE + NAMELESS, "high"),
        (NAMELESS, "unknown"),
    ],
)
def test_the_data_are_in_the_accounts_of_all_stores_or_nobody_knows(
    gathered: Gathered, tmp_path: Path, stores: str, severity: str
) -> None:
    found = findings(KEY, *written(tmp_path, stores))["same_account_as_data"]

    assert found["severity"] == severity
    assert ("--data-account" in (found["mend"] or "")) is (severity == "unknown")


def test_an_account_that_was_told_is_the_datas_whatever_stores_name_none(
    gathered: Gathered, tmp_path: Path
) -> None:
    told = findings(KEY, *written(tmp_path, NAMELESS), "--data-account", DATA)

    assert told["same_account_as_data"]["severity"] == "ok"


@pytest.mark.parametrize(
    ("settings", "severity"),
    [
        # Whoever asks is a person, more often than not, and maybe of another account than the daemon.
        (AWAY, "unknown"),
        (AWAY + DAEMON, "ok"),
        (AWAY + DAEMON.replace(DATA, HOME), "high"),
        # The daemon is one of both: if it were the one that isn't here, that would be well, and nobody knows.
        (AWAY + DAEMON.replace('"]', f'", "arn:aws:iam::{HOME}:role/writer"]'), "unknown"),
    ],
)
def test_who_asks_is_not_taken_for_the_daemon(
    gathered: Gathered, tmp_path: Path, settings: str, severity: str
) -> None:
    gathered.facts = replace(GOOD, looker=Known(f"arn:aws:iam::{DATA}:user/ann"))

    found = findings(KEY, *written(tmp_path, settings))["same_account_as_daemon"]

    assert found["severity"] == severity
    assert ("--daemon-account" in (found["mend"] or "")) is (severity == "unknown")


def test_without_settings_nobody_knows_whose_credentials_these_are(gathered: Gathered) -> None:
    found = findings(KEY)

    assert {found[f"same_account_as_{whose}"]["severity"] for whose in ("data", "daemon")} == {"unknown"}
    assert "--daemon-account" in found["same_account_as_daemon"]["mend"]


def test_an_endpoint_of_the_settings_is_asked(gathered: Gathered, tmp_path: Path) -> None:
    settings = tmp_path / "rekeyd.toml"
    settings.write_text('[custody.aws]\nendpoint_url = "http://127.0.0.1:1"\n', encoding="utf-8")

    assert posture(KEY, "--config", str(settings)).exit_code == 0
    assert gathered.access is not None
    assert gathered.access.endpoint_url == "http://127.0.0.1:1"
