"""What a test of the whole daemon stands on: its own bucket, keys, queues, ledger and settings, and real processes.

Nothing is awaited by sleeping: `until` looks again and again for a condition, in the ledger, the store or the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from rekeyd import service
from rekeyd.cli.commands import app
from rekeyd.demo import proof
from rekeyd.demo.clients import Clients
from rekeyd.demo.dataset import MIB, Item, Made, made_tenant
from rekeyd.demo.load import Loaded, load
from rekeyd.demo.processes import Daemon, Operator
from rekeyd.domain.job import Job
from rekeyd.domain.objects import OWN_PREFIX, Encryption, Location
from rekeyd.domain.tenant import Placement, serve
from rekeyd.ledger.port import Ledger
from rekeyd.sandbox import Sandbox
from rekeyd.settings import load_settings
from tests.patience import HANG_SECONDS

LOOK_SECONDS = 0.02
RECEIVES_MAX = 1
"""A message that is refused once is a dead letter: what matters is that the queue decides it."""
VENDOR_ENCRYPTION = Encryption("AES256")

Section = Mapping[str, str | float | bool | list[str]]
Condition = Callable[[], Awaitable[object]]


async def until(condition: Condition, *, seconds_max: float = HANG_SECONDS, what: str = "") -> Any:  # noqa: ANN401 - whatever the condition gives
    """The first true value that the condition gives. Raises TimeoutError saying what was waited for."""
    try:
        async with asyncio.timeout(seconds_max):
            while not (value := await condition()):  # noqa: ASYNC110 - other processes tell nobody
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(f"waited in vain: {what or condition.__name__}") from error
    return value


def small_items(count: int) -> tuple[Item, ...]:
    """Small objects, some with headers, metadata and tags."""
    return tuple(islice((item for item in made_tenant() if item.key.startswith("2026/")), count))


def mixed_items(small: int = 120) -> tuple[Item, ...]:
    """Small objects, empty ones, odd names, one stored compressed, and some that are carried in parts."""
    others = tuple(item for item in made_tenant() if item.key.startswith(("odd/", "logs/", "markers/0")))
    return (*small_items(small), *others, *large_items(2))


def large_items(count: int, size_bytes: int = 11 * MIB) -> tuple[Item, ...]:
    """Objects that were loaded in parts, and are carried in parts."""
    return tuple(
        Item(
            f"images/{number}.img",
            Made(f"large/{number}", size_bytes + number),
            {"content-type": "application/x-raw-disk-image"},
            {"disk": str(number)},
            {"kind": "image"},
        )
        for number in range(count)
    )


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    status: int
    printed: str
    said: str

    @property
    def document(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self.printed)


@dataclass(frozen=True, slots=True, eq=False)
class Tenant:
    """A tenant with its objects in the shared bucket, and its key."""

    name: str
    source: Location
    target: Location
    key_arn: str
    alias_arn: str
    loaded: dict[str, Loaded]

    @property
    def size_bytes(self) -> int:
        return sum(sent.size_bytes for sent in self.loaded.values())

    def message(self, job_id: str = "", **changes: object) -> dict[str, object]:
        """A job message that moves the tenant; `changes` are fields to exchange, add, or leave out (None)."""
        message: dict[str, object] = {
            "schema": "rekeyd.job/1",
            "id": job_id or f"{self.name}-migrate-1",
            "kind": "migrate",
            "tenant": self.name,
            "source": str(self.source),
            "target": str(self.target),
            "key": {"kind": "kms", "arn": self.key_arn, "alias": self.alias_arn},
        } | changes
        return {name: value for name, value in message.items() if value is not None}

    def naming(self, *, key_arn: str = "", alias_arn: str = "") -> Tenant:
        """The same tenant, whose message names another key."""
        return replace(self, key_arn=key_arn or self.key_arn, alias_arn=alias_arn or self.alias_arn)


@dataclass(slots=True)
class Served:
    """A running daemon."""

    daemon: Daemon
    log: Path

    async def telemetry(self, path: str) -> tuple[int, str]:
        """Ask the telemetry address: the status and the text."""
        (address,) = [line["telemetry"] for line in self.logged() if line.get("event") == "started"]
        async with aiohttp.ClientSession() as http, http.get(f"http://{address}{path}") as answer:
            return answer.status, await answer.text()

    async def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample, by its name and labels."""
        _, text = await self.telemetry("/metrics")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        wanted = frozenset(labels.items())
        return sum(
            value
            for (found, having), value in (await self.metrics()).items()
            if found == name and wanted <= having
        )

    def logged(self) -> list[dict[str, Any]]:
        """What it has logged. A line that isn't JSON (a traceback, say) is its `raw`."""
        lines = []
        for line in self.log.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                lines.append({"raw": line})
        return lines

    async def until_logged(self, event: str, *, seconds_max: float = HANG_SECONDS) -> None:
        """Wait for an event in the log."""

        async def logged() -> bool:
            return any(line.get("event") == event for line in self.logged())

        await until(logged, seconds_max=seconds_max, what=event)

    @property
    def pid(self) -> int:
        """Of the daemon itself: the process that we started is its guard."""
        guard = self.daemon._process.pid
        return int(Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0])

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        async with asyncio.timeout(HANG_SECONDS):
            return await self.daemon._process.wait()


