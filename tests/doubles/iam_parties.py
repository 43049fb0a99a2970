"""IAM as its user guide describes it, with principals: who may do something by a resource's policy and their own.

Written after "Policy evaluation logic" with "Cross-account policy evaluation logic", "AWS JSON policy elements:
Principal" and "NotPrincipal" (IAM User Guide), "Key policies in AWS KMS" and "Default key policy" (AWS KMS Developer
Guide), apart from what rekeyd makes of them:

- A Deny in any policy decides. What no policy allows is denied.
- A resource's policy that names the caller, or everybody, allows it within the account. One that names the account
  leaves it to the account: the caller's own policy must allow it, too. So it must in every case across accounts.
- A key policy must allow something, or nobody may do it: IAM policies alone can't.
- A bucket's owner account needs no bucket policy: within it, an IAM policy is enough.
- NotPrincipal with Deny spares the callers named.
- Of an account that a statement names, its root user needs no other policy.
- Every request has aws:PrincipalArn, aws:PrincipalAccount, aws:PrincipalType and kms:CallerAccount.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.doubles.iam import MalformedPolicyError, holds

Policy = Mapping[str, object]
Kind = Literal["key", "bucket"]


@dataclass(frozen=True, slots=True)
class Caller:
    """A role or a user, with the policies that are its own."""

    arn: str
    policies: tuple[Policy, ...] = ()

    @property
    def account(self) -> str:
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked for: of which resource, of which account it is, and the condition keys of the request."""

    action: str
    resource: str
    account: str
    context: Mapping[str, str] = field(default_factory=dict)


def may(caller: Caller, call: Call, resource_policy: Policy, kind: Kind) -> bool:
    """Whether the call is allowed. Raises MalformedPolicyError for what isn't known here."""
    context = {
        "aws:principalarn": caller.arn,
        "aws:principalaccount": caller.account,
        "aws:principaltype": _principal_type(caller),
        "kms:calleraccount": caller.account,
        **{name.lower(): value for name, value in call.context.items()},
    }
    own = set(_own_effects(caller, call, context))
    given = set(_resource_effects(resource_policy, caller, call, context))
    if "Deny" in own or "denied" in given:
        return False
    own_allows = "Allow" in own
    if caller.account != call.account:
        return own_allows and bool(given & {"named", "everybody", "account"})
    if given & {"named", "everybody"} or ("account" in given and caller.arn.endswith(":root")):
        return True
    return own_allows and ("account" in given or kind == "bucket")


def _principal_type(caller: Caller) -> str:
    """As "AWS global condition context keys" names those who ask (IAM User Guide, "aws:PrincipalType")."""
    what = caller.arn.rpartition(":")[2]
    return "Account" if what == "root" else "AssumedRole" if what.startswith("role/") else "User"


def _own_effects(caller: Caller, call: Call, context: Mapping[str, str]) -> Iterator[str]:
    for policy in caller.policies:
        for statement in _statements(policy):
            if "Principal" in statement or "NotPrincipal" in statement:
                raise MalformedPolicyError("an identity's policy names no principal")
            if _is_about(statement, call, context):
                yield str(statement["Effect"])


def _resource_effects(
    policy: Policy, caller: Caller, call: Call, context: Mapping[str, str]
) -> Iterator[Literal["denied", "named", "everybody", "account"]]:
    for statement in _statements(policy):
        if not _is_about(statement, call, context):
            continue
        names = set(_principals(statement))
        denies = statement["Effect"] == "Deny"
        if "NotPrincipal" in statement:
            if not denies:
                raise MalformedPolicyError("NotPrincipal with Allow isn't supported")
            if not names & {caller.arn, "*"}:
                yield "denied"
            continue
        if caller.arn in names:
            yield "denied" if denies else "named"
        if names & {caller.account, f"arn:aws:iam::{caller.account}:root"}:
            yield "denied" if denies else "account"
        if "*" in names:
            yield "denied" if denies else "everybody"


def _principals(statement: Mapping[str, object]) -> Iterator[str]:
    found = statement.get("Principal", statement.get("NotPrincipal"))
    if found == "*":
        yield "*"
        return
    if not isinstance(found, Mapping):
        raise MalformedPolicyError(f"the principal {found!r}")
    for kind, names in found.items():
        if kind not in ("AWS", "Service"):
            raise MalformedPolicyError(f"the principal {kind}")
        yield from map(str, _listed(names))


def _is_about(statement: Mapping[str, object], call: Call, context: Mapping[str, str]) -> bool:
    known = {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "Condition"}
    if unknown := statement.keys() - known:
        raise MalformedPolicyError(f"the elements {sorted(unknown)}")
    if statement["Effect"] not in ("Allow", "Deny"):
        raise MalformedPolicyError(f"an effect {statement['Effect']!r}")
    excepted = "NotAction" in statement
    actions = _listed(statement["NotAction" if excepted else "Action"])
    named = any(_like(str(each).lower(), call.action.lower()) for each in actions) is not excepted
    resource = any(_like(str(each), call.resource) for each in _listed(statement["Resource"]))
    conditions = statement.get("Condition", {})
    if not isinstance(conditions, Mapping):
        raise MalformedPolicyError(f"a condition {conditions!r}")
    true = [
        holds(operator, values, context.get(key.lower()))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    ]
    return named and resource and all(true)


def _statements(policy: Policy) -> Iterator[Mapping[str, object]]:
    if policy.get("Version", "2012-10-17") != "2012-10-17":
        raise MalformedPolicyError(f"the version {policy['Version']!r}")
    for each in _listed(policy.get("Statement", [])):
        if not isinstance(each, Mapping):
            raise MalformedPolicyError(f"a statement {each!r}")
        yield each


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _like(pattern: str, text: str) -> bool:
    translated = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(translated, text, re.DOTALL) is not None
