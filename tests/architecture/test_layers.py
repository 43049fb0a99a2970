"""The contracts under [tool.importlinter]: the code keeps them, and each of them can be broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


def lint_imports(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINT_IMPORTS, "--config", ROOT / "pyproject.toml", "--no-cache", "--no-logo", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_run_down_the_house() -> None:
    lint = lint_imports(ROOT)

    assert lint.returncode == 0, lint.stdout + lint.stderr


ROOMS = (
    *("cli", "sandbox", "service", "settings", "telemetry"),
    *("jobs/migrate", "transfer/copy", "domain/job"),
    *("intake/port", "intake/sqs", "stores/port", "stores/guarded", "stores/memory"),
    *("stores/s3/client", "custody/port", "custody/aws_kms", "ledger/port", "ledger/sql"),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a package `rekeyd` of empty modules, which keeps every contract."""
    house = tmp_path_factory.mktemp("house")
    for room in ROOMS:
        path = house / "rekeyd" / f"{room}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        for folder in list(path.relative_to(house).parents)[:-1]:
            (house / folder / "__init__.py").touch()
    lint = lint_imports(house, PYTHONPATH=str(house))
    assert lint.returncode == 0, lint.stdout + lint.stderr
    return house


@pytest.mark.parametrize(
    ("contract", "module", "statement"),
    [
        ("layers", "domain/job", "import rekeyd.telemetry"),
        ("layers", "jobs/migrate", "import rekeyd.service"),
        ("layers", "jobs/migrate", "import rekeyd.settings"),
        ("layers", "service", "import rekeyd.sandbox"),
        ("layers", "stores/port", "import rekeyd.ledger.port"),
        ("layers", "attic", "import rekeyd.domain.job"),
        ("adapters-by-service", "jobs/migrate", "import rekeyd.stores.memory"),
        ("adapters-by-service", "transfer/copy", "import rekeyd.stores.s3.client"),
        ("adapters-by-service", "stores/guarded", "import rekeyd.stores.s3"),
        ("adapters-apart", "stores/memory", "import rekeyd.stores.s3.client"),
        ("settings-for-service", "sandbox", "import rekeyd.settings"),
        ("settings-plain", "settings", "import rekeyd.stores.port"),
        ("sdks-in-adapters", "jobs/migrate", "import aiobotocore.session"),
        ("sdks-in-adapters", "ledger/port", "import sqlalchemy"),
        ("pure-domain", "domain/job", "import asyncio"),
        ("pure-domain", "domain/job", "from time import time"),
    ],
)
def test_a_contract_bites(house: Path, tmp_path: Path, contract: str, module: str, statement: str) -> None:
    shutil.copytree(house, tmp_path, dirs_exist_ok=True)
    (tmp_path / "rekeyd" / f"{module}.py").write_text(f"{statement}\n", encoding="utf-8")

    lint = lint_imports(tmp_path, "--contract", contract, PYTHONPATH=str(tmp_path))

    assert lint.returncode == 1
    assert "0 kept, 1 broken" in lint.stdout, lint.stdout + lint.stderr
