"""Logs, metrics and the telemetry address."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from rekeyd.domain.errors import LedgerError
from rekeyd.ledger.port import LedgerSummary
from rekeyd.telemetry import Metrics, TelemetryEndpoint, set_up_logging
from tests.patience import HANG_SECONDS

# docs: what dashboards are built on. Only additions are allowed.
PROMISED = {
    "rekeyd_jobs": ("gauge", {"kind", "state"}),
    "rekeyd_jobs_held": ("gauge", {"reason"}),
    "rekeyd_job_oldest_queued_timestamp_seconds": ("gauge", set()),
    "rekeyd_keys": ("gauge", {"state"}),
    "rekeyd_objects": ("counter", {"stage"}),
    "rekeyd_bytes": ("counter", {"stage"}),
    "rekeyd_verdicts": ("counter", {"verdict"}),
    "rekeyd_object_failures": ("counter", {"reason"}),
    "rekeyd_store_requests": ("counter", {"store", "operation", "outcome"}),
    "rekeyd_store_throttled": ("counter", {"store"}),
    "rekeyd_key_checks": ("counter", {"outcome"}),
    "rekeyd_intake_messages": ("counter", {"intake", "outcome"}),
    "rekeyd_claims_lost": ("counter", set()),
    "rekeyd_audit_records": ("counter", set()),
    "rekeyd_job_duration_seconds": ("histogram", {"kind", "outcome"}),
    "rekeyd_store_request_duration_seconds": ("histogram", {"store", "operation"}),
    "rekeyd_writes_paused_seconds": ("histogram", set()),
    "rekeyd_revocation_effective_seconds": ("histogram", set()),
    "rekeyd_ledger_commit_duration_seconds": ("histogram", set()),
    "rekeyd_pace_concurrency": ("gauge", {"store"}),
    "rekeyd_build_info": ("gauge", {"version"}),
}
SUMMARY = LedgerSummary(
    jobs={("migrate", "queued"): 2, ("migrate", "held"): 1},
    held={"key_disabled": 1},
    keys={"active": 3},
    oldest_queued_at=1_700_000_000.5,
)


def busy_metrics() -> Metrics:
    metrics = Metrics("1.2.3")
    metrics.show_store("s3", lambda: 64)
    metrics.show_ledger(SUMMARY)
    metrics.count_objects("copied", 2, 2048)
    metrics.count_verdict("verified")
    metrics.count_failure("mismatch")
    metrics.count_key_check("usable")
    metrics.count_lost_claim()
    metrics.count_audit_records(3)
    metrics.count_message("sqs", "admitted")
    metrics.observe("s3", "put", "ok", 0.01)
    metrics.observe("s3", "put", "throttled", 0.02)
    metrics.observe_job("migrate", "completed", 90_000)
    metrics.observe_pause(12)
    metrics.observe_commit(0.003, 40)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"rekeyd_{name}", labels)


def shown(text: str) -> dict[str, tuple[str, set[str]]]:
    return {
        family.name: (
            family.type,
            {label for sample in family.samples for label in sample.labels} - {"le"},
        )
        for family in text_string_to_metric_families(text)
    }


async def got(endpoint: TelemetryEndpoint, path: str) -> tuple[int, str]:
    host, port = endpoint.address
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://{host}:{port}{path}") as answer,
    ):
        return answer.status, await answer.text()


def endpoint_of(metrics: Metrics, checks: Mapping[str, Any] | None = None) -> TelemetryEndpoint:
    return TelemetryEndpoint(metrics.registry, checks or {}, host="127.0.0.1", port=0)


async def test_metrics_are_those_promised() -> None:
    async with endpoint_of(busy_metrics()) as endpoint:
        status, text = await got(endpoint, "/metrics")

    assert status == 200
    assert shown(text) == PROMISED


async def test_an_idle_daemon_shows_all_families_and_zeroes() -> None:
    metrics = Metrics("1.2.3")
    async with endpoint_of(metrics) as endpoint:
        _, text = await got(endpoint, "/metrics")

    assert shown(text).keys() == PROMISED.keys()
    assert value(metrics, "objects_total", stage="deleted") == 0
    assert value(metrics, "verdicts_total", verdict="mismatch") == 0


def test_what_is_counted() -> None:
    metrics = busy_metrics()

    assert value(metrics, "objects_total", stage="copied") == 2
    assert value(metrics, "bytes_total", stage="copied") == 2048
    assert value(metrics, "store_requests_total", store="s3", operation="put", outcome="ok") == 1
    assert value(metrics, "store_throttled_total", store="s3") == 1
    assert value(metrics, "pace_concurrency", store="s3") == 64
    assert value(metrics, "build_info", version="1.2.3") == 1
    day = {"kind": "migrate", "outcome": "completed", "le": "86400.0"}
    assert value(metrics, "job_duration_seconds_bucket", **day) == 0
    assert value(metrics, "job_duration_seconds_bucket", **day | {"le": "259200.0"}) == 1
    with pytest.raises(AssertionError):
        metrics.count_objects("lost", 1, 1)


def test_the_ledger_is_shown_with_what_is_zero() -> None:
    metrics = busy_metrics()

    assert value(metrics, "jobs", kind="migrate", state="queued") == 2
    assert value(metrics, "jobs", kind="migrate", state="failed") == 0
    assert value(metrics, "jobs_held", reason="key_disabled") == 1
    assert value(metrics, "jobs_held", reason="drift") == 0
    assert value(metrics, "keys", state="active") == 3
    assert value(metrics, "job_oldest_queued_timestamp_seconds") == 1_700_000_000.5


def test_what_is_not_known_is_not_shown() -> None:
    metrics = busy_metrics()

    metrics.show_ledger(None)

    assert value(metrics, "jobs", kind="migrate", state="queued") is None


async def test_the_ledger_is_followed_through_its_troubles() -> None:
    metrics = Metrics("1.2.3")
    answers: list[LedgerSummary | None] = [SUMMARY, None, SUMMARY]
    seen = []
    enough = asyncio.Event()

    async def read() -> LedgerSummary:
        seen.append(value(metrics, "jobs", kind="migrate", state="queued"))
        if len(seen) == 4:
            enough.set()
        answer = answers.pop(0) if answers else SUMMARY
        if answer is None:
            raise LedgerError("locked")
        return answer

    following = asyncio.create_task(metrics.follow_ledger(read, every_seconds=0.001))
    async with asyncio.timeout(HANG_SECONDS):
        await enough.wait()
    following.cancel()

    assert seen[:4] == [None, 2, None, 2]


async def test_health_and_readiness() -> None:
    reasons: dict[str, str | None] = {"ledger": None, "draining": None}

    async def failing() -> str | None:
        if reasons["ledger"]:
            raise LedgerError(reasons["ledger"])
        return None

    async def draining() -> str | None:
        return reasons["draining"]

    checks = {"ledger": failing, "draining": draining}
    async with endpoint_of(Metrics("1"), checks) as endpoint:
        assert await got(endpoint, "/healthz") == (200, '{"alive": true}')
        assert (await got(endpoint, "/readyz"))[0] == 200

        reasons.update(ledger="disk full", draining="is draining")
        status, body = await got(endpoint, "/readyz")
        assert status == 503
        assert json.loads(body) == {
            "ready": False,
            "not_ready": {"ledger": "disk full", "draining": "is draining"},
        }
        assert (await got(endpoint, "/healthz"))[0] == 200
        assert (await got(endpoint, "/other"))[0] == 404


async def test_a_check_that_hangs_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rekeyd.telemetry.endpoint.CHECK_SECONDS_MAX", 0.05)

    async def hanging() -> str | None:
        await asyncio.sleep(60)
        return None

    async with endpoint_of(Metrics("1"), {"ledger": hanging}) as endpoint:
        status, body = await got(endpoint, "/readyz")

    assert (status, json.loads(body)["not_ready"]) == (503, {"ledger": "no answer in 0.05 s"})


async def test_a_taken_address_is_an_error() -> None:
    async with endpoint_of(Metrics("1")) as endpoint:
        host, port = endpoint.address
        second = TelemetryEndpoint(Metrics("1").registry, {}, host=host, port=port)
        with pytest.raises(OSError, match="address already in use"):
            await second.__aenter__()


@pytest.fixture
def logging_as_it_was() -> Iterator[None]:
    root = logging.root
    handlers, level = root.handlers[:], root.level
    own = logging.getLogger("rekeyd").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("rekeyd").setLevel(own)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.mark.usefixtures("logging_as_it_was")
def test_logs_are_json_lines_with_their_context() -> None:
    stream = io.StringIO()
    set_up_logging("json", "info", stream)
    log = structlog.get_logger("rekeyd.tests")

    with structlog.contextvars.bound_contextvars(job="acme-1", tenant="acme"):
        log.info("copied", objects=3)
        log.debug("too fine")
    logging.getLogger("botocore.endpoint").warning("slow: %s", "s3")
    logging.getLogger("aiohttp.access").info("too fine")

    own, library = (json.loads(line) for line in stream.getvalue().splitlines())
    assert own.pop("timestamp").endswith("Z")
    assert own == {
        "event": "copied",
        "objects": 3,
        "job": "acme-1",
        "tenant": "acme",
        "level": "info",
        "logger": "rekeyd.tests",
    }
    assert (library["event"], library["level"]) == ("slow: s3", "warning")
    assert library["logger"] == "botocore.endpoint"


@pytest.mark.usefixtures("logging_as_it_was")
def test_a_logged_exception_is_one_line_without_values() -> None:
    stream = io.StringIO()
    set_up_logging("json", "warning", stream)

    def fail(hidden: str) -> None:
        raise LedgerError("locked" if hidden else "")

    try:
        fail("key " + "material")
    except LedgerError:
        structlog.get_logger("rekeyd.tests").exception("failed")

    (line,) = stream.getvalue().splitlines()
    assert "LedgerError: locked" in json.loads(line)["exception"]
    assert "key material" not in line


@pytest.mark.usefixtures("logging_as_it_was")
def test_logs_for_a_terminal() -> None:
    stream = io.StringIO()
    set_up_logging("console", "debug", stream)
    set_up_logging("console", "debug", stream)

    structlog.get_logger("rekeyd.tests").debug("copied", objects=3)

    (line,) = stream.getvalue().splitlines()
    assert "copied" in line
    assert "objects=3" in line
