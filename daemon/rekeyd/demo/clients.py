"""The demo's own way to the servers: plain aiobotocore, so that what it proves isn't rekeyd's opinion."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from rekeyd.sandbox import Sandbox

if TYPE_CHECKING:
    from types_aiobotocore_kms import KMSClient
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_sqs import SQSClient

CONNECTIONS_MAX = 32

# The user's own profiles, proxies and credentials have no part in the demo.
_NOTHING_OF_THE_USER = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
    "credentials_file": (None, None, os.devnull, None),
}


@dataclass(frozen=True, slots=True)
class Clients:
    """Open clients of the sandbox's servers."""

    s3: S3Client
    s3_impatient: S3Client
    """Without retries: for requests that are meant to fail."""
    kms: KMSClient
    sqs: SQSClient


@asynccontextmanager
async def open_clients(sandbox: Sandbox) -> AsyncIterator[Clients]:
    """Clients that reach the sandbox and nothing else."""
    session = AioSession(session_vars=_NOTHING_OF_THE_USER)
    session.set_credentials(sandbox.access_key_id, sandbox.secret_access_key)
    async with AsyncExitStack() as stack:

        def s3(attempts: int) -> AbstractAsyncContextManager[S3Client]:
            return session.create_client(
                "s3", region_name=sandbox.region, endpoint_url=sandbox.s3_endpoint, config=_config(attempts)
            )

        yield Clients(
            s3=await stack.enter_async_context(s3(attempts=3)),
            s3_impatient=await stack.enter_async_context(s3(attempts=1)),
            kms=await stack.enter_async_context(
                session.create_client(
                    "kms",
                    region_name=sandbox.region,
                    endpoint_url=sandbox.kms_endpoint,
                    config=_config(attempts=3),
                )
            ),
            sqs=await stack.enter_async_context(
                session.create_client(
                    "sqs",
                    region_name=sandbox.region,
                    endpoint_url=sandbox.sqs_endpoint,
                    config=_config(attempts=3),
                )
            ),
        )


def _config(attempts: int) -> AioConfig:
    return AioConfig(
        proxies={},
        max_pool_connections=CONNECTIONS_MAX,
        connect_timeout=5,
        read_timeout=60,
        retries={"total_max_attempts": attempts, "mode": "standard"},
        # Bytes are taken as the store gives them: the proof hashes them itself.
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
