"""Explores every course that a small model can take, breadth first, and gives the shortest one that breaks it.

A model is a first state, actions that are pure functions from a state to those that may follow, and a function that
says what is wrong with a state. States are named tuples: equal ones are one state. Time is no clock but counters of
ticks left, so that a model needs no horizon: all of its courses are explored, however long.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S", bound=NamedTuple)
R = TypeVar("R", bound="Rule")


class Rule(Enum):
    """A rule of the protocol: its name, and the sentence that it stands for."""

    __hash__ = object.__hash__  # members are singletons; Enum's own is a call for each look into a set

    @property
    def sentence(self) -> str:
        return str(self.value)


@dataclass(frozen=True, slots=True)
class Model(Generic[S, R]):
    """A protocol with the rules that are in force."""

    initial: S
    actions: Sequence[Callable[[frozenset[R], S], Iterable[S]]]
    """What may happen. Each is named by its function; it gives no state where it can't happen."""
    violation: Callable[[frozenset[R], S], str | None]
    rules: frozenset[R]


@dataclass(frozen=True, slots=True)
class Exploration(Generic[S]):
    """What came of it."""

    reached: Collection[S]
    """Every state that was met."""
    complete: bool
    """These are all that can be reached: no bound and no violation cut it short."""
    taken: Mapping[str, int]
    """How often each action changed a state, by its name; 0 for one that never did."""
    violation: str | None
    trace: Sequence[tuple[str, S]]
    """The shortest course to the violation, from the first state on; empty without one."""

    def __str__(self) -> str:
        """The course as steps, each with what it changed."""
        if self.violation is None:
            return f"no violation in {len(self.reached)} states{'' if self.complete else ', cut short'}"
        lines, before = [], self.trace[0][1]
        for number, (action, state) in enumerate(self.trace):
            lines.append(f"{number:3}. {action.replace('_', ' '):<36} {changes(before, state)}")
            before = state
        return "\n".join([*lines, f"     VIOLATION: {self.violation}"])


def explore(model: Model[S, R], states_max: int) -> Exploration[S]:
    """Explore until nothing new is found, something is wrong, or more than `states_max` states were met."""
    parents: dict[S, tuple[str, S] | None] = {model.initial: None}
    waiting = deque([model.initial])
    taken = {action.__name__: 0 for action in model.actions}
    named = [(action.__name__, action) for action in model.actions]
    while waiting and len(parents) <= states_max:
        state = waiting.popleft()
        wrong = model.violation(model.rules, state)
        if wrong is not None:
            return Exploration(parents.keys(), False, taken, wrong, _trace(parents, state))
        for name, action in named:
            for following in action(model.rules, state):
                if following not in parents:
                    parents[following] = (name, state)
                    waiting.append(following)
                elif following == state:
                    continue
                taken[name] += 1
    return Exploration(parents.keys(), not waiting, taken, None, ())


def _trace(parents: Mapping[S, tuple[str, S] | None], last: S) -> Sequence[tuple[str, S]]:
    steps, state = [], last
    while (origin := parents[state]) is not None:
        steps.append((origin[0], state))
        state = origin[1]
    return [("it_begins", state), *reversed(steps)]


def changes(before: object, after: object, path: str = "") -> str:
    """The fields of a state that differ from those of the one before, as `name=value`."""
    if before == after:
        return ""
    if type(before) is not type(after) or not _fields(after):
        return f"{path}={_shown(after)}"
    found = [
        changes(old, new, f"{path}.{name}" if path else name)
        for (name, old), (_, new) in zip(_fields(before), _fields(after), strict=True)
    ]
    return " ".join(each for each in found if each)


def _fields(value: object) -> Sequence[tuple[str, object]]:
    """Those of a named tuple; none of anything else."""
    names: Sequence[str] = getattr(value, "_fields", ())
    return [(name, getattr(value, name)) for name in names]


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        fields = [f"{name}={_shown(each)}" for name, each in _fields(value) if each is not None]
        return f"({', '.join(fields or map(_shown, value))})"
    return "-" if value is None else str(value)
