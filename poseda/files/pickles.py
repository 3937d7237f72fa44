"""Pickle files of others without running anything of them.

A pickle is a program that may call any function of any module. Here it may call nothing: the few names that numpy and
the containers need give inert stubs, and these become arrays afterwards, once every claim of theirs has been checked.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from poseda.errors import DataError
from poseda.files.makers import MAKERS, Name, checked_keys, fill, typed
from poseda.files.opening import file_size, one_line, printable
from poseda.files.stubs import Array, Dtype, Record, settle

__all__ = ["Reader", "Record", "Source", "load_pickle", "loads_pickle", "read_pickle"]

_PLAIN_OPCODES = (
    "PROTO STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT "
    "STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
    "BINBYTES8 TUPLE EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 LIST EMPTY_LIST EMPTY_DICT EMPTY_SET GET BINGET LONG_BINGET PUT "
    "BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL"
)
"""Those that only move plain values about; all others are either written anew below or refused."""
_RENAMED = (("numpy._core.", "numpy.core."), ("__builtin__.", "builtins."), ("copy_reg.", "copyreg."))
_CHECKED_READ = 1 << 16
_COPIES = 4
"""How many times the file's size its values may be copied: plain data need two, a bomb of references needs many."""


def load_pickle(path: Path, *, limit: int = 4 << 30, records: Collection[str] = ()) -> Any:
    """The values of a pickle file of any protocol, Python 2 (latin1) included.

    dict, OrderedDict, list, tuple, set, str, bytes, numbers, None, numpy arrays, scalars and dtypes are read. A
    class or function whose dotted name is in `records` becomes an inert `Record`. Raises MissingDataError, or
    DataError in one line for anything else: by its name for a refused object, and for a file that is above
    `limit` bytes, damaged, or so built that it would grow in memory.
    """
    path = Path(path)
    size = file_size(path, limit)
    with one_line(str(path), "cannot be read"), path.open("rb") as file:
        return read_pickle(file, size, str(path), records=records)


def loads_pickle(data: bytes, where: str, *, records: Collection[str] = ()) -> Any:
    """As `load_pickle`, from bytes; `where` begins the messages."""
    return read_pickle(io.BytesIO(data), len(data), where, records=records)


def read_pickle(file: BinaryIO, size: int, where: str, *, records: Collection[str] = ()) -> Any:
    """As `load_pickle`, from a buffered file open for reading that holds at most `size` bytes."""
    with one_line(where, "not a whole pickle of plain data"):
        root = Reader(Source(file, size), where, frozenset(records)).load()
        return settle(root, where)