class Scene:
    """One test's own bucket, queues, ledger and settings, on servers that all tests share."""

    def __init__(self, sandbox: Sandbox, clients: Clients, folder: Path) -> None:
        self.sandbox = sandbox
        self.clients = clients
        self.folder = folder
        self.name = f"t{secrets.token_hex(4)}"
        self.bucket = f"{self.name}-shared"
        self.queue_url = ""
        self.dead_letter_url = ""
        self.config = folder / "rekeyd.toml"
        self.target_store = "s3"
        self._sections: dict[str, dict[str, str | float | bool | list[str]]] = {}
        self._daemons = 0
        self._running: Daemon | None = None

    async def open(
        self,
        *,
        target_store: str = "s3",
        endpoint: str = "",
        object_lock: bool = False,
        **sections: Section,
    ) -> Scene:
        """Make bucket and queues, write the settings. Sections are named with `__` for the dot."""
        self.target_store = target_store
        await self.clients.s3.create_bucket(Bucket=self.bucket, ObjectLockEnabledForBucket=object_lock)
        await self.clients.s3.put_bucket_encryption(
            Bucket=self.bucket,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        await self._make_queues()
        self._sections = self._default_sections(endpoint or self.sandbox.s3_endpoint)
        self.configure(**sections)
        return self

    async def _make_queues(self) -> None:
        sqs, dead_letters = self.clients.sqs, f"{self.name}-dead"
        self.dead_letter_url = (await sqs.create_queue(QueueName=dead_letters))["QueueUrl"]
        redrive = {
            "deadLetterTargetArn": (
                f"arn:aws:sqs:{self.sandbox.region}:{self.sandbox.account_id}:{dead_letters}"
            ),
            "maxReceiveCount": RECEIVES_MAX,
        }
        queue = await sqs.create_queue(
            QueueName=f"{self.name}-jobs", Attributes={"RedrivePolicy": json.dumps(redrive)}
        )
        self.queue_url = queue["QueueUrl"]

    def _default_sections(self, endpoint: str) -> dict[str, dict[str, str | float | bool | list[str]]]:
        region = self.sandbox.region
        stores: dict[str, dict[str, str | float | bool | list[str]]] = {
            f"stores.{name}": {"region": region, "endpoint_url": endpoint, "batch_delete_conditions": True}
            for name in {"s3", self.target_store}
        }
        return stores | {
            "ledger": {"url": f"sqlite://{self.folder / 'ledger.db'}"},
            "custody.aws": {"region": region, "endpoint_url": self.sandbox.kms_endpoint},
            "intake.sqs": {
                "queue_url": self.queue_url,
                "endpoint_url": self.sandbox.sqs_endpoint,
                "wait_seconds": 1,
                "visibility_seconds": 5,
            },
            "telemetry": {"listen": "127.0.0.1:0"},
            "migrate": {
                "source_pattern": f"s3://{self.bucket}/tenants/{{tenant}}/",
                "target_pattern": f"{self.target_store}://{self.name}-{{tenant}}/",
                "grace_seconds": 0,
                "placement_ttl_seconds": 0.5,
                "write_seconds_max": 0.5,
                "pause_seconds_max": 60,
            },
            "limits": {
                "part_bytes": 5 * MIB,
                "single_put_bytes_max": 1 * MIB,
                "copy_object_bytes_max": 6 * MIB,
                "request_seconds_max": 3,
                "connect_seconds_max": 2,
                "lease_seconds": 4.5,
                "held_recheck_seconds": 0.5,
                "key_check_seconds": 0.5,
                "poll_seconds": 0.1,
                "drain_seconds_max": 10,
                "backoff_seconds_base": 0.05,
                "backoff_seconds_max": 1,
            },
        }

    def configure(self, **sections: Section) -> None:
        """Exchange settings: `limits={"jobs_max": 1}`."""
        for name, values in sections.items():
            self._sections.setdefault(name.replace("__", "."), {}).update(values)
        lines: list[str] = []
        for table, settings in self._sections.items():
            # JSON's strings, numbers and lists are TOML's as well.
            lines += [
                f"[{table}]",
                *(f"{name} = {json.dumps(value)}" for name, value in settings.items()),
                "",
            ]
        self.config.write_text("\n".join(lines), encoding="utf-8")

    async def tenant(self, name: str, items: Sequence[Item]) -> Tenant:
        """A tenant with these objects, and a key with an alias."""
        key = (await self.clients.kms.create_key())["KeyMetadata"]
        alias = f"alias/{self.name}-{name}"
        await self.clients.kms.create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
        source = Location("s3", self.bucket, f"tenants/{name}/")
        loaded = await load(self.clients.s3, source.bucket, source.prefix, items, lambda _: None)
        return Tenant(
            name,
            source,
            Location(self.target_store, f"{self.name}-{name}", ""),
            key["Arn"],
            f"{key['Arn'].partition(':key/')[0]}:{alias}",
            loaded,
        )

    async def put(self, tenant: Tenant, key: str, body: bytes) -> None:
        """Write an object into the tenant's source, as its writers do; it belongs to what was loaded."""
        headers = {"content-type": "binary/octet-stream"}
        await self.clients.s3.put_object(
            Bucket=tenant.source.bucket,
            Key=tenant.source.prefix + key,
            Body=body,
            ContentType=headers["content-type"],
        )
        tenant.loaded[key] = Loaded(len(body), hashlib.sha256(body).hexdigest(), headers, {}, {})

    async def delete(self, tenant: Tenant, key: str) -> None:
        """Delete an object from the tenant's source, as its writers do."""
        await self.clients.s3.delete_object(Bucket=tenant.source.bucket, Key=tenant.source.prefix + key)
        del tenant.loaded[key]

    async def send(self, message: Mapping[str, object]) -> None:
        """Hand a job in through the queue."""
        await self.clients.sqs.send_message(QueueUrl=self.queue_url, MessageBody=json.dumps(message))

    async def submit(self, message: Mapping[str, object]) -> Ran:
        """Hand a job in by the command."""
        return await self.run_here("submit", "-", given=json.dumps(message))

    async def admit(self, message: Mapping[str, object]) -> str:
        """Hand a job in by the command, which must succeed."""
        ran = await self.submit(message)
        assert (ran.status, ran.said) == (0, ""), ran
        return ran.printed.strip()

    async def run_here(self, *arguments: str, given: str = "") -> Ran:
        """The same as `run` without a process of its own, whose start takes a second or more."""

        def invoke() -> Ran:
            ended = CliRunner().invoke(app, ["--config", str(self.config), *arguments], input=given)
            return Ran(ended.exit_code, ended.stdout, ended.stderr)

        return await asyncio.to_thread(invoke)

    async def run(self, *arguments: str, given: str = "") -> Ran:
        """Run `rekeyd` with this scene's settings, to its end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rekeyd", "--config", str(self.config), *arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.sandbox.environment(),
        )
        try:
            async with asyncio.timeout(HANG_SECONDS):
                printed, said = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Ran(process.returncode, printed.decode(), said.decode())

    async def ask(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """What a command prints with --json; it must succeed."""
        ran = await self.run_here(*arguments, "--json")
        assert ran.status == 0, ran
        return ran.document

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Served]:
        """`rekeyd serve` as a process, started when the block is entered, ended with it at the latest."""
        self._daemons += 1
        log = self.folder / f"rekeyd-{self._daemons}.log"
        operator = Operator(self.config, self.sandbox.environment())
        async with operator.daemon(log) as daemon:
            served = Served(daemon, log)
            self._running = daemon

            async def started() -> bool:
                assert daemon.status is None, daemon.log_tail()
                return any(line.get("event") == "started" for line in served.logged())

            try:
                await until(started)
                yield served
            except BaseException:
                print(*log.read_text(encoding="utf-8").splitlines()[-80:], sep="\n")  # noqa: T201 - pytest shows it with the failure
                raise
            finally:
                self._running = None

    def assert_running(self) -> None:
        """Nothing more is to be waited for once the daemon has ended by itself."""
        daemon = self._running
        assert daemon is None or daemon.status is None, f"the daemon ended with {daemon.status}"

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[LedgerView]:
        """The ledger, opened beside the daemon, or before it, and only read."""
        settings = load_settings(self.config, {})
        async with service.open_ledger(settings, make=True) as ledger:
            yield LedgerView(self, ledger, settings.migrate.placement_ttl_seconds)

    async def keys_in(self, location: Location) -> list[str]:
        """Keys below a location; none where there is no bucket."""
        with contextlib.suppress(self.clients.s3.exceptions.NoSuchBucket):
            return await proof.listed(self.clients.s3, location)
        return []

    async def snapshot(self, location: Location, *, own: bool = True) -> dict[str, str]:
        """Key and ETag of everything below a location, or of all but rekeyd's own."""
        pages = self.clients.s3.get_paginator("list_objects_v2").paginate(
            Bucket=location.bucket, Prefix=location.prefix
        )
        return {
            item["Key"].removeprefix(location.prefix): item["ETag"]
            async for page in pages
            for item in page.get("Contents", [])
            if own or not item["Key"].startswith(OWN_PREFIX)
        }

    async def assert_moved(self, tenant: Tenant, *, source_empty: bool = True) -> None:
        """Every object is in the target once, byte for byte and with its attributes, under the key; nothing else is."""
        await self.assert_holds(tenant, tenant.loaded)
        s3 = self.clients.s3
        uploads = await proof.no_unfinished_uploads(s3, [tenant.source.bucket, tenant.target.bucket])
        assert uploads.faults == ()
        if source_empty:
            assert (await proof.source_empty(s3, tenant.source)).faults == ()

    async def assert_holds(self, tenant: Tenant, wanted: Mapping[str, Loaded]) -> None:
        """The target holds exactly these objects, under the tenant's key."""
        s3 = self.clients.s3
        keys = await self.keys_in(tenant.target)
        found = await proof.read_all(s3, tenant.target, wanted, lambda _: None)
        under = Encryption("aws:kms", tenant.key_arn)
        findings = [
            proof.present_once(keys, wanted),
            proof.same_bytes(wanted, found),
            proof.same_attributes(wanted, found),
            proof.under_key(wanted, found, under, "the tenant's key"),
        ]
        assert [finding for finding in findings if not finding.ok] == []

    async def assert_untouched(self, tenant: Tenant) -> None:
        """The tenant's objects are in the source as they were loaded."""
        finding = await proof.untouched(self.clients.s3, tenant.source, tenant.loaded, VENDOR_ENCRYPTION)
        assert finding.ok, finding

    async def assert_audit_whole(self) -> None:
        """The audit trail verifies, and isn't empty."""
        document = await self.ask("audit", "verify")
        assert document["ok"] is True
        assert sum(chain["records"] for chain in document["chains"]) > 0


@dataclass(frozen=True, slots=True)
class LedgerView:
    """What a test asks of the ledger while a daemon works."""

    scene: Scene
    ledger: Ledger
    ttl_seconds: float

    async def job(self, job_id: str) -> Job | None:
        """The job; None where it hasn't been admitted yet."""
        found = [job for job in await self.ledger.jobs() if job.id == job_id]
        return found[0] if found else None

    async def placement(self, tenant: str) -> Placement | None:
        """What a reader or a writer is told now."""
        record, now = await self.ledger.placement(tenant)
        return None if record is None else serve(record, now, self.ttl_seconds)

    async def until_job(
        self, job_id: str, holds: Callable[[Job], bool], *, seconds_max: float = HANG_SECONDS
    ) -> Job:
        """The job, once the condition holds."""
        seen: list[Job] = []

        async def condition() -> Job | None:
            self.scene.assert_running()
            job = await self.job(job_id)
            seen[:] = [] if job is None else [job]
            return job if job is not None and holds(job) else None

        try:
            found: Job = await until(condition, seconds_max=seconds_max)
        except TimeoutError as error:
            raise TimeoutError(f"{job_id} stands so: {seen}") from error
        return found

    async def until_state(self, job_id: str, state: str, *, seconds_max: float = HANG_SECONDS) -> Job:
        """The job, once it is in the state. A final state that isn't the one wanted ends the wait."""
        ends = {"completed", "failed", "cancelled"}
        job = await self.until_job(
            job_id, lambda job: job.state == state or job.state in ends, seconds_max=seconds_max
        )
        assert job.state == state, job
        return job

    async def until_held(self, job_id: str, *reasons: str) -> Job:
        """The job, once it is held; the reason must be one of these."""
        job = await self.until_state(job_id, "held")
        assert job.held_reason in reasons, job
        return job

    async def until_copying(self, job_id: str, verified_min: int = 1) -> Job:
        """The job, once some objects are verified."""
        return await self.until_job(job_id, lambda job: job.counts.objects_verified >= verified_min)


def names_of(jobs: Iterable[Mapping[str, object]]) -> set[object]:
    """The ids."""
    return {job["id"] for job in jobs}
