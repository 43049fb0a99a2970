"""What a reader may count on: short files, short functions, telling names, a pure domain."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

DAEMON = Path(__file__).parents[2] / "daemon"
SOURCES = sorted(DAEMON.rglob("*.py"))
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
NAMES_THAT_SAY_NOTHING = {"common", "helper", "helpers", "misc", "util", "utils"}
# Importing a clock or a source of randomness is forbidden by the contract `pure-domain`; these are
# the ones that need no import of their own.
IMPURE_CALLS = {"input", "now", "open", "print", "today", "utcnow"}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def impurities(source: str) -> list[str]:
    """Give every place that waits, or that asks the world for something."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.AsyncFunctionDef() | ast.AsyncFor() | ast.AsyncWith() | ast.Await():
                found.append(f"line {node.lineno}: {type(node).__name__}")
            case ast.comprehension(is_async=1):
                found.append(f"line {node.iter.lineno}: async comprehension")
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in IMPURE_CALLS:
                found.append(f"line {node.lineno}: {name}()")
    return found


def test_there_are_sources() -> None:
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(DAEMON)))
def test_files_and_functions_fit(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    assert len(source.splitlines()) <= FILE_LINES_MAX
    assert not [
        f"line {function.lineno}: {function.name} has {lines(function)} lines"
        for function in functions(ast.parse(source))
        if lines(function) > FUNCTION_LINES_MAX
    ]


def test_names_say_something() -> None:
    assert not [
        path
        for path in DAEMON.rglob("*")
        if path.stem in NAMES_THAT_SAY_NOTHING and (path.is_dir() or path.suffix == ".py")
    ]


def test_the_domain_is_pure() -> None:
    domain = [path for path in SOURCES if path.is_relative_to(DAEMON / "rekeyd" / "domain")]

    assert domain
    assert not {
        str(path.relative_to(DAEMON)): found
        for path in domain
        if (found := impurities(path.read_text(encoding="utf-8")))
    }


@pytest.mark.parametrize(
    "source",
    [
        "async def f(): pass",
        "async def f(): return [x async for x in y]",
        "t = datetime.now(tz=UTC)",
        "t = datetime.date.today()",
        "b = open('f')",
        "b = Path('f').open()",
        "print('x')",
    ],
)
def test_impurities_are_seen(source: str) -> None:
    assert impurities(source)
