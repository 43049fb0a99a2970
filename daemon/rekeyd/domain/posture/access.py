"""Findings about who may do what with a key: its policy, and its grants.

The yardstick is published advice on keys for backups: protection from rogue administrators, keys apart from those of
production, least privilege (Clumio, "Bring your own key (BYOK) best practices"; docs/adr/0014-what-posture-judges.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from rekeyd.domain.posture.facts import Expected, Grant, Grants, KeyFacts
from rekeyd.domain.posture.finding import Finding, Remark, Severity, asked
from rekeyd.domain.posture.holders import Holder, holders_of, holders_of_any
from rekeyd.domain.posture.key_policy import ANYONE, KeyPolicy, Principal, read_policy, read_principal

_DISABLE = ("kms:DisableKey",)
_DELETE = ("kms:ScheduleKeyDeletion", "kms:DeleteImportedKeyMaterial")
_CHANGE_POLICY = ("kms:PutKeyPolicy", "kms:ReplicateKey")
"""A replica has a key policy of its own, which whoever makes it may choose (kms:ReplicateKey)."""
_GRANT = ("kms:CreateGrant",)
_USE = ("kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext")
_USE_TO_MOVE = ("kms:ReEncryptFrom", "kms:ReEncryptTo")

_EVERYTHING = (*_USE, *_USE_TO_MOVE, *_GRANT, *_DISABLE, *_DELETE, *_CHANGE_POLICY, "kms:DescribeKey")

_VIA_SERVICE = "kms:viaservice"
_CONTEXT = "kms:encryptioncontext:aws:s3:arn"
_WINDOW = "kms:schedulekeydeletionpendingwindowindays"
_LONGEST_WINDOW_DAYS = 30
"""The longest waiting period that KMS knows, and its default ("ScheduleKeyDeletion", AWS KMS API Reference)."""

_IDENTIFYING = (
    *("kms:calleraccount", "aws:principalaccount", "aws:principalarn", "aws:principalorgid"),
    *("aws:principalorgpaths", "aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid"),
)
"""Condition keys that say who is meant where a principal doesn't."""

_ONE_BUCKET = re.compile(r"arn:aws[a-z-]*:s3:::[A-Za-z0-9._-]+(?:/|\Z)")
"""The ARN of one bucket, or of objects in it (letters of names: "Bucket naming rules", Amazon S3 User Guide)."""

_Judge = Callable[[KeyPolicy], Sequence[Remark]]


def access_findings(facts: KeyFacts, expected: Expected) -> tuple[Finding, ...]:
    """What the key policy lets whom do."""

    def controlled(actions: Sequence[str], *, across_accounts: bool) -> _Judge:
        return lambda policy: _control(policy, actions, facts, expected, across_accounts=across_accounts)

    fewer = "name few principals, made for this alone, and deny it to all others; --expect says who is meant"
    return (
        _by_policy("who_can_disable", facts, controlled(_DISABLE, across_accounts=False), fewer),
        _by_policy("who_can_delete", facts, controlled(_DELETE, across_accounts=False), fewer),
        _by_policy("who_can_change_policy", facts, controlled(_CHANGE_POLICY, across_accounts=False), fewer),
        _by_policy("who_can_grant", facts, controlled(_GRANT, across_accounts=True), fewer),
        _by_policy(
            "wildcard_principals",
            facts,
            lambda policy: _wildcards(policy, facts),
            "name principals instead of *, and never NotPrincipal with Allow",
        ),
        _by_policy(
            "service_condition",
            facts,
            lambda policy: _uses(policy, facts, expected),
            "allow use through S3 alone (kms:ViaService), for the bucket's objects (kms:EncryptionContext:aws:s3:arn)",
        ),
        _by_policy(
            "administrators_can_use",
            facts,
            lambda policy: _separated(policy, facts),
            "let nobody both use the key and decide over it: two roles, each for one of these",
        ),
        _by_policy(
            "deletion_window",
            facts,
            lambda policy: _window(policy, facts),
            "deny kms:ScheduleKeyDeletion where kms:ScheduleKeyDeletionPendingWindowInDays is less than 30",
        ),
        _by_policy(
            "shared_with_services",
            facts,
            lambda policy: _services(policy, facts),
            "keep a key for the backups alone: other services have keys of their own",
        ),
        asked(
            "grants",
            facts.grants,
            lambda grants: _grants(grants, facts, expected),
            "retire what nobody needs (kms:RevokeGrant); --expect says which grantees are meant",
        ),
    )


