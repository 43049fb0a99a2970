"""The telemetry address: /metrics, /healthz and /readyz, over plain HTTP and without a token."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

ReadinessCheck = Callable[[], Awaitable[str | None]]
"""Gives None where the thing is ready, or else a word on why it is not."""

CHECK_SECONDS_MAX = 2.0
"""A check that takes longer has failed: whoever asks has a timeout of their own."""

SHUTDOWN_SECONDS_MAX = 1.0


class TelemetryEndpoint:
    """Serves within its context.

    /healthz says 200 as long as the event loop answers. /readyz says 200 where every check passes, else 503;
    its JSON names each thing that isn't ready with the reason.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        checks: Mapping[str, ReadinessCheck],
        *,
        host: str,
        port: int,
    ) -> None:
        """`port` 0 has the system choose one: see `address`."""
        self._registry = registry
        self._checks = dict(checks)
        self._host = host
        self._port = port
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._metrics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS_MAX)

    async def __aenter__(self) -> Self:
        """Listen. Raises OSError where the address can't be had."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port on which it listens."""
        host, port, *_ = self._runner.addresses[0]
        return host, port

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def _readyz(self, _: web.Request) -> web.Response:
        answers = await asyncio.gather(*(_asked(check) for check in self._checks.values()))
        missing = {name: why for name, why in zip(self._checks, answers, strict=True) if why is not None}
        return web.json_response({"ready": not missing, "not_ready": missing}, status=503 if missing else 200)


async def _asked(check: ReadinessCheck) -> str | None:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            return await check()
    except TimeoutError:
        return f"no answer in {CHECK_SECONDS_MAX:g} s"
    except Exception as error:  # noqa: BLE001 - what can't be checked isn't ready, whatever the cause
        return str(error) or type(error).__name__
