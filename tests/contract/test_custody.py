"""What custody/port.py promises, on AWS KMS's emulators and in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Protocol

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession, get_session
from aiohttp import web
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from rekeyd.custody.aws_kms import AwsKms, KmsAccess
from rekeyd.custody.memory import MemoryCustody
from rekeyd.custody.port import Custody
from rekeyd.domain.errors import CustodyError, KeyForbiddenError
from rekeyd.domain.key import KeyDescription, KmsKey, key_finding
from rekeyd.sandbox import Sandbox

REGION = "us-east-1"
OTHER_REGION = "eu-west-1"


class World(Protocol):
    """The tenant's side: makes keys, and does to them what tenants do."""

    async def make_key(self, alias: str, **about: str) -> KmsKey: ...

    async def disable(self, key: KmsKey) -> None: ...

    async def enable(self, key: KmsKey) -> None: ...

    async def schedule_deletion(self, key: KmsKey) -> None: ...

    async def drop_alias(self, key: KmsKey) -> None: ...

    async def point_alias(self, key: KmsKey, elsewhere: KmsKey) -> None: ...


def key_id(key: KmsKey) -> str:
    return key.arn.rpartition("/")[2]  # moto's answer to a change by ARN is 500


class KmsWorld:
    """A key service over its own API."""

    def __init__(self, client: Callable[[str], Awaitable[Any]]) -> None:
        self._client = client

    async def make_key(self, alias: str, region: str = REGION, **about: str) -> KmsKey:
        kms = await self._client(region)
        # AWS assumes these two; moto leaves out what wasn't said.
        about = {"KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", **about}
        try:
            made = (await kms.create_key(**about))["KeyMetadata"]["Arn"]
        except ClientError as error:
            if "requires the cryptography package" in str(error):
                pytest.skip("ministack makes no asymmetric keys without cryptography beside it")
            raise
        await kms.create_alias(AliasName=f"alias/{alias}", TargetKeyId=made)
        return KmsKey(kind="kms", arn=made, alias=f"{made.partition(':key/')[0]}:alias/{alias}")

    async def disable(self, key: KmsKey) -> None:
        await (await self._client(key.region)).disable_key(KeyId=key_id(key))

    async def enable(self, key: KmsKey) -> None:
        await (await self._client(key.region)).enable_key(KeyId=key_id(key))

    async def schedule_deletion(self, key: KmsKey) -> None:
        kms = await self._client(key.region)
        await kms.schedule_key_deletion(KeyId=key_id(key), PendingWindowInDays=7)

    async def drop_alias(self, key: KmsKey) -> None:
        kms = await self._client(key.region)
        await kms.delete_alias(AliasName=key.alias.rpartition(":")[2])

    async def point_alias(self, key: KmsKey, elsewhere: KmsKey) -> None:
        kms = await self._client(key.region)
        await kms.update_alias(AliasName=key.alias.rpartition(":")[2], TargetKeyId=elsewhere.arn)


class MemoryWorld:
    def __init__(self, custody: MemoryCustody) -> None:
        self._custody = custody

    async def make_key(self, alias: str, region: str = REGION, **about: str) -> KmsKey:
        prefix = f"arn:aws:kms:{region}:111122223333"
        number = len(self._custody.keys)
        key = KmsKey(kind="kms", arn=f"{prefix}:key/made-{number}", alias=f"{prefix}:alias/{alias}")
        stored = self._custody.add(key)
        stored.usage = about.get("KeyUsage", stored.usage)
        stored.spec = about.get("KeySpec", stored.spec)
        return key

    async def disable(self, key: KmsKey) -> None:
        self._custody.keys[key.arn].state = "Disabled"

    async def enable(self, key: KmsKey) -> None:
        self._custody.keys[key.arn].state = "Enabled"

    async def schedule_deletion(self, key: KmsKey) -> None:
        self._custody.keys[key.arn].state = "PendingDeletion"

    async def drop_alias(self, key: KmsKey) -> None:
        del self._custody.aliases[key.alias]

    async def point_alias(self, key: KmsKey, elsewhere: KmsKey) -> None:
        self._custody.aliases[key.alias] = elsewhere.arn


def session_with(access_key_id: str, secret_access_key: str) -> AioSession:
    session = get_session()
    session.set_credentials(access_key_id, secret_access_key)
    return session


def access(endpoint_url: str, request_seconds_max: float = 10) -> KmsAccess:
    return KmsAccess(
        region=REGION,
        endpoint_url=endpoint_url,
        request_seconds_max=request_seconds_max,
        connect_seconds_max=1,
        connections_max=4,
    )


