"""`rekeyd key posture`: look at one key, with our own credentials, the tenant's, or a role's."""

from __future__ import annotations

import re
import time
from dataclasses import replace

from aiobotocore.session import get_session

from rekeyd.custody.aws_posture import PostureAccess, Role, gather_facts
from rekeyd.domain.custody import account_of
from rekeyd.domain.errors import CustodyError, RefusedError
from rekeyd.domain.posture import Fact, KeyFacts, KeyReference, Known, Unknown
from rekeyd.domain.posture.finding import listed
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
    """The facts with the accounts of data and daemon: as told, or else as far as the settings say."""
    data: Fact[frozenset[str]] = _data_accounts(settings, facts.reference.account)
    if request.data_account:
        data = Known(frozenset({_told(request.data_account, "--data-account")}))
    daemon = _daemon_account(settings)
    if request.daemon_account:
        daemon = Known(_told(request.daemon_account, "--daemon-account"))
    return replace(facts, data_accounts=data, daemon_account=daemon)


def _data_accounts(settings: Settings, key_account: str) -> Fact[frozenset[str]]:
    """Whose the buckets are: known where every store names an owner, or where one names the key's own account.

    A store that names none may be in any account: that the others aren't the key's says nothing of it.
    """
    owners = frozenset(store.account_id for store in settings.stores.values() if store.account_id)
    nameless = sorted(name for name, store in settings.stores.items() if not store.account_id)
    if key_account in owners or not nameless:
        return Known(owners)
    told = f"stores without account_id: {listed(nameless)}"
    keys = listed(f"stores.{name}.account_id" for name in nameless)
    mend = f"name the owner with --data-account, or in the settings: {keys}"
    return Unknown("unsaid", f"the account of the data isn't known ({told})", mend)


def _daemon_account(settings: Settings) -> Fact[str]:
    """That of the principals that use the keys which we make: the daemon is among them, by the setting's own promise.

    Whoever runs the command is no sign of it: it may be a person, in any account, and so may the roles be that the
    daemon assumes.
    """
    accounts = {account_of(arn) for arn in settings.custody.aws.use_principal_arns}
    if len(accounts) == 1:
        return Known(accounts.pop())
    return Unknown("unsaid", "the daemon's account isn't known", "name it with --daemon-account")


def _told(account: str, option: str) -> str:
    if not _ACCOUNT.fullmatch(account):
        raise RefusedError(option, f"{account!r} is not an account's 12 digits")
    return account
