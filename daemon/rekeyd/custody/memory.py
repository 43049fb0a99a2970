"""A key service in memory, for tests: the keys of one world, and switches that make it fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rekeyd.domain.errors import CustodyError, ForeignKeyError, KeyForbiddenError
from rekeyd.domain.key import KeyDescription, KmsKey


@dataclass(slots=True)
class StoredKey:
    """A key as AWS KMS would describe it."""

    state: str = "Enabled"
    usage: str = "ENCRYPT_DECRYPT"
    spec: str = "SYMMETRIC_DEFAULT"
    imported: bool = False
    """Whether its material came from outside, and so can be deleted."""


class MemoryCustody:
    """A custody whose keys and aliases, by their ARNs, may be changed at any time."""

    def __init__(self) -> None:
        self.keys: dict[str, StoredKey] = {}
        self.aliases: dict[str, str] = {}
        """The ARN of the key at which each alias points."""
        self.unreachable = False
        """Every description fails with CustodyError."""
        self.forbidden: set[str] = set()
        """ARNs of keys that we may not describe."""
        self.foreign: set[str] = set()
        """ARNs of keys in somebody else's account."""
        self.switched: Callable[[str, str], None] = lambda _arn, _state: None
        """Told of each key that is switched, and its state."""
        self.requests = 0
        """How often a key was switched."""
        self.descriptions = 0
        """How often it was asked."""

    def add(self, key: KmsKey) -> StoredKey:
        """Make an enabled key, and point its alias at it."""
        self.aliases[key.alias] = key.arn
        return self.keys.setdefault(key.arn, StoredKey())

    async def describe(self, key: KmsKey) -> KeyDescription | None:
        """See the port."""
        self.descriptions += 1
        if self.unreachable:
            raise CustodyError(f"{key.arn} can't be described: the key service is unreachable")
        stored = self._look_up(key.arn)
        if stored is None:
            return None
        target_arn = self.aliases.get(key.alias)
        pointed = None if target_arn is None else self._look_up(target_arn)
        return KeyDescription(
            arn=key.arn,
            state=stored.state,
            usage=stored.usage,
            spec=stored.spec,
            alias_target_arn=None if pointed is None else target_arn,
        )

    async def disable(self, arn: str) -> str:
        """See the port."""
        return self._switch(arn, "Disabled")

    async def enable(self, arn: str) -> str:
        """See the port."""
        return self._switch(arn, "Enabled")

    async def delete_material(self, arn: str) -> str:
        """See the port."""
        stored = self.keys.get(arn)
        if stored is not None and not stored.imported:
            raise ForeignKeyError(f"{arn}: its material was not imported")
        return self._switch(arn, "PendingImport")

    def _switch(self, arn: str, state: str) -> str:
        if self.unreachable:
            raise CustodyError(f"{arn}: the key service is unreachable")
        if arn in self.foreign:
            raise ForeignKeyError(f"{arn} is in another account")
        stored = self._look_up(arn)
        if stored is None:
            raise CustodyError(f"there is no key {arn}")
        stored.state = state
        self.switched(arn, state)
        self.requests += 1
        return f"request-{self.requests}"

    def _look_up(self, arn: str) -> StoredKey | None:
        if arn in self.forbidden:
            raise KeyForbiddenError(f"{arn} can't be described: forbidden")
        return self.keys.get(arn)