class Source:
    """A file that gives all bytes that are asked for or raises, and reserves no memory for bytes it cannot have."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.size = size

    def read(self, count: int) -> bytes:
        if count > _CHECKED_READ and count > self.size:
            raise EOFError(f"{count} bytes are announced where the file has {self.size}")
        data = self._file.read(count)
        if len(data) != count:
            raise EOFError("the file ends too early")
        return data

    def readline(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError("the file ends too early")
        return line

    def read_mutable(self, count: int) -> bytearray:
        if count > self.size:
            raise EOFError(f"{count} bytes are announced where the file has {self.size}")
        data = bytearray(count)
        if self._file.readinto(data) != count:  # type: ignore[attr-defined]  # io.BufferedIOBase, which BinaryIO hides
            raise EOFError("the file ends too early")
        return data


class _Opcodes(dict[int, Callable[[Any], None]]):
    def __missing__(self, code: int) -> NoReturn:
        raise pickle.UnpicklingError(f"the opcode {bytes([code])!r} is not used by plain data")


# The pure-Python class: its memo is a dictionary, the one in C reserves a list as long as the largest index claimed.
class Reader(pickle._Unpickler):  # type: ignore[name-defined,misc,unused-ignore]  # not in every typeshed
    """An unpickler that calls nothing but the makers of our own stubs and containers."""

    stack: list[Any]
    append: Callable[[object], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]
    readline: Callable[[], bytes]

    def __init__(self, source: Source, where: str, records: frozenset[str]) -> None:
        super().__init__(source, encoding="latin1")
        self._source = source
        self._where = where
        self._records = records
        self._room = _COPIES * source.size

    def find_class(self, module: str, name: str) -> Any:
        dotted = f"{module}.{name}"
        if dotted in self._records:
            return Name(dotted, lambda args: Record(dotted, args))
        for old, new in _RENAMED:
            dotted = new + dotted.removeprefix(old) if dotted.startswith(old) else dotted
        if dotted not in MAKERS or (dotted == "copyreg._reconstructor" and not self._records):
            self._refuse(f"{module}.{name}")
        return Name(dotted, MAKERS[dotted])

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"{self._where}: holds a pickled {printable(what)}, which is refused: only numbers, texts, lists, dicts "
            "and numpy arrays are read."
        )

    def _spend(self, values: tuple[Any, ...]) -> None:
        """Count what a call copies, so that one long value cannot be copied many times over."""
        self._room -= sum(len(value) for value in values if isinstance(value, str | bytes | bytearray | list))
        if self._room < 0:
            raise DataError(f"{self._where}: its values would take far more memory than the file; it is refused.")

    def _call(self, function: object, args: object) -> object:
        if not isinstance(function, Name) or function.make is None:
            self._refuse(f"call of {function.name if isinstance(function, Name) else type(function).__name__}")
        if not isinstance(args, tuple):
            raise pickle.UnpicklingError("a call has no tuple of arguments")
        self._spend(args)
        return function.make(args)

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def _newobj_ex(self) -> None:
        if self.stack.pop():
            raise pickle.UnpicklingError("an object is made with keyword arguments")
        self._reduce()

    def _obj(self) -> None:
        function, *args = self.pop_mark()
        self.append(self._call(function, tuple(args)))

    def _inst(self) -> None:
        module, name = self.readline()[:-1].decode("ascii"), self.readline()[:-1].decode("ascii")
        args = tuple(self.pop_mark())
        self.append(self._call(self.find_class(module, name), args))

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) not in (Array, Dtype, Record):
            self._refuse(f"state of a {target.name if isinstance(target, Name) else type(target).__name__}")
        if type(target) is Array and isinstance(state, tuple):
            self._spend(state)
        target.state = state

    def _append(self) -> None:
        value = self.stack.pop()
        typed(self.stack[-1], list).append(value)

    def _appends(self) -> None:
        items = self.pop_mark()
        typed(self.stack[-1], list).extend(items)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        fill(self.stack[-1], [key, value])

    def _setitems(self) -> None:
        items = self.pop_mark()
        fill(self.stack[-1], items)

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append(fill({}, items))

    def _additems(self) -> None:
        items = self.pop_mark()
        typed(self.stack[-1], set).update(checked_keys(items))

    def _frozenset(self) -> None:
        items = self.pop_mark()  # first: it changes where append puts things
        self.append(frozenset(checked_keys(items)))

    def _bytearray8(self) -> None:
        (count,) = struct.unpack("<Q", self.read(8))
        self.append(self._source.read_mutable(count))

    def _frame(self) -> None:
        self.read(8)  # frames only announce how much to read ahead

    dispatch = _Opcodes(
        {getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]]  # type: ignore[attr-defined,unused-ignore]
         for name in _PLAIN_OPCODES.split()}
        | {pickle.REDUCE[0]: _reduce, pickle.NEWOBJ[0]: _reduce, pickle.NEWOBJ_EX[0]: _newobj_ex, pickle.OBJ[0]: _obj,
           pickle.INST[0]: _inst, pickle.BUILD[0]: _build, pickle.APPEND[0]: _append, pickle.APPENDS[0]: _appends,
           pickle.SETITEM[0]: _setitem, pickle.SETITEMS[0]: _setitems, pickle.DICT[0]: _dict,
           pickle.ADDITEMS[0]: _additems, pickle.FROZENSET[0]: _frozenset, pickle.BYTEARRAY8[0]: _bytearray8,
           pickle.FRAME[0]: _frame}
    )  # fmt: skip
