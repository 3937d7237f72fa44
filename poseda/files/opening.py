"""What all readers of foreign files share: a look at the file before it is opened, and errors of one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poseda.errors import DataError, MissingDataError, PosedaError

GIB = 1 << 30


def file_size(path: Path, limit: int) -> int:
    """Bytes of a file that may be read.

    Raises MissingDataError where there is none, DataError where it is a folder, empty or larger than `limit`.
    """
    try:
        if not path.exists():
            raise MissingDataError(f"There is no file {path}.")
        if not path.is_file():
            raise DataError(f"{path}: not a file; give the file itself.")
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be opened ({brief(error)}).") from None
    if size == 0:
        raise DataError(f"{path}: the file is empty; get it again.")
    check_size(size, limit, str(path))
    return size


def check_size(size: int, limit: int, where: str) -> None:
    """Raise DataError where a declared size in bytes is above the limit."""
    if size > limit:
        declared = f"{size / GIB:.1f} GiB" if size < 1 << 60 else "over 10^18 bytes"
        raise DataError(f"{where}: declares {declared}; the limit is {limit / GIB:.3g} GiB.")


def brief(error: BaseException) -> str:
    """An error's text in one printable line of at most 160 characters; its kind where it has no text."""
    return printable(str(error) if str(error).strip() else type(error).__name__, 160)


def printable(text: str, length: int = 100) -> str:
    """Text from a file, made fit for a message: one line, nothing but printable characters, cut."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line[: length + 1])
    return line if len(line) <= length else f"{line[:length]}..."


@contextmanager
def one_line(where: str, what: str) -> Iterator[None]:
    """Turn whatever a parser raises on a damaged or hostile file into a DataError "<where>: <what> (...)."."""
    try:
        yield
    except PosedaError:
        raise
    except Exception as error:  # parsers of foreign files raise nearly everything, MemoryError included
        raise DataError(f"{where}: {what} ({brief(error)}).") from None
