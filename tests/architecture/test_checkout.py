"""What is committed says nothing about the machine that it was made on."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINE_BOUND = {
    # Where packages come from is each machine's own matter; hashes say which ones they are.
    "an index": re.compile(r"index[-_]url", re.IGNORECASE),
    "a folder of packages": re.compile(r"find[-_]links", re.IGNORECASE),
    "another lock": re.compile(r"\buv\.lock\b"),
    "a home directory": re.compile(r"(?<![\w.])/(?:home|root|Users)/[\w.-]+"),
}
# A requirement and the indented lines that belong to it.
PIN = re.compile(r"^[a-z0-9].*\n(?:[ ].*\n)*", re.MULTILINE)


def committed() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing here is committed")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def bound_to_a_machine(text: str) -> list[str]:
    found = [f"{what}: {hit[0]}" for what, said in MACHINE_BOUND.items() if (hit := said.search(text))]
    # A checkout at a path like /app would be found in honest text.
    if len(ROOT.parts) > len(("/", "app")) and str(ROOT) in text:
        found.append(f"this checkout: {ROOT}")
    return found


def test_nothing_committed_is_bound_to_a_machine() -> None:
    files = committed()

    assert ROOT / "pyproject.toml" in files
    assert not {
        str(path.relative_to(ROOT)): found
        for path in files
        if (
            found := bound_to_a_machine(
                f"{path.relative_to(ROOT)}\n{path.read_text(encoding='utf-8', errors='replace')}"
            )
        )
    }


def test_every_lock_is_hashed() -> None:
    locks = sorted((ROOT / "requirements").glob("*.txt"))

    assert locks
    for lock in locks:
        pins = PIN.findall(lock.read_text(encoding="utf-8"))
        assert pins, lock.name
        assert not [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin], lock.name


@pytest.mark.parametrize(
    "text",
    [
        "--extra-index" + "-url https://packages.example/simple",
        "--find" + "-links wheels",
        "PIP_INDEX" + "_URL=x",
        "uv" + ".lock",
        "#!/ro" + "ot/.venv/bin/python",
        "cd /ho" + "me/somebody",
        f"cd {ROOT}",
    ],
)
def test_a_machine_is_recognised(text: str) -> None:
    assert bound_to_a_machine(text)


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("there is no make: nothing here is made by it")
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "rekeyd demo"),
        (("STORE=s3",), "rekeyd demo"),
        (("DATA=a b",), 'rekeyd demo --data "a b"'),
        (("DATA=/data/größe", "STORE=s3"), 'rekeyd demo --data "/data/größe"'),
    ],
)
def test_a_demo_is_made_on_the_users_own_files(arguments: tuple[str, ...], words: str) -> None:
    made = make("-n", "demo", *arguments)

    assert made.returncode == 0, made.stderr
    assert made.stdout.strip().splitlines()[-1].strip() == f".venv/bin/{words}"


def test_a_demo_on_a_store_that_is_not_known_is_refused_before_anything_is_installed() -> None:
    made = make("demo", "STORE=azure")

    assert (made.returncode, made.stdout) == (2, "")
    assert "STORE=azure is not known; there is s3" in made.stderr


def test_all_tests_together_have_a_bound() -> None:
    made = make("-n", "test", "PYTEST_ARGS=-x")

    (command,) = [line for line in made.stdout.splitlines() if " -m pytest " in line]
    assert " --session-timeout 2400 -x" in command
