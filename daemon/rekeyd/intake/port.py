"""What an intake is to the service that runs it, and what it needs to admit a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from rekeyd.domain.errors import RekeydError
from rekeyd.ledger.port import Admission

IntakeOutcome = Literal[
    "admitted",  # the ledger has the job, new
    "known",  # the ledger had the same job already
    "refused",  # unreadable, or not to be done: left to the queue
    "conflict",  # another body under a known id: left to the queue
    "postponed",  # the ledger couldn't take it: it will come again
]


class IntakeError(RekeydError):
    """Whatever jobs come from can't be reached, or refuses us."""


class Desk(Protocol):
    """Where an intake hands its messages in."""

    async def offer(self, raw: bytes, principal: str) -> Admission:
        """Admit a message. Raises RefusedError, ConflictError; LedgerError: offer it again."""

    async def check(self) -> None:
        """Raises LedgerError while no message can be admitted."""


class CountMessage(Protocol):
    """Where an intake counts what became of each message."""

    def __call__(self, intake: str, outcome: IntakeOutcome) -> None:
        """Count one."""


class Intake(Protocol):
    """A way by which jobs arrive.

    A message counts as taken only once the ledger has its job: whatever is lost before comes again.
    """

    @property
    def name(self) -> str:
        """Its label in metrics: `sqs`."""

    @property
    def connected(self) -> bool:
        """Whether its last exchange with whatever it takes messages from succeeded."""

    async def run(self) -> None:
        """Admit what arrives until `stop` is called; then finish the message in hand and return.

        Trouble of the queue or the ledger is waited out with bounded backoff, never raised.
        """

    def stop(self) -> None:
        """Have `run` take nothing more. It may be called before `run`, and again."""

    async def check(self) -> Sequence[str]:
        """Reach whatever it takes messages from; gives what is wrong with it and how to mend it.

        Takes no message. Raises IntakeError where it can't be reached.
        """
