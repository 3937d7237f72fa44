"""Arrays out of npz, npy, JSON and HDF5 files, by key and index."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from poseda.data.raw.mapped.schema import Place
from poseda.errors import DataError
from poseda.files.hdf5 import open_hdf5
from poseda.files.json_files import load_json
from poseda.files.npz import load_npy, open_npz

_NUMBERS = "fiu"


def read_array(place: Place) -> NDArray[Any]:
    """The numbers at a place. Raises DataError that names the field, the file and the key."""
    found = _load(place)
    if found.dtype.kind not in _NUMBERS:
        raise DataError(f"{place.where}: {place.path}: '{place.key}' holds {found.dtype}; expected numbers.")
    for index in place.index:
        if not found.ndim or not -len(found) <= index < len(found):
            raise DataError(f"{place.where}.index: {index} is outside '{place.key}' of shape {found.shape}.")
        found = found[index]
    return found


def _load(place: Place) -> NDArray[Any]:
    path, ending = place.path, place.path.suffix.lower()
    if ending == ".npy":
        return load_npy(path)
    if ending == ".json":
        return _from_json(place)
    if ending == ".npz":
        with open_npz(path) as npz:
            return npz.array(_checked(place, npz.keys, place.key in npz), _NUMBERS)
    if ending in (".h5", ".hdf5"):
        with open_hdf5(path) as hdf5:
            return hdf5.array(_checked(place, hdf5.keys, place.key in hdf5))
    raise DataError(f"{place.where}: {path}: only .npz, .npy, .json, .h5 and .hdf5 files can be read.")


def _checked(place: Place, keys: tuple[str, ...], there: bool) -> str:
    if not there:
        said = f"'{place.key}' is not in {place.path}" if place.key else f"{place.path} needs a key"
        raise DataError(f"{place.where}.key: {said}; it has {', '.join(keys[:20]) or 'none'}.")
    return place.key


def _from_json(place: Place) -> NDArray[Any]:
    """Follow a path such as "people.0.joints" through objects and lists."""
    value = load_json(place.path)
    for part in place.key.split(".") if place.key else ():
        try:
            value = value[int(part)] if isinstance(value, list) else value[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise DataError(f"{place.where}.key: '{place.key}' is not in {place.path}: no '{part}'.") from None
    try:
        # null is a missing number
        return np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError):
        raise DataError(f"{place.where}: {place.path}: '{place.key}' is no regular array of numbers.") from None
