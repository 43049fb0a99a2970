"""IAM as its user guide describes it, as far as bucket policies for everybody need it.

Written after "IAM JSON policy elements: Condition operators" with its sections on String, Arn, Numeric and Boolean
operators, "...IfExists condition operators" and "Condition operator to check existence of condition keys" (Null), after
"Conditions with multiple context keys or values" and "Policy evaluation logic" (IAM User Guide):

- A key that is absent from the request doesn't match: the condition is false. Of a negated operator it is true.
- With IfExists an absent key makes the condition true, whichever the operator: a negated one under Deny denies still.
- Null is true of an absent key for "true", and of a present one for "false".
- Several values of one key are alternatives; of a negated operator the request must have none of them.
- Several keys of an operator, and several operators, must all be true.
- Names of keys and actions don't heed case, values and resources do.
- A statement is about a request if principal, action and resource match and all conditions are true. One Deny decides.

What it doesn't know it refuses, as PutBucketPolicy refuses a malformed policy: nothing is silently taken for a match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Effect = Literal["Allow", "Deny"]


class MalformedPolicyError(Exception):
    """The policy holds what isn't known here."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for, and its context: the condition keys that the request has, with their values."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def effects(policy: Mapping[str, object], request: Request) -> set[Effect]:
    """The effects of the statements that are about the request. Raises MalformedPolicyError."""
    found: set[Effect] = set()
    for statement in _listed(policy["Statement"]):
        if not isinstance(statement, Mapping):
            raise MalformedPolicyError(f"a statement {statement!r}")
        effect = statement["Effect"]
        if effect not in ("Allow", "Deny"):
            raise MalformedPolicyError(f"an effect {effect!r}")
        if _is_about(statement, request):
            found.add(effect)
    return found


def is_denied(policy: Mapping[str, object], request: Request) -> bool:
    """Whether a statement denies it explicitly, which nothing overrides."""
    return "Deny" in effects(policy, request)


def holds(operator: str, values: object, found: str | None) -> bool:
    """Whether a condition is true: `found` is the request's value of the key, None where it has none."""
    name = operator.removesuffix("IfExists")
    if name == "Null":
        if operator != name:
            raise MalformedPolicyError("Null has no IfExists")
        return any(_bool(each) == (found is None) for each in _listed(values))
    if found is None and name != operator:
        return True
    if opposite := _NEGATED.get(name):
        return not holds(opposite, values, found)
    if name not in _FITTING:
        raise MalformedPolicyError(f"a condition operator {operator!r}")
    return found is not None and any(_FITTING[name](str(each), found) for each in _listed(values))


def _is_about(statement: Mapping[str, object], request: Request) -> bool:
    unknown = statement.keys() - {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}
    if unknown:
        raise MalformedPolicyError(f"the elements {sorted(unknown)}")
    if statement["Principal"] not in ("*", {"AWS": "*"}):
        raise MalformedPolicyError(f"the principal {statement['Principal']!r}")
    named = any(
        _like(str(each).lower(), request.action.lower()) for each in _listed(statement["Action"])
    ) and any(_like(str(each), request.resource) for each in _listed(statement["Resource"]))
    context = {name.lower(): value for name, value in request.context.items()}
    conditions = statement.get("Condition", {})
    if not isinstance(conditions, Mapping):
        raise MalformedPolicyError(f"a condition {conditions!r}")
    # All of them are looked at, so that what isn't known is refused whatever the request.
    true = [
        holds(operator, values, context.get(key.lower()))
        for operator, keys in conditions.items()
        for key, values in keys.items()
    ]
    return named and all(true)


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _like(pattern: str, text: str) -> bool:
    """`*` is any number of characters, `?` is one."""
    translated = "".join({"*": ".*", "?": "."}.get(each, re.escape(each)) for each in pattern)
    return re.fullmatch(translated, text, re.DOTALL) is not None


def _arn_like(pattern: str, text: str) -> bool:
    """Part by part: no wildcard reaches over a colon. ArnEquals and ArnLike are the same."""
    patterns, texts = pattern.split(":", 5), text.split(":", 5)
    return len(patterns) == len(texts) and all(map(_like, patterns, texts))


def _bool(value: object) -> bool:
    text = str(value).lower()
    if text not in ("true", "false"):
        raise MalformedPolicyError(f"{value!r} is neither true nor false")
    return text == "true"


_FITTING: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda value, found: value == found,
    "StringLike": _like,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
    "NumericLessThan": lambda value, found: float(found) < float(value),
    "NumericGreaterThanEquals": lambda value, found: float(found) >= float(value),
    "Bool": lambda value, found: _bool(value) == _bool(found),
}
"""Whether the request's value fits one of the condition's."""
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}
