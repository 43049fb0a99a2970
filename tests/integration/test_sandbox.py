"""The sandbox is real where it matters, stays on loopback, and never outlives whoever started it."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from rekeyd import sandbox as module
from rekeyd.sandbox import SOCKETS, Ports, Sandbox, SandboxError
from tests.patience import HANG_SECONDS

if TYPE_CHECKING:
    from types_aiobotocore_kms import KMSClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

reads_proc = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc")
pytestmark = pytest.mark.asyncio(loop_scope="module")
ONCE = AioConfig(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    with pytest.MonkeyPatch.context() as users:
        users.setenv("AWS_PROFILE", "the-users-own")
        users.setenv("AWS_SECRET_ACCESS_KEY", "the-users-secret")
        users.setenv("HTTP_PROXY", "http://192.0.2.1:3128")
        async with Sandbox.start(tmp_path_factory.mktemp("sandbox")) as running:
            users.undo()
            yield running


@asynccontextmanager
async def clients(
    sandbox: Sandbox,
) -> AsyncIterator[tuple["S3Client", "KMSClient", "SQSClient"]]:
    session = get_session()
    session.set_credentials(sandbox.access_key_id, sandbox.secret_access_key)
    region = sandbox.region
    async with (
        session.create_client("s3", region, endpoint_url=sandbox.s3_endpoint, config=ONCE) as s3,
        session.create_client("kms", region, endpoint_url=sandbox.kms_endpoint, config=ONCE) as kms,
        session.create_client("sqs", region, endpoint_url=sandbox.sqs_endpoint, config=ONCE) as sqs,
    ):
        yield s3, kms, sqs


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        while not condition():  # noqa: ASYNC110 - processes end without an event
            await asyncio.sleep(0.05)


def running_in(directory: Path) -> list[int]:
    """Every process whose working directory is below `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(directory):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def environments(pids: list[int]) -> list[bytes]:
    return [Path(f"/proc/{pid}/environ").read_bytes() for pid in pids]


def unix_sockets(ports: Ports) -> list[Path]:
    return [found for port in asdict(ports).values() for found in SOCKETS.glob(f"seaweedfs-*-{port}.sock")]


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Address, in the kernel's hexadecimal, and port of every listening TCP or UDP socket."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            name = str(descriptor.readlink())
            if name.startswith("socket:["):
                inodes.add(name.removeprefix("socket:[").removesuffix("]"))
    found = set()
    for table, state in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == state and columns[9] in inodes:
                address, port = columns[1].split(":")
                found.add((address, int(port, 16)))
    return found


async def test_an_object_is_readable_only_while_its_key_is_enabled(sandbox: Sandbox) -> None:
    async with clients(sandbox) as (s3, kms, _):
        key = (await kms.create_key())["KeyMetadata"]
        arn = key["Arn"]
        await s3.create_bucket(Bucket="dedicated")
        await s3.put_object(
            Bucket="dedicated",
            Key="backup",
            Body=b"content",
            ServerSideEncryption="aws:kms",
            SSEKMSKeyId=arn,
        )
        head = await s3.head_object(Bucket="dedicated", Key="backup")

        await kms.disable_key(KeyId=arn)
        with pytest.raises(ClientError) as refused:
            await s3.get_object(Bucket="dedicated", Key="backup")

        await kms.enable_key(KeyId=arn)
        answer = await s3.get_object(Bucket="dedicated", Key="backup")
        content = await answer["Body"].read()

    assert arn.startswith(f"arn:aws:kms:{sandbox.region}:{sandbox.account_id}:key/")
    assert head["ServerSideEncryption"] == "aws:kms"
    assert head["SSEKMSKeyId"] == arn
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert content == b"content"


async def test_a_message_goes_through_the_queue(sandbox: Sandbox) -> None:
    async with clients(sandbox) as (_, _, sqs):
        url = (await sqs.create_queue(QueueName="jobs"))["QueueUrl"]
        await sqs.send_message(QueueUrl=url, MessageBody='{"id": "acme-migrate-1"}')
        received = (await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2))["Messages"]
        await sqs.delete_message(QueueUrl=url, ReceiptHandle=received[0]["ReceiptHandle"])

    assert [message["Body"] for message in received] == ['{"id": "acme-migrate-1"}']


async def test_what_was_acknowledged_survives_a_kill(sandbox: Sandbox) -> None:
    async with clients(sandbox) as (s3, kms, _):
        arn = (await kms.create_key())["KeyMetadata"]["Arn"]
        await s3.create_bucket(Bucket="survivor")
        await s3.put_object(
            Bucket="survivor",
            Key="backup",
            Body=b"content",
            ServerSideEncryption="aws:kms",
            SSEKMSKeyId=arn,
        )

        await sandbox.kill_s3()
        await sandbox.restart_s3()

        answer = await s3.get_object(Bucket="survivor", Key="backup")
        assert await answer["Body"].read() == b"content"
        buckets = [bucket["Name"] for bucket in (await s3.list_buckets())["Buckets"]]

    assert "survivor" in buckets
    assert "sandbox-probe" not in buckets


@reads_proc
async def test_nothing_listens_beyond_loopback(sandbox: Sandbox) -> None:
    sockets = listening(running_in(sandbox.directory))

    assert {port for _, port in sockets} == set(asdict(sandbox.ports).values())
    assert {address for address, _ in sockets} == {"0100007F"}


@reads_proc
async def test_servers_see_nothing_of_the_users(sandbox: Sandbox) -> None:
    for seen in environments(running_in(sandbox.directory)):
        assert b"the-users" not in seen
        assert b"3128" not in seen


async def test_children_see_the_sandbox_in_the_place_of_any_cloud(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = {
        "AWS_PROFILE": "own",
        "AWS_SESSION_TOKEN": "own",
        "AWS_ENDPOINT_URL_KMS": "https://kms.example",
        "AZURE_CLIENT_SECRET": "own",
        "HTTPS_PROXY": "http://192.0.2.1:3128",
        "REKEYD_LEDGER__URL": "postgresql://production/ledger",
    }
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own")

    environment = sandbox.environment()

    assert not users.keys() & environment.keys()
    assert environment["AWS_SECRET_ACCESS_KEY"] == sandbox.secret_access_key
    assert environment["AWS_ENDPOINT_URL_S3"] == sandbox.s3_endpoint
    assert environment["PATH"] == os.environ["PATH"]


@reads_proc
async def test_nothing_is_left_after_stopping(tmp_path: Path) -> None:
    async with Sandbox.start(tmp_path) as running:
        assert len(running_in(tmp_path)) == 4  # two servers, each with its guard
        assert unix_sockets(running.ports)

    await until(lambda: not running_in(tmp_path))
    assert not unix_sockets(running.ports)


STARTER = """
import asyncio, json, pathlib, sys
from rekeyd.sandbox import Sandbox
from tests.patience import HANG_SECONDS
async def main():
    async with Sandbox.start(pathlib.Path(sys.argv[1])) as sandbox:
        print(json.dumps(sandbox.s3_endpoint), flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@reads_proc
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_outlives_the_process_that_started_it(tmp_path: Path, end: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(module.__file__).parents[1])}
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert starter.stdout is not None
    assert json.loads(await starter.stdout.readline()).startswith("http://127.0.0.1:")
    assert len(running_in(tmp_path)) == 4

    starter.send_signal(end)

    await starter.wait()
    await until(lambda: not running_in(tmp_path))


async def test_a_lost_port_costs_another_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    free = Ports.free()
    lost = Ports(*(asdict(free) | {"s3_port": taken.sockets[0].getsockname()[1]}).values())
    offers = [lost, free]
    monkeypatch.setattr(Ports, "free", lambda: offers.pop(0))

    async with taken, Sandbox.start(tmp_path) as running:
        assert running.ports == free


async def test_a_server_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    lost = Ports(*(asdict(Ports.free()) | {"kms_port": taken.sockets[0].getsockname()[1]}).values())

    async with taken:
        with pytest.raises(SandboxError, match=r"(?s)ministack ended with status 1.*in use"):
            async with Sandbox.start(tmp_path, ports=lost):
                pytest.fail("a server without its port can't be ready")


async def test_a_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(SandboxError, match=r"rekeyd\[sandbox\]"):
        async with Sandbox.start(tmp_path):
            pytest.fail("there is no KMS to start")
