"""results.json says what a number depends on; tables are aligned and state their protocol."""

import json
import platform
import subprocess

import numpy as np
import pytest
import torch

from poseda.data.clips import Provenance
from poseda.engine.records import (
    Column,
    RunFolder,
    append_jsonl,
    format_table,
    git_hash,
    read_jsonl,
    write_results,
)
from poseda.errors import DataError


def test_results_carry_seed_protocol_data_and_environment(tmp_path):
    data = [Provenance("3dhp", "stand-in", "none", "universal", "gt")]
    values = {
        "mpjpe": np.float32(51.5),
        "per_joint": torch.tensor([1.0, 2.0]),
        "pck": float("nan"),
        "n": np.int64(3),
    }
    write_results(tmp_path / "results.json", values, seed=4, protocol="official17", data=data)
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["results"] == {"mpjpe": 51.5, "per_joint": [1.0, 2.0], "pck": None, "n": 3}
    assert (record["seed"], record["protocol"]) == (4, "official17")
    assert record["data"][0]["kind"] == "stand-in"
    environment = record["environment"]
    assert environment["python"] == platform.python_version()
    assert environment["torch"] == torch.__version__
    assert environment["numpy"] == np.__version__
    assert environment["threads"] == torch.get_num_threads()
    assert {"poseda", "git", "platform"} <= set(environment)


def test_git_hash_is_that_of_the_repository_around_the_folder(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "-q")
    assert git_hash(tmp_path) == ""
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one", "--no-verify")
    assert git_hash(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("2")
    assert git_hash(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


def test_git_hash_without_a_repository_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_hash(tmp_path) == ""
    monkeypatch.setenv("PATH", "")
    assert git_hash(tmp_path) == ""


def test_jsonl_round_trip(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 1, "loss": 0.1})
    append_jsonl(path, {"step": 2, "loss": float("inf")})
    assert read_jsonl(path) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": None}]


def test_broken_line_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"')
    with pytest.raises(DataError, match=r"metrics\.jsonl, line 2"):
        read_jsonl(path)


ROWS = [
    {"method": "source only", "mpjpe": 101.25, "pck": 80.0, "frames": 1000},
    {"method": "gpa", "mpjpe": 61.0, "pck": None, "frames": 1000},
    {"method": "gpa+lpa", "mpjpe": 60.96, "pck": 91.5, "frames": 1000},
]


def test_table_is_aligned_marks_the_best_and_ends_with_the_protocol():
    columns = [
        "method",
        Column("mpjpe", "MPJPE mm", best="min"),
        Column("pck", "PCK %", best="max"),
        "frames",
    ]
    assert format_table(ROWS, columns, "official17, root aligned", note="stand-in data").split("\n") == [
        "method       MPJPE mm  PCK %  frames",
        "-----------  --------  -----  ------",
        "source only    101.2   80.0     1000",
        "gpa             61.0*     -     1000",
        "gpa+lpa         61.0*  91.5*    1000",
        "protocol: official17, root aligned   * best",
        "stand-in data",
    ]


def test_table_without_marks_or_rows_still_states_its_protocol():
    assert format_table([], ["method"], "p").split("\n") == ["method", "------", "protocol: p"]


def test_table_with_nothing_to_compare_has_no_mark():
    table = format_table([{"mpjpe": float("nan")}], [Column("mpjpe", best="min")], "p")
    assert "-" in table and "*" not in table.split("\n")[2]


def test_run_folder_layout(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.lifter.name == "lifter.safetensors"
    assert folder.results == tmp_path / "results.json"
    assert folder.plots == tmp_path / "plots"
    assert folder.training("adapt") == tmp_path / "adapt"
