"""Keys switched off and on, in AWS KMS.

None of these operations takes another account's key ("Cross-account use: No" of each, AWS KMS API Reference). What a
key's state allows is from "Key states of AWS KMS keys" (AWS KMS Developer Guide): DisableKey and EnableKey fail of a
key that is pending import or deletion, DeleteImportedKeyMaterial has no effect on one that is pending import.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from rekeyd.custody.aws_kms.calls import MISSING_CODES, STATE_CODE, Gate, KmsCalls, KmsRefusedError, KmsRoles
from rekeyd.custody.refusals import words_about_state
from rekeyd.domain.custody import DELETION_DAYS, Errand, SwitchedKey, account_of, region_of
from rekeyd.domain.errors import CustodyError, ForeignKeyError, KeyStateError

_UNUSABLE_ANYWAY = frozenset({"PendingDeletion", "PendingReplicaDeletion", "PendingImport"})


class KmsSwitch:
    """See the port."""

    def __init__(self, gate: Gate, roles: KmsRoles) -> None:
        self._gate = gate
        self._roles = roles

    async def disable(self, errand: Errand, arn: str) -> SwitchedKey:
        """kms:DisableKey. See the port."""
        async with self._acting(self._roles.revoke, errand, arn) as calls:
            try:
                await calls.ask("DisableKey", arn, lambda kms: kms.disable_key(KeyId=arn))
            except KmsRefusedError as refusal:
                state, deletes_at = await self._state_behind(calls, arn, refusal)
                if state in _UNUSABLE_ANYWAY:
                    return SwitchedKey(arn, state, calls.trail, deletes_at)
                raise self._in_state(arn, state, calls) from refusal
            return SwitchedKey(arn, "Disabled", calls.trail)

    async def enable(self, errand: Errand, arn: str) -> SwitchedKey:
        """kms:EnableKey. See the port."""
        async with self._acting(self._roles.revoke, errand, arn) as calls:
            try:
                await calls.ask("EnableKey", arn, lambda kms: kms.enable_key(KeyId=arn))
            except KmsRefusedError as refusal:
                state, _ = await self._state_behind(calls, arn, refusal)
                raise self._in_state(arn, state, calls) from refusal
            return SwitchedKey(arn, "Enabled", calls.trail)

    async def delete_material(self, errand: Errand, arn: str) -> SwitchedKey:
        """kms:DeleteImportedKeyMaterial, which asks for a key of the origin EXTERNAL. See the port."""
        async with self._acting(self._roles.revoke, errand, arn) as calls:
            try:
                await calls.ask(
                    "DeleteImportedKeyMaterial",
                    arn,
                    lambda kms: kms.delete_imported_key_material(KeyId=arn),
                )
            except KmsRefusedError as refusal:
                if refusal.code == "UnsupportedOperationException":
                    words = f"{arn}: its material was not imported, it is the key service's own"
                    raise ForeignKeyError(words, calls.trail) from refusal
                state, _ = await self._state_behind(calls, arn, refusal)
                raise self._in_state(arn, state, calls) from refusal
            # A key that waits for its deletion stays in that state, without material.
            described = await calls.describe(arn)
            state = "PendingImport" if described is None else str(described["KeyState"])
            return SwitchedKey(arn, state, calls.trail, _deletes_at(described))

    async def schedule_deletion(self, errand: Errand, arn: str) -> SwitchedKey:
        """kms:ScheduleKeyDeletion. See the port."""
        async with self._acting(self._roles.break_glass, errand, arn) as calls:
            try:
                answer = await calls.ask(
                    "ScheduleKeyDeletion",
                    arn,
                    lambda kms: kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=DELETION_DAYS),
                )
            except KmsRefusedError as refusal:
                state, deletes_at = await self._state_behind(calls, arn, refusal)
                if state != "PendingDeletion":
                    raise self._in_state(arn, state, calls) from refusal
                return SwitchedKey(arn, state, calls.trail, deletes_at)
            return SwitchedKey(
                arn, str(answer.get("KeyState", "PendingDeletion")), calls.trail, _deletes_at(answer)
            )

    @asynccontextmanager
    async def _acting(self, role_arn: str, errand: Errand, arn: str) -> AsyncIterator[KmsCalls]:
        try:
            identity = await self._gate.identity(role_arn)
        except CustodyError:
            # KMS itself knows whose the key is: a silent STS must not keep it from being disabled.
            identity = None
        if identity is not None and identity.account != account_of(arn):
            raise ForeignKeyError(
                f"{arn} is in the account {account_of(arn)}, we act in {identity.account}: only its owner can do this"
            )
        async with self._gate.acting(role_arn, errand, region_of(arn)) as calls:
            yield calls

    async def _state_behind(
        self, calls: KmsCalls, arn: str, refusal: KmsRefusedError
    ) -> tuple[str, float | None]:
        """The state for which KMS refused. Any other reason for it is raised again."""
        if refusal.code in MISSING_CODES:
            return "missing", None
        if refusal.code != STATE_CODE:
            raise refusal
        described = await calls.describe(arn)
        return ("missing" if described is None else str(described["KeyState"])), _deletes_at(described)

    def _in_state(self, arn: str, state: str, calls: KmsCalls) -> KeyStateError:
        return KeyStateError(words_about_state(arn, state), state, calls.trail)


def _deletes_at(answer: object) -> float | None:
    when = answer.get("DeletionDate") if isinstance(answer, dict) else None
    return when.timestamp() if isinstance(when, datetime) else None
