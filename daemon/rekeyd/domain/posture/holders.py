"""Who may do what with a key, by its policy.

The answer is never too short: an Allow counts whatever it depends on, a Deny only where it is certain to bite. After
"Policy evaluation logic" and "IAM JSON policy elements: NotPrincipal" (IAM User Guide), and "Default key policy"
(AWS KMS Developer Guide): an account that a key policy allows something decides by its IAM policies who in it may.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rekeyd.domain.posture.key_policy import (
    ANYONE,
    Condition,
    KeyPolicy,
    Principal,
    Statement,
    fits,
)

_PRINCIPAL_ARN = "aws:principalarn"

_OPPOSITES = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericLessThan": "NumericGreaterThanEquals",
}
"""What is true of every request that a Deny with such a condition leaves alone.

A negated operator is true of an absent key, with IfExists or without, so that such a Deny hits it, too ("IAM JSON
policy elements: Condition operators"). NumericLessThan isn't: only for keys that no request lacks.
"""
_NEVER_ABSENT = frozenset({"kms:schedulekeydeletionpendingwindowindays"})
"""KMS condition keys that hold a parameter's default where the request leaves it out ("AWS KMS condition keys")."""

_DEMANDING = frozenset({"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"})
"""Operators that are false of an absent key. With IfExists, or for all values, they are true of it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who may do something, and under which conditions."""

    principal: Principal
    conditions: tuple[Condition, ...]
    label: str
    """The statement that allows it."""
    by_iam: bool = False
    """Whether IAM policies of the principal's account must allow it, too, since the statement names the account."""

    def demanded(self, key: str) -> tuple[str, ...]:
        """The values of which a request must have one under a condition key; empty where it may be absent or any."""
        for condition in self.conditions:
            operator = condition.operator.removeprefix("ForAnyValue:")
            if condition.key == key.lower() and operator in _DEMANDING:
                return condition.values
        return ()

    def at_least(self, key: str) -> int | None:
        """The least number that a request must have under a condition key, None where that isn't said."""
        found = [
            min(map(int, condition.values))
            for condition in self.conditions
            if condition.key == key.lower()
            and condition.operator == "NumericGreaterThanEquals"
            and all(value.isdecimal() for value in condition.values)
        ]
        return max(found, default=None)


def holders_of(policy: KeyPolicy, action: str, key_arn: str = "") -> tuple[Holder, ...]:
    """Who may do it, by the statements that were understood; each statement's principals, in its order."""
    holders = [
        holder
        for statement in policy.statements
        if statement.allows and statement.is_about(action)
        for holder in _allowed(statement)
    ]
    for statement in policy.statements:
        if not statement.allows and statement.is_about(action) and _is_of_the_key(statement, key_arn):
            holders = [left for holder in holders for left in _left(statement, holder)]
    return tuple(narrowed for holder in holders for narrowed in _narrowed(holder))


def holders_of_any(policy: KeyPolicy, actions: Iterable[str], key_arn: str = "") -> tuple[Holder, ...]:
    """Who may do any of them, each once."""
    found = dict.fromkeys(holder for action in actions for holder in holders_of(policy, action, key_arn))
    return tuple(found)


def _allowed(statement: Statement) -> Iterator[Holder]:
    # With Allow, NotPrincipal means everybody else: "you might grant access to anonymous users" (IAM User Guide).
    for principal in (ANYONE,) if statement.excepts_principals else statement.principals:
        yield Holder(principal, statement.conditions, statement.label, by_iam=principal.kind == "account")


def _is_of_the_key(statement: Statement, key_arn: str) -> bool:
    """Whether a Deny is about this key: `*` in a key policy means the key that it belongs to."""
    return any(each == "*" or (key_arn != "" and fits(each, key_arn)) for each in statement.resources)


def _left(deny: Statement, holder: Holder) -> Iterator[Holder]:
    """What a Deny leaves of what a holder may do."""
    if deny.excepts_principals:
        yield from (_left_of_exception(deny, holder) if not deny.conditions else (holder,))
        return
    if ANYONE not in deny.principals and holder.principal not in deny.principals:
        yield holder
        return
    if not deny.conditions:
        return
    opposite = _opposite(deny.conditions[0]) if len(deny.conditions) == 1 else None
    if opposite is None:
        # Several conditions, or one whose opposite has no operator: it leaves something, and what isn't told.
        yield holder
    else:
        yield replace(holder, conditions=(*holder.conditions, opposite))


def _opposite(condition: Condition) -> Condition | None:
    operator = condition.operator.removesuffix("IfExists")
    found = _OPPOSITES.get(operator)
    if found is None or (operator.startswith("Numeric") and condition.key not in _NEVER_ABSENT):
        return None
    return Condition(found, condition.key, condition.values)


def _left_of_exception(deny: Statement, holder: Holder) -> Iterator[Holder]:
    """Deny with NotPrincipal: those whom it names are spared."""
    mine = holder.principal
    if ANYONE in deny.principals or mine in deny.principals or _may_be_spared(deny, mine):
        yield holder
        return
    for spared in deny.principals:
        if mine == ANYONE or (mine.kind == "account" and spared.account == mine.account):
            yield replace(holder, principal=spared)


def _may_be_spared(deny: Statement, mine: Principal) -> bool:
    """Whether somebody who isn't named may be spared all the same.

    Whether a session is with its role, or a role with its account, depends on more than this ("NotPrincipal").
    """
    if mine.kind == "other" or ":assumed-role/" in mine.name:
        return True
    return mine.kind == "identity" and Principal("account", mine.account) in deny.principals


def _narrowed(holder: Holder) -> Iterator[Holder]:
    """The same, with those in the place of an account or of everybody whom a condition on their ARN names."""
    arns = holder.demanded(_PRINCIPAL_ARN)
    whole = holder.principal.kind in ("anyone", "account")
    if not arns or any(each in arn for arn in arns for each in "*?") or not whole:
        yield holder
        return
    for arn in arns:
        named = Principal("identity", arn)
        if not named.account:
            yield holder
        elif holder.principal == ANYONE or named.account == holder.principal.account:
            yield replace(holder, principal=named)