def _by_policy(name: str, facts: KeyFacts, judge: _Judge, mend: str) -> Finding:
    def judged(text: str) -> Iterator[Remark]:
        policy = read_policy(text)
        yield from judge(policy)
        # What wasn't understood may allow anything: no finding about the policy is better than unknown.
        yield from (Remark("unknown", f"not understood: {each}") for each in policy.unread)

    return asked(name, facts.policy, judged, mend)


def _control(
    policy: KeyPolicy,
    actions: Sequence[str],
    facts: KeyFacts,
    expected: Expected,
    *,
    across_accounts: bool,
) -> tuple[Remark, ...]:
    what = " or ".join(actions)
    remarks = tuple(
        Remark(
            _severity_of_control(holder, facts, expected, across_accounts=across_accounts),
            f"{_told(holder)} may {what}",
        )
        for holder in holders_of_any(policy, actions, facts.key_arn)
    )
    return remarks or (Remark("ok", f"nobody may {what}"),)


def _severity_of_control(
    holder: Holder, facts: KeyFacts, expected: Expected, *, across_accounts: bool
) -> Severity:
    """How severe it is that somebody may decide over the key."""
    principal, key_account = holder.principal, facts.reference.account
    if principal == ANYONE:
        return "high" if _says_who(holder) else "critical"
    if _is_expected(principal, expected):
        return "ok"
    if principal.account not in ("", key_account):
        # "Cross-account use: No" (AWS KMS API Reference, DisableKey and the like): it's allowed in vain.
        return "high" if across_accounts else "low"
    if expected.principals or key_account in facts.vendor_accounts:
        return "high"
    return "medium" if principal.kind in ("account", "service") else "low"


def _wildcards(policy: KeyPolicy, facts: KeyFacts) -> tuple[Remark, ...]:
    remarks = []
    for holder in holders_of_any(policy, _EVERYTHING, facts.key_arn):
        if holder.principal == ANYONE:
            severity: Severity = "medium" if _says_who(holder) else "critical"
            remarks.append(Remark(severity, f"{holder.label} is for {_told(holder)}"))
    # What isn't asked for above, or is denied again elsewhere, is to be known.
    remarks += [
        Remark("low", f"{statement.label} names everybody, or everybody but some")
        for statement in policy.statements
        if statement.allows and (ANYONE in statement.principals or statement.excepts_principals)
    ]
    return tuple(remarks) or (Remark("ok", "every principal that is allowed something is named"),)


def _uses(policy: KeyPolicy, facts: KeyFacts, expected: Expected) -> tuple[Remark, ...]:
    remarks = [
        _use(holder, facts, expected)
        for holder in holders_of_any(policy, (*_USE, *_USE_TO_MOVE), facts.key_arn)
        if holder.principal.kind != "service"
    ]
    return tuple(remarks) or (Remark("ok", "nobody may use the key by its policy"),)


def _use(holder: Holder, facts: KeyFacts, expected: Expected) -> Remark:
    principal = holder.principal
    through = holder.demanded(_VIA_SERVICE)
    severity: Severity
    if not through or not all(_is_s3(each) for each in through):
        severity = "high"
        if principal == ANYONE and not _says_who(holder):
            severity = "critical"
        elif _is_expected(principal, expected):
            severity = "low"
        elif holder.by_iam and principal.account == facts.reference.account:
            text = f"{_told(holder)} may use the key: which conditions those have isn't in the key policy"
            return Remark("unknown", text)
        return Remark(severity, f"{_told(holder)} may use the key otherwise than through S3")
    context = holder.demanded(_CONTEXT)
    if not context or not all(map(_is_one_bucket, context)):
        severity = "low" if _is_expected(principal, expected) else "medium"
        buckets = ", ".join(context) or "any bucket"
        return Remark(
            severity, f"{_told(holder)} may use the key through S3 for more than one bucket: {buckets}"
        )
    return Remark("ok", f"{_told(holder)} may use the key through S3 for {', '.join(context)}")


def _separated(policy: KeyPolicy, facts: KeyFacts) -> tuple[Remark, ...]:
    users = {each.principal for each in holders_of_any(policy, _USE, facts.key_arn)}
    deciding = {
        each.principal: each for each in holders_of_any(policy, (*_DELETE, *_CHANGE_POLICY), facts.key_arn)
    }
    remarks = []
    for principal, holder in deciding.items():
        if principal == ANYONE or ANYONE in users:
            remarks.append(Remark("high", f"{_told(holder)} may use the key and decide over it"))
        elif principal in users and principal.kind != "account":
            remarks.append(Remark("medium", f"{_told(holder)} may use the key and decide over it"))
        decides_for_others = principal.kind == "account" and principal.account in {
            each.account for each in users
        }
        if decides_for_others or Principal("account", principal.account) in users:
            text = f"{_told(holder)} may decide over it; IAM policies of account {principal.account} say who uses it"
            remarks.append(Remark("unknown", text))
    return tuple(remarks) or (Remark("ok", "nobody may both use the key and decide over it"),)


