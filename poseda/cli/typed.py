"""From our config dataclasses to OmegaConf's typed nodes and back.

OmegaConf 2.3 makes frozen dataclasses read-only nodes, turns tuples into lists and does not know `Literal`.
`mirror` makes the writable twin that it can hold; `build` makes the real, frozen object and checks the rest.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from poseda.errors import ConfigError, check_seed, did_you_mean

T = TypeVar("T")


def field_values(config: Any) -> dict[str, Any]:
    """Field name -> value of a dataclass instance, one level deep."""
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def mirror(config: Any) -> Any:
    """A writable twin of a config dataclass instance, same names and values, that OmegaConf can hold."""
    return twin(type(config).__name__, field_values(config), get_type_hints(type(config)))


def twin(name: str, values: Mapping[str, Any], hints: Mapping[str, Any]) -> Any:
    """An instance of a new writable dataclass with these fields; a field without a hint may hold anything."""
    mirrored = {key: mirrored_value(value) for key, value in values.items()}
    fields = [(key, mirrored_type(hints.get(key, Any), value)) for key, value in mirrored.items()]
    return dataclasses.make_dataclass(name, fields)(**mirrored)


def mirrored_value(value: Any) -> Any:
    """The writable form of one value: twins for dataclasses, lists for tuples."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return mirror(value)
    return list(value) if isinstance(value, tuple) else value


def mirrored_type(hint: Any, value: Any) -> Any:
    """The annotation that OmegaConf understands for `hint`, given the field's mirrored value."""
    if dataclasses.is_dataclass(value):
        return type(value)
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        parts = [mirrored_type(part, None) for part in get_args(hint)]
        return functools.reduce(operator.or_, parts)
    return hint


def build(kind: type[T], data: Mapping[str, Any], key: str = "") -> T:
    """The frozen dataclass `kind` from plain containers; ConfigError naming the key of what does not fit."""
    hints = get_type_hints(kind)
    refuse_unknown(data, hints, key)
    return kind(**{name: convert(hints[name], value, f"{key}{name}") for name, value in data.items()})


def refuse_unknown(data: Mapping[str, Any], known: Iterable[str], key: str = "") -> None:
    """Raise ConfigError for the first name in `data` that is not `known`; `key` stands before both."""
    allowed = list(known)
    for name in data:
        if name not in allowed:
            raise unknown_key(f"{key}{name}", allowed)


def unknown_key(key: str, siblings: list[str]) -> ConfigError:
    """The error for an option that does not exist, with the nearest of those that do beside it."""
    before, _, name = key.rpartition(".")
    hint = did_you_mean(name, siblings, f"{before}." if before else "")
    return ConfigError(f"There is no option '{key}'.{hint} Add --help to see them all.")


def convert(hint: Any, value: Any, key: str) -> Any:
    """One plain value as its annotation wants it."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return build(hint, value, f"{key}.") if isinstance(value, Mapping) else value
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(value)
    if hint is int and key.rpartition(".")[2] == "seed":
        check_seed(value, key)
    if get_origin(hint) is Literal and value not in get_args(hint):
        known = [str(choice) for choice in get_args(hint)]
        raise ConfigError(f"{key}={value} is none of: {', '.join(known)}.{did_you_mean(str(value), known)}")
    return value
