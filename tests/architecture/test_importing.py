"""Importing has no effects: nothing starts, opens, prints or warns before main() runs."""

import subprocess
import sys
from pathlib import Path

DAEMON = Path(__file__).parents[2] / "daemon"

# Runs in a process of its own, where warnings are errors: imports each module that argv names, and
# says what that has changed.
PROBE = """
import asyncio, importlib, logging, os, signal, sys, threading

def world():
    return {
        "environment": dict(os.environ),
        "folder": (os.getcwd(), sorted(os.listdir())),
        "event loop policy": type(asyncio.get_event_loop_policy()),
        "root logger": (list(logging.root.handlers), logging.root.level),
        "open files": sorted(os.listdir("/dev/fd")),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "hooks": (sys.excepthook, threading.excepthook),
    }

for name in sys.argv[1:]:
    before = world()
    importlib.import_module(name)
    after = world()
    for what in before:
        if before[what] != after[what]:
            print(f"{name}: {what}: {before[what]} -> {after[what]}")
"""


def modules() -> list[str]:
    """Name every module, save alembic's scripts, which run when a migration does."""
    paths = (path.relative_to(DAEMON) for path in DAEMON.rglob("*.py"))
    return sorted(
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in paths
        if "migrations" not in path.parts
    )


def importing(folder: Path, *names: str, path: Path = DAEMON) -> str:
    probe = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROBE, *names],
        cwd=folder,
        env={"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return probe.stdout + probe.stderr


def test_importing_has_no_effects(tmp_path: Path) -> None:
    assert importing(tmp_path, *modules()) == ""


def test_an_effect_is_seen(tmp_path: Path) -> None:
    for name, effect in {
        "environment": "import os; os.environ['A'] = 'b'",
        "folder": "open('left', 'w').close()",
        "root logger": "import logging; logging.basicConfig()",
        "open files": "import socket; s = socket.socket()",
        "signals": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "threads": "from threading import *; Thread(target=Event().wait, daemon=True).start()",
        "DeprecationWarning": "import warnings; warnings.warn('old', DeprecationWarning)",
        "said": "print('said')",
    }.items():
        (tmp_path / "effect.py").write_text(f"{effect}\n", encoding="utf-8")
        assert name in importing(tmp_path, "effect", path=tmp_path)
        (tmp_path / "left").unlink(missing_ok=True)
