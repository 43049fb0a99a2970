"""How `rekeyd serve` ends: with which status it doesn't start, and with which it stops."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

import rekeyd
from rekeyd.custody.pem_signing import PemSigner
from rekeyd.jobs.checkpoints import Checkpoints
from rekeyd.jobs.comparison import Comparison
from rekeyd.jobs.key_watch import KeyWatch
from rekeyd.jobs.tools import Tools
from rekeyd.jobs.worker import Worker
from rekeyd.ledger.port import Ledger
from rekeyd.service import daemon
from rekeyd.service.ledger import open_ledger
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics
from tests.patience import HANG_SECONDS

AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")


def settings_in(folder: Path, *, listen: str = "127.0.0.1:0") -> Settings:
    return Settings.model_validate(
        {
            "ledger": {"url": f"sqlite://{folder}/ledger.db"},
            "stores": {"s3": {"endpoint_url": "http://127.0.0.1:1"}},
            "telemetry": {"listen": listen},
            "migrate": {
                "source_pattern": "s3://shared/tenants/{tenant}/",
                "target_pattern": "s3://byok-{tenant}/",
            },
            "limits": {"drain_seconds_max": 0.05},
        }
    )


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log stays the test's own, and no profile of the user's gives credentials."""
    monkeypatch.setattr(daemon, "set_up_logging", lambda *_: None)
    monkeypatch.setattr(daemon, "_GIVING_UP_SECONDS_MAX", 0.1)
    for name in AWS:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in AWS[:2]:
        monkeypatch.setenv(name, "AKID")


# --- not started ---


async def not_started(settings: Settings) -> tuple[int, MutableMapping[str, Any]]:
    with capture_logs() as logged:
        status = await daemon.serve(settings)
    (said,) = [line for line in logged if line["event"] == "not_started"]
    return status, said


async def test_credentials_that_are_not_there_are_out_of_reach(tmp_path: Path) -> None:
    status, said = await not_started(settings_in(tmp_path))

    assert status == 3
    assert "no credentials" in said["error"]


async def test_a_ledger_that_can_not_be_opened_is_out_of_reach(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").mkdir()

    status, said = await not_started(settings_in(tmp_path))

    assert status == 3
    assert "ledger.db" in said["error"]


@pytest.mark.usefixtures("_credentials")
async def test_an_address_that_somebody_else_has_is_an_unusable_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = await not_started(settings_in(tmp_path, listen=address))

    assert (status, said["setting"]) == (2, "telemetry.listen")
    assert address.partition(":")[2] in said["error"]


# --- stopped ---


class LeftError(Exception):
    """In the place of `os._exit`, which would take the tests along."""


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    statuses: list[int] = []

    def leave(status: int) -> NoReturn:
        statuses.append(status)
        raise LeftError

    monkeypatch.setattr(os, "_exit", leave)
    return statuses


class WorkerDouble:
    """Its work is what it is told to be once it is cancelled. `stop` has no effect on it."""

    def __init__(self, given_up: Callable[[], Awaitable[object]]) -> None:
        self._given_up = given_up
        self.working = asyncio.Event()
        self.cancelled = asyncio.Event()

    def stop(self) -> None:
        pass

    async def run(self) -> None:
        self.working.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self._given_up()
            raise


def with_nothing_to_do(ledger: Ledger) -> tuple[Comparison, KeyWatch, Checkpoints]:
    """In an empty ledger there is nothing to compare, to watch or to sign."""
    tools = cast("Tools", SimpleNamespace(ledger=ledger, timings=SimpleNamespace(key_watch_seconds=60)))
    checkpoints = Checkpoints(
        ledger,
        PemSigner(Ed25519PrivateKey.generate()),
        "a daemon",
        interval_seconds=3600,
        elsewhere=None,
        call_seconds_max=1,
    )
    return Comparison(tools, "a daemon"), KeyWatch(tools, "a daemon"), checkpoints


Serve = Callable[[WorkerDouble, int], Awaitable[int]]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Serve with this worker, and send so many signals: the second once what is in flight was cancelled."""
    settings = settings_in(tmp_path)
    async with open_ledger(settings, make=True) as ledger:

        async def run(worker: WorkerDouble, signals: int) -> int:
            metrics = Metrics(rekeyd.__version__)
            aside = with_nothing_to_do(ledger)
            served = daemon._Daemon(settings, ledger, metrics, cast("Worker", worker), aside, [])
            running = asyncio.create_task(served.run())
            await worker.working.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await worker.cancelled.wait()
            if signals > 1:
                os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(HANG_SECONDS):
                return await running

        yield run


async def nothing() -> None:
    pass


async def test_what_is_given_up_in_time_leaves_nothing_undone(serve: Serve, left: list[int]) -> None:
    assert await serve(WorkerDouble(nothing), 1) == 0
    assert left == []


@pytest.mark.parametrize(("signals", "status"), [(1, 0), (2, 1)])
async def test_what_does_not_end_is_left_and_only_a_second_signal_makes_it_a_failure(
    serve: Serve, left: list[int], signals: int, status: int
) -> None:
    over = asyncio.Event()

    with pytest.raises(LeftError):
        await serve(WorkerDouble(over.wait), signals)

    assert left == [status]
    over.set()


async def test_what_breaks_while_it_is_given_up_is_not_hidden(serve: Serve, left: list[int]) -> None:
    async def breaks() -> None:
        raise AssertionError("an invariant")

    with pytest.raises(ExceptionGroup) as stopped:
        await serve(WorkerDouble(breaks), 1)

    assert stopped.group_contains(AssertionError, match="an invariant")
    assert left == []