def _window(policy: KeyPolicy, facts: KeyFacts) -> tuple[Remark, ...]:
    remarks = []
    for holder in holders_of(policy, "kms:ScheduleKeyDeletion", facts.key_arn):
        days = holder.at_least(_WINDOW)
        if days is None:
            remarks.append(Remark("medium", f"{_told(holder)} may have it deleted after 7 days"))
        elif days < _LONGEST_WINDOW_DAYS:
            remarks.append(Remark("low", f"{_told(holder)} may have it deleted after {days:g} days"))
        else:
            remarks.append(Remark("ok", f"{_told(holder)} must wait for {days:g} days"))
    return tuple(remarks) or (Remark("ok", "nobody may have the key deleted"),)


def _services(policy: KeyPolicy, facts: KeyFacts) -> tuple[Remark, ...]:
    remarks = []
    for holder in holders_of_any(policy, (*_USE, *_USE_TO_MOVE, *_GRANT), facts.key_arn):
        if holder.principal.kind == "service" and not _is_s3(holder.principal.name):
            remarks.append(Remark("medium", f"{_told(holder)} may use the key"))
        others = [each for each in holder.demanded(_VIA_SERVICE) if not _is_s3(each)]
        if others:
            remarks.append(Remark("medium", f"{_told(holder)} may use the key through {', '.join(others)}"))
    return tuple(remarks) or (Remark("ok", "no service but S3 is named"),)


def _grants(grants: Grants, facts: KeyFacts, expected: Expected) -> tuple[Remark, ...]:
    remarks = [Remark(_severity_of_grant(each, facts, expected), _told_grant(each)) for each in grants.listed]
    if not grants.complete:
        remarks.append(
            Remark("unknown", f"there are more than the {len(grants.listed)} grants that were read")
        )
    return tuple(remarks) or (Remark("ok", "there are no grants"),)


def _severity_of_grant(grant: Grant, facts: KeyFacts, expected: Expected) -> Severity:
    if grant.grantee in expected.principals:
        return "ok"
    try:
        grantee = read_principal(grant.grantee)
    except ValueError:
        # An AWS service, which holds a grant for what it keeps under the key.
        return "medium" if grant.grantee.endswith((".amazonaws.com", ".amazonaws.com.cn")) else "high"
    if _is_expected(grantee, expected):
        return "ok"
    foreign = grantee.account != facts.reference.account or grantee.account in facts.vendor_accounts
    # A grant may outlive a change of the policy, and goes round its conditions ("Grants in AWS KMS").
    return "high" if foreign or "CreateGrant" in grant.operations or not grant.constrained else "medium"


def _told_grant(grant: Grant) -> str:
    limits = "" if grant.constrained else ", without constraints"
    return f"{grant.grantee or 'nobody named'} holds {', '.join(grant.operations)}{limits} ({grant.grant_id})"


def _told(holder: Holder) -> str:
    principal = holder.principal
    match principal.kind:
        case "anyone":
            who = "everybody"
        case "account":
            who = f"whoever IAM policies of account {principal.name} allow it"
        case _:
            who = principal.name
    if not holder.conditions:
        return who
    return f"{who} under {', '.join(dict.fromkeys(each.key for each in holder.conditions))}"


def _says_who(holder: Holder) -> bool:
    """Whether a condition says which principals are meant, by values that aren't everybody again."""
    return any(
        values and not any(each.strip("*?") == "" for each in values)
        for values in map(holder.demanded, _IDENTIFYING)
    )


def _is_expected(principal: Principal, expected: Expected) -> bool:
    if principal == ANYONE:
        return False
    names = {principal.name}
    if principal.kind == "account":
        names |= {each for each in expected.principals if each.endswith(f":{principal.account}:root")}
    return bool(names & expected.principals)


def _is_s3(service: str) -> bool:
    """Whether it is S3, of one region or of any: `s3.us-east-1.amazonaws.com`."""
    return service.startswith("s3.") and service.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _is_one_bucket(arn: str) -> bool:
    """Whether this is one bucket's objects: neither a wildcard nor a policy variable stands in or before its name.

    Whatever fits a part of a name may be the name of somebody else's bucket, tomorrow if not today.
    """
    return _ONE_BUCKET.match(arn) is not None
