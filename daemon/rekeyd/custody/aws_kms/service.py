"""AWS KMS through aiobotocore: customer keys that stay in the tenant's own account, and keys that are made for tenants.

An alias is looked up by describing it, never by listing: kms:ListAliases doesn't work across accounts,
kms:DescribeKey takes the ARN of another account's key or alias (AWS KMS API Reference, "ListAliases" and
"DescribeKey"). It succeeds in every key state ("Key states of AWS KMS keys").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from rekeyd.custody.aws_kms.bringing import KmsImport
from rekeyd.custody.aws_kms.calls import Gate, KmsAccess, KmsRoles
from rekeyd.custody.aws_kms.switching import KmsSwitch
from rekeyd.custody.aws_kms.unwrapping import KmsUnwrapper
from rekeyd.domain.custody import (
    BroughtKey,
    Errand,
    KeyHome,
    Offer,
    OfferAnswer,
    PointedAlias,
    SwitchedKey,
)
from rekeyd.domain.errors import CustodyError
from rekeyd.domain.key import KeyDescription, PlacedKey, WrappedKey

if TYPE_CHECKING:
    from types import TracebackType

    from aiobotocore.session import AioSession

    from rekeyd.custody.port import Unwrapper


class AwsKms:
    """A custody. It is an asynchronous context manager: ask within it.

    Retries are the caller's: the SDK makes none.
    """

    def __init__(
        self,
        session: AioSession,
        access: KmsAccess,
        roles: KmsRoles | None = None,
        unwrapper: Unwrapper | str | None = None,
    ) -> None:
        """`unwrapper` is what has the private key for wrapped keys, or the ARN of a KMS key that is one."""
        roles = KmsRoles() if roles is None else roles
        self._roles = roles
        self._gate = Gate(session, access)
        self.unwrapper = (
            KmsUnwrapper(self._gate, unwrapper, roles.provision) if isinstance(unwrapper, str) else unwrapper
        )
        self._switch = KmsSwitch(self._gate, roles)
        self._import = KmsImport(self._gate, roles, self.unwrapper)

    async def __aenter__(self) -> Self:
        """Open the connections that are kept. Nothing is sent yet."""
        await self._gate.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close them."""
        await self._gate.__aexit__(kind, error, traceback)

    async def role_faults(self, errand: Errand) -> Mapping[str, str]:
        """Assume each role that a daemon is to assume, and do nothing in it: what is in the way, by the role's ARN.

        *Break-glass* isn't one of them: it is for people.
        """
        faults = {}
        for arn in {self._roles.provision, self._roles.revoke} - {""}:
            try:
                async with self._gate.acting(arn, errand, self._gate.access.region):
                    pass
            except CustodyError as error:
                faults[arn] = str(error)
        return faults

    async def describe(self, key: PlacedKey) -> KeyDescription | None:
        """What KMS says of the key and of its alias, with one DescribeKey for each. See the port."""
        async with self._gate.as_ourselves(key.region) as calls:
            described = await calls.describe(key.arn)
        if described is None:
            return None
        alias = None
        if key.alias is not None:
            async with self._gate.as_ourselves(key.alias_region) as calls:
                alias = await calls.describe(key.alias)
        material_id = described.get("CurrentKeyMaterialId")
        try:
            return KeyDescription(
                arn=str(described["Arn"]),
                state=str(described["KeyState"]),
                usage=str(described["KeyUsage"]),
                spec=str(described["KeySpec"]),
                alias_target_arn=None if alias is None else str(alias["Arn"]),
                material_id=None if material_id is None else str(material_id),
            )
        except KeyError as missing:
            raise CustodyError(f"kms:DescribeKey of {key.arn}: no {missing}") from missing

    async def bring(
        self, errand: Errand, home: KeyHome, wrapped: WrappedKey, *, begun_before: bool = False
    ) -> BroughtKey:
        """See the port."""
        return await self._import.bring(errand, home, wrapped, begun_before=begun_before)

    async def offer(self, errand: Errand, home: KeyHome, ref: str | None = None) -> Offer:
        """See the port."""
        return await self._import.offer(errand, home, ref)

    async def accept(self, errand: Errand, answer: OfferAnswer) -> BroughtKey:
        """See the port."""
        return await self._import.accept(errand, answer)

    async def point_alias(self, errand: Errand, arn: str) -> PointedAlias:
        """See the port."""
        return await self._import.point_alias(errand, arn)

    async def disable(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        return await self._switch.disable(errand, arn)

    async def enable(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        return await self._switch.enable(errand, arn)

    async def delete_material(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        return await self._switch.delete_material(errand, arn)

    async def schedule_deletion(self, errand: Errand, arn: str) -> SwitchedKey:
        """See the port."""
        return await self._switch.schedule_deletion(errand, arn)
