"""The front that makes bad weather passes good weather on unchanged, and spoils as it is told."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.doubles.front import Front, Reply
from tests.doubles.weather import DELAY_SECONDS, Asked, Fault, Weather, foul
from tests.e2e.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def store() -> AsyncIterator[Front]:
    async with Front.started() as store:
        yield store


def asked(method: str, target: str, **headers: str) -> Asked:
    return Asked(method, target, {name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize(
    ("request_", "operation"),
    [
        (asked("GET", "/b?list-type=2&prefix=x"), "ListObjectsV2"),
        (asked("GET", "/b?uploads=&prefix=x"), "ListMultipartUploads"),
        (asked("GET", "/b?tagging"), "Bucket"),
        (asked("PUT", "/b"), "Bucket"),
        (asked("GET", "/b/k"), "GetObject"),
        (asked("HEAD", "/b/k"), "HeadObject"),
        (asked("PUT", "/b/k"), "PutObject"),
        (asked("PUT", "/b/k", x_amz_copy_source="/b/k"), "CopyObject"),
        (asked("PUT", "/b/k?partNumber=1&uploadId=u"), "UploadPart"),
        (asked("PUT", "/b/k?partNumber=1&uploadId=u", x_amz_copy_source="/b/k"), "UploadPartCopy"),
        (asked("POST", "/b/k?uploads"), "CreateMultipartUpload"),
        (asked("POST", "/b/k?uploadId=u"), "CompleteMultipartUpload"),
        (asked("DELETE", "/b/k?uploadId=u"), "AbortMultipartUpload"),
        (asked("POST", "/b?delete="), "DeleteObjects"),
        (asked("DELETE", "/b/k"), "DeleteObject"),
    ],
)
async def test_requests_are_known_by_name(request_: Asked, operation: str) -> None:
    assert request_.operation == operation


async def test_good_weather_changes_nothing(store: Front) -> None:
    store.will(Reply(207, {"x-of-the-store": "kept"}, b"answer"))
    async with Weather.started(store.endpoint_url) as weather, aiohttp.ClientSession() as http:
        url = f"{weather.endpoint_url}/b/k"
        async with http.put(url, data=b"body", headers={"Host": "signed", "x-kept": "as it is"}) as answer:
            assert (answer.status, await answer.read()) == (207, b"answer")
            assert answer.headers["x-of-the-store"] == "kept"
    (seen,) = store.seen
    assert (seen.method, seen.target, seen.body) == ("PUT", "/b/k", b"body")
    assert (seen.headers["host"], seen.headers["x-kept"]) == ("signed", "as it is")


@pytest.mark.parametrize(
    ("fault", "status", "reaches_the_store"),
    [
        ("slow_down", 503, False),
        ("internal", 500, False),
        ("error_in_200", 200, False),
        ("lost_in_200", 200, True),
        ("empty_200", 200, False),
        ("garbage_200", 200, False),
        ("reset_unsent", None, False),
        ("reset_unanswered", None, True),
        ("truncated", None, True),
    ],
)
async def test_bad_weather_is_as_foretold(
    store: Front, fault: Fault, status: int | None, reaches_the_store: bool
) -> None:
    store.will(Reply(body=b"an answer that is long enough"))
    async with Weather.started(store.endpoint_url) as weather, aiohttp.ClientSession() as http:
        weather.forecast = lambda _: fault
        try:
            # aiohttp repeats what is idempotent on a reset connection, PATCH it doesn't.
            async with http.patch(f"{weather.endpoint_url}/b/k", data=b"") as answer:
                await answer.read()
                found = answer.status
        except aiohttp.ClientError:
            found = None
    assert found == status
    assert bool(store.seen) is reaches_the_store
    assert weather.suffered["PatchObject", fault] == 1


@pytest.mark.parametrize(("fault", "times"), [("delayed", 1), ("repeated", 2)])
async def test_late_weather_is_as_foretold(store: Front, fault: Fault, times: int) -> None:
    store.will(Reply(204), Reply(412))
    async with Weather.started(store.endpoint_url) as weather, aiohttp.ClientSession() as http:
        weather.forecast = lambda _: fault
        began = time.monotonic()
        async with http.put(f"{weather.endpoint_url}/b/k", data=b"body") as answer:
            assert answer.status == 204
        answered_after_seconds = time.monotonic() - began

        async def all_seen() -> bool:
            return len(store.seen) == times and sum(weather.repeated.values()) == times - 1

        await until(all_seen)
    assert (answered_after_seconds >= DELAY_SECONDS) == (fault == "delayed")
    assert {(seen.method, seen.target, seen.body) for seen in store.seen} == {("PUT", "/b/k", b"body")}
    assert weather.repeated == ({("PutObject", "412"): 1} if times == 2 else {})


async def test_the_die_is_seeded() -> None:
    request = asked("GET", "/b/k")
    first, second = foul(7, 0.3), foul(7, 0.3)
    falls = [first(request) for _ in range(500)]
    assert falls == [second(request) for _ in range(500)]
    assert 100 < sum(fall is not None for fall in falls) < 200
