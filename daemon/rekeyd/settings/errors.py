"""What is wrong with settings, key by key."""

from __future__ import annotations

from collections.abc import Sequence

from rekeyd.domain.errors import RekeydError

Fault = tuple[str, str]
"""The dotted name of a key, and what is wrong with it or what to do."""


class SettingsError(RekeydError):
    """The settings can't be used.

    The text has one line a wrong key: its dotted name and what to do.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(f"{key}: {reason}" for key, reason in faults))
        self.faults = tuple(faults)


class ContradictionError(ValueError):
    """Keys that are right by themselves and wrong together. Pydantic takes only a ValueError."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{key}: {reason}" for key, reason in faults))
        self.faults = tuple(faults)
