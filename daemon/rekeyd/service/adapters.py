"""Settings become adapters."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar, cast

from aiobotocore.session import AioSession, get_session

from rekeyd.domain.errors import MissingCredentialsError
from rekeyd.domain.objects import Location
from rekeyd.intake.port import CountMessage, Desk
from rekeyd.intake.sqs import Patience, SqsIntake, SqsQueue
from rekeyd.jobs.checkpoints import Checkpoints, Elsewhere
from rekeyd.jobs.tools import Store, Timings, Tools
from rekeyd.ledger.port import Ledger
from rekeyd.service.custody import open_custody, refuse_unfit_wrapping_key
from rekeyd.service.signing import former_signers, open_signer
from rekeyd.settings import LimitsSettings, S3StoreSettings, Settings
from rekeyd.stores.guarded import Guards, PacePolicy, Retries, RetryPolicy
from rekeyd.stores.guarded.operation import READ
from rekeyd.stores.s3.client import CredentialSource, S3Client
from rekeyd.stores.s3.config import S3Config
from rekeyd.stores.s3.control import S3BucketControl
from rekeyd.stores.s3.store import S3Store
from rekeyd.telemetry import Metrics
from rekeyd.transfer.checksum import Reading
from rekeyd.transfer.pace import ByteBudget
from rekeyd.transfer.plan import PlanLimits
from rekeyd.transfer.route import Means

T = TypeVar("T")


def sqs_intake(settings: Settings, desk: Desk, count: CountMessage) -> SqsIntake | None:
    """The SQS intake of the settings, handing in at the desk; None where it is off."""
    sqs, limits = settings.intake.sqs, settings.limits
    if not sqs.queue_url:
        return None
    queue = SqsQueue(
        url=sqs.queue_url,
        region=sqs.signing_region,
        endpoint_url=sqs.endpoint_url,
        wait_seconds=sqs.wait_seconds,
        visibility_seconds=sqs.visibility_seconds,
        batch_messages_max=sqs.batch_messages_max,
    )
    patience = Patience(
        request_seconds_max=limits.request_seconds_max,
        connect_seconds_max=limits.connect_seconds_max,
        backoff_seconds_base=limits.backoff_seconds_base,
        backoff_seconds_max=limits.backoff_seconds_max,
    )
    return SqsIntake(get_session(), queue, patience, desk, count, random.Random())  # noqa: S311 - jitter


@asynccontextmanager
async def open_tools(settings: Settings, ledger: Ledger, metrics: Metrics) -> AsyncIterator[Tools]:
    """Everything that the stories work with. Raises MissingCredentialsError, RefusedError for a key of ours."""
    limits = settings.limits
    signer = await open_signer(settings, make=True)
    async with open_stores(settings, metrics) as stores, open_custody(settings) as custody:
        await refuse_unfit_wrapping_key(custody)
        yield Tools(
            ledger=ledger,
            stores=stores,
            custody=custody,
            signer=signer,
            former_signers=await former_signers(settings),
            means=_means(limits),
            timings=_timings(settings),
            metrics=metrics,
            objects_in_flight=asyncio.Semaphore(limits.objects_in_flight_max),
            objects_in_flight_max=limits.objects_in_flight_max,
            work_came=asyncio.Event(),
        )


def checkpoints_of(settings: Settings, tools: Tools, holder: str) -> Checkpoints:
    """What makes the audit trail's checkpoints."""
    named = settings.audit.checkpoint_location
    location = Location.parse(named) if named else None
    return Checkpoints(
        tools.ledger,
        tools.signer,
        holder,
        interval_seconds=settings.audit.checkpoint_seconds,
        elsewhere=None if location is None else Elsewhere(tools.store_of(location).objects, location),
        call_seconds_max=settings.limits.request_seconds_max,
    )


@asynccontextmanager
async def open_stores(settings: Settings, metrics: Metrics) -> AsyncIterator[Mapping[str, Store]]:
    """Every store of the settings, by its name. Raises MissingCredentialsError."""
    session = get_session()
    async with AsyncExitStack() as opened:
        yield {
            name: await opened.enter_async_context(
                _open_store(name, store, settings.limits, session, metrics)
            )
            for name, store in settings.stores.items()
        }


