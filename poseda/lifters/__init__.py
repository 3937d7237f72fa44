"""Lifters by name: a file in this package that sets LIFTER is a lifter of that file's name.

Nothing else is edited for a new one. Importing this module, or listing, imports no lifter and no torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import MISSING, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from poseda.errors import ConfigError, choose
from poseda.plugins import list_plugins, load_plugin

if TYPE_CHECKING:
    from poseda.lifters.base import Lifter

MARKER = "LIFTER"


def list_lifters(pattern: str = "*") -> tuple[str, ...]:
    """Names of the lifters that match a shell pattern, sorted."""
    return tuple(name for name in list_plugins(__path__, MARKER) if fnmatchcase(name, pattern))


def lifter_class(name: str) -> type[Lifter]:
    """Class of a lifter: a listed name, or "package.module:Class" for one of the user's own."""
    if ":" in name:
        return _user_class(name)
    cls: type[Lifter] = load_plugin(__name__, choose(name, list_lifters(), "lifter"), MARKER)
    return cls


def create_lifter(name: str, *, seed: int | None = None, **options: Any) -> Lifter:
    """A lifter with fresh weights; with a `seed` they depend on it alone, and the global generator is kept.

    Raises ConfigError for an unknown name or option, or a value of the wrong type.
    """
    from poseda.lifters.seeding import seeded  # here, so that listing needs no torch

    cls = lifter_class(name)
    config = _make_config(cls, name, options)
    with nullcontext() if seed is None else seeded(seed):
        lifter: Lifter = cls(config)  # type: ignore[call-arg, arg-type]
    lifter.name = name
    return lifter


def _make_config(cls: type[Lifter], name: str, options: Mapping[str, object]) -> object:
    """The lifter's Config of plain options, each checked against the type of its default."""
    known = {field.name: field for field in fields(cls.Config)}
    for option, value in options.items():
        field = known[choose(option, known, f"option of {name}")]
        if field.default is not MISSING and not _fits(value, field.default):
            kind = type(field.default).__name__
            raise ConfigError(f"The option {option} of {name} must be {kind}, got {value!r:.60}.")
    return cls.Config(**options)


def _fits(value: object, default: object) -> bool:
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def _user_class(name: str) -> type[Lifter]:
    from poseda.lifters.base import Lifter

    module_name, _, class_name = name.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"The lifter '{name}' cannot be imported ({error}); write package.module:Class.") from error
    if not (isinstance(cls, type) and issubclass(cls, Lifter) and hasattr(cls, "Config")):
        raise ConfigError(
            f"'{name}' is not a lifter: it must be a subclass of poseda.lifters.base.Lifter with a Config."
        )
    return cls
