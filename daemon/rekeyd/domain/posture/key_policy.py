"""A key policy, read as IAM reads it: statements, principals, actions, conditions.

After "Key policies in AWS KMS" (AWS KMS Developer Guide) and "IAM JSON policy element reference" (IAM User Guide).
What can't be read is kept apart and named: a policy that isn't wholly understood must not pass for a good one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

PrincipalKind = Literal[
    "anyone",  # `*`: every principal of every account
    "account",  # an account as a whole: its IAM policies decide who in it
    "identity",  # a role, a user, a session
    "service",  # an AWS service by itself
    "other",  # federated, or the id that is left of a deleted identity
]

_ACCOUNT = re.compile(r"[0-9]{12}")
_ROOT_ARN = re.compile(r"arn:aws[a-z-]*:iam::([0-9]{12}):root")
_IDENTITY_ARN = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::([0-9]{12}):[a-z-]+/\S+")
_KNOWN_ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "Condition"}
)


@dataclass(frozen=True, slots=True, order=True)
class Principal:
    """Somebody whom a policy names."""

    kind: PrincipalKind
    name: str
    """An ARN, an account's 12 digits, a service's host name, or `*`."""

    @property
    def account(self) -> str:
        """The account that it is in, empty where it is in none that is known."""
        if self.kind == "account":
            return self.name
        found = _IDENTITY_ARN.fullmatch(self.name) if self.kind == "identity" else None
        return found[1] if found else ""


ANYONE = Principal("anyone", "*")


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of a Condition element. It is true where any of the values fits."""

    operator: str
    key: str
    """In lower case: IAM doesn't heed it."""
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a key policy."""

    label: str
    """Its Sid, or its number."""
    allows: bool
    principals: tuple[Principal, ...]
    excepts_principals: bool
    """NotPrincipal: it is about everybody but `principals`."""
    actions: tuple[str, ...]
    excepts_actions: bool
    """NotAction: it is about every action but `actions`."""
    conditions: tuple[Condition, ...]
    """All of them must be true."""
    resources: tuple[str, ...]

    def is_about(self, action: str) -> bool:
        """Whether an action is one that the statement is about, by IAM's wildcards and without heeding case."""
        named = any(fits(pattern.lower(), action.lower()) for pattern in self.actions)
        return named is not self.excepts_actions


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """What a key policy says."""

    statements: tuple[Statement, ...]
    unread: tuple[str, ...] = ()
    """What wasn't understood, each with its reason."""


def read_policy(text: str) -> KeyPolicy:
    """Read a policy's JSON. Nothing raises: what isn't understood is named in `unread`."""
    try:
        document = json.loads(text)
    except ValueError:
        return KeyPolicy((), ("the policy isn't JSON",))
    if not isinstance(document, dict):
        return KeyPolicy((), ("the policy isn't an object",))
    found = document.get("Statement", [])
    statements, unread = [], []
    for number, raw in enumerate(found if isinstance(found, list) else [found], 1):
        try:
            statements.append(_read_statement(raw, f"statement {number}"))
        except ValueError as error:
            unread.append(f"statement {number}: {error}")
    return KeyPolicy(tuple(statements), tuple(unread))


def read_principal(text: str) -> Principal:
    """The principal that a policy's `AWS` element, or a person, means by a text. Raises ValueError."""
    if text == "*":
        return ANYONE
    if _ACCOUNT.fullmatch(text):
        return Principal("account", text)
    if root := _ROOT_ARN.fullmatch(text):
        return Principal("account", root[1])
    if "*" in text or "?" in text:
        # "You cannot use a wildcard to match part of a principal name or ARN" (IAM User Guide, "Principal").
        raise ValueError(f"the principal {text!r} has a wildcard")
    if _IDENTITY_ARN.fullmatch(text):
        return Principal("identity", text)
    if re.fullmatch(r"A[A-Z0-9]{15,127}", text):
        return Principal("other", text)
    raise ValueError(f"the principal {text!r} is of no kind that is known")


def fits(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern of IAM's: `*` is any number of characters, `?` is one."""
    translated = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(translated, text, re.DOTALL) is not None


def _read_statement(raw: object, label: str) -> Statement:
    if not isinstance(raw, Mapping):
        raise ValueError("it isn't an object")  # noqa: TRY004 - one kind of error for what isn't understood
    if strange := sorted(map(str, raw.keys() - _KNOWN_ELEMENTS)):
        raise ValueError(f"it has {', '.join(strange)}")
    effect = raw.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise ValueError(f"its effect is {effect!r}")
    principals_element = _one_of(raw, "Principal", "NotPrincipal")
    actions_element = _one_of(raw, "Action", "NotAction")
    sid = raw.get("Sid")
    return Statement(
        label=f"{sid!r}" if isinstance(sid, str) and sid else label,
        allows=effect == "Allow",
        principals=tuple(_read_principals(raw[principals_element])),
        excepts_principals=principals_element == "NotPrincipal",
        actions=_texts(raw[actions_element]),
        excepts_actions=actions_element == "NotAction",
        conditions=tuple(_read_conditions(raw.get("Condition", {}))),
        resources=_texts(raw.get("Resource", "*")),
    )


def _one_of(raw: Mapping[str, object], element: str, its_opposite: str) -> str:
    if (element in raw) == (its_opposite in raw):
        raise ValueError(f"it needs one of {element} and {its_opposite}")
    return element if element in raw else its_opposite


def _read_principals(found: object) -> Iterator[Principal]:
    if found == "*":
        yield ANYONE
        return
    if not isinstance(found, Mapping) or not found:
        raise ValueError(f"its principal is {found!r}")
    for kind, names in found.items():
        for name in _texts(names):
            if kind == "AWS":
                yield read_principal(name)
            elif kind == "Service" and "*" not in name:
                yield Principal("service", name)
            elif kind in ("Federated", "CanonicalUser") and "*" not in name:
                yield Principal("other", name)
            else:
                raise ValueError(f"its principal is {kind} {name!r}")


def _read_conditions(found: object) -> Iterator[Condition]:
    if not isinstance(found, Mapping):
        raise ValueError("its condition isn't an object")  # noqa: TRY004 - see above
    for operator, keys in found.items():
        if not isinstance(keys, Mapping):
            raise ValueError(f"its condition {operator} isn't an object")  # noqa: TRY004 - see above
        for key, values in keys.items():
            yield Condition(str(operator), str(key).lower(), _texts(values))


def _texts(found: object) -> tuple[str, ...]:
    """One or several values, as texts in the order given."""
    listed = found if isinstance(found, list) else [found]
    if not listed or not all(isinstance(each, str | int | float) for each in listed):
        raise ValueError(f"{found!r} is neither a value nor a list of some")
    # JSON's booleans and numbers mean what their texts mean ("Condition", IAM User Guide).
    return tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in listed)