@asynccontextmanager
async def on_server(session: AioSession, endpoint_url: str) -> AsyncIterator[tuple[Custody, World]]:
    async with AsyncExitStack() as stack:
        clients: dict[str, Any] = {}

        async def client(region: str) -> Any:  # noqa: ANN401 - a client is made of its service's model
            if region not in clients:
                clients[region] = await stack.enter_async_context(
                    session.create_client(
                        "kms",
                        region_name=region,
                        endpoint_url=endpoint_url,
                        config=AioConfig(retries={"total_max_attempts": 1}),
                    )
                )
            return clients[region]

        custody = await stack.enter_async_context(AwsKms(session, access(endpoint_url)))
        yield custody, KmsWorld(client)


@pytest.fixture(scope="module")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["memory", "ministack", "moto"])
def server(request: pytest.FixtureRequest) -> tuple[AioSession, str] | None:
    if request.param == "memory":
        return None
    if request.param == "moto":
        return session_with("AKIDMOTO", "secret"), request.getfixturevalue("moto_endpoint")
    sandbox: Sandbox = request.getfixturevalue("sandbox")
    return session_with(sandbox.access_key_id, sandbox.secret_access_key), sandbox.kms_endpoint


@pytest.fixture
async def custody_and_world(
    server: tuple[AioSession, str] | None,
) -> AsyncIterator[tuple[Custody, World]]:
    if server is None:
        custody = MemoryCustody()
        yield custody, MemoryWorld(custody)
    else:
        async with on_server(*server) as both:
            yield both


@pytest.fixture
def custody(custody_and_world: tuple[Custody, World]) -> Custody:
    return custody_and_world[0]


@pytest.fixture
def world(custody_and_world: tuple[Custody, World]) -> World:
    return custody_and_world[1]


@pytest.fixture
def alias(request: pytest.FixtureRequest) -> str:
    """One that no other test on the same server uses."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name)


async def fault_of(custody: Custody, key: KmsKey) -> str | None:
    described = await custody.describe(key)
    assert described is not None
    finding = key_finding(key, described, REGION)
    return None if finding is None else finding.fault


async def test_an_enabled_key_with_its_alias_will_do(custody: Custody, world: World, alias: str) -> None:
    key = await world.make_key(alias)

    described = await custody.describe(key)

    assert described is not None
    assert (described.arn, described.alias_target_arn) == (key.arn, key.arn)
    assert described.state == "Enabled"
    assert (described.usage, described.spec) == ("ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT")
    assert key_finding(key, described, REGION) is None


async def test_what_a_key_encrypts_with_is_told_alike_each_time_or_not_at_all(
    custody: Custody, world: World, alias: str
) -> None:
    keys = [await world.make_key(f"{alias}-{number}") for number in range(2)]

    told = [[await custody.describe(key) for _ in range(2)] for key in keys]

    materials = [{each.material_id for each in twice if each is not None} for twice in told]
    assert [len(each) for each in materials] == [1, 1]
    assert materials == [{None}, {None}] or not materials[0] & materials[1]


async def test_a_description_is_never_stale(custody: Custody, world: World, alias: str) -> None:
    key = await world.make_key(alias)
    assert await fault_of(custody, key) is None

    await world.disable(key)
    assert await fault_of(custody, key) == "key_disabled"

    await world.enable(key)
    assert await fault_of(custody, key) is None


async def test_a_key_pending_deletion(custody: Custody, world: World, alias: str) -> None:
    key = await world.make_key(alias)
    await world.schedule_deletion(key)

    assert await fault_of(custody, key) == "key_pending_deletion"


async def test_a_missing_key(custody: Custody, world: World, alias: str) -> None:
    key = await world.make_key(alias)
    arn = f"{key.arn.rpartition('/')[0]}/00000000-0000-4000-8000-000000000000"

    assert await custody.describe(key.model_copy(update={"arn": arn})) is None


@pytest.mark.parametrize(
    ("usage", "spec"), [("ENCRYPT_DECRYPT", "RSA_2048"), ("GENERATE_VERIFY_MAC", "HMAC_256")]
)
async def test_an_asymmetric_key(custody: Custody, world: World, alias: str, usage: str, spec: str) -> None:
    key = await world.make_key(alias, KeyUsage=usage, KeySpec=spec)

    assert await fault_of(custody, key) == "key_wrong_usage"


async def test_a_missing_alias(custody: Custody, world: World, alias: str) -> None:
    key = await world.make_key(alias)
    await world.drop_alias(key)

    described = await custody.describe(key)

    assert described is not None
    assert described.alias_target_arn is None
    assert await fault_of(custody, key) == "key_missing"


async def test_an_alias_that_points_elsewhere(custody: Custody, world: World, alias: str) -> None:
    key = await world.make_key(alias)
    other = await world.make_key(f"{alias}-other")
    await world.point_alias(key, other)

    described = await custody.describe(key)

    assert described is not None
    assert described.alias_target_arn == other.arn
    assert await fault_of(custody, key) == "key_alias_mismatch"


async def test_a_key_of_another_region_is_asked_for_there(custody: Custody, world: World, alias: str) -> None:
    key = await world.make_key(alias, region=OTHER_REGION)

    assert key.region == OTHER_REGION
    assert await fault_of(custody, key) == "key_wrong_region"


async def test_descriptions_run_side_by_side(custody: Custody, world: World, alias: str) -> None:
    keys = [await world.make_key(f"{alias}-{number}") for number in range(8)]

    described = await asyncio.gather(*(custody.describe(key) for key in keys))

    assert [each.arn for each in described if each] == [key.arn for key in keys]


KEY = KmsKey(
    kind="kms",
    arn="arn:aws:kms:us-east-1:111122223333:key/made-up",
    alias="arn:aws:kms:us-east-1:111122223333:alias/made-up",
)


class ScriptedKms:
    """Answers each request with the next of `answers`, and with the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Callable[[], web.Response] | float] = []
        self.asked = 0
        self.endpoint_url = ""

    def refuse(self, code: str, status: int = 400) -> None:
        body = {"__type": code, "message": "so it is"}
        self.answers.append(lambda: web.json_response(body, status=status))

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return web.Response()
        return answer()


