"""The few calls that a pickle may make: each gives an inert stub or an empty container of our own."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from poseda.files.stubs import Array, Dtype, Record, Scalar

_LONGEST_KEY = 16
_LARGEST_KEY_BITS = 64


class Name:
    """A global of the pickle that may be mentioned; `make` is what calling it gives, None if it may not be called."""

    __slots__ = ("make", "name")

    def __init__(self, name: str, make: Callable[[tuple[Any, ...]], object] | None) -> None:
        self.name = name
        self.make = make


def typed(value: Any, kind: type) -> Any:
    """The value, if it is exactly of a kind; else raises UnpicklingError, as all of this file does."""
    if type(value) is not kind:
        raise pickle.UnpicklingError(f"a {type(value).__name__} is filled like a {kind.__name__}")
    return value


def fill(target: Any, items: list[Any]) -> Any:
    """A dict, filled with items: key, value, key, value ..."""
    if type(target) not in (dict, OrderedDict) or len(items) % 2:
        raise pickle.UnpicklingError(f"a {type(target).__name__} is filled like a dictionary")
    for key, value in zip(checked_keys(items[::2]), items[1::2], strict=True):
        target[key] = value
    return target


def checked_keys(keys: list[Any]) -> list[Any]:
    """The keys, if hashing them takes no time: a hash of nested shared tuples takes forever."""
    for key in keys:
        parts = key if type(key) is tuple and len(key) <= _LONGEST_KEY else (key,)
        for part in parts:
            if type(part) not in (str, int, float, bool, bytes, type(None), Scalar):
                raise pickle.UnpicklingError(f"a {type(part).__name__} is a key")
            if type(part) is int and part.bit_length() > _LARGEST_KEY_BITS:
                raise pickle.UnpicklingError("an integer of many digits is a key")
    return keys


def _make_array(args: tuple[Any, ...]) -> Array:
    kind, _, _ = args
    if not isinstance(kind, Name) or kind.name != "numpy.ndarray":
        raise pickle.UnpicklingError("an array of another type than numpy.ndarray")
    return Array()


def _make_array_of_buffer(args: tuple[Any, ...]) -> Array:
    data, dtype, shape, order = args
    return Array((1, shape, dtype, order == "F", data))


def _make_record(args: tuple[Any, ...]) -> Record:
    kind, _, value = args
    if not isinstance(kind, Name) or kind.make is None or not isinstance(made := kind.make(()), Record):
        raise pickle.UnpicklingError("copyreg makes something else than a record")
    return Record(made.name, () if value is None else (value,))


def _make_bytes(args: tuple[Any, ...]) -> bytes:
    text, encoding = args
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in another encoding than latin1")
    return text.encode("latin1")


def _make_bytearray(args: tuple[Any, ...]) -> bytearray:
    if len(args) == 2:
        return bytearray(_make_bytes(args))
    return bytearray(_only(args, bytes)) if args else bytearray()


def _make_ordered(args: tuple[Any, ...]) -> OrderedDict[Any, Any]:
    made: OrderedDict[Any, Any] = OrderedDict()
    for key, value in _only(args, list) if args else ():
        fill(made, [key, value])
    return made


def _only(args: tuple[Any, ...], kind: type) -> Any:
    (value,) = args
    return typed(value, kind)


MAKERS: dict[str, Callable[[tuple[Any, ...]], object] | None] = {
    "numpy.core.multiarray._reconstruct": _make_array,
    "numpy.core.multiarray.scalar": lambda args: Scalar(*args),
    "numpy.core.numeric._frombuffer": _make_array_of_buffer,
    "numpy.dtype": lambda args: Dtype(args),
    "numpy.ndarray": None,
    "_codecs.encode": _make_bytes,
    "collections.OrderedDict": _make_ordered,
    "copyreg._reconstructor": _make_record,
    "builtins.object": None,
    "builtins.set": lambda args: set(checked_keys(_only(args, list))),
    "builtins.frozenset": lambda args: frozenset(checked_keys(_only(args, list))),
    "builtins.bytes": lambda args: b"" if not args else bytes(_only(args, bytes)),
    "builtins.bytearray": _make_bytearray,
}
"""All that a pickle may call (None: only mention), and what that gives."""
