"""What the tests of all models ask of an exploration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.model.explorer import Exploration, Model, explore

STATES_MAX = 1_000_000


def assert_nothing_breaks(model: Model[Any, Any], landmarks: Mapping[str, Callable[[Any], bool]]) -> None:
    """With these rules nothing is ever wrong, everything was looked at, and there was something to look at.

    Each action must have happened, and each landmark, a state of a kind that the model has to come to, be reached.
    """
    found = explore(model, STATES_MAX)
    assert found.violation is None, f"\n{found}"
    assert found.complete, str(found)
    assert not [name for name, count in found.taken.items() if not count], "actions that never happen"
    missed = [name for name, holds in landmarks.items() if not any(holds(state) for state in found.reached)]
    assert not missed, f"never reached: {missed}"


def assert_breaks(model: Model[Any, Any], because: str) -> Exploration[Any]:
    """Without one of its rules the model finds this violation, and gives the course that leads to it."""
    found = explore(model, STATES_MAX)
    assert found.violation is not None, f"the rule could be dropped unnoticed: {found}"
    assert because in found.violation, f"\n{found}"
    assert found.trace
    assert model.violation(model.rules, found.trace[-1][1]) == found.violation
    return found
