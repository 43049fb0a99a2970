"""AWS KMS with imported keys, and STS, over HTTP: what ministack lacks. Key policies are heeded, and states, and time.

It imitates, of the AWS KMS API Reference, each operation that it has, with its "Errors" and "Cross-account use"; and of
the AWS KMS Developer Guide:

- "Key states of AWS KMS keys": what each state refuses, with KMSInvalidStateException. ministack enables a key
  without material, and disables one that waits for its deletion.
- "Import key material": a wrapping key and its token belong together, to one KMS key, and are good for 24 hours; the
  same material may be imported again, other material is refused (IncorrectKeyMaterialException), also once it was
  deleted. ministack takes any material, and each token once.
- "Key policies in AWS KMS": what a key's policy doesn't allow is AccessDeniedException, whatever IAM says; a policy
  under which its maker may not change it is refused (MalformedPolicyDocumentException) unless that is said to be meant.
- "Condition keys for AWS KMS": kms:WrappingAlgorithm, kms:WrappingKeySpec, kms:ExpirationModel,
  kms:ScheduleKeyDeletionPendingWindowInDays.
- Another account's key: AccessDeniedException.

Of STS: AssumeRole gives credentials that act as the role, GetCallerIdentity says whose credentials they are.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.doubles.iam_parties import Call, Caller, may

ACCOUNT = "111122223333"
USE, PROVISION, REVOKE, BREAK_GLASS = (
    f"arn:aws:iam::{ACCOUNT}:role/rekeyd-{name}" for name in ("use", "provision", "revoke", "break-glass")
)
ALLOWS_ALL = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["kms:*", "sts:*"], "Resource": "*"}],
}
TOKEN_SECONDS = 24 * 3600
PAGE = 2
"""KMS decides how many it gives at once; few, so that pages are turned."""


class RefusalError(Exception):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Key:
    arn: str
    policy: Mapping[str, Any]
    origin: str
    spec: str
    usage: str
    tags: list[dict[str, str]]
    state: str
    material: bytes | None = None
    """The digest of what was imported first."""
    tokens: dict[bytes, tuple[str, float]] = field(default_factory=dict)
    expiration_model: str = ""
    deletes_at: float | None = None
    rotations: int = 0
    private: rsa.RSAPrivateKey | None = None

    @property
    def key_id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def material_id(self) -> str:
        return hashlib.sha256(f"{self.arn} {self.material!r} {self.rotations}".encode()).hexdigest()

    @property
    def about_material(self) -> Mapping[str, str]:
        """Only symmetric keys that have any say what they encrypt with now (KeyMetadata's CurrentKeyMaterialId)."""
        told = self.spec == "SYMMETRIC_DEFAULT" and self.state != "PendingImport"
        return {"CurrentKeyMaterialId": self.material_id} if told else {}


@cache
def rsa_key(bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def _der(key: rsa.RSAPrivateKey) -> str:
    return base64.b64encode(
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).decode()


class KmsDouble:
    """Keys of one account. What it holds may be changed at any time."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.aliases: dict[str, str] = {}
        """By the ARN of the alias: the key's."""
        self.now = 1_800_000_000.0
        self.asked: list[tuple[str, str]] = []
        """Each operation, with the name of the role that asked."""
        self.sessions: list[str] = []
        self.untrusted: set[str] = set()
        """Roles that nobody may assume."""
        self.sts_is_away = False
        self.loses_answer_of = ""
        """The next call of this operation is done, and nobody learns of it."""
        self.before: dict[str, Callable[[], None]] = {}
        """What happens just before the next call of an operation."""
        self.bodies: list[bytes] = []
        """All that was sent here."""
        self.endpoint_url = ""
        self._callers = {"AKIDUSE": USE}
        self._numbers = itertools.count(1)

    def make_key(
        self, region: str = "us-east-1", spec: str = "SYMMETRIC_DEFAULT", account: str = ACCOUNT
    ) -> Key:
        """A key that the service has made the material of; its policy leaves it to the account."""
        root = {"AWS": f"arn:aws:iam::{account}:root"}
        policy = {"Statement": [{"Effect": "Allow", "Principal": root, "Action": "kms:*", "Resource": "*"}]}
        arn = f"arn:aws:kms:{region}:{account}:key/{next(self._numbers):08d}-0000-4000-8000-000000000000"
        key = Key(arn, policy, "AWS_KMS", spec, "ENCRYPT_DECRYPT", [], "Enabled")
        if spec.startswith("RSA_"):
            key.private = rsa_key(int(spec.removeprefix("RSA_")))
        self.keys[arn] = key
        return key

    async def answer(self, request: web.Request) -> web.StreamResponse:
        credential = request.headers["Authorization"].partition("Credential=")[2].split("/")
        caller, region = self._callers[credential[0]], credential[2]
        target = request.headers.get("X-Amz-Target", "")
        body = await request.read()
        self.bodies.append(body)
        if not target:
            return self._sts(parse_qs(body.decode()), caller)
        operation = target.removeprefix("TrentService.")
        self.asked.append((operation, caller.rpartition("/")[2]))
        if operation in self.before:
            self.before.pop(operation)()
        headers = {"x-amzn-RequestId": f"request-{len(self.asked)}"}
        try:
            answered = _Call(self, Caller(caller, (ALLOWS_ALL,)), region, json.loads(body)).do(operation)
        except RefusalError as refusal:
            refused = {"__type": refusal.code, "message": "so it is"}
            return web.json_response(refused, status=400, headers=headers)
        if operation == self.loses_answer_of:
            self.loses_answer_of = ""
            return web.Response(status=500, text="")
        return web.json_response(answered, headers=headers)

    def _sts(self, form: Mapping[str, list[str]], caller: str) -> web.Response:
        operation, role = form["Action"][0], form.get("RoleArn", [""])[0]
        self.asked.append((operation, caller.rpartition("/")[2]))
        if self.sts_is_away:
            return web.Response(status=503, text="")
        if role in self.untrusted:
            text = (
                "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
            )
            return web.Response(text=text, status=403, content_type="text/xml")
        if operation == "GetCallerIdentity":
            session = f"arn:aws:sts::{ACCOUNT}:assumed-role/{caller.rpartition('/')[2]}/host"
            result = f"<Arn>{session}</Arn><Account>{ACCOUNT}</Account><UserId>x</UserId>"
        else:
            self.sessions.append(form["RoleSessionName"][0])
            access_key_id = f"AKID{role.rpartition('/')[2]}"
            self._callers[access_key_id] = role
            result = (
                f"<Credentials><AccessKeyId>{access_key_id}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
                "<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
            )
        text = (
            f"<{operation}Response><{operation}Result>{result}</{operation}Result>"
            f"<ResponseMetadata><RequestId>request-{len(self.asked)}</RequestId></ResponseMetadata>"
            f"</{operation}Response>"
        )
        return web.Response(text=text, content_type="text/xml")

    def new_arn(self, region: str) -> str:
        return f"arn:aws:kms:{region}:{ACCOUNT}:key/{next(self._numbers):08d}-0000-4000-8000-000000000000"


@dataclass
class _Call:
    """One request: who asks for what, where."""

    kms: KmsDouble
    caller: Caller
    region: str
    asked: Mapping[str, Any]

    def do(self, operation: str) -> Mapping[str, Any]:
        return getattr(self, f"_{operation}")()  # type: ignore[no-any-return]

    def _alias_arn(self, name: str) -> str:
        return name if name.startswith("arn:") else f"arn:aws:kms:{self.region}:{ACCOUNT}:{name}"

    def _find(self, named: str) -> Key:
        if ":alias/" in named or named.startswith("alias/"):
            named = self.kms.aliases.get(self._alias_arn(named), "nothing")
        elif not named.startswith("arn:"):
            named = f"arn:aws:kms:{self.region}:{ACCOUNT}:key/{named}"
        if named not in self.kms.keys:
            raise RefusalError("NotFoundException")
        return self.kms.keys[named]

    def _key(self, action: str, context: Mapping[str, str] | None = None, name: str = "KeyId") -> Key:
        """The key that is meant, where the caller may do that with it."""
        key = self._find(self.asked[name])
        account = key.arn.split(":")[4]
        call = Call(f"kms:{action}", key.arn, account, context or {})
        if account != ACCOUNT or not may(self.caller, call, key.policy, "key"):
            raise RefusalError("AccessDeniedException")
        return key

    def _in_state(self, key: Key, *refused: str) -> None:
        if key.state in refused:
            raise RefusalError("KMSInvalidStateException")

    def _of_external_origin(self, key: Key) -> None:
        if key.origin != "EXTERNAL":
            raise RefusalError("UnsupportedOperationException")

    def _CreateKey(self) -> Mapping[str, Any]:  # noqa: N802 - named as KMS has it
        arn = self.kms.new_arn(self.region)
        policy = json.loads(self.asked["Policy"])
        if not self.asked.get("BypassPolicyLockoutSafetyCheck") and not may(
            self.caller, Call("kms:PutKeyPolicy", arn, ACCOUNT), policy, "key"
        ):
            raise RefusalError("MalformedPolicyDocumentException")
        key = Key(
            arn,
            policy,
            self.asked["Origin"],
            self.asked["KeySpec"],
            self.asked["KeyUsage"],
            self.asked.get("Tags", []),
            "PendingImport" if self.asked["Origin"] == "EXTERNAL" else "Enabled",
        )
        self.kms.keys[arn] = key
        return {"KeyMetadata": self._metadata(key)}

    def _metadata(self, key: Key) -> Mapping[str, Any]:
        return {
            "KeyId": key.key_id,
            "Arn": key.arn,
            "KeyState": key.state,
            "KeySpec": key.spec,
            "KeyUsage": key.usage,
            "Origin": key.origin,
            **key.about_material,
            **({} if key.deletes_at is None else {"DeletionDate": key.deletes_at}),
        }

    def _DescribeKey(self) -> Mapping[str, Any]:  # noqa: N802
        return {"KeyMetadata": self._metadata(self._key("DescribeKey"))}

    def _ListResourceTags(self) -> Mapping[str, Any]:  # noqa: N802
        return {"Tags": self._key("ListResourceTags").tags, "Truncated": False}

    def _page(self, name: str, items: list[Mapping[str, str]]) -> Mapping[str, Any]:
        start = int(self.asked.get("Marker", "0"))
        more = len(items) > start + PAGE
        marker = {"NextMarker": str(start + PAGE)} if more else {}
        return {name: items[start : start + PAGE], "Truncated": more, **marker}

    def _ListKeys(self) -> Mapping[str, Any]:  # noqa: N802
        keys = self.kms.keys.values()
        return self._page("Keys", [{"KeyId": key.key_id, "KeyArn": key.arn} for key in keys])

    def _ListAliases(self) -> Mapping[str, Any]:  # noqa: N802
        aliases = self.kms.aliases.items()
        return self._page(
            "Aliases",
            [
                {
                    "AliasName": name.rpartition(":")[2],
                    "AliasArn": name,
                    "TargetKeyId": arn.rpartition("/")[2],
                }
                for name, arn in aliases
            ],
        )

    def _CreateAlias(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("CreateAlias", name="TargetKeyId")
        self._in_state(key, "PendingDeletion")
        alias_arn = self._alias_arn(self.asked["AliasName"])
        if alias_arn in self.kms.aliases:
            raise RefusalError("AlreadyExistsException")
        self.kms.aliases[alias_arn] = key.arn
        return {}

    def _UpdateAlias(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("UpdateAlias", name="TargetKeyId")
        former = Call("kms:UpdateAlias", "", ACCOUNT)
        alias_arn = self._alias_arn(self.asked["AliasName"])
        policy = self.kms.keys[self.kms.aliases[alias_arn]].policy
        if not may(self.caller, former, policy, "key"):
            raise RefusalError("AccessDeniedException")
        self.kms.aliases[alias_arn] = key.arn
        return {}

    def _GetParametersForImport(self) -> Mapping[str, Any]:  # noqa: N802
        algorithm, spec = self.asked["WrappingAlgorithm"], self.asked["WrappingKeySpec"]
        context = {"kms:WrappingAlgorithm": algorithm, "kms:WrappingKeySpec": spec}
        key = self._key("GetParametersForImport", context)
        self._of_external_origin(key)
        self._in_state(key, "PendingDeletion")
        token, expires_at = os.urandom(32), self.kms.now + TOKEN_SECONDS
        key.tokens[token] = (algorithm, expires_at)
        return {
            "KeyId": key.arn,
            "ImportToken": base64.b64encode(token).decode(),
            "PublicKey": _der(rsa_key(int(spec.removeprefix("RSA_")))),
            "ParametersValidTo": expires_at,
        }

    def _ImportKeyMaterial(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("ImportKeyMaterial", {"kms:ExpirationModel": self.asked["ExpirationModel"]})
        self._of_external_origin(key)
        self._in_state(key, "PendingDeletion", "Disabled")
        algorithm, expires_at = key.tokens.get(base64.b64decode(self.asked["ImportToken"]), ("", 0.0))
        if not algorithm:
            raise RefusalError("InvalidImportTokenException")
        if self.kms.now >= expires_at:
            raise RefusalError("ExpiredImportTokenException")
        try:
            material = rsa_key(4096).decrypt(base64.b64decode(self.asked["EncryptedKeyMaterial"]), OAEP)
        except ValueError:
            raise RefusalError("InvalidCiphertextException") from None
        digest = hashlib.sha256(material).digest()
        if len(material) != 32 or key.material not in (None, digest):
            raise RefusalError("IncorrectKeyMaterialException")
        key.material, key.state = digest, "Enabled"
        key.expiration_model = self.asked["ExpirationModel"]
        return {"KeyId": key.arn, "KeyMaterialId": key.material_id}

    def _DeleteImportedKeyMaterial(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("DeleteImportedKeyMaterial")
        self._of_external_origin(key)
        if key.state != "PendingDeletion":
            key.state = "PendingImport"
        return {"KeyId": key.arn}

    def _DisableKey(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("DisableKey")
        self._in_state(key, "PendingDeletion", "PendingImport")
        key.state = "Disabled"
        return {}

    def _EnableKey(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("EnableKey")
        self._in_state(key, "PendingDeletion", "PendingImport")
        key.state = "Enabled"
        return {}

    def _ScheduleKeyDeletion(self) -> Mapping[str, Any]:  # noqa: N802
        days = self.asked["PendingWindowInDays"]
        context = {"kms:ScheduleKeyDeletionPendingWindowInDays": str(days)}
        key = self._key("ScheduleKeyDeletion", context)
        self._in_state(key, "PendingDeletion")
        key.state, key.deletes_at = "PendingDeletion", self.kms.now + days * 86_400
        return {"KeyId": key.arn, "KeyState": key.state, "DeletionDate": key.deletes_at}

    def _GetPublicKey(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("GetPublicKey")
        if key.private is None:
            raise RefusalError("UnsupportedOperationException")
        return {"KeyId": key.arn, "KeySpec": key.spec, "KeyUsage": key.usage, "PublicKey": _der(key.private)}

    def _Decrypt(self) -> Mapping[str, Any]:  # noqa: N802
        key = self._key("Decrypt")
        if key.state == "Disabled":
            raise RefusalError("DisabledException")
        assert key.private is not None
        assert self.asked["EncryptionAlgorithm"] == "RSAES_OAEP_SHA_256"
        try:
            plain = key.private.decrypt(base64.b64decode(self.asked["CiphertextBlob"]), OAEP)
        except ValueError:
            raise RefusalError("InvalidCiphertextException") from None
        return {"KeyId": key.arn, "Plaintext": base64.b64encode(plain).decode()}


@asynccontextmanager
async def served(kms: KmsDouble) -> AsyncGenerator[KmsDouble, None]:
    app = web.Application()
    app.router.add_post("/", kms.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    kms.endpoint_url = f"http://{host}:{port}"
    try:
        yield kms
    finally:
        await runner.cleanup()
