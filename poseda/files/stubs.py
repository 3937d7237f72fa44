"""What a pickle's calls become: inert stubs, turned into real arrays in a walk that checks every claim."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseda.errors import DataError
from poseda.files.buffers import array_of, check_shape

DEEPEST = 100
"""Levels of containers in containers; data sets have five or six."""
_LEAVES = frozenset((str, int, float, bool, bytes, type(None)))
_CODES = re.compile(r"b1|[iu][1248]|f[248]|[SU][0-9]{1,8}|O[48]?", re.ASCII)


@dataclass(eq=False)
class Record:
    """An inert object of a pickle: its dotted name, what it was made from, its state. Nothing of it was executed."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None


@dataclass(eq=False)
class Array:
    """A numpy array to be: (version, shape, dtype, Fortran order, bytes or list)."""

    state: Any = None


@dataclass(eq=False)
class Dtype:
    """A numpy dtype to be: (code, align, copy) and (version, byte order, ...)."""

    args: tuple[Any, ...] = ()
    state: Any = None


@dataclass(eq=False)
class Scalar:
    """A numpy number or text to be: its dtype and its bytes."""

    dtype: Any = None
    data: Any = field(default=b"")


def settle(root: Any, where: str) -> Any:
    """The value with all stubs made real, each once however often it is referred to; without recursion.

    Raises DataError where a container holds itself or others too deeply, or a stub's claims are false.
    """
    made: dict[int, tuple[Any, Any, int]] = {}  # the original is kept as well, so that its id stays its own
    entered: set[int] = set()
    todo = [(root, False)]
    while todo:
        item, complete = todo.pop()
        if type(item) in _LEAVES or id(item) in made:
            continue
        parts = [part for part in _parts(item, where) if type(part) not in _LEAVES]
        if complete or not parts:
            depth = 1 + max((made[id(part)][2] for part in parts), default=0)
            if depth > DEEPEST:
                raise DataError(f"{where}: its lists and dicts lie more than {DEEPEST} levels deep; no data set does.")
            made[id(item)] = (item, _make(item, made, where) if parts or type(item) in _ALWAYS else item, depth)
            entered.discard(id(item))
        elif id(item) in entered:
            raise DataError(f"{where}: holds a list or dict that contains itself; no data set does.")
        else:
            entered.add(id(item))
            todo.append((item, True))
            todo.extend((part, False) for part in parts)
    return _value(root, made)


_ALWAYS = (Array, Dtype, Scalar, bytearray)


def _parts(item: Any, where: str) -> Iterable[Any]:
    """What lies inside a value and must be settled before it."""
    kind = type(item)
    if kind in (list, tuple, set, frozenset):
        return item  # type: ignore[no-any-return]
    if kind in (dict, OrderedDict):
        return [*item.keys(), *item.values()]
    if kind is Record:
        return (item.args, item.state)
    if kind is Array:
        _, data = _array_state(item, where)
        return (data,) if isinstance(data, list) else ()
    if kind in _ALWAYS:
        return ()
    name = getattr(item, "name", kind.__name__)
    raise DataError(f"{where}: holds {name} itself, which is refused: only values are read.")


def _make(item: Any, made: dict[int, tuple[Any, Any, int]], where: str) -> Any:
    """The settled value of a container or stub whose parts are settled."""
    kind = type(item)
    if kind in (list, tuple, set, frozenset):
        return kind(_value(part, made) for part in item)
    if kind in (dict, OrderedDict):
        return kind((_value(key, made), _value(value, made)) for key, value in item.items())
    if kind is Record:
        return Record(item.name, _value(item.args, made), _value(item.state, made))
    if kind is Array:
        (shape, dtype, fortran), data = _array_state(item, where)
        item.state = None  # a big array's bytes are not kept twice
        if dtype.hasobject:
            return _object_array(_value(data, made), shape, where)
        return array_of(_mutable(data, where), dtype, shape, fortran, where)
    if kind is Dtype:
        return _dtype(item, where)
    if kind is Scalar:
        dtype = _dtype(item.dtype, where)
        if dtype.hasobject:
            raise DataError(f"{where}: holds a numpy scalar of objects, which is refused.")
        return array_of(_mutable(item.data, where), dtype, (1,), False, where)[0]
    return bytes(item)


def _value(item: Any, made: dict[int, tuple[Any, Any, int]]) -> Any:
    return item if type(item) in _LEAVES else made[id(item)][1]


def _array_state(item: Array, where: str) -> tuple[tuple[tuple[int, ...], np.dtype[Any], bool], Any]:
    """((shape, dtype, Fortran order), bytes or list) of an array, with the types checked."""
    state = item.state
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise DataError(f"{where}: holds a numpy array without its content; the file is damaged.")
    shape, dtype, fortran, data = state[-4:]
    real = _dtype(dtype, where)
    if real.hasobject != isinstance(data, list):
        raise DataError(f"{where}: holds a numpy array whose content is not of its type; the file is damaged.")
    return (check_shape(shape, where), real, bool(fortran)), data


def _dtype(item: object, where: str) -> np.dtype[Any]:
    """A plain dtype: bool, integers, floats, bytes, texts, objects; never one with fields."""
    code = item.args[0] if isinstance(item, Dtype) and item.args else None
    if not isinstance(item, Dtype) or not isinstance(code, str):
        raise DataError(f"{where}: holds a numpy array without a type; the file is damaged.")
    state = item.state if isinstance(item.state, tuple) else ()
    if not _CODES.fullmatch(code) or any(part is not None for part in state[2:5]):
        raise DataError(f"{where}: holds a numpy array of type {code[:20]!r}; only numbers and texts are read.")
    order: Any = state[1] if len(state) > 1 else "="
    if order not in ("<", ">", "=", "|"):
        raise DataError(f"{where}: holds a numpy array of an unknown byte order; the file is damaged.")
    if code[0] == "O":
        return np.dtype("O")
    stored = np.dtype(code).newbyteorder(order)
    return np.dtype(code) if stored.isnative else stored


def _mutable(data: object, where: str) -> bytearray:
    """An array's bytes, so that the array can be written to; Python 2 wrote them as text in latin1."""
    if isinstance(data, bytearray):
        return data
    if isinstance(data, str):
        return bytearray(data, "latin1")
    if isinstance(data, bytes):
        return bytearray(data)
    raise DataError(f"{where}: holds a numpy array whose content is not bytes; the file is damaged.")


def _object_array(items: list[Any], shape: tuple[int, ...], where: str) -> NDArray[Any]:
    if math.prod(shape) != len(items):
        raise DataError(f"{where}: holds an array of objects whose shape does not fit its length; it is damaged.")
    # not np.array, which would look into the items; numpy lists them in C order whatever the order of the array
    return np.fromiter(items, dtype=object, count=len(items)).reshape(shape)
