"""Keys made of what tenants bring, in AWS KMS: CreateKey, GetParametersForImport, ImportKeyMaterial, aliases.

CreateKey has no idempotency token. What makes it repeatable is an alias named after the material's SHA-256: KMS keeps
aliases unique within an account and region ("CreateAlias", AWS KMS API Reference), so that of two who make a key for
the same material one wins, and whoever comes later finds it (docs/adr/0012-keys-found-again.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from rekeyd.custody.aws_kms.calls import Gate, KmsCalls, KmsRefusedError, KmsRoles
from rekeyd.custody.aws_kms.finding import tags_of, unmarked_key
from rekeyd.custody.material import Material
from rekeyd.custody.refusals import (
    IMPORT_REFUSALS,
    NO_UNWRAPPER,
    NOT_A_KEY,
    OFFER_AGAIN,
    refuse_others,
    words_about_state,
)
from rekeyd.custody.wrapping import encrypted, public_half
from rekeyd.domain.custody import (
    FINGERPRINT_TAG,
    TENANT_TAG,
    BroughtKey,
    Errand,
    KeyHome,
    Offer,
    OfferAnswer,
    PointedAlias,
    material_alias,
    region_of,
    tenant_alias,
)
from rekeyd.domain.errors import CustodyError, KeyRefusedError, KeyStateError
from rekeyd.domain.key import KEY_ARN, WrappedKey
from rekeyd.domain.key_policy import (
    EXPIRATION_MODEL,
    WRAPPING_ALGORITHM,
    WRAPPING_KEY_SPEC,
    KeyParties,
    key_policy,
)

if TYPE_CHECKING:
    from rekeyd.custody.port import Unwrapper

_EXISTS_CODE = "AlreadyExistsException"


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What GetParametersForImport gave."""

    public_key: RSAPublicKey
    token: bytes
    expires_at: float


