"""Reads TOML into checked, frozen settings: an unknown key, a wrong type or an impossible value is one clear line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from device_agent.errors import ConfigError


class Section(BaseModel):
    """A part of a file of settings: checked strictly, and never changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


M = TypeVar("M", bound=BaseModel)


def read_toml(path: Path, model: type[M]) -> M:
    """Read `path` as a `model`. Raises `ConfigError` naming file, key, value and what is allowed."""
    try:
        with path.open("rb") as file:
            values = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits and lists in lists among them
        raise ConfigError(f"{path}: not TOML: {error}") from error
    return checked(values, model, where=str(path))


def checked(values: Mapping[str, Any], model: type[M], *, where: str) -> M:
    """Return values as a `model`. Raises `ConfigError` naming where they come from, key, value and what is allowed."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{where}: {explain(error, model)}") from error


def toml_text(values: Mapping[str, Any]) -> str:
    """Write values and tables of values as TOML that reads back as the same."""
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    for table, members in values.items():
        if isinstance(members, Mapping):
            lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in members.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Say the first fault of a validation in one line: key, value, and what is allowed."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(place) or "the file"
    if first["type"] == "extra_forbidden":
        allowed = ", ".join(sorted(_fields_at(model, place[:-1])))
        return f"unknown key {key}; allowed here: {allowed}"
    if first["type"] == "missing":
        return f"{key} is missing"
    said = first["msg"].removeprefix("Value error, ")
    return f"{key} = {_shown(first['input'])}: {said[:1].lower()}{said[1:]}"


def _shown(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of thousands of digits"


def _fields_at(model: type[BaseModel], place: list[str]) -> set[str]:
    fields: dict[str, Any] = dict(model.model_fields)
    for part in place:
        inner = fields[part].annotation if part in fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return set(fields)
        fields = dict(inner.model_fields)
    return set(fields)