@pytest.fixture
async def scripted() -> AsyncIterator[ScriptedKms]:
    kms = ScriptedKms()
    app = web.Application()
    app.router.add_post("/", kms.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    kms.endpoint_url = f"http://{host}:{port}"
    yield kms
    await runner.cleanup()


async def describe(endpoint_url: str, request_seconds_max: float = 10) -> object:
    custody = AwsKms(session_with("AKID", "secret"), access(endpoint_url, request_seconds_max))
    async with custody:
        return await custody.describe(KEY)


async def test_access_denied_is_the_tenants_to_mend(scripted: ScriptedKms) -> None:
    scripted.refuse("AccessDeniedException")

    with pytest.raises(KeyForbiddenError, match=KEY.arn):
        await describe(scripted.endpoint_url)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ThrottlingException", 400),
        ("KMSInternalException", 500),
        ("DependencyTimeoutException", 503),
        ("UnrecognizedClientException", 400),
        ("SomethingNew", 400),
    ],
)
async def test_other_refusals_are_troubles_of_the_service_and_not_repeated(
    scripted: ScriptedKms, code: str, status: int
) -> None:
    scripted.refuse(code, status)

    with pytest.raises(CustodyError, match=code) as caught:
        await describe(scripted.endpoint_url)

    assert not isinstance(caught.value, KeyForbiddenError)
    assert scripted.asked == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(text="<html>not KMS</html>", content_type="text/html"),
        lambda: web.json_response({}),
        lambda: web.json_response({"KeyMetadata": {"Arn": KEY.arn}}),
    ],
    ids=["html", "empty", "half"],
)
async def test_an_answer_without_sense_is_no_description(
    scripted: ScriptedKms, answer: Callable[[], web.Response]
) -> None:
    scripted.answers.append(answer)

    with pytest.raises(CustodyError):
        await describe(scripted.endpoint_url)


async def test_the_material_that_kms_names_is_told(scripted: ScriptedKms) -> None:
    about = {
        "Arn": KEY.arn,
        "KeyState": "Enabled",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeySpec": "SYMMETRIC_DEFAULT",
    }
    named = about | {"CurrentKeyMaterialId": "5f" * 32}
    scripted.answers.extend(
        partial(web.json_response, {"KeyMetadata": each}) for each in (named, named, about)
    )

    first, second = await describe(scripted.endpoint_url), await describe(scripted.endpoint_url)

    assert isinstance(first, KeyDescription)
    assert isinstance(second, KeyDescription)
    assert (first.material_id, second.material_id) == ("5f" * 32, None)


async def test_a_service_that_says_nothing_is_given_up(scripted: ScriptedKms) -> None:
    scripted.answers.append(30.0)
    began_at = asyncio.get_running_loop().time()

    with pytest.raises(CustodyError, match=KEY.arn):
        await describe(scripted.endpoint_url, request_seconds_max=0.2)

    assert asyncio.get_running_loop().time() - began_at < 20


async def test_a_service_that_is_not_there() -> None:
    with pytest.raises(CustodyError, match=KEY.arn):
        await describe("http://127.0.0.1:9")


async def test_memory_rotates_under_the_same_arn_when_told_to() -> None:
    custody = MemoryCustody()
    custody.add(KEY)
    before = await custody.describe(KEY)
    custody.rotate(KEY.arn)
    after = await custody.describe(KEY)

    assert before is not None
    assert after is not None
    assert None not in (before.material_id, after.material_id)
    assert before.material_id != after.material_id


async def test_memory_fails_when_told_to() -> None:
    custody = MemoryCustody()
    custody.add(KEY)
    assert await custody.describe(KEY) is not None

    custody.forbidden.add(KEY.arn)
    with pytest.raises(KeyForbiddenError):
        await custody.describe(KEY)

    custody.unreachable = True
    with pytest.raises(CustodyError):
        await custody.describe(KEY)