class KmsImport:
    """See the port."""

    def __init__(self, gate: Gate, roles: KmsRoles, unwrapper: Unwrapper | None) -> None:
        self._gate = gate
        self._roles = roles
        self._unwrapper = unwrapper

    async def bring(
        self, errand: Errand, home: KeyHome, wrapped: WrappedKey, *, begun_before: bool = False
    ) -> BroughtKey:
        """See the port. What is in the clear lives from Decrypt to the encryption for KMS's own key."""
        if self._unwrapper is None:
            raise KeyRefusedError("key.kind", NO_UNWRAPPER)
        fingerprint = wrapped.fingerprint
        async with self._gate.acting(self._roles.provision, errand, home.region) as calls:
            found = await self._find(calls, errand, fingerprint, begun_before=begun_before)
            async with self._unwrapper.unwrapped(errand, wrapped) as material:
                calls.requests.extend(material.requests)
                made = found is None
                if found is None:
                    found = await self._make_marked(calls, errand, home, fingerprint)
                arn = str(found["Arn"])
                to_import = await self._prepared(calls, arn, str(found["KeyState"]), material)
            if to_import is not None:
                await self._import(calls, arn, *to_import)
            alias_arn = await self._name(calls, errand, arn)
            return BroughtKey(arn, alias_arn, fingerprint, calls.trail, made)

    async def offer(self, errand: Errand, home: KeyHome, ref: str | None = None) -> Offer:
        """See the port."""
        region = home.region if ref is None else region_of(_key_arn(ref))
        async with self._gate.acting(self._roles.provision, errand, region) as calls:
            if ref is None:
                arn = str((await self._make(calls, errand, home, {}))["Arn"])
            else:
                arn, state = ref, await self._own_state(calls, errand, ref)
                if state != "PendingImport":
                    words = f"{arn} is {state}, its material was imported: there is nothing to offer"
                    raise KeyStateError(words, state, calls.trail)
            parameters = await self._parameters(calls, arn)
            pem = public_half(parameters.public_key).pem
            return Offer(arn, pem, parameters.token, parameters.expires_at, calls.trail)

    async def accept(self, errand: Errand, answer: OfferAnswer) -> BroughtKey:
        """See the port."""
        arn = _key_arn(answer.ref)
        async with self._gate.acting(self._roles.provision, errand, region_of(arn)) as calls:
            state = await self._own_state(calls, errand, arn)
            if state not in ("PendingImport", "Enabled"):
                raise KeyStateError(words_about_state(arn, state), state, calls.trail)
            try:
                imported = await self._import(calls, arn, answer.import_token, answer.encrypted_material)
            except KmsRefusedError as refusal:
                if refusal.code in IMPORT_REFUSALS:
                    raise KeyRefusedError(*IMPORT_REFUSALS[refusal.code], calls.trail) from refusal
                raise
            alias_arn = await self._name(calls, errand, arn)
            # Keys with one material only, as of other specs, have no id for it: then the key's own will do.
            material_id = imported.get("KeyMaterialId") or arn.rpartition("/")[2]
            return BroughtKey(
                arn, alias_arn, f"kms:{material_id}", calls.trail, made=state == "PendingImport"
            )

    async def point_alias(self, errand: Errand, arn: str) -> PointedAlias:
        """See the port."""
        name = tenant_alias(errand.tenant)
        async with self._gate.acting(self._roles.provision, errand, region_of(_key_arn(arn))) as calls:
            await self._own_state(calls, errand, arn)
            pointed = await calls.describe(name)
            formerly = None if pointed is None else str(pointed["Arn"])
            if formerly is None and not await self._create_alias(calls, name, arn):
                # Somebody made it meanwhile, or KMS hasn't told all of its parts yet.
                pointed = {}
            if pointed is not None and formerly != arn:
                await calls.ask(
                    "UpdateAlias", name, lambda kms: kms.update_alias(AliasName=name, TargetKeyId=arn)
                )
            return PointedAlias(_alias_arn(arn, name), arn, formerly, calls.trail)

    async def _find(
        self, calls: KmsCalls, errand: Errand, fingerprint: str, *, begun_before: bool
    ) -> Mapping[str, Any] | None:
        mark = material_alias(fingerprint)
        found = await calls.describe(mark)
        if found is None and begun_before:
            arn = await unmarked_key(calls, errand.tenant, fingerprint)
            if arn is not None:
                await self._create_alias(calls, mark, arn)
                found = await calls.describe(arn)
        if found is not None:
            await self._refuse_others(calls, errand, str(found["Arn"]), "key.sha256")
        return found

    async def _make_marked(
        self, calls: KmsCalls, errand: Errand, home: KeyHome, fingerprint: str
    ) -> Mapping[str, Any]:
        """A key for this material; the one that somebody else made for it in the same moment, if so."""
        made = await self._make(calls, errand, home, {FINGERPRINT_TAG: fingerprint})
        mark = material_alias(fingerprint)
        if await self._create_alias(calls, mark, str(made["Arn"])):
            return made
        winner = await calls.describe(mark)
        if winner is None:
            words = f"{mark} exists, and isn't found yet: KMS hasn't told all of its parts"
            raise CustodyError(words, calls.trail)
        await self._refuse_others(calls, errand, str(winner["Arn"]), "key.sha256")
        return winner

    async def _make(
        self, calls: KmsCalls, errand: Errand, home: KeyHome, tags: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """A key that waits for its material.

        Where another role than ours may change its policy, KMS wants to be told that this is meant
        (BypassPolicyLockoutSafetyCheck, "CreateKey", AWS KMS API Reference).
        """
        identity = await self._gate.identity(self._roles.provision)
        parties = KeyParties(
            account=identity.account,
            partition=identity.partition,
            provision=self._roles.provision,
            revoke=self._roles.revoke,
            break_glass=self._roles.break_glass,
            use=self._roles.use,
        )
        named = [
            {"TagKey": name, "TagValue": value} for name, value in {TENANT_TAG: errand.tenant, **tags}.items()
        ]
        answer = await calls.ask(
            "CreateKey",
            f"a key for {errand.tenant}",
            lambda kms: kms.create_key(
                Origin="EXTERNAL",
                KeySpec="SYMMETRIC_DEFAULT",
                KeyUsage="ENCRYPT_DECRYPT",
                Description=f"rekeyd: brought by {errand.tenant}",
                Policy=json.dumps(key_policy(parties, home)),
                BypassPolicyLockoutSafetyCheck=bool(parties.break_glass),
                Tags=named,  # type: ignore[arg-type] # the stubs want their own dictionaries
            ),
        )
        made = answer.get("KeyMetadata")
        if not isinstance(made, Mapping) or not {"Arn", "KeyState"} <= made.keys():
            raise CustodyError("kms:CreateKey: no description of a key", calls.trail)
        return made

    async def _prepared(
        self, calls: KmsCalls, arn: str, state: str, material: Material
    ) -> tuple[bytes, bytes] | None:
        """Token and encrypted material, for the import; None where it is there already."""
        if state == "Enabled":
            return None
        if state != "PendingImport":
            raise KeyStateError(words_about_state(arn, state), state, calls.trail)
        parameters = await self._parameters(calls, arn)
        return parameters.token, encrypted(parameters.public_key, material)

    async def _parameters(self, calls: KmsCalls, arn: str) -> _Parameters:
        answer = await calls.ask(
            "GetParametersForImport",
            arn,
            lambda kms: kms.get_parameters_for_import(
                KeyId=arn, WrappingAlgorithm=WRAPPING_ALGORITHM, WrappingKeySpec=WRAPPING_KEY_SPEC
            ),
        )
        try:
            key = serialization.load_der_public_key(answer["PublicKey"])
            token, expires_at = bytes(answer["ImportToken"]), answer["ParametersValidTo"].timestamp()
        except (KeyError, TypeError, ValueError, AttributeError, UnsupportedAlgorithm) as error:
            words = f"kms:GetParametersForImport of {arn}: no parameters"
            raise CustodyError(words, calls.trail) from error
        if not isinstance(key, RSAPublicKey):
            raise CustodyError(f"kms:GetParametersForImport of {arn}: not an RSA key", calls.trail)
        return _Parameters(key, token, expires_at)

    async def _import(self, calls: KmsCalls, arn: str, token: bytes, material: bytes) -> Mapping[str, Any]:
        return await calls.ask(
            "ImportKeyMaterial",
            arn,
            lambda kms: kms.import_key_material(
                KeyId=arn,
                ImportToken=token,
                EncryptedKeyMaterial=material,
                ExpirationModel=EXPIRATION_MODEL,
            ),
        )

    async def _name(self, calls: KmsCalls, errand: Errand, arn: str) -> str:
        """Give the tenant its alias where it has none. One that points elsewhere stays: see `point_alias`."""
        name = tenant_alias(errand.tenant)
        if await calls.describe(name) is None:
            await self._create_alias(calls, name, arn)
        return _alias_arn(arn, name)

    async def _create_alias(self, calls: KmsCalls, name: str, arn: str) -> bool:
        """Whether it is new. One that exists is left as it is."""
        try:
            await calls.ask(
                "CreateAlias", name, lambda kms: kms.create_alias(AliasName=name, TargetKeyId=arn)
            )
        except KmsRefusedError as refusal:
            if refusal.code != _EXISTS_CODE:
                raise
            return False
        return True

    async def _own_state(self, calls: KmsCalls, errand: Errand, arn: str) -> str:
        """The state of a key of the tenant's own. Raises KeyRefusedError where it isn't, or isn't there."""
        described = await calls.describe(arn)
        if described is None:
            raise KeyRefusedError("ref", f"there is no key {arn}: {OFFER_AGAIN}", calls.trail)
        await self._refuse_others(calls, errand, arn, "ref")
        return str(described["KeyState"])

    async def _refuse_others(self, calls: KmsCalls, errand: Errand, arn: str, field: str) -> None:
        refuse_others(errand, await tags_of(calls, arn), field, calls.trail)


def _key_arn(ref: str) -> str:
    if re.fullmatch(KEY_ARN, ref) is None:
        raise KeyRefusedError("ref", NOT_A_KEY)
    return ref


def _alias_arn(key_arn: str, name: str) -> str:
    return f"{key_arn.partition(':key/')[0]}:{name}"
