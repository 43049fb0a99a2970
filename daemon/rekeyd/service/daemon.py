"""The daemon's life: start, work, drain, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Never

import structlog

from rekeyd import __version__
from rekeyd.domain.errors import LedgerError, MissingCredentialsError, RefusedError, RekeydError
from rekeyd.intake.port import Intake
from rekeyd.jobs.checkpoints import Checkpoints
from rekeyd.jobs.comparison import Comparison
from rekeyd.jobs.key_watch import KeyWatch
from rekeyd.jobs.worker import Worker
from rekeyd.ledger.port import Ledger
from rekeyd.service.adapters import checkpoints_of, open_tools, sqs_intake
from rekeyd.service.ledger import admission, open_ledger
from rekeyd.settings import Settings
from rekeyd.telemetry import Metrics, ReadinessCheck, TelemetryEndpoint, set_up_logging

log = structlog.get_logger()

LEDGER_SHOWN_SECONDS = 5.0
"""How often the gauges of the whole ledger are read anew."""

_GIVING_UP_SECONDS_MAX = 10.0
"""How long what was cancelled may take to give up what it began."""

_FAILED, _UNUSABLE, _UNREACHABLE = 1, 2, 3


async def serve(settings: Settings) -> int:
    """Run the daemon until SIGTERM or SIGINT; gives the exit status.

    The first signal stops claiming and lets what is in flight end, for `limits.drain_seconds_max` at the most: 0. A
    second one stops at once: 1. A `telemetry.listen` that can't be had here: 2. A ledger that can't be opened, or
    credentials that aren't there: 3.
    """
    set_up_logging(settings.telemetry.log_format, settings.telemetry.log_level, sys.stderr)
    metrics = Metrics(__version__)
    try:
        async with AsyncExitStack() as opened:
            ledger = await opened.enter_async_context(
                open_ledger(settings, metrics.observe_commit, metrics.count_audit_records, make=True)
            )
            tools = await opened.enter_async_context(open_tools(settings, ledger, metrics))
            holder = f"{socket.gethostname()}:{os.getpid()}"
            worker = Worker(
                tools,
                holder=holder,
                jobs_max=settings.limits.jobs_max,
                segments_max=settings.limits.segments_in_flight_max,
            )
            # A queue's sender is nobody in particular.
            desk = admission(settings, ledger, settings.intake.sqs.kinds, may_destroy=False)
            sqs = sqs_intake(settings, desk, metrics.count_message)
            comparison, watch = Comparison(tools, holder), KeyWatch(tools, holder)
            checkpoints = checkpoints_of(settings, tools, holder)
            intakes: list[Intake] = [] if sqs is None else [sqs]
            daemon = _Daemon(settings, ledger, metrics, worker, (comparison, watch, checkpoints), intakes)
            return await daemon.run()
    except (LedgerError, MissingCredentialsError) as error:
        log.error("not_started", error=str(error))  # noqa: TRY400 - the text says it all
        return _UNREACHABLE
    except RefusedError as error:
        log.error("not_started", error=error.reason, setting=error.field)  # noqa: TRY400 - as above
        return _UNUSABLE
    except _AddressError as error:
        log.error("not_started", error=str(error), setting="telemetry.listen")  # noqa: TRY400 - as above
        return _UNUSABLE


class _AddressError(RekeydError):
    """An address of the settings isn't to be had on this machine, or somebody else has it."""


class _Daemon:
    """What runs side by side, and how it ends."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        metrics: Metrics,
        worker: Worker,
        aside: tuple[Comparison, KeyWatch, Checkpoints],
        intakes: list[Intake],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._metrics = metrics
        self._worker = worker
        self._aside = aside
        self._comparison = aside[0]
        self._intakes = intakes
        self._first_signal = asyncio.Event()
        self._second_signal = asyncio.Event()

    async def run(self) -> int:
        """Work until a signal, then drain. What raises here is a broken invariant, and stops the daemon."""
        telemetry = self._settings.telemetry
        endpoint = TelemetryEndpoint(
            self._metrics.registry, self._readiness(), host=telemetry.host, port=telemetry.port
        )
        async with _listening(endpoint), self._signals():
            host, port = endpoint.address
            log.info("started", version=__version__, telemetry=f"{host}:{port}")
            async with self._following():
                work = asyncio.create_task(self._work())
                first = asyncio.create_task(self._first_signal.wait())
                await asyncio.wait({work, first}, return_when=asyncio.FIRST_COMPLETED)
                first.cancel()
                status = await self._drain(work)
        log.info("stopped", status=status)
        return status

    async def _work(self) -> None:
        async with asyncio.TaskGroup() as group:
            aside = [group.create_task(each.run()) for each in self._aside]
            working = [group.create_task(self._worker.run())]
            working += [group.create_task(intake.run()) for intake in self._intakes]
            await asyncio.wait(working)
            for task in aside:
                task.cancel()

    async def _drain(self, work: asyncio.Task[None]) -> int:
        """Take nothing more, and wait for what is in flight: until it has ended, its time is up, or a second signal."""
        log.info("draining", seconds_max=self._settings.limits.drain_seconds_max)
        for intake in self._intakes:
            intake.stop()
        self._worker.stop()
        second = asyncio.create_task(self._second_signal.wait())
        await asyncio.wait(
            {work, second},
            timeout=self._settings.limits.drain_seconds_max,
            return_when=asyncio.FIRST_COMPLETED,
        )
        second.cancel()
        if work.done():
            work.result()
            return 0
        log.warning("stopping_what_is_in_flight", second_signal=self._second_signal.is_set())
        work.cancel()
        # What is cancelled gives its uploads up and its claims back; whoever signals twice doesn't wait for that.
        second = asyncio.create_task(self._second_signal.wait())
        await asyncio.wait(
            {work, second}, timeout=_GIVING_UP_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
        )
        second.cancel()
        status = _FAILED if self._second_signal.is_set() else 0
        if not work.done():
            self._leave(status)
        if not work.cancelled():
            work.result()
        return status

    def _leave(self, status: int) -> Never:
        """End the process as it is: whatever is under way is as if it had been killed, and that costs nothing."""
        log.warning("left_at_once", status=status)
        sys.stderr.flush()
        os._exit(status)

    @asynccontextmanager
    async def _signals(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _signalled(self) -> None:
        if self._first_signal.is_set():
            self._second_signal.set()
        self._first_signal.set()

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        following = asyncio.create_task(
            self._metrics.follow_ledger(self._ledger.summary, LEDGER_SHOWN_SECONDS)
        )
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _readiness(self) -> dict[str, ReadinessCheck]:
        async def ledger() -> str | None:
            try:
                await self._ledger.check()
            except LedgerError as error:
                return str(error)
            return None

        async def intakes() -> str | None:
            away = [intake.name for intake in self._intakes if not intake.connected]
            return f"not connected: {', '.join(away)}" if away else None

        async def working() -> str | None:
            return "draining" if self._first_signal.is_set() else None

        async def comparison() -> str | None:
            return None if self._comparison.complete else "the ledger isn't compared with all targets yet"

        return {"ledger": ledger, "intakes": intakes, "working": working, "comparison": comparison}


@asynccontextmanager
async def _listening(endpoint: TelemetryEndpoint) -> AsyncIterator[None]:
    """Within it the endpoint listens. Raises _AddressError where it can't."""
    async with AsyncExitStack() as opened:
        try:
            await opened.enter_async_context(endpoint)
        except OSError as error:
            raise _AddressError(str(error)) from error
        yield
