"""What the rest of rekeyd may ask of a key service.

Each call asks once: retries are the caller's. Each gives the provider's requests that it made, also in its errors
(`requests`), for the audit trail. None raises anything else than CustodyError with its kinds, and RefusedError with its
kinds; no message of theirs, no answer and no repr holds key material, in the clear or wrapped.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from rekeyd.custody.material import Material
from rekeyd.domain.custody import (
    BroughtKey,
    Errand,
    KeyHome,
    Offer,
    OfferAnswer,
    PointedAlias,
    SwitchedKey,
    WrappingKey,
)
from rekeyd.domain.key import KeyDescription, PlacedKey, WrappedKey


class Unwrapper(Protocol):
    """The private key for which tenants wrap theirs."""

    async def public_key(self) -> WrappingKey:
        """Its public half, always the same. Raises CustodyError where it can't be had now."""

    def unwrapped(self, errand: Errand, wrapped: WrappedKey) -> AbstractAsyncContextManager[Material]:
        """The key in the clear, within the context; after it, however it ends, its buffer is overwritten.

        It has the announced hash, 32 bytes, and isn't weak. Raises KeyRefusedError where any of that is otherwise, with
        one and the same message for every ciphertext that can't be unwrapped; CustodyError where the private key can't
        be used now. What the interpreter and an SDK copied on the way is freed, not overwritten.
        """


class KeyImport(Protocol):
    """Makes keys of what tenants bring. Every call may be repeated, after a crash too: what is done stays done."""

    async def bring(
        self, errand: Errand, home: KeyHome, wrapped: WrappedKey, *, begun_before: bool = False
    ) -> BroughtKey:
        """A key in the service whose material is what was wrapped: one material, one key, in an account and region.

        Whoever asks twice gets the same key, which is looked up by its material; nothing is then made or imported
        again, save that material deleted meanwhile is imported anew. Two who ask at once get the same key, too. With
        `begun_before` (an earlier call for this material ended without an answer: a crash, a timeout) a key that was
        made and not yet marked is looked for among all keys, so that it isn't made again: slow, one request a key.
        Where the tenant has no alias yet it is made, and points here; one that points elsewhere is left alone.

        The material never expires by itself. Raises KeyRefusedError for what Unwrapper refuses, and where the material
        is another tenant's; KeyStateError where its key is disabled or waits for its deletion.
        """

    async def offer(self, errand: Errand, home: KeyHome, ref: str | None = None) -> Offer:
        """A key that waits for its material, with what the tenant needs to wrap that for the service itself.

        Each call without `ref` makes a key; with the `ref` of an earlier offer it gives a new token for that key. A key
        without material costs little, and can't encrypt anything. Raises KeyStateError where `ref` has its
        material already, KeyRefusedError where it is another tenant's.
        """

    async def accept(self, errand: Errand, answer: OfferAnswer) -> BroughtKey:
        """Import what the tenant wrapped. Nobody but the service sees it, so that nobody else can judge it.

        The same answer once more, while its token is good, changes nothing. Raises KeyRefusedError saying what to do:
        a token that has expired or isn't this key's, what the service can't unwrap, other material than was imported
        before, another tenant's offer.
        """

    async def point_alias(self, errand: Errand, arn: str) -> PointedAlias:
        """Point the tenant's alias, in the key's account and region, at this key; make it where there is none.

        Repeating it changes nothing. Raises KeyRefusedError where the key isn't the tenant's own, by its tag.
        """


class KeySwitch(Protocol):
    """Switches keys off and on. A key that is as wanted already is left as it is, and that is no error.

    Every call raises ForeignKeyError, without asking the service, where the key is in another account than the one we
    act in; KeyStateError where its state forbids it or there is no such key; KeyForbiddenError where its policy does.
    The service's new state reaches all of its parts within seconds: that data can't be read any more is for a canary to
    prove ("AWS KMS eventual consistency", AWS KMS Developer Guide).
    """

    async def disable(self, errand: Errand, arn: str) -> SwitchedKey:
        """Nothing can be read or written under the key from then on. One call undoes it.

        A key that can't be used anyway, since it waits for its deletion or has no material, stays in that state.
        """

    async def enable(self, errand: Errand, arn: str) -> SwitchedKey:
        """The key can be used again. One without material or waiting for its deletion can't: KeyStateError."""

    async def delete_material(self, errand: Errand, arn: str) -> SwitchedKey:
        """Delete imported material. Only the same material, imported again, makes the key usable once more.

        Raises ForeignKeyError also for a key whose material the service made: that isn't ours to delete, the key can
        only be disabled, or deleted as a whole.
        """

    async def schedule_deletion(self, errand: Errand, arn: str) -> SwitchedKey:
        """Have the key deleted for good, after the longest wait that there is (30 days); unusable at once.

        A key that waits for its deletion already keeps its date.
        """


class Custody(KeyImport, KeySwitch, Protocol):
    """A key service. Its answers are as fresh as the service's own: nothing is cached."""

    async def describe(self, key: PlacedKey) -> KeyDescription | None:
        """What the service says of the key, and of its alias where that is the tenant's; None: no such key.

        Reads only. Raises KeyForbiddenError where we may not look, CustodyError where the service can't be
        reached or gives no sense. One request a call and kind of thing asked; retries are the caller's.
        """
