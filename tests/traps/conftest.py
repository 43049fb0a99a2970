"""The worlds of tests/jobs and the scenes of tests/e2e: a trap is laid where it can be sprung cheapest."""

from __future__ import annotations

from tests.e2e.conftest import clients, scene
from tests.jobs.conftest import _soon, empty_ledger, make_world, world

__all__ = ["_soon", "clients", "empty_ledger", "make_world", "scene", "world"]
