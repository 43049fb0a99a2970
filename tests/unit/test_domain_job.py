"""Job messages: what is read, and that everything else is refused with the name of what is wrong."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rekeyd.domain.errors import RefusedError
from rekeyd.domain.job import (
    CANCELLABLE_STATES,
    MESSAGE_BYTES_MAX,
    PRIORITY_RANKS,
    RESUMABLE_STATES,
    UNFINISHED_STATES,
    MigrateMessage,
    ReceivedJob,
    read_job_message,
    utc_timestamp,
)
from rekeyd.domain.key import KmsKey

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # busy machines

ARN = "arn:aws:kms:us-east-1:111122223333"
KEY = {"kind": "kms", "arn": f"{ARN}:key/1234abcd", "alias": f"{ARN}:alias/acme"}
LEAST: dict[str, Any] = {
    "schema": "rekeyd.job/1",
    "id": "acme-migrate-1",
    "kind": "migrate",
    "tenant": "acme",
    "source": "s3://shared/tenants/acme/",
    "key": KEY,
}
MOST: dict[str, Any] = LEAST | {
    "target": "s3://byok-acme/",
    "options": {
        "cutover": "catch_up",
        "grace_seconds": 0,
        "versions": "current",
        "verify": "read_back",
        "priority": "high",
    },
    "not_before": "2026-01-31T12:00:00Z",
    "deadline": "2026-01-31T14:30:00.5+02:00",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
    "requested_by": "portal",
}


def written(body: object) -> bytes:
    return json.dumps(body).encode()


def refused_field(raw: bytes) -> str:
    with pytest.raises(RefusedError) as refused:
        read_job_message(raw)
    return refused.value.field


def test_the_least_that_a_message_says() -> None:
    message = read_job_message(written(LEAST)).message

    assert (message.id, message.tenant, message.kind) == ("acme-migrate-1", "acme", "migrate")
    assert isinstance(message, MigrateMessage)
    assert message.target is None
    options = message.options
    assert (options.cutover, options.grace_seconds, options.versions) == ("catch_up", None, "all")
    assert (options.verify, options.priority) == ("checksums", "normal")


def test_the_most_that_a_message_says() -> None:
    message = read_job_message(written(MOST)).message

    assert isinstance(message, MigrateMessage)
    assert message.options.grace_seconds == 0
    assert message.not_before == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert message.deadline == datetime(2026, 1, 31, 12, 30, 0, 500_000, tzinfo=UTC)
    assert message.key == KmsKey.model_validate(KEY)


@pytest.mark.parametrize(
    "encode",
    [
        bytes,
        base64.b64encode,
        base64.encodebytes,
        lambda raw: b"\n " + raw + b"\r\n",
        lambda raw: b" " + base64.b64encode(raw) + b"\n",
    ],
    ids=["plain", "base64", "wrapped", "padded", "padded-base64"],
)
def test_however_it_is_wrapped_it_is_the_same_body(encode: Callable[[bytes], bytes]) -> None:
    assert read_job_message(encode(written(MOST))) == read_job_message(written(MOST))


@patient
@given(st.permutations(list(MOST.items())), st.sampled_from([None, 0, 3]))
def test_order_and_spacing_say_nothing(items: list[tuple[str, object]], indent: int | None) -> None:
    received = read_job_message(json.dumps(dict(items), indent=indent).encode())

    assert received.body_sha256 == read_job_message(written(MOST)).body_sha256


def test_escapes_say_nothing() -> None:
    body = LEAST | {"requested_by": "Zoë"}
    escaped = json.dumps(body, ensure_ascii=True).encode()
    plain = json.dumps(body, ensure_ascii=False).encode()

    assert escaped != plain
    assert read_job_message(escaped) == read_job_message(plain)


@pytest.mark.parametrize(("field", "value"), [("tenant", "other"), ("requested_by", "x"), ("options", {})])
def test_another_body_is_another_body(field: str, value: object) -> None:
    other = read_job_message(written(LEAST | {field: value}))

    assert other.body_sha256 != read_job_message(written(LEAST)).body_sha256


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (LEAST | {"color": "red"}, "color"),
        (LEAST | {"schema_name": "rekeyd.job/1"}, "schema_name"),
        (LEAST | {"key": KEY | {"color": "red"}}, "key.color"),
        (LEAST | {"options": {"color": "red"}}, "options.color"),
        (LEAST | {"schema": "rekeyd.job/2"}, "schema"),
        (LEAST | {"kind": "shred"}, "kind"),
        (LEAST | {"id": ""}, "id"),
        (LEAST | {"id": "-a"}, "id"),
        (LEAST | {"id": "a" * 129}, "id"),
        (LEAST | {"id": "a\n"}, "id"),
        (LEAST | {"id": 1}, "id"),
        (LEAST | {"tenant": ""}, "tenant"),
        (LEAST | {"tenant": "a/b"}, "tenant"),
        (LEAST | {"tenant": "a\n"}, "tenant"),
        (LEAST | {"tenant": "ä"}, "tenant"),
        (LEAST | {"tenant": "a" * 129}, "tenant"),
        (LEAST | {"source": None}, "source"),
        (LEAST | {"key": KEY["arn"]}, "key"),
        (LEAST | {"key": KEY | {"kind": "unheard-of"}}, "key.kind"),
        (LEAST | {"key": {"kind": "known", "ref": KEY["arn"]}}, "key.kind"),
        (LEAST | {"key": KEY | {"kind": "wrapped"}}, "key.wrapped_key"),
        (LEAST | {"key": KEY | {"arn": KEY["alias"]}}, "key.arn"),
        (LEAST | {"key": KEY | {"arn": KEY["arn"].replace("1", "\u0661")}}, "key.arn"),
        (LEAST | {"key": KEY | {"alias": KEY["arn"]}}, "key.alias"),
        (LEAST | {"key": {"kind": "kms", "arn": KEY["arn"]}}, "key.alias"),
        (LEAST | {"options": {"cutover": "redirect_writes"}}, "options.cutover"),
        (LEAST | {"options": {"grace_seconds": -1}}, "options.grace_seconds"),
        (LEAST | {"options": {"grace_seconds": 1.0}}, "options.grace_seconds"),
        (LEAST | {"options": {"grace_seconds": "1"}}, "options.grace_seconds"),
        (LEAST | {"options": {"grace_seconds": True}}, "options.grace_seconds"),
        (LEAST | {"options": {"priority": "urgent"}}, "options.priority"),
        (LEAST | {"options": []}, "options"),
        (LEAST | {"not_before": "2026-01-31T12:00:00"}, "not_before"),
        (LEAST | {"not_before": 1_700_000_000}, "not_before"),
        (LEAST | {"not_before": "1700000000"}, "not_before"),
        (LEAST | {"deadline": "2026-13-31T12:00:00Z"}, "deadline"),
        (LEAST | {"traceparent": "x" * 257}, "traceparent"),
        ({key: value for key, value in LEAST.items() if key != "id"}, "id"),
        ([], "message"),
        ("text", "message"),
        (None, "message"),
    ],
)
def test_what_is_wrong_is_named(body: object, field: str) -> None:
    assert refused_field(written(body)) == field
    assert refused_field(base64.b64encode(written(body))) == field


def test_unknown_fields_are_refused_in_plain_words() -> None:
    with pytest.raises(RefusedError, match=r"^options\.color: is not a field of a job message$"):
        read_job_message(written(LEAST | {"options": {"color": "red"}}))


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (written(LEAST)[:-1] + b', "id": "b"}', "id"),
        (written(LEAST)[:-1] + b', "i\\u0064": "b"}', "id"),
        (written(LEAST).replace(b'"kind": "kms"', b'"kind": "kms", "kind": "kms"'), "kind"),
    ],
    ids=["plain", "escaped", "inner"],
)
def test_a_field_given_twice_is_refused(raw: bytes, field: str) -> None:
    assert refused_field(raw) == field


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"{\xff}",
        b"\xef\xbb\xbf{}",
        b"not base64!",
        written(LEAST) + b"{}",
        written(LEAST).decode().encode("utf-16"),
        b'{"id": NaN}',
        b'{"id": 1e999}',
        b'{"id": "\\ud800"}',
        b'{"id": ' + b"1" * 5000 + b"}",
        b"{" + b'"a":[' * 10_000,
        b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_what_is_no_message_at_all(raw: bytes) -> None:
    assert refused_field(raw) == "message"


def of_size(size_bytes: int) -> bytes:
    raw = written(LEAST | {"requested_by": ""})
    return raw[:-1] + b" " * (size_bytes - len(raw)) + raw[-1:]


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, base64.encodebytes])
def test_the_longest_message(encode: Callable[[bytes], bytes]) -> None:
    assert len(of_size(MESSAGE_BYTES_MAX)) == MESSAGE_BYTES_MAX
    read_job_message(encode(of_size(MESSAGE_BYTES_MAX)))

    with pytest.raises(RefusedError, match="longer than 49152 bytes"):
        read_job_message(encode(of_size(MESSAGE_BYTES_MAX + 1)))


def outcome_of(raw: bytes) -> ReceivedJob | RefusedError:
    try:
        return read_job_message(raw)
    except RefusedError as refused:
        return refused


@patient
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    assert isinstance(outcome_of(raw), RefusedError)
    assert isinstance(outcome_of(base64.b64encode(raw)), RefusedError)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@patient
@given(st.dictionaries(st.sampled_from([*MOST, "kind", "x"]), anything, max_size=4))
def test_any_change_of_a_message_is_read_or_refused(changes: dict[str, object]) -> None:
    outcome_of(written(MOST | changes))


@patient
@given(st.integers(0, 800), st.integers(0, 800), st.binary(max_size=8))
def test_any_damage_to_a_message_is_read_or_refused(first: int, end: int, middle: bytes) -> None:
    raw = written(MOST)

    outcome_of(raw[:first] + middle + raw[end:])


def test_states_are_sorted_out() -> None:
    assert {"completed", "cancelled"}.isdisjoint({*UNFINISHED_STATES, *RESUMABLE_STATES, *CANCELLABLE_STATES})
    assert set(UNFINISHED_STATES) < set(CANCELLABLE_STATES)
    assert sorted(PRIORITY_RANKS, key=lambda name: PRIORITY_RANKS[name]) == ["low", "normal", "high"]


def test_times_are_written_in_utc() -> None:
    assert utc_timestamp(None) is None
    assert utc_timestamp(1_700_000_000.25) == "2023-11-14T22:13:20.250Z"
