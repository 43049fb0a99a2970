"""A tenant's key is nowhere to be found: not in memory once it was imported, not in what is logged, raised or shown."""

from __future__ import annotations

import base64
import dataclasses
import json
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from rekeyd.domain.custody import Errand
from rekeyd.domain.errors import RekeydError
from tests.contract.custodies import HOME, double_world, our_key, wrapped, wrapped_unchecked

ACME = Errand("acme", "job-1")

CHILD = """
import asyncio, json, os, signal, sys
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rekeyd.custody.wrapping import PemUnwrapper, encrypted
from rekeyd.domain.custody import Errand
from rekeyd.domain.key import WrappedKey

told = json.loads(sys.stdin.readline())
unwrapper = PemUnwrapper(serialization.load_pem_private_key(told["pem"].encode(), None))
services_key = rsa.generate_private_key(65537, 4096).public_key()
key, errand = WrappedKey.model_validate(told["key"]), Errand("acme", "job")

async def bring():
    async with unwrapper.unwrapped(errand, key) as material:
        os.kill(os.getpid(), signal.SIGSTOP)
        sent = encrypted(services_key, material)
    os.kill(os.getpid(), signal.SIGSTOP)
    assert len(sent) == 512

asyncio.run(bring())
"""
"""A process of its own, which is told the ciphertext and never the key, and does what an import does with it.

It stops twice, to be looked at. The service is elsewhere, as always.
"""


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="memory can be read so on Linux alone")
def test_once_it_was_imported_no_copy_of_the_key_is_left_in_memory() -> None:
    secret = secrets.token_bytes(32)
    private = our_key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    told = {"pem": private.decode(), "key": wrapped(secret).model_dump(exclude_none=True)}
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps(told) + "\n")
        child.stdin.flush()
        within = memory_when_stopped(child.pid)
        after = memory_when_stopped(child.pid)
    assert child.returncode == 0

    assert secret in within, "what is there is found"
    for part in (secret, secret[:16], secret[16:], base64.b64encode(secret), secret.hex().encode()):
        assert part not in after


def memory_when_stopped(pid: int) -> bytes:
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), f"it ended with {status}"
    found = writable_memory(pid)
    os.kill(pid, signal.SIGCONT)
    return found


def writable_memory(pid: int) -> bytes:
    found = []
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace")
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for first, last, rights in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) (\S+)", maps, re.MULTILINE):
            if "rw" in rights:
                memory.seek(int(first, 16))
                try:
                    found.append(memory.read(int(last, 16) - int(first, 16)))
                except OSError:  # the kernel's own pages can't be read
                    continue
    return b"\0".join(found)


def spellings(secret: bytes) -> set[str]:
    """The ways in which a key shows itself in a text, whole or in good part."""
    half = secret[:12]
    return {
        half.hex(),
        half.hex().upper(),
        base64.b64encode(half).decode(),
        base64.urlsafe_b64encode(half).decode(),
        repr(half)[2:-1],
        repr(list(half))[1:-1],
        half.decode("latin-1"),
        str(int.from_bytes(secret, "big")),
    }


def assert_silent(secret: bytes, text: str) -> None:
    assert not [spelling for spelling in spellings(secret) if spelling in text]


def told_by(error: BaseException) -> str:
    """All that a log could hold of an error: with its causes, and with the variables of every frame but the tests'."""
    told = [repr(error), repr(vars(error))]
    for each in (error, error.__cause__, error.__context__):
        if each is None:
            continue
        told.extend(traceback.format_exception_only(each))
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                told.append(repr(frame.f_locals))
    return "\n".join(told)


OPERATIONS = ("", "CreateKey", "CreateAlias", "GetParametersForImport", "ImportKeyMaterial")


@pytest.mark.parametrize("lost", OPERATIONS)
async def test_no_log_answer_or_error_of_an_import_says_the_key(
    lost: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = secrets.token_bytes(32)
    key = wrapped(secret)
    caplog.set_level(logging.DEBUG)
    async with double_world() as world:
        world.kms.loses_answer_of = lost
        if lost:
            with pytest.raises(RekeydError) as caught:
                await world.custody.bring(ACME, HOME, key)
            told = told_by(caught.value)
            assert key.wrapped_key not in str(caught.value)
        else:
            told = repr(dataclasses.asdict(await world.custody.bring(ACME, HOME, key)))

    printed = capfd.readouterr()
    assert_silent(secret, told + caplog.text + printed.out + printed.err)
    assert caplog.records, "something was logged that was looked through"


@pytest.mark.parametrize(
    ("content", "digest_of"),
    [
        (b"correct horse battery staple, ok", None),
        (bytes.fromhex("feffe9928665731c6d6a8f9467308308") * 2, None),
        (bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"), None),
        (secrets.token_bytes(31), None),
        (secrets.token_bytes(32), b"another"),
    ],
    ids=["text", "pattern", "published", "short", "another hash"],
)
async def test_no_refusal_says_what_was_refused(content: bytes, digest_of: bytes | None) -> None:
    async with double_world() as world:
        with pytest.raises(RekeydError) as caught:
            await world.custody.bring(ACME, HOME, wrapped_unchecked(content, digest_of))

    assert_silent(content, told_by(caught.value))


@pytest.mark.parametrize("shown", ["hex", "repr", "base64", "latin-1"])
def test_the_scan_finds_what_it_looks_for(shown: str) -> None:
    """A test that can't find anything proves nothing."""
    secret = bytes(range(1, 240, 7))[:32]
    text = {
        "hex": secret.hex(),
        "repr": f"a frame with {bytearray(secret)!r}",
        "base64": base64.b64encode(secret).decode(),
        "latin-1": secret.decode("latin-1"),
    }[shown]

    with pytest.raises(AssertionError):
        assert_silent(secret, f"it is {text}")
