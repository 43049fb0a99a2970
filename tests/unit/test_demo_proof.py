"""The demo's proof holds for an honest move, and each part of it fails when its claim is broken."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from rekeyd.demo import proof
from rekeyd.demo.clients import Clients, open_clients
from rekeyd.demo.dataset import MIB, Given, Item, Made
from rekeyd.demo.load import Loaded, load
from rekeyd.domain.objects import Encryption, Location
from rekeyd.sandbox import Sandbox

PLAIN = {"content-type": "text/plain"}
RICH = {
    "content-type": "application/json",
    "content-encoding": "gzip",
    "content-disposition": 'attachment; filename="a b"',
    "content-language": "de",
    "cache-control": "no-cache",
    "expires": "Wed, 01 Jan 2031 00:00:00 GMT",
}
ITEMS = (
    Item("plain.txt", Given(b"plain"), PLAIN),
    Item("empty", Given(b""), PLAIN, {}, {"marker": "yes"}),
    Item("rich +%#?/ü.json", Given(b"\x1f\x8b not gzip"), RICH, {"a-b": "c"}, {"owner": "größe + co"}),
    Item("large.img", Made("large", 9 * MIB + 1), PLAIN, {"disk": "1"}, {"kind": "image"}),
)
pytestmark = pytest.mark.asyncio(loop_scope="module")

VENDOR = Encryption("AES256")


@dataclass
class Scene:
    """A tenant that was moved by plain copies, beside a neighbour."""

    clients: Clients
    key_arn: str
    source: Location
    neighbour: Location
    target: Location
    loaded: dict[str, Loaded] = field(default_factory=dict)
    neighbours: dict[str, Loaded] = field(default_factory=dict)

    async def put(self, location: Location, key: str, body: bytes, **attributes: Any) -> None:  # noqa: ANN401 - as put_object takes them
        if location is self.target:
            attributes = {
                "ServerSideEncryption": "aws:kms",
                "SSEKMSKeyId": self.key_arn,
                **attributes,
            }
        await self.clients.s3.put_object(
            Bucket=location.bucket, Key=location.prefix + key, Body=body, **attributes
        )

    async def remove(self, location: Location, key: str) -> None:
        await self.clients.s3.delete_object(Bucket=location.bucket, Key=location.prefix + key)

    async def judge(self) -> dict[str, proof.Finding]:
        s3, kms = self.clients.s3, self.clients.kms
        found = await proof.read_all(s3, self.target, self.loaded, lambda _count: None)
        chosen = proof.sample(self.loaded)
        findings = [
            proof.present_once(await proof.listed(s3, self.target), self.loaded),
            proof.same_bytes(self.loaded, found),
            proof.same_attributes(self.loaded, found),
            proof.under_key(self.loaded, found, Encryption("aws:kms", self.key_arn), "the key"),
            await proof.source_empty(s3, self.source),
            await proof.untouched(s3, self.neighbour, self.neighbours, VENDOR),
            await proof.no_unfinished_uploads(s3, (self.source.bucket, self.target.bucket)),
            await proof.unreadable_when_disabled(
                self.clients.s3_impatient, kms, self.key_arn, self.target, chosen
            ),
            await proof.readable_when_enabled(s3, kms, self.key_arn, self.target, chosen),
        ]
        return {finding.name: finding for finding in findings}


@dataclass(frozen=True)
class House:
    """What the scenes share, because making it takes seconds: clients and a pair of buckets."""

    clients: Clients
    shared: str
    dedicated: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(sandbox: Sandbox) -> AsyncIterator[House]:
    async with open_clients(sandbox) as clients:
        name = secrets.token_hex(6)
        made = House(clients, f"shared-{name}", f"byok-{name}")
        for bucket in (made.shared, made.dedicated):
            await clients.s3.create_bucket(Bucket=bucket)
        await clients.s3.put_bucket_encryption(
            Bucket=made.shared,
            ServerSideEncryptionConfiguration={
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
            },
        )
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def scene(house: House) -> AsyncIterator[Scene]:
    clients, name = house.clients, secrets.token_hex(6)
    key = await clients.kms.create_key()
    made = Scene(
        clients,
        key["KeyMetadata"]["Arn"],
        source=Location("s3", house.shared, f"tenants/acme-{name}/"),
        neighbour=Location("s3", house.shared, f"tenants/globex-{name}/"),
        target=Location("s3", house.dedicated, f"{name}/"),
    )
    source, target = made.source, made.target
    made.neighbours = await load(
        clients.s3, house.shared, made.neighbour.prefix, ITEMS[:3], lambda _sent: None
    )
    made.loaded = await load(clients.s3, source.bucket, source.prefix, ITEMS, lambda _sent: None)
    for item in ITEMS:
        await clients.s3.copy_object(
            Bucket=target.bucket,
            Key=target.prefix + item.key,
            CopySource={"Bucket": source.bucket, "Key": source.prefix + item.key},
            ServerSideEncryption="aws:kms",
            SSEKMSKeyId=made.key_arn,
        )
        await made.remove(source, item.key)
    await made.put(target, ".rekeyd/control", b"rekeyd's own")
    yield made
    for bucket in (house.shared, house.dedicated):
        begun = await clients.s3.list_multipart_uploads(Bucket=bucket)
        for upload in begun.get("Uploads", []):
            await clients.s3.abort_multipart_upload(
                Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )


async def test_an_honest_move_is_proven(scene: Scene) -> None:
    findings = await scene.judge()

    assert {name: finding.faults for name, finding in findings.items() if not finding.ok} == {}
    assert findings["same_bytes"].checked == len(ITEMS)
    assert findings["unreadable_when_disabled"].checked == len(ITEMS)


async def missing(scene: Scene) -> None:
    await scene.remove(scene.target, "plain.txt")


async def never_loaded(scene: Scene) -> None:
    await scene.put(scene.target, "stranger", b"x")


async def other_bytes(scene: Scene) -> None:
    await scene.put(scene.target, "plain.txt", b"plaiN", ContentType="text/plain")


async def shorter(scene: Scene) -> None:
    await scene.put(scene.target, "plain.txt", b"plai", ContentType="text/plain")


async def other_header(scene: Scene) -> None:
    await scene.put(scene.target, "plain.txt", b"plain", ContentType="text/html")


async def more_metadata(scene: Scene) -> None:
    await scene.put(scene.target, "plain.txt", b"plain", ContentType="text/plain", Metadata={"a": "b"})


async def lost_tag(scene: Scene) -> None:
    await scene.put(scene.target, "empty", b"", ContentType="text/plain")


async def plaintext(scene: Scene) -> None:
    await scene.remove(scene.target, "plain.txt")
    await scene.clients.s3.put_object(
        Bucket=scene.target.bucket,
        Key=f"{scene.target.prefix}plain.txt",
        Body=b"plain",
        ContentType="text/plain",
    )


async def another_key(scene: Scene) -> None:
    key = await scene.clients.kms.create_key()
    await scene.put(
        scene.target, "plain.txt", b"plain", ContentType="text/plain", SSEKMSKeyId=key["KeyMetadata"]["Arn"]
    )


async def left_in_source(scene: Scene) -> None:
    await scene.put(scene.source, "plain.txt", b"plain")


async def neighbour_changed(scene: Scene) -> None:
    await scene.put(scene.neighbour, "plain.txt", b"PLAIN", ContentType="text/plain")


async def neighbour_gone(scene: Scene) -> None:
    await scene.remove(scene.neighbour, "empty")


async def neighbour_rekeyed(scene: Scene) -> None:
    await scene.put(
        scene.neighbour,
        "plain.txt",
        b"plain",
        ContentType="text/plain",
        ServerSideEncryption="aws:kms",
        SSEKMSKeyId=scene.key_arn,
    )


async def unfinished_in_target(scene: Scene) -> None:
    await scene.clients.s3.create_multipart_upload(Bucket=scene.target.bucket, Key="begun")


async def unfinished_in_source(scene: Scene) -> None:
    await scene.clients.s3.create_multipart_upload(Bucket=scene.source.bucket, Key="tenants/acme/begun")


@pytest.mark.parametrize(
    ("tamper", "broken"),
    [
        (missing, {"present_once", "same_bytes", "same_attributes", "under_key", "readable_when_enabled"}),
        (never_loaded, {"present_once"}),
        (other_bytes, {"same_bytes", "readable_when_enabled"}),
        (shorter, {"same_bytes", "readable_when_enabled"}),
        (other_header, {"same_attributes"}),
        (more_metadata, {"same_attributes"}),
        (lost_tag, {"same_attributes"}),
        (plaintext, {"under_key", "unreadable_when_disabled"}),
        (another_key, {"under_key", "unreadable_when_disabled"}),
        (left_in_source, {"source_empty"}),
        (neighbour_changed, {"neighbour_untouched"}),
        (neighbour_gone, {"neighbour_untouched"}),
        (neighbour_rekeyed, {"neighbour_untouched"}),
        (unfinished_in_target, {"no_unfinished_uploads"}),
        (unfinished_in_source, {"no_unfinished_uploads"}),
    ],
)
async def test_a_broken_claim_is_found(
    scene: Scene, tamper: Callable[[Scene], Awaitable[None]], broken: set[str]
) -> None:
    await tamper(scene)

    findings = await scene.judge()

    assert {name for name, finding in findings.items() if not finding.ok} == broken
    assert all(findings[name].faults for name in broken)


async def test_a_key_that_stays_disabled_is_found(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgets(**_named: str) -> None:
        pass

    monkeypatch.setattr(scene.clients.kms, "enable_key", forgets)

    findings = await scene.judge()

    assert {name for name, finding in findings.items() if not finding.ok} == {"readable_when_enabled"}
