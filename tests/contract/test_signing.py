"""Whoever signs: a key in a file, a key in AWS KMS. One suite for both, then what each has of its own."""

from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiobotocore.session import AioSession, get_session
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from rekeyd.custody.kms_signing import KmsSigner
from rekeyd.custody.pem_signing import PemSigner
from rekeyd.custody.signing import Signer
from rekeyd.domain.errors import CustodyError, KeyForbiddenError, RefusedError
from rekeyd.domain.signed import PublicKey
from tests.doubles.kms_signing import ARN, KmsDouble, serving

LONGEST = b"x" * 4096


def session() -> AioSession:
    found = get_session()
    found.set_credentials("AKID", "secret")
    return found


def kms_signer(endpoint_url: str, arn: str = ARN) -> KmsSigner:
    return KmsSigner(session(), arn, endpoint_url=endpoint_url, request_seconds_max=5, connect_seconds_max=5)


@pytest.fixture
async def kms() -> AsyncIterator[tuple[KmsDouble, str]]:
    double = KmsDouble()
    async with serving(double) as url:
        yield double, url


@pytest.fixture(params=["file", "kms"])
def signer(request: pytest.FixtureRequest, kms: tuple[KmsDouble, str], tmp_path: Path) -> Signer:
    if request.param == "kms":
        return kms_signer(kms[1])
    return PemSigner.read_or_make(tmp_path / "signing-key.pem")


@pytest.mark.parametrize("data", [b"", b"data", LONGEST])
async def test_what_is_signed_verifies_with_the_public_key_alone(signer: Signer, data: bytes) -> None:
    public_key = PublicKey.of_pem((await signer.public_key()).pem.encode())
    signature = await signer.sign(data)

    assert len(signature) == 64
    assert public_key.verifies(signature, data)
    assert not public_key.verifies(signature, data + b"!")


async def test_the_public_key_is_always_the_same(signer: Signer) -> None:
    assert await signer.public_key() == await signer.public_key()


async def test_kms_signs_in_the_keys_own_region_without_the_key_leaving(kms: tuple[KmsDouble, str]) -> None:
    double, url = kms
    signer = kms_signer(url)

    await signer.sign(b"one")
    await signer.sign(b"two")

    assert double.asked == ["GetPublicKey", "Sign", "Sign"]
    assert set(double.regions) == {"eu-central-1"}


@pytest.mark.parametrize("name", ["spec", "usage", "algorithms"])
async def test_a_kms_key_of_another_kind_is_refused(kms: tuple[KmsDouble, str], name: str) -> None:
    double, url = kms
    other = {"spec": "ECC_NIST_P256", "usage": "ENCRYPT_DECRYPT", "algorithms": ["ED25519_PH_SHA_512"]}
    setattr(double, name, other[name])

    with pytest.raises(CustodyError, match="ECC_NIST_EDWARDS25519 for SIGN_VERIFY is needed"):
        await kms_signer(url).sign(b"data")
    assert "Sign" not in double.asked


async def test_a_signature_of_another_key_is_not_given_out(kms: tuple[KmsDouble, str]) -> None:
    double, url = kms
    double.signs_with = Ed25519PrivateKey.generate()

    with pytest.raises(CustodyError, match="isn't its signature"):
        await kms_signer(url).sign(b"data")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDeniedException", KeyForbiddenError),
        ("KMSInvalidStateException", CustodyError),
        ("NotFoundException", CustodyError),
    ],
)
async def test_what_kms_refuses_is_a_custody_error(
    kms: tuple[KmsDouble, str], code: str, error: type[CustodyError]
) -> None:
    double, url = kms
    double.error = code

    with pytest.raises(error, match=f"kms:GetPublicKey with {ARN}.*{code}"):
        await kms_signer(url).sign(b"data")


async def test_kms_out_of_reach_is_a_custody_error() -> None:
    with pytest.raises(CustodyError, match="kms:GetPublicKey"):
        await kms_signer("http://127.0.0.1:1").public_key()


def pem_of(key: Ed25519PrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
async def test_a_file_that_only_its_owner_reads_will_do(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key.pem", pem_of(Ed25519PrivateKey.generate()), mode)

    assert len(await PemSigner.read(path).sign(b"data")) == 64


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o602, 0o610, 0o440, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "key.pem", pem_of(Ed25519PrivateKey.generate()), mode)

    with pytest.raises(RefusedError, match=f"audit.signing_key_file.*mode {mode:04o}.*chmod 0600"):
        PemSigner.read(path)


def test_a_systemd_credential_may_have_the_mode_that_systemd_gives_it_and_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "signing-key", pem_of(Ed25519PrivateKey.generate()), 0o440)

    PemSigner.read(path, credentials=tmp_path)
    with pytest.raises(RefusedError, match="mode 0440"):
        PemSigner.read(path, credentials=tmp_path / "elsewhere")
    for mode in (0o444, 0o460):
        path.chmod(mode)
        with pytest.raises(RefusedError, match=f"mode {mode:04o}"):
            PemSigner.read(path, credentials=tmp_path)


def test_what_holds_no_such_key_is_refused_in_words_that_reveal_nothing(tmp_path: Path) -> None:
    secret = b"0123456789abcdef"
    for data, words in (
        (b"", "no PEM private key"),
        (b"-----BEGIN PRIVATE KEY-----\n" + secret, "no PEM private key"),
        (pem_of(Ed25519PrivateKey.generate(), b"password"), "without a password"),
        (pem_of(rsa.generate_private_key(65537, 2048)), "another kind of key"),
    ):
        with pytest.raises(RefusedError, match=words) as refused:
            PemSigner.read(write(tmp_path / "key.pem", data))
        assert secret.decode() not in str(refused.value)
        # The parser's own words may have seen the key: a traceback would show them.
        assert refused.value.__cause__ is None
        assert refused.value.__suppress_context__ or refused.value.__context__ is None
    with pytest.raises(RefusedError, match="No such file"):
        PemSigner.read(tmp_path / "nowhere.pem")
    with pytest.raises(RefusedError, match="is not a file"):
        PemSigner.read(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "key.pem", pem_of(Ed25519PrivateKey.generate()))
    os.chown(path, 54_321, 0)

    with pytest.raises(RefusedError, match=r"audit\.signing_key_file.*belongs to the user 54321"):
        PemSigner.read(path)


async def test_a_key_is_made_once_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "var" / "ledger.db.signing-key.pem"
    first = await PemSigner.read_or_make(path).public_key()

    assert await PemSigner.read_or_make(path).public_key() == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def _make_key(path: Path) -> bytes:
    PemSigner.read_or_make(path)
    return path.read_bytes()


def test_processes_that_make_one_at_the_same_time_have_the_same(tmp_path: Path) -> None:
    path = tmp_path / "signing-key.pem"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.map(_make_key, [path] * 12)

    assert len(set(made)) == 1
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


async def test_who_comes_second_reads_the_first_ones_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "signing-key.pem"
    theirs = PemSigner.read_or_make(tmp_path / "theirs.pem")
    link = os.link

    def overtaken(source: Path, target: Path) -> None:
        link(tmp_path / "theirs.pem", path)
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)

    assert await PemSigner.read_or_make(path).public_key() == await theirs.public_key()


def test_a_folder_that_is_not_ours_to_write_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(RefusedError, match=r"file/key\.pem can't be"):
        PemSigner.read_or_make(tmp_path / "file" / "key.pem")
