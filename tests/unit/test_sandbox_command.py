"""With which interpreter the key service of the sandbox is started: a checkout's own for it, or else ours."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from rekeyd.sandbox import SandboxError, _ministack


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without the emulators' own beside it."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def installed(monkeypatch: pytest.MonkeyPatch, spec: ModuleSpec | None) -> list[str]:
    asked: list[str] = []

    def find_spec(name: str) -> ModuleSpec | None:
        asked.append(name)
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    return asked


def test_a_checkout_has_an_environment_for_it(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = prefix / "emulators" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    installed(monkeypatch, None)

    assert _ministack() == [str(python), "-m", "ministack"]


@pytest.mark.usefixtures("prefix")
def test_an_installed_package_has_it_beside_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = installed(monkeypatch, ModuleSpec("ministack", None))

    assert _ministack() == [sys.executable, "-m", "ministack"]
    assert asked == ["ministack"]


@pytest.mark.usefixtures("prefix")
def test_without_it_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, None)

    with pytest.raises(SandboxError, match=r"rekeyd\[sandbox\]"):
        _ministack()
