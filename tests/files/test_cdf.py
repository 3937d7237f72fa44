"""CDF files: a variable comes back, errors are of one line."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.errors import MissingDataError
from poseda.files.cdf import load_cdf

pytest.importorskip("cdflib")
POSES = np.arange(5 * 96, dtype=np.float32).reshape(1, 5, 96)


def write(path, packed=0, variable=0):
    """The layout of Human3.6M: one record of the variable Pose, frames by coordinates."""
    from cdflib.cdfwrite import CDF

    spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [5, 96],
            "Compress": variable}  # fmt: skip
    text = {"Variable": "Name", "Data_Type": 51, "Num_Elements": 4, "Rec_Vary": True, "Dim_Sizes": []}
    with CDF(str(path), cdf_spec={"Compressed": packed}, delete=True) as file:
        file.write_var(spec, var_data=POSES)
        file.write_var(text, var_data=np.array(["abcd", "efgh"]))
    return path


@pytest.mark.parametrize(("packed", "variable"), [(0, 0), (6, 0), (0, 6)])
def test_a_variable_comes_back(tmp_path, packed, variable):
    read = load_cdf(write(tmp_path / "x.cdf", packed, variable), "Pose")
    assert read.reshape(5, 32, 3).tolist() == POSES.reshape(5, 32, 3).tolist() and read.dtype.isnative


def test_wrong_variables_are_named(tmp_path, refused):
    path = write(tmp_path / "x.cdf")
    with refused(path, match="has no variable 'Poses'; it holds Pose, Name"):
        load_cdf(path, "Poses")
    with refused(path, match="variable 'Name': is .*only numbers"):
        load_cdf(path, "Name")
    with refused(path, match="variable 'Pose'.*the limit is"):
        load_cdf(path, "Pose", limit=5000)


def test_a_packed_file_that_grows_is_refused(tmp_path, refused):
    path = write(tmp_path / "x.cdf", packed=6)
    with refused(path, match="the limit is"):
        load_cdf(path, "Pose", limit=path.stat().st_size + 10)


def test_damaged_files_are_refused(tmp_path, refused):
    path = write(tmp_path / "x.cdf")
    data = path.read_bytes()
    for end in range(0, len(data) // 2, 20):
        path.write_bytes(data[:end])
        with refused(path):
            load_cdf(path, "Pose")
    path.write_bytes(b"hello " * 100)
    with refused(path, match="not a readable CDF file"):
        load_cdf(path, "Pose")
    with refused(tmp_path, match="not a file"):
        load_cdf(tmp_path, "Pose")
    with pytest.raises(MissingDataError, match="no file"):
        load_cdf(tmp_path / "none.cdf", "Pose")
