"""What tests share: the real servers, started once for the whole run and stopped after it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from rekeyd.sandbox import Sandbox


def pytest_configure() -> None:
    """Heed SIGINT, also where the shell that started us in its background had it ignored.

    The processes that tests start, and interrupt, inherit that.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # How long one example takes says more of the machine, and of what else runs on it, than of the code.
    hypothesis.settings.register_profile("any machine", parent=hypothesis.settings(), deadline=None)
    hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """SeaweedFS with real SSE-KMS, and the KMS and SQS emulator. Each test makes buckets, keys, queues of its own."""
    directory: Path = tmp_path_factory.mktemp("sandbox")
    with asyncio.Runner() as runner, contextlib.ExitStack() as stopping:
        started = Sandbox.start(directory)
        sandbox = runner.run(started.__aenter__())
        stopping.callback(lambda: runner.run(started.__aexit__(None, None, None)))
        yield sandbox
