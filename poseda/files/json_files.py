"""JSON files of others, with their size and depth under control."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from poseda.errors import DataError
from poseda.files.opening import GIB, file_size, one_line


def load_json(path: Path, *, limit: int = GIB) -> Any:
    """The plain values of a JSON file in UTF-8, with or without a byte order mark.

    NaN, Infinity and -Infinity, which are not JSON but which detectors write, become the floats nan, inf and
    -inf. Of a key that is given twice the last value counts. Raises MissingDataError, or DataError in one
    line for a file above `limit` bytes, not UTF-8, not JSON, or nested too deeply to be data.
    """
    path = Path(path)
    file_size(path, limit)
    with one_line(str(path), "not readable as JSON"):
        try:
            return json.loads(path.read_bytes().decode("utf-8-sig"))
        except RecursionError:
            raise DataError(f"{path}: nested too deeply to be data; not readable as JSON.") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 at byte {error.start}; save it as JSON in UTF-8.") from None
