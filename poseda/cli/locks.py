"""A run folder belongs to one process at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from poseda.errors import ConfigError


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Raise ConfigError where another run works in `folder`; keep others out until this one ends, however it ends.

    The lock file lies beside the folder, which may be set aside meanwhile. The system drops the lock of a process that
    is killed. Where it knows no locks, two runs are not told apart.
    """
    path = folder.with_name(f".{folder.name}.lock")
    descriptor = _acquire(path, folder)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock goes: who opened it meanwhile sees that it is gone
        os.close(descriptor)


def _acquire(path: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(descriptor):
            os.close(descriptor)
            raise ConfigError(
                f"{folder} is in use by another run: wait until it has ended, or give name=NEW to have both."
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # the run before took its file away between our lines


def _lock(descriptor: int) -> bool:
    """Whether the lock was free; True as well where there are no locks."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