@asynccontextmanager
async def _open_store(
    name: str, store: S3StoreSettings, limits: LimitsSettings, session: AioSession, metrics: Metrics
) -> AsyncIterator[Store]:
    credentials = await session.get_credentials()
    if credentials is None:
        raise MissingCredentialsError(
            "AWS: no credentials in the environment, a profile, or an instance's or pod's identity"
        )
    config = s3_config(name, store, limits)
    guards = Guards.of(
        name,
        metrics,
        clock=time.monotonic,
        jitter=random.random,
        sleep=asyncio.sleep,
        retry=_retry_policy(limits),
        pace=PacePolicy(
            reads_max=limits.read_requests_max,
            writes_max=limits.write_requests_max,
            controls_max=limits.control_requests_max,
        ),
    )
    metrics.show_store(name, lambda: float(sum(guards.pace.permits().values())))
    async with (
        # Cast: the stubs allow for credentials without parts, which the session never gives.
        S3Client.opened(config, cast("CredentialSource", credentials), time.time) as client,
        S3BucketControl(config, session) as control,
    ):
        objects = S3Store(client)
        yield Store(
            objects=guards.store(objects),
            objects_once=guards.store_once(objects),
            buckets=guards.control(control),
            region=store.region,
            service=store.service,
            is_aws=not store.endpoint_url,
        )


def s3_config(name: str, store: S3StoreSettings, limits: LimitsSettings) -> S3Config:
    """The S3 adapter's own settings. AWS is what has no endpoint: there more is known than a setting could say."""
    on_aws = not store.endpoint_url
    return S3Config(
        name=name,
        region=store.region,
        endpoint_url=store.endpoint_url,
        account_id=store.account_id,
        batch_delete_conditions=store.batch_delete_conditions or on_aws,
        counts_tags=store.counts_tags,
        keeps_every_key=store.keeps_every_key or on_aws,
        connections_max=limits.connections_max,
        connect_seconds_max=limits.connect_seconds_max,
        answer_seconds_max=limits.request_seconds_max,
        bytes_per_second_min=limits.bytes_per_second_min,
        read_gap_seconds_max=limits.request_seconds_max,
    )


def _retry_policy(limits: LimitsSettings) -> RetryPolicy:
    return RetryPolicy(
        attempts_max=limits.request_attempts_max,
        first_wait_seconds=limits.backoff_seconds_base,
        wait_seconds_max=limits.backoff_seconds_max,
    )


def plan_limits(limits: LimitsSettings) -> PlanLimits:
    """The sizes at which the way of carrying changes."""
    return PlanLimits(
        single_put_bytes_max=limits.single_put_bytes_max,
        part_bytes=limits.part_bytes,
        copy_object_bytes_max=limits.copy_object_bytes_max,
    )


def _means(limits: LimitsSettings) -> Means:
    retries = Retries(_retry_policy(limits), jitter=random.random, sleep=asyncio.sleep)

    async def repeat(call: Callable[[], Awaitable[T]]) -> T:
        return await retries.run(READ, call)

    reading = Reading(
        part_bytes=limits.part_bytes,
        parts_in_flight_max=limits.parts_in_flight_max,
        budget=ByteBudget(limits.buffer_bytes_max),
        repeat=repeat,
    )
    return Means(
        limits=plan_limits(limits),
        reading=reading,
        parts_in_flight_max=limits.parts_in_flight_max,
        now=lambda: datetime.now(UTC),
        object_attempts_max=limits.object_attempts_max,
    )


def _timings(settings: Settings) -> Timings:
    migrate, limits = settings.migrate, settings.limits
    return Timings(
        placement_ttl_seconds=migrate.placement_ttl_seconds,
        write_seconds_max=migrate.write_seconds_max,
        pause_seconds_max=migrate.pause_seconds_max,
        # Over any length of time writers wait for less than half of it.
        pause_rest_seconds=migrate.pause_seconds_max,
        pass_objects_small=migrate.pass_objects_small,
        pass_bytes_small=migrate.pass_bytes_small,
        passes_max=migrate.passes_max,
        lease_seconds=limits.lease_seconds,
        call_seconds_max=limits.request_seconds_max,
        held_recheck_seconds=limits.held_recheck_seconds,
        key_check_seconds=limits.key_check_seconds,
        key_watch_seconds=limits.key_watch_seconds,
        poll_seconds=limits.poll_seconds,
        job_attempts_max=limits.job_attempts_max,
    )
