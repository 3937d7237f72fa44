"""Fetching a source model that is too large for the package: on request, and used only if it is the pinned file."""

from __future__ import annotations

import http.client
import os
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from poseda.errors import CheckpointError, ConfigError, MissingDataError
from poseda.lifters.base import one_line
from poseda.zoo.index import Entry, digest, verified

Report = Callable[[int, int], None]
"""Called with the bytes that are there, and those that there will be."""
CHUNK = 1 << 20
TIMEOUT = 30.0
"""Seconds without a byte before a download is given up."""
SCHEMES = ("https", "http", "file")


def fetch(entry: Entry, cache: Path | None = None, report: Report | None = None) -> Path:
    """The verified file of a model, downloaded first where it is not here; a damaged one is fetched again.

    The hash is pinned, so that it does not matter who sends the file. Raises MissingDataError where it cannot be had,
    CheckpointError where another one came; nothing of either is kept.
    """
    path = entry.file(cache)
    if not entry.url:
        return verified(entry, cache)
    if path.is_file() and path.stat().st_size == entry.size and digest(path) == entry.sha256:
        return path
    if urlsplit(entry.url).scheme not in SCHEMES:
        raise ConfigError(f"{entry.name}: its address {entry.url:.200} must begin with one of {', '.join(SCHEMES)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{entry.name}.", suffix=".part")
    part = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            _download(entry, file, path, report)
        if part.stat().st_size != entry.size or digest(part) != entry.sha256:
            raise CheckpointError(
                f"{entry.url}: is not the file that the index means (size or SHA-256 differ); not kept."
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _download(entry: Entry, file: IO[bytes], path: Path, report: Report | None) -> None:
    """Write what the address sends, but no more than one byte beyond the size that it must have."""
    done = 0
    try:
        with urllib.request.urlopen(entry.url, timeout=TIMEOUT) as answer:
            while done <= entry.size and (chunk := answer.read(min(CHUNK, entry.size + 1 - done))):
                file.write(chunk)
                done += len(chunk)
                if report is not None:
                    report(done, entry.size)
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise MissingDataError(
            f"{entry.name} cannot be fetched from {entry.url} ({one_line(error)}): try again later, "
            f"or put the file at {path} yourself."
        ) from error
