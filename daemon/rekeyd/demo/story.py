"""The story, from an empty machine to the proof: each step in order, each with what it needs."""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.filesize import decimal

from rekeyd.demo import claims, proof
from rekeyd.demo.bringing import bring
from rekeyd.demo.certificates import certificates_hold
from rekeyd.demo.changes import ROTATE_ID, Change, change_keys
from rekeyd.demo.clients import Clients, open_clients
from rekeyd.demo.dataset import Item, LeftOut, files_of, made_tenant, other_tenant
from rekeyd.demo.display import Narrator
from rekeyd.demo.load import Loaded, load
from rekeyd.demo.outcome import Outcome
from rekeyd.demo.processes import Daemon, Operator
from rekeyd.demo.stage import (
    JOB_ID,
    TENANT,
    VENDOR_ENCRYPTION,
    Stage,
    set_stage,
    write_settings,
)
from rekeyd.demo.watching import OpenLedger, ledger_there, watch
from rekeyd.domain.custody import tenant_alias
from rekeyd.domain.errors import RefusedError
from rekeyd.domain.job import Job
from rekeyd.domain.objects import Encryption
from rekeyd.sandbox import Sandbox

SPARE_BYTES = 512 * 1024**2
"""What the servers need on disk beside twice the data: source and target."""

ShowJob = Callable[[Job], None]


@dataclass(frozen=True, slots=True)
class Instruments:
    """What the command lends to the demo, so that both read and show a job in the same way."""

    open_ledger: OpenLedger
    """From a settings file and an environment."""
    job_bar: Callable[[Console], AbstractContextManager[ShowJob]]
    job_view: Callable[[Job], dict[str, object]]


@dataclass(frozen=True, slots=True)
class Cast:
    """Whose data are on the stage."""

    what: str
    items: Sequence[Item]
    left_out: tuple[LeftOut, ...]

    @property
    def size_bytes(self) -> int:
        """As far as is known before they are read."""
        return sum(item.content.size_bytes for item in self.items)


def run(data: Path | None, instruments: Instruments, console: Console) -> Outcome:
    """Tell the whole story. Whatever ends it, no process and no folder of it is left behind.

    Raises RefusedError for data that can't be loaded, SandboxError where the servers don't start.
    """
    try:
        return asyncio.run(_tell(data, instruments, Narrator(console)))
    except asyncio.CancelledError as error:  # SIGTERM and SIGHUP end it as Ctrl-C does
        raise KeyboardInterrupt from error


async def _tell(data: Path | None, instruments: Instruments, narrator: Narrator) -> Outcome:
    loop, story = asyncio.get_running_loop(), asyncio.current_task()
    assert story is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, story.cancel)
    cast = _made() if data is None else await asyncio.to_thread(_given, data)
    narrator.say("A tenant's objects move under the tenant's own key, on servers of their own.\n")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="rekeyd-demo-")))
        _require_space(folder, cast)
        with narrator.step("start", "servers started: S3 (SeaweedFS), KMS and SQS (ministack)"):
            sandbox = await stack.enter_async_context(Sandbox.start(folder / "servers"))
            clients = await stack.enter_async_context(open_clients(sandbox))
            stage = await set_stage(clients, sandbox)
        operator = Operator(write_settings(folder, sandbox, stage), sandbox.environment())
        with narrator.step(
            "bring", f"{TENANT} made a key of 256 bits, and wrapped it with the vendor's public key"
        ):
            wrapped = await bring(operator, "first-key")
        loaded, neighbours = await _load(cast, clients, stage, narrator)
        async with operator.daemon(folder / "rekeyd.log") as daemon:
            await clients.sqs.send_message(QueueUrl=stage.queue_url, MessageBody=stage.message(wrapped))
            job, why_not = await _move(operator, daemon, stage, instruments, narrator)
            status = await daemon.stop()
        findings = [claims.job_completed(job, loaded, why_not), claims.daemon_ended(status)]
        key_arn = ""
        if job is not None and job.state == "completed":
            findings[:0] = await _prove(clients, stage, loaded, neighbours, job.key.arn, narrator)
            changed, key_arn = await _change_keys(
                operator, clients, stage, loaded, job, instruments, narrator
            )
            findings += [*changed, *await _ask(clients, stage, operator)]
            with narrator.step("certify", "certificates checked with files alone, as anybody can"):
                findings.append(await certificates_hold(operator, clients, stage, (JOB_ID, ROTATE_ID)))
        return Outcome(
            what=cast.what,
            objects=len(loaded),
            size_bytes=sum(sent.size_bytes for sent in loaded.values()),
            source=stage.source,
            target=stage.target,
            key_arn=key_arn,
            alias_arn=f"{key_arn.partition(':key/')[0]}:{tenant_alias(TENANT)}" if key_arn else "",
            seconds=narrator.seconds,
            job=None if job is None else instruments.job_view(job),
            findings=tuple(findings),
            left_out=cast.left_out,
            log_tail=daemon.log_tail(),
        )


