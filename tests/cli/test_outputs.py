"""Where commands write: never over what they read, and what is impossible is told before anything is computed."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from poseda import calibrate, evaluate, export, predict, train
from poseda.data.archive import save_archive
from tests.cli.conftest import labelled_clips


def told(main: Any, words: list[str], capsys: Any) -> str:
    """The one line of a command that fails."""
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1, err
    return str(err)


def test_no_command_overwrites_what_it_reads(archive: Path, checkpoint: Path, capsys: Any) -> None:
    folder = Path("prepared")
    save_archive(folder / "test.safetensors", labelled_clips())
    for name in ("frames.jsonl", "self.json"):
        Path(name).write_text("[]")
    Path("linked.safetensors").symlink_to(checkpoint)
    lifter, before = f"checkpoint={checkpoint}", {path: path.read_bytes() for path in (archive, checkpoint)}
    for main, words, what in (
        (calibrate.main, [lifter, "source=h36m", f"output={checkpoint}"], "checkpoint="),
        (calibrate.main, [lifter, "source=h36m", "output=linked.safetensors"], "checkpoint="),
        (calibrate.main, [lifter, "source=archive", f"source.path={archive}", f"output={archive}"], "source.path="),
        (
            calibrate.main,
            [lifter, "source=archive", "source.path=prepared", "output=prepared/test.safetensors"],
            "source.path=",
        ),
        (predict.main, [lifter, "input=self.json", "output=self.json"], "input="),
        (predict.main, [lifter, "input=.", "output=self.json"], "input="),
        (predict.main, [lifter, "follow=true", "input=frames.jsonl", "output=frames.jsonl", "width=9"], "input="),
        (
            evaluate.main,
            [lifter, "target=keypoints", "target.path=self.json", "output=self.json"],
            "target.path=",
        ),
    ):
        assert f"would overwrite what {what}" in told(main, words, capsys)
    assert {path: path.read_bytes() for path in before} == before
    assert Path("frames.jsonl").read_text() == Path("self.json").read_text() == "[]"
    program = checkpoint.rename("lifter.pt2")
    assert "would overwrite" in told(export.main, [f"checkpoint={program}", f"output={program}"], capsys)


@pytest.mark.parametrize("word", ["output=taken.npz", "output=taken.npz/poses.npz", "animation=taken.gif"])
def test_a_folder_or_a_file_in_the_way_is_told_first(word: str, archive: Path, checkpoint: Path, capsys: Any) -> None:
    Path("taken.npz").mkdir() if word == "output=taken.npz" else Path("taken.npz").touch()
    Path("taken.gif").mkdir()
    assert word in told(predict.main, [f"checkpoint={checkpoint}", f"input={archive}", word], capsys)
    assert not Path("poses.npz").exists()


def test_a_file_in_the_place_of_runs_is_told_first(capsys: Any) -> None:
    Path("runs").touch()
    assert "out=runs: " in (said := told(train.main, [], capsys)) and "is a file" in said
    assert os.listdir() == ["runs"]


class Closed(io.TextIOBase):
    """Standard output whose reader has gone."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    def fileno(self) -> int:
        return self.descriptor


def test_nothing_is_lost_where_nobody_reads_what_is_printed(
    archive: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"checkpoint={checkpoint}", "target=archive", f"target.path={archive}", "output=numbers.json"]
    with Path("standard output").open("w") as file:
        monkeypatch.setattr(sys, "stdout", Closed(file.fileno()))
        assert evaluate.main(words) == 0
        assert predict.main([f"checkpoint={checkpoint}", f"input={archive}", "output=poses.json"]) == 0
    assert json.loads(Path("numbers.json").read_text())["results"]["target"]
    assert json.loads(Path("poses.json").read_text())["poses"]
