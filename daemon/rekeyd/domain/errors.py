"""What can go wrong, in the words that decisions need.

Adapters translate a provider's errors into these once, at their edge. Four questions are asked of an
error, each with an answer of its own: may the call be made again, should everybody slow down, is the key
to blame, and may the call have taken effect although it failed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rekeyd.domain.custody import ProviderRequest


class RekeydError(Exception):
    """The base of every error that rekeyd raises on purpose."""


class RefusedError(RekeydError):
    """A message, a setting or a request is not acceptable. `field` names what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class ConflictError(RekeydError):
    """A job id is known already with another body, or a record was changed by somebody else meanwhile."""


class UnknownJobError(RekeydError):
    """No job has this id."""


class ClaimLostError(RekeydError):
    """The claim was taken over, has expired, or doesn't outlive what was about to start."""


class DistrustedError(RekeydError):
    """The ledger is older than what it would be asked about: no placement is served from it."""


class MissingCredentialsError(RekeydError):
    """The provider's own chain of credentials gives none."""


class LedgerError(RekeydError):
    """The ledger can't be reached, or its schema isn't the one that this rekeyd knows."""


class StoreError(RekeydError):
    """A store's answer that isn't success, or no answer at all.

    `code` is the provider's own word, `request_id` its name for the call.
    """

    repeatable = False
    """The same call may succeed later."""
    slow_down = False
    """The store asks for fewer requests."""
    outcome_unknown = False
    """A mutating call may have taken effect: read before deciding."""
    after_unknown = False
    """Raised for a repeated call: an earlier sending of it may have taken effect. Read before deciding."""
    retry_after_seconds: float | None = None
    """How long the store asks to wait, where it says so."""
    store: str | None = None
    """The name of the store whose answer it is, once that is noted. What comes out of a write to one store may be
    the error of the read from another that feeds it."""

    def __init__(self, operation: str, detail: str, *, code: str = "", request_id: str = "") -> None:
        words = [operation, code, detail, f"(request {request_id})" if request_id else ""]
        super().__init__(" ".join(word for word in words if word))
        self.operation = operation
        self.detail = detail
        self.code = code
        self.request_id = request_id


class UnavailableError(StoreError):
    """The store failed (5xx), or said nothing: no connection, no answer in time."""

    repeatable = True
    outcome_unknown = True


class ThrottledError(StoreError):
    """The store asks to slow down: 503 SlowDown, 429."""

    repeatable = True
    slow_down = True


class InterruptedTransferError(StoreError):
    """A body ended early, or its bytes aren't those announced. Nothing of it may be used."""

    repeatable = True
    outcome_unknown = True


class NotFoundError(StoreError):
    """There is no such bucket, object, version or upload."""


class PreconditionError(StoreError):
    """The condition of the call didn't hold (412, or 409 for a concurrent change)."""

    side: Literal["source", "target", "unknown"] = "unknown"
    """Which object of a copy isn't the expected one, where the store says so."""


class ArchivedError(StoreError):
    """The version lies in an archive and wasn't restored: its bytes can't be read or copied now."""


class KeyUnusableError(StoreError):
    """The store couldn't use the key that encrypts the object: disabled, missing, forbidden."""


class AccessDeniedError(StoreError):
    """The store refuses us (403)."""


class StoreRefusedError(StoreError):
    """The store refuses the call as such (other 4xx). It would be refused again."""


class CustomerKeyError(StoreRefusedError):
    """The object is encrypted with a key that must come with each request (SSE-C), and that we don't have."""


class CustodyError(RekeydError):
    """The key service can't be reached, or gave an answer that makes no sense. It may do so later.

    `requests` are the calls that were made until then, the failed one included, for the audit trail.
    """

    def __init__(self, words: str, requests: tuple[ProviderRequest, ...] = ()) -> None:
        super().__init__(words)
        self.requests = requests


class KeyForbiddenError(CustodyError):
    """The key service knows us and refuses: the key's policy doesn't let us."""


class UnfitKeyError(CustodyError):
    """A key of ours isn't of the kind that is needed for what it does, and never will be: make another one."""


class ForeignKeyError(CustodyError):
    """The key, or its material, is somebody else's: only its owner can do that with it, and we never could."""


class KeyStateError(CustodyError):
    """The key is in a state in which this can't be done, or isn't there. It stays so until somebody changes that.

    `state` is the key service's own word for it, or `missing`.
    """

    def __init__(self, words: str, state: str, requests: tuple[ProviderRequest, ...] = ()) -> None:
        super().__init__(words, requests)
        self.state = state


class KeyRefusedError(RefusedError):
    """What was brought can't become a key: the words say what to do, and nothing of what it holds."""

    def __init__(self, field: str, reason: str, requests: tuple[ProviderRequest, ...] = ()) -> None:
        super().__init__(field, reason)
        self.requests = requests


class DriftError(RekeydError):
    """The dedicated bucket isn't as it was provisioned."""


class RevokedError(RekeydError):
    """The dedicated bucket refuses everybody, as a revocation has it. Only a reinstatement opens it."""