def _made() -> Cast:
    return Cast("a made set", made_tenant(), ())


def _given(folder: Path) -> Cast:
    items, left_out = files_of(folder)
    return Cast(f"your files in {folder}", items, left_out)


def _require_space(folder: Path, cast: Cast) -> None:
    free_bytes = shutil.disk_usage(folder).free
    needed_bytes = 2 * cast.size_bytes + SPARE_BYTES
    if free_bytes < needed_bytes:
        raise RefusedError(
            "TMPDIR",
            f"{folder.parent} has {decimal(free_bytes)} left, the demo needs {decimal(needed_bytes)}: "
            "set TMPDIR to a folder with more room",
        )


async def _load(
    cast: Cast, clients: Clients, stage: Stage, narrator: Narrator
) -> tuple[dict[str, Loaded], dict[str, Loaded]]:
    with narrator.step("load", f"loading {TENANT}") as reword:
        objects = size_bytes = 0

        def loaded_one(sent: Loaded) -> None:
            nonlocal objects, size_bytes
            objects, size_bytes = objects + 1, size_bytes + sent.size_bytes
            reword(f"{TENANT} loaded into {stage.source}: {objects:,} objects, {decimal(size_bytes)}")

        source, neighbour = stage.source, stage.neighbour
        loaded = await load(clients.s3, source.bucket, source.prefix, cast.items, loaded_one)
        neighbours = await load(
            clients.s3, neighbour.bucket, neighbour.prefix, other_tenant(), lambda _sent: None
        )
    return loaded, neighbours


async def _move(
    operator: Operator, daemon: Daemon, stage: Stage, instruments: Instruments, narrator: Narrator
) -> tuple[Job | None, str]:
    """Watch the job that was sent to its end. Where it has none, the text says why not."""
    narrator.say(f"  · job {JOB_ID} sent to SQS; `rekeyd serve` runs as a process of its own")
    began = time.monotonic()
    with instruments.job_bar(narrator.console) as show:
        job, why_not = None, await ledger_there(operator, daemon)
        if not why_not:
            async with instruments.open_ledger(operator.config, operator.environment) as ledger:
                job, why_not = await watch(ledger, daemon, JOB_ID, show=show)
    if job is not None and job.state == "completed":
        narrator.tick("move", f"moved, verified and retired: {stage.target}", time.monotonic() - began)
    return job, why_not


async def _prove(
    clients: Clients,
    stage: Stage,
    loaded: Mapping[str, Loaded],
    neighbours: Mapping[str, Loaded],
    key_arn: str,
    narrator: Narrator,
) -> list[proof.Finding]:
    """What the stores say. The daemon is gone by now, and its ledger isn't asked."""
    s3, target = clients.s3, stage.target
    chosen = proof.sample(loaded)
    tenants_key = Encryption("aws:kms", key_arn)
    with narrator.step("prove", "proving") as reword:
        found = await proof.read_all(
            s3, target, loaded, lambda count: reword(f"every object read again and compared: {count:,}")
        )
        findings = [
            proof.present_once(await proof.listed(s3, target), loaded),
            proof.same_bytes(loaded, found),
            proof.same_attributes(loaded, found),
            proof.under_key(loaded, found, tenants_key, f"{TENANT}'s key"),
            await proof.source_empty(s3, stage.source),
            await proof.untouched(s3, stage.neighbour, neighbours, VENDOR_ENCRYPTION),
            await proof.no_unfinished_uploads(s3, (stage.source.bucket, target.bucket)),
        ]
    with narrator.step("disable", "the key disabled in KMS: nothing reads; enabled again: everything does"):
        findings += [
            await proof.unreadable_when_disabled(clients.s3_impatient, clients.kms, key_arn, target, chosen),
            await proof.readable_when_enabled(s3, clients.kms, key_arn, target, chosen),
        ]
    return findings


async def _change_keys(
    operator: Operator,
    clients: Clients,
    stage: Stage,
    loaded: Mapping[str, Loaded],
    moved: Job,
    instruments: Instruments,
    narrator: Narrator,
) -> tuple[list[proof.Finding], str]:
    """The tenant's second key, and a revocation amid that: a daemon of its own does it all."""
    async with (
        operator.daemon(operator.config.parent / "rekeyd-keys.log") as daemon,
        instruments.open_ledger(operator.config, operator.environment) as ledger,
    ):
        change = Change(operator, daemon, ledger, clients, stage, loaded, moved.key.arn)
        findings, key_arn = await change_keys(change, narrator)
        await daemon.stop()
    return findings, key_arn


async def _ask(clients: Clients, stage: Stage, operator: Operator) -> tuple[proof.Finding, ...]:
    """What rekeyd says."""
    return (
        await claims.message_taken(clients.sqs, stage.queue_url, stage.dead_letter_url),
        *await asyncio.gather(
            claims.placement_dedicated(operator, TENANT, stage.target), claims.audit_whole(operator)
        ),
    )
