"""From a file and the environment to settings, or to a list of all that is wrong with them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rekeyd.settings.errors import ContradictionError, Fault, SettingsError
from rekeyd.settings.model import Settings

PREFIX = "REKEYD_"
BETWEEN_NAMES = "__"

OTHER_VARIABLES = frozenset({"REKEYD_CONFIG", "REKEYD_PRINCIPAL", "REKEYD_TOKEN"})
"""Variables of the command that aren't settings."""

OTHER_PREFIX = "REKEYD_SANDBOX_"
"""Neither are variables that begin with it."""


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the file, if any, let the environment override single keys, and check the whole.

    `REKEYD_LEDGER__URL` is `ledger.url`; an empty variable sets an empty text; a list is written
    with commas. Raises SettingsError with every fault that can be told at once: contradictions
    between keys only once each key is right by itself.
    """
    data = {} if path is None else _read_toml(path)
    faults = list(_overlay(data, environ))
    settings: Settings | None = None
    try:
        settings = Settings.model_validate(data)
    except ValidationError as error:
        faults += _faults(error)
    if faults or settings is None:
        raise SettingsError(faults)
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError([(str(path), f"can't be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SettingsError([(str(path), "is not UTF-8")]) from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError([(str(path), f"is not TOML: {error}")]) from error


def _overlay(data: dict[str, Any], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Write the environment's keys into `data`. Gives what is wrong with those it can't write."""
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        if variable.startswith(OTHER_PREFIX):
            continue
        names = variable.removeprefix(PREFIX).lower().split(BETWEEN_NAMES)
        kind = _kind_of(names)
        if kind is None:
            yield variable, f"there is no setting {'.'.join(names)}: correct or unset it"
            continue
        try:
            value = _value_of(text, kind)
        except ValueError:
            yield variable, f"{'.'.join(names)} can't be {text!r}"
            continue
        if not _put(data, names, value):
            yield variable, "the file has something else than a table on the way to it"


def _kind_of(names: list[str]) -> Any:  # noqa: ANN401 - an annotation is any object
    """The annotation of a key that holds one value; None where there is no such key."""
    kind: Any = Settings
    for name in names:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(name)
            kind = None if field is None else field.annotation
        elif get_origin(kind) is dict and name:
            kind = get_args(kind)[1]
        else:
            return None
    is_table = get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, BaseModel))
    return None if is_table else kind


def _value_of(text: str, kind: Any) -> object:  # noqa: ANN401 - an annotation is any object
    """What the text of a variable means; its bounds are checked later. Raises ValueError."""
    if get_origin(kind) is tuple:
        listed = text.strip()
        if listed.startswith("["):
            return json.loads(listed)
        return [item.strip() for item in listed.split(",") if item.strip()]
    if kind in (bool, int, float):
        return TypeAdapter(kind).validate_strings(text.strip())
    assert kind is str or get_origin(kind) in (Union, UnionType) or get_args(kind), kind
    return text


def _put(data: dict[str, Any], names: list[str], value: object) -> bool:
    table = data
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return False
    table[names[-1]] = value
    return True


def _faults(error: ValidationError) -> Iterator[Fault]:
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, ContradictionError):
            yield from cause.faults
        else:
            yield _dotted(detail), _advice(detail)


def _dotted(detail: ErrorDetails) -> str:
    names = [str(name) for name in detail["loc"] if name != "[key]"]
    return ".".join(names) or "settings"


def _advice(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "there is no such setting: correct or remove it"
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            return f"{detail['msg']}, not {detail['input']!r}"
