"""Private keys in files: readable by their owner alone, who is us or root.

systemd hands a service its credentials as files of root's with the mode 0440, an access list in the place of the group,
in a folder that is the service's alone (systemd.exec(5), "LoadCredential="; github.com/systemd/systemd/issues/29435):
there the group may read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rekeyd.domain.errors import RefusedError

_FILE_BYTES_MAX = 64 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_ROOT = 0


def read_private(path: Path, setting: str, credentials: Path | None) -> bytearray:
    """What the file holds. `credentials` is systemd's folder of this service's, where there is one.

    The file that was looked at is the one that is read. Raises RefusedError naming the setting: no such file, not one
    of ours, or one that somebody else may read or write.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise RefusedError(setting, f"{path} can't be read: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        fault = _fault(path, found, is_credential=credentials is not None and path.parent == credentials)
        if fault:
            raise RefusedError(setting, fault)
        buffer = bytearray(found.st_size)
        filled = 0
        while read := os.readv(descriptor, [memoryview(buffer)[filled:]]):
            filled += read
    finally:
        os.close(descriptor)
    return buffer


def _fault(path: Path, found: os.stat_result, *, is_credential: bool) -> str:
    """What is wrong with a file that holds a private key, and how to mend it; empty where nothing is."""
    if not stat.S_ISREG(found.st_mode):
        return f"{path} is not a file"
    if found.st_size > _FILE_BYTES_MAX:
        return f"{path} is longer than {_FILE_BYTES_MAX} bytes: that is no key"
    if found.st_uid not in (os.geteuid(), _ROOT):
        return (
            f"{path} belongs to the user {found.st_uid}, who can read and change it: make it this process's own, "
            f"chown {os.geteuid()} {path}"
        )
    allowed = stat.S_IRGRP if is_credential else 0
    if found.st_mode & _OTHERS & ~allowed:
        mode = stat.S_IMODE(found.st_mode)
        return f"{path} has the mode {mode:04o}, others may use it: chmod 0600 {path}"
    return ""
