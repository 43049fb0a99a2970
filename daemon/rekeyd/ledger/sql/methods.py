"""What every part of `SqlLedger` stands on: work in a transaction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TypeVar

from rekeyd.ledger.sql.transaction import Refusal

T = TypeVar("T")


class Transactions:
    """Gives parts of the ledger their transactions."""

    @abstractmethod
    async def _write(self, work: Callable[..., T | Refusal], *arguments: object) -> T:
        """Run it in a transaction that writes."""

    @abstractmethod
    async def _overwrite(self) -> None:
        """Have nothing left of what was forgotten, in no file of the ledger's."""

    @abstractmethod
    async def _read(self, query: Callable[..., T], *arguments: object) -> T:
        """Run it in a transaction that reads."""
