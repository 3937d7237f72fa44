"""JSON files of others."""

from __future__ import annotations

import math

import pytest

from poseda.errors import MissingDataError
from poseda.files.json_files import load_json


def test_plain_values_come_back(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": [1, 2.5, "Größe", null, true], "a2": 1, "a2": 2}', encoding="utf-8")
    assert load_json(path) == {"a": [1, 2.5, "Größe", None, True], "a2": 2}
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert load_json(path) == [1]


def test_what_detectors_write_for_missing_numbers_becomes_a_float(tmp_path):
    (tmp_path / "x.json").write_text("[NaN, Infinity, -Infinity]")
    values = load_json(tmp_path / "x.json")
    assert math.isnan(values[0]) and values[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"), (b"{", "not readable as JSON"), (b"[1,]", "not readable as JSON"),
        (b"[" * 100_000, "too deeply"), (b"[" * 100_000 + b"]" * 100_000, "too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deeply"), (b'["\xff"]', "not UTF-8 at byte 2"),
        (b"[" + b"9" * 5000 + b"]", "not readable as JSON"), ('["a"]'.encode("utf-16"), "not UTF-8"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_in_one_line(tmp_path, content, message, refused):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with refused(path, match=message):
        load_json(path)


def test_a_file_is_looked_at_before_it_is_read(tmp_path, refused):
    with pytest.raises(MissingDataError, match="no file"):
        load_json(tmp_path / "x.json")
    with refused(tmp_path, match="not a file"):
        load_json(tmp_path)
    (tmp_path / "x.json").write_text("[1, 2, 3]")
    with refused(tmp_path / "x.json", match="the limit is"):
        load_json(tmp_path / "x.json", limit=5)
