"""The real command as processes of its own, as an operator would run it beside the sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rekeyd.domain.errors import RekeydError
from rekeyd.sandbox import GUARD

DRAIN_SECONDS_MAX = 45.0
"""From SIGTERM to the end of the daemon; it drains for 30 s at most."""
ANSWER_SECONDS_MAX = 60.0
"""How long one command may take to answer."""
LOG_LINES_SHOWN = 15


class DemoError(RekeydError):
    """The story can't be told to its end: something that it stands on doesn't work."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Whoever types `rekeyd` here: with these settings, and nothing of the user's own environment."""

    config: Path
    environment: Mapping[str, str]

    async def ask(self, *arguments: str) -> object:
        """What a command prints with --json. Raises DemoError where it prints none."""
        status, printed, said = await self._run(*arguments, "--json")
        try:
            return json.loads(printed)
        except ValueError as error:
            raise _failed(arguments, status, said) from error

    async def read(self, *arguments: str) -> str:
        """What a command prints. Raises DemoError where it fails."""
        status, printed, said = await self._run(*arguments)
        if status:
            raise _failed(arguments, status, said)
        return printed.decode("utf-8", "surrogatepass")

    async def _run(self, *arguments: str) -> tuple[int | None, bytes, bytes]:
        """Exit status, output, and what it said beside."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rekeyd", "--config", str(self.config), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(self.environment),
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                printed, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode, printed, said

    @asynccontextmanager
    async def daemon(self, log: Path) -> AsyncIterator[Daemon]:
        """`rekeyd serve`, logging into a file. It never outlives the block, nor this process."""
        with log.open("wb") as opened:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", GUARD),
                *(sys.executable, "-m", "rekeyd", "--config", str(self.config), "serve"),
                stdin=asyncio.subprocess.PIPE,
                stdout=opened,
                stderr=opened,
                env=dict(self.environment),
                start_new_session=True,  # so that Ctrl-C reaches us, and we end it
            )
        daemon = Daemon(process, log)
        try:
            yield daemon
        finally:
            await daemon.kill()


def _failed(arguments: Sequence[str], status: int | None, said: bytes) -> DemoError:
    words = said.decode(errors="replace").strip()
    return DemoError(f"rekeyd {' '.join(arguments)} ended with {status}: {words}")


class Daemon:
    """A running `rekeyd serve`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.returncode

    async def stop(self) -> int | None:
        """Ask it to end, as a service manager would: its exit status, None where it didn't end in time."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), DRAIN_SECONDS_MAX)
        return self._process.returncode

    async def kill(self) -> None:
        """End it now, if it still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def log_tail(self) -> tuple[str, ...]:
        """The last lines that it logged."""
        with self._log.open(encoding="utf-8", errors="replace") as opened:
            return tuple(line.rstrip("\n") for line in deque(opened, LOG_LINES_SHOWN))
