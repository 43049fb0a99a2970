"""The custody of a pretended KMS, and the switches that make it fail."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from rekeyd.custody.memory.keys import ImportRefusedError, Keys, StoredKey
from rekeyd.custody.port import Unwrapper
from rekeyd.custody.refusals import (
    IMPORT_REFUSALS,
    NO_UNWRAPPER,
    NOT_A_KEY,
    OFFER_AGAIN,
    refuse_others,
    words_about_state,
)
from rekeyd.custody.wrapping import encrypted
from rekeyd.domain.custody import (
    DELETION_DAYS,
    FINGERPRINT_TAG,
    TENANT_TAG,
    BroughtKey,
    Errand,
    KeyHome,
    Offer,
    OfferAnswer,
    PointedAlias,
    ProviderRequest,
    SwitchedKey,
    account_of,
    material_alias,
    region_of,
    tenant_alias,
)
from rekeyd.domain.errors import (
    CustodyError,
    ForeignKeyError,
    KeyForbiddenError,
    KeyRefusedError,
    KeyStateError,
)
from rekeyd.domain.key import KEY_ARN, KeyDescription, KmsKey, PlacedKey, WrappedKey

_ACCOUNT = "111122223333"
_DAY_SECONDS = 24 * 3600
_UNUSABLE_ANYWAY = ("PendingDeletion", "PendingImport")


class MemoryCustody:
    """A custody whose keys and aliases, by their ARNs, may be changed at any time."""

    def __init__(self, unwrapper: Unwrapper | None = None, now: Callable[[], float] = time.time) -> None:
        self.service = Keys(_ACCOUNT, now)
        self.unwrapper = unwrapper
        self.keys = self.service.keys
        self.aliases = self.service.aliases
        """The ARN of the key at which each alias points."""
        self.unreachable = False
        """Everything fails with CustodyError."""
        self.forbidden: set[str] = set()
        """ARNs of keys that we may neither describe nor switch."""
        self.foreign: set[str] = set()
        """ARNs of keys that count as somebody else's, whatever account they name."""
        self.switched: Callable[[str, str], None] = lambda _arn, _state: None
        """Told of each key that is switched, and its state."""
        self.dies_after: str = ""
        """The operation after which the next call breaks off, as if we had died there."""
        self.requests = 0
        """How many were made that change something."""
        self.descriptions = 0
        """How often it was asked."""
        self.errands: list[Errand] = []
        """On whose behalf keys were to be switched."""

    def arn_of(self, fingerprint: str, region: str) -> str:
        """The key that was made of this material. Raises KeyError where there is none."""
        return self.aliases[self._alias_arn(region, material_alias(fingerprint))]

    def add(self, key: KmsKey) -> StoredKey:
        """Make an enabled key, and point its alias at it."""
        self.aliases[key.alias] = key.arn
        return self.keys.setdefault(key.arn, StoredKey())

    def rotate(self, arn: str) -> None:
        """The provider rotates a key under its ARN (kms:RotateKeyOnDemand, or by itself once a year)."""
        self.keys[arn].rotations += 1

    async def describe(self, key: PlacedKey) -> KeyDescription | None:
        """See the port."""
        self.descriptions += 1
        self._reach(key.arn)
        stored = self._look_up(key.arn)
        if stored is None:
            return None
        target_arn = None if key.alias is None else self.aliases.get(key.alias)
        pointed = None if target_arn is None else self._look_up(target_arn)
        return KeyDescription(
            arn=key.arn,
            state=stored.state,
            usage=stored.usage,
            spec=stored.spec,
            alias_target_arn=None if pointed is None else target_arn,
            material_id=self.service.current_material_id(key.arn),
        )

    async def bring(
        self, errand: Errand, home: KeyHome, wrapped: WrappedKey, *, begun_before: bool = False
    ) -> BroughtKey:
        """See the port."""
        if self.unwrapper is None:
            raise KeyRefusedError("key.kind", NO_UNWRAPPER)
        self._reach(f"a key of {errand.tenant}")
        trail: list[ProviderRequest] = []
        tags = {TENANT_TAG: errand.tenant, FINGERPRINT_TAG: wrapped.fingerprint}
        mark = self._alias_arn(home.region, material_alias(wrapped.fingerprint))
        arn = self.aliases.get(mark)
        if arn is None and begun_before:
            found = [arn for arn, stored in self.keys.items() if stored.tags == tags]
            arn = found[0] if found else None
        if arn is not None:
            self._refuse_others(errand, arn, "key.sha256")
        async with self.unwrapper.unwrapped(errand, wrapped) as material:
            made = arn is None
            if arn is None:
                arn = self.service.make(home.region, tags)
                self._note(trail, "kms:CreateKey")
            self.aliases.setdefault(mark, arn)
            state = self.keys[arn].state
            if state not in ("Enabled", "PendingImport"):
                raise KeyStateError(words_about_state(arn, state), state, tuple(trail))
            if state == "PendingImport":
                _, token, _ = self.service.parameters(arn)
                wrapped_again = encrypted(self.service.wrapping_public_key, material)
                self.service.import_material(arn, token, wrapped_again)
                self._note(trail, "kms:ImportKeyMaterial")
        return BroughtKey(arn, self._name(trail, errand, arn), wrapped.fingerprint, tuple(trail), made)

    async def offer(self, errand: Errand, home: KeyHome, ref: str | None = None) -> Offer:
        """See the port."""
        self._reach(f"a key of {errand.tenant}")
        trail: list[ProviderRequest] = []
        if ref is None:
            arn = self.service.make(home.region, {TENANT_TAG: errand.tenant})
            self._note(trail, "kms:CreateKey")
        else:
            arn, state = ref, self._own(errand, ref).state
            if state != "PendingImport":
                words = f"{arn} is {state}, its material was imported: there is nothing to offer"
                raise KeyStateError(words, state)
        self._note(trail, "kms:GetParametersForImport")
        return Offer(arn, *self.service.parameters(arn), tuple(trail))

    async def accept(self, errand: Errand, answer: OfferAnswer) -> BroughtKey:
        """See the port."""
        self._reach(answer.ref)
        stored, arn = self._own(errand, answer.ref), answer.ref
        state = stored.state
        if state not in ("Enabled", "PendingImport"):
            raise KeyStateError(words_about_state(arn, state), state)
        trail: list[ProviderRequest] = []
        try:
            self.service.import_material(arn, answer.import_token, answer.encrypted_material)
        except ImportRefusedError as refusal:
            self._note(trail, "kms:ImportKeyMaterial", refusal.code)
            raise KeyRefusedError(*IMPORT_REFUSALS[refusal.code], tuple(trail)) from refusal
        self._note(trail, "kms:ImportKeyMaterial")
        alias_arn = self._name(trail, errand, arn)
        fingerprint = f"kms:{self.service.material_id(arn)}"
        return BroughtKey(arn, alias_arn, fingerprint, tuple(trail), made=state == "PendingImport")

    async def point_alias(self, errand: Errand, arn: str) -> PointedAlias:
        """See the port."""
        self._reach(arn)
        self._own(errand, arn)
        trail: list[ProviderRequest] = []
        alias_arn = self._alias_arn(region_of(arn), tenant_alias(errand.tenant))
        formerly = self.aliases.get(alias_arn)
        if formerly != arn:
            self.aliases[alias_arn] = arn
            self._note(trail, "kms:UpdateAlias" if formerly else "kms:CreateAlias")
        return PointedAlias(alias_arn, arn, formerly, tuple(trail))

    async def disable(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        stored = self._to_switch(errand, arn)
        if stored.state in _UNUSABLE_ANYWAY:
            return SwitchedKey(arn, stored.state, (), stored.deletes_at)
        return self._switch(arn, stored, "kms:DisableKey", "Disabled")

    async def enable(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        stored = self._to_switch(errand, arn)
        if stored.state in _UNUSABLE_ANYWAY:
            raise KeyStateError(words_about_state(arn, stored.state), stored.state)
        return self._switch(arn, stored, "kms:EnableKey", "Enabled")

    async def delete_material(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        stored = self._to_switch(errand, arn)
        if not stored.imported:
            raise ForeignKeyError(f"{arn}: its material was not imported, it is the key service's own")
        after = stored.state if stored.state == "PendingDeletion" else "PendingImport"
        return self._switch(arn, stored, "kms:DeleteImportedKeyMaterial", after)

    async def schedule_deletion(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        stored = self._to_switch(errand, arn)
        if stored.state == "PendingDeletion":
            return SwitchedKey(arn, stored.state, (), stored.deletes_at)
        stored.deletes_at = self.service.now() + DELETION_DAYS * _DAY_SECONDS
        return self._switch(arn, stored, "kms:ScheduleKeyDeletion", "PendingDeletion")

    def _to_switch(self, errand: Errand, arn: str) -> StoredKey:
        self.errands.append(errand)
        self._reach(arn)
        if arn in self.foreign or account_of(arn) != self.service.account:
            raise ForeignKeyError(f"{arn} is in another account: only its owner can do this")
        stored = self._look_up(arn)
        if stored is None:
            raise KeyStateError(words_about_state(arn, "missing"), "missing")
        return stored

    def _switch(self, arn: str, stored: StoredKey, operation: str, state: str) -> SwitchedKey:
        stored.state = state
        self.switched(arn, state)
        trail: list[ProviderRequest] = []
        self._note(trail, operation)
        return SwitchedKey(arn, state, tuple(trail), stored.deletes_at)

    def _own(self, errand: Errand, arn: str) -> StoredKey:
        if re.fullmatch(KEY_ARN, arn) is None:
            raise KeyRefusedError("ref", NOT_A_KEY)
        stored = self._look_up(arn)
        if stored is None:
            raise KeyRefusedError("ref", f"there is no key {arn}: {OFFER_AGAIN}")
        self._refuse_others(errand, arn, "ref")
        return stored

    def _refuse_others(self, errand: Errand, arn: str, field: str) -> None:
        refuse_others(errand, self.keys[arn].tags, field, ())

    def _name(self, trail: list[ProviderRequest], errand: Errand, arn: str) -> str:
        alias_arn = self._alias_arn(region_of(arn), tenant_alias(errand.tenant))
        if alias_arn not in self.aliases:
            self.aliases[alias_arn] = arn
            self._note(trail, "kms:CreateAlias")
        return alias_arn

    def _alias_arn(self, region: str, name: str) -> str:
        return f"arn:aws:kms:{region}:{self.service.account}:{name}"

    def _note(self, trail: list[ProviderRequest], operation: str, outcome: str = "ok") -> None:
        self.requests += 1
        trail.append(ProviderRequest(operation, f"request-{self.requests}", outcome))
        if self.dies_after == operation:
            self.dies_after = ""
            raise CustodyError(f"{operation}: no answer", tuple(trail))

    def _reach(self, about: str) -> None:
        if self.unreachable:
            raise CustodyError(f"{about}: the key service is unreachable")

    def _look_up(self, arn: str) -> StoredKey | None:
        if arn in self.forbidden:
            raise KeyForbiddenError(f"{arn}: forbidden")
        return self.keys.get(arn)
