"""Memory that is freed stays with the process.

glibc gives the tensors that a network frees back to the system and asks for them anew in the next pass. The system
clears each page again, which can take longer than the network itself (experiments/bench).
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of the two limits in glibc's malloc.h."""
_KEPT = 2**31 - 1
"""Bytes that may lie free before any go back: as many as the parameter takes."""
_LARGEST = (2**28, 2**25)
"""Bytes from which on a block is the system's own: attention scores are tens of MiB. A glibc that keeps to its
documented limit, 32 MiB, takes the second."""
_CHOICES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees. Returns whether it does; without glibc nothing changes.

    What its user has chosen by glibc's environment variables is left as it is. The largest use of memory stays the
    same, to a tenth; between two peaks it does not fall.
    """
    if any(name in os.environ for name in _CHOICES) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        set_limit = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return any(set_limit(_MMAP_THRESHOLD, size) for size in _LARGEST) and bool(set_limit(_TRIM_THRESHOLD, _KEPT))
