"""`rekeyd key posture`: look at one key, with our own credentials, the tenant's, or a role's."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from aiobotocore.session import get_session

from rekeyd.custody.aws_posture import PostureAccess, Role, gather_facts
from rekeyd.domain.errors import CustodyError, RefusedError
from rekeyd.domain.posture import Fact, KeyFacts, KeyReference, Known, Unknown
from rekeyd.service.requests import PostureRequest
from rekeyd.settings import Settings

_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}")
_EXTERNAL_ID = re.compile(r"[A-Za-z0-9+=,.@:/_-]{2,1224}")
"""What STS takes ("AssumeRole", AWS STS API Reference)."""
_ACCOUNT = re.compile(r"[0-9]{12}")


async def look_at_key(settings: Settings, request: PostureRequest) -> KeyFacts:
    """All that can be seen of the key. Neither a ledger nor a store is asked.

    Raises RefusedError for what can't be meant, a key that doesn't exist among it; CustodyError where the key service
    says nothing at all, or the role can't be assumed.
    """
    reference = KeyReference.parse(request.reference, "REF")
    role = _role(request)
    if request.alias and not KeyReference.parse(request.alias, "--alias").is_alias:
        raise RefusedError("--alias", f"{request.alias} is a key's ARN, not an alias's")
    facts = await gather_facts(
        get_session(),
        PostureAccess(
            endpoint_url=settings.custody.aws.endpoint_url,
            sts_endpoint_url="",
            request_seconds_max=settings.limits.request_seconds_max,
            connect_seconds_max=settings.limits.connect_seconds_max,
        ),
        reference,
        role=role,
        alias=request.alias,
        looked_at=time.time(),
    )
    if isinstance(facts.description, Unknown):
        if facts.description.cause == "missing":
            raise RefusedError("REF", f"there is no {reference.arn}: {facts.description.reason}")
        if not facts.was_reached:
            raise CustodyError(facts.description.reason)
    return _with_accounts(settings, request, facts)


def _role(request: PostureRequest) -> Role | None:
    if not request.role_arn:
        if request.external_id:
            raise RefusedError("--external-id", "it goes with --role-arn")
        return None
    if not _ROLE_ARN.fullmatch(request.role_arn):
        raise RefusedError("--role-arn", f"{request.role_arn!r} is not the ARN of a role")
    if request.external_id and not _EXTERNAL_ID.fullmatch(request.external_id):
        raise RefusedError("--external-id", "write 2 to 1224 of A-Z a-z 0-9 + = , . @ : / _ -")
    return Role(request.role_arn, request.external_id)


def _with_accounts(settings: Settings, request: PostureRequest, facts: KeyFacts) -> KeyFacts:
    """The facts with the accounts of data and daemon: as told, or else by settings that name buckets' owners.

    Settings that name none may be no more than their defaults, in the tenant's hands: whose credentials these are
    then says nothing about the daemon.
    """
    owners = frozenset(store.account_id for store in settings.stores.values() if store.account_id)
    data = frozenset({_told(request.data_account, "--data-account")}) if request.data_account else owners
    daemon: Fact[str] = Unknown("unsaid", "the daemon's account isn't known", "name it with --daemon-account")
    if request.daemon_account:
        daemon = Known(_told(request.daemon_account, "--daemon-account"))
    elif owners:
        looker = facts.looker
        daemon = Known(looker.value.split(":")[4]) if isinstance(looker, Known) else looker
    unsaid = Unknown("unsaid", "the account of the data isn't known", "name it with --data-account")
    return replace(facts, data_accounts=Known(data) if data else unsaid, daemon_account=daemon)


def _told(account: str, option: str) -> str:
    if not _ACCOUNT.fullmatch(account):
        raise RefusedError(option, f"{account!r} is not an account's 12 digits")
    return account
