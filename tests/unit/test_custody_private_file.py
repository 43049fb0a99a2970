"""Private keys in files: whose they must be, and who may read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rekeyd.custody.private_file import _fault, read_private
from rekeyd.domain.errors import RefusedError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(b"the content")
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_its_owner_may_read_it(path: Path, mode: int) -> None:
    path.chmod(mode)

    assert read_private(path, "a.setting", None) == b"the content"


@pytest.mark.parametrize("mode", [0o640, 0o440, 0o604, 0o644, 0o660, 0o620, 0o602, 0o610, 0o777])
def test_nobody_else_may_use_it(path: Path, mode: int) -> None:
    path.chmod(mode)

    with pytest.raises(RefusedError, match=f"{mode:04o}.*chmod 0600") as caught:
        read_private(path, "a.setting", None)

    assert caught.value.field == "a.setting"


def test_a_credential_of_systemds_may_be_read_by_its_group(path: Path) -> None:
    path.chmod(0o440)

    assert read_private(path, "a.setting", path.parent) == b"the content"
    with pytest.raises(RefusedError):
        read_private(path, "a.setting", path.parent.parent)


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o444 | 0o002])
def test_a_credential_is_for_nobody_else_either(path: Path, mode: int) -> None:
    path.chmod(mode)

    with pytest.raises(RefusedError):
        read_private(path, "a.setting", path.parent)


def test_somebody_elses_file_is_refused_and_roots_is_not(path: Path) -> None:
    path.chmod(0o600)
    found = list(path.stat())
    for owner, refused in ((os.geteuid(), False), (0, False), (54_321, True)):
        found[4] = owner
        fault = _fault(path, os.stat_result(found), is_credential=False)
        assert ("chown" in fault) is refused


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_that_was_given_away_is_refused(path: Path) -> None:
    path.chmod(0o600)
    os.chown(path, 54_321, 0)

    with pytest.raises(RefusedError, match="belongs to the user 54321"):
        read_private(path, "a.setting", None)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name, words in (("missing", "No such file"), ("pipe", "not a file"), (".", "not a file")):
        with pytest.raises(RefusedError, match=words):
            read_private(tmp_path / name, "a.setting", None)


def test_a_link_is_judged_by_where_it_leads(path: Path, tmp_path: Path) -> None:
    path.chmod(0o644)
    (tmp_path / "link").symlink_to(path)

    with pytest.raises(RefusedError, match="0644"):
        read_private(tmp_path / "link", "a.setting", None)


def test_what_is_too_long_is_not_read(path: Path) -> None:
    path.write_bytes(bytes(64 * 1024 + 1))
    path.chmod(0o600)

    with pytest.raises(RefusedError, match="no key"):
        read_private(path, "a.setting", None)
