"""What went wrong, where, and what to do: every mistake of a user ends in one of these, on one line."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Literal, get_args, get_origin, get_type_hints


class PosedaError(Exception):
    """Base of all errors that a user can mend; the commands print the message alone and exit with 1."""


class ConfigError(PosedaError):
    """An option has a value that cannot be used."""


class MissingDataError(PosedaError):
    """A file or data set that was asked for is not there."""


class DataError(PosedaError):
    """Data were found but are not what they must be."""


class ShapeError(PosedaError):
    """A tensor does not have the shape that a function asks for."""


class CheckpointError(PosedaError):
    """A checkpoint cannot be read, or belongs to another lifter."""


def choose(name: str, choices: Iterable[str], kind: str) -> str:
    """Return `name` when it is one of `choices`; else raise ConfigError with the choices and the nearest."""
    known = sorted(choices)
    if name in known:
        return name
    raise ConfigError(f"There is no {kind} '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}.")


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """A sentence with the nearest of `known`, `before` put in front of it, to follow another; "" where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{before}{near[0]}'?" if near else ""


def check_choices(config: object, prefix: str) -> None:
    """Raise ConfigError for a field of a dataclass whose value its `Literal` does not have; prefix.field names it."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            choose(getattr(config, name), get_args(hint), f"{prefix}.{name}")


def check_seed(seed: int, key: str = "seed", end: int = 63) -> None:
    """Raise ConfigError unless `seed` is one that every generator takes: 0 or more, and below 2**`end`."""
    if not 0 <= seed < 2**end:
        raise ConfigError(f"{key}={seed} must be 0 or more, and below 2**{end}.")


def require(module: str, extra: str) -> ModuleType:
    """Import an optional `module`, or raise ConfigError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"This needs {module}: pip install -c constraints.txt -e '.[{extra}]'.") from None
