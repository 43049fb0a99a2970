"""What custody is asked and answers, as values."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from rekeyd.domain.custody import Errand, OfferAnswer, ProviderRequest, material_alias, noted, tenant_alias
from rekeyd.domain.key import AcceptedKey, CustomerKey, KmsKey, KnownKey, WrappedKey

TENANT = st.text("abcXYZ019._-", min_size=1, max_size=128)
JOB = st.text("abcXYZ019._:-", min_size=1, max_size=128)
ALIAS = re.compile(r"alias/[A-Za-z0-9/_-]{1,250}")
ARN = "arn:aws:kms:us-east-1:111122223333"


@given(TENANT, JOB)
def test_a_sessions_name_is_one_that_sts_takes(tenant: str, job: str) -> None:
    assert re.fullmatch(r"[\w+=,.@-]{2,64}", Errand(tenant, job).session_name, re.ASCII)


def test_long_names_of_sessions_are_told_apart() -> None:
    names = {Errand("t" * 100, f"job-{number}").session_name for number in range(100)}

    assert len(names) == 100
    assert all(name.startswith("rekeyd-ttt") for name in names)


@given(TENANT, TENANT)
def test_each_tenant_has_an_alias_of_its_own_that_kms_takes(one: str, other: str) -> None:
    assert ALIAS.fullmatch(tenant_alias(one))
    assert (tenant_alias(one) == tenant_alias(other)) is (one == other)
    assert not tenant_alias(one).startswith(material_alias(""))


def test_aliases_are_named_as_documented() -> None:
    assert tenant_alias("acme") == "alias/rekeyd/acme"
    assert tenant_alias("acme.eu") == "alias/rekeyd/acme/2eeu"
    assert ALIAS.fullmatch(material_alias("0" * 64))


def test_requests_are_noted_in_order_for_the_audit_trail() -> None:
    requests = (ProviderRequest("kms:CreateKey", "1"), ProviderRequest("kms:CreateAlias", "", "unanswered"))

    assert noted(requests) == [
        {"operation": "kms:CreateKey", "request_id": "1", "outcome": "ok"},
        {"operation": "kms:CreateAlias", "request_id": "", "outcome": "unanswered"},
    ]


def test_an_answer_shows_no_ciphertext() -> None:
    assert "secret" not in repr(OfferAnswer("ref", b"token", b"secret"))


KEYS: dict[type, dict[str, object]] = {
    KmsKey: {"kind": "kms", "arn": f"{ARN}:key/1", "alias": f"{ARN}:alias/acme"},
    WrappedKey: {
        "kind": "wrapped",
        "wrapped_key": "A" * 684,
        "sha256": "A" * 43 + "=",
        "material": "aes-256",
    },
    AcceptedKey: {"kind": "accepted", "ref": f"{ARN}:key/1"},
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_message_names_a_key_by_its_kind(kind: type) -> None:
    adapter: TypeAdapter[KmsKey | WrappedKey | AcceptedKey | KnownKey] = TypeAdapter(CustomerKey)

    assert type(adapter.validate_python(KEYS[kind])) is kind
    with pytest.raises(ValidationError):
        adapter.validate_python({**KEYS[kind], "kind": "another"})


@pytest.mark.parametrize("ref", ["", "acme", f"{ARN}:alias/acme", "arn:aws:s3:::bucket", f"{ARN}:key/1\n"])
def test_an_accepted_key_is_named_by_a_keys_arn(ref: str) -> None:
    with pytest.raises(ValidationError):
        AcceptedKey(kind="accepted", ref=ref)


def test_an_accepted_keys_region_is_its_arns() -> None:
    assert AcceptedKey(kind="accepted", ref=f"{ARN}:key/1").region == "us-east-1"
