"""One loop and one set of clients for all tests of the whole daemon; each has a scene of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from rekeyd.demo.clients import Clients, open_clients
from rekeyd.sandbox import Sandbox
from tests.e2e.harness import Scene


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def clients(sandbox: Sandbox) -> AsyncIterator[Clients]:
    async with open_clients(sandbox) as opened:
        yield opened


@pytest.fixture
def scene(sandbox: Sandbox, clients: Clients, tmp_path: Path) -> Scene:
    """Not opened yet: a test says with which settings."""
    return Scene(sandbox, clients, tmp_path)
