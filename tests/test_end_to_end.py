"""Whole commands on small stand-in data: table, run folder, resume to the bit, the shipped model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from poseda import adapt, evaluate, predict
from poseda.data.archive import save_archive
from poseda.data.domains import DomainConfig, load_domain
from poseda.engine import loop
from poseda.engine.evaluate import evaluate_lifter
from poseda.lifters import create_lifter
from poseda.zoo import find_source_model, load_source_model

STANDIN = "simplebaseline_small-h36m-standin"
SMALL = ["experiment=quick", "train.steps=6", "adapt.steps=6", "adapt.batch_size=64", "adapt.log_every=2"]
SMALL += ["train.batch_size=64", "train.log_every=2", "source.max_frames=1000", "target.max_frames=1000", "threads=1"]
SMALL += ["lifter.hidden=256"]  # no shipped source model fits: one is trained


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "h36m-3dhp" / "quick" / "seed0"


def test_adapt_prints_a_row_a_stage_and_leaves_a_whole_run_folder(folder: Path, capsys: Any) -> None:
    assert adapt.main([*SMALL, "stages=[gpa,lpa,ema,tto]", "oracle=true"]) == 0
    printed = capsys.readouterr().out
    for row in ("source only", "+ GPA", "+ LPA", "+ EMA", "+ TTO", "oracle (target-trained)"):
        assert f"\n{row} " in printed
    assert "\noracle (target-trained) + TTO " in printed
    assert "stand-in data: not a result on the real data set" in printed
    results = json.loads((folder / "results.json").read_text())
    rows = results["results"]["rows"]
    assert next(iter(rows)) == "source only" and len(rows) == 7
    assert results["protocol"].startswith("official17") and results["data"][1]["kind"] == "stand-in"
    assert {path.name for path in (folder / "plots").iterdir()} == {
        "domain_gap.png", "bodies.png", "skeletons.png", "stages.png",
    }  # fmt: skip
    assert (folder / "config.yaml").is_file() and (folder / "adapt-gpa-lpa" / "metrics.jsonl").is_file()


def test_ema_shares_the_training_that_it_watches(folder: Path) -> None:
    assert adapt.main([*SMALL, "stages=[gpa,ema]"]) == 0
    assert [path.name for path in folder.glob("adapt-*")] == ["adapt-gpa"]


def test_a_run_killed_in_the_middle_ends_with_the_same_bits(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = [*SMALL, "stages=[gpa,lpa]"]
    assert adapt.main([*words, "out=whole"]) == 0
    whole = folder.parents[3] / "whole" / "h36m-3dhp" / "quick" / "seed0"
    real, calls = loop._finite, []

    def killed(values: dict[str, float], step: int, folder: Path | None) -> dict[str, float]:
        calls.append(step)
        if len(calls) == 8:  # inside the second adaptation
            raise KeyboardInterrupt
        return real(values, step, folder)

    monkeypatch.setattr(loop, "_finite", killed)
    monkeypatch.setattr(loop.LoopConfig, "checkpoint_seconds", 0.0)
    assert adapt.main(words) == 130
    assert not (folder / "results.json").exists()
    assert adapt.main(words) == 0
    capsys.readouterr()
    first, second = (load_file(path / "lifter.safetensors") for path in (whole, folder))
    assert all(torch.equal(first[key], second[key]) for key in first)
    rows = [json.loads((path / "results.json").read_text())["results"]["rows"] for path in (whole, folder)]
    assert rows[0] == rows[1]


def test_evaluate_and_predict_take_what_adapt_left(folder: Path, capsys: Any) -> None:
    assert adapt.main([*SMALL, "stages=[gpa]"]) == 0
    checkpoint = f"checkpoint={folder / 'lifter.safetensors'}"
    assert evaluate.main([checkpoint, "target=3dhp", "target.max_frames=1000", "protocol=poseaug16"]) == 0
    assert "poseaug16" in capsys.readouterr().out
    clips = load_domain(DomainConfig("3dhp", max_frames=300), root="data").test
    save_archive("clips.safetensors", clips.unlabelled())
    assert predict.main([checkpoint, "input=clips.safetensors", "output=poses.npz"]) == 0
    assert Path("poses.npz").is_file()


def test_a_checkpoint_of_another_lifter_is_refused_in_one_line(folder: Path, capsys: Any) -> None:
    assert adapt.main([*SMALL, "stages=[gpa]"]) == 0
    capsys.readouterr()
    words = [*SMALL, f"checkpoint={folder / 'lifter.safetensors'}", "lifter=videopose3d", "name=other"]
    assert adapt.main([word for word in words if not word.startswith("lifter.")]) == 1
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0 and "simplebaseline" in error and "videopose3d" in error


def test_the_shipped_model_fits_the_stand_in_and_reproduces_its_card() -> None:
    source = load_domain(DomainConfig("h36m"), root="no-such-folder")
    lifter, card = load_source_model(STANDIN)
    asked = create_lifter(lifter.name, seed=0, **lifter.options)
    assert find_source_model(asked, source.train) is not None
    assert evaluate_lifter(lifter, source.test).values["mpjpe"] == pytest.approx(card["metrics"]["mpjpe"], abs=0.1)


def test_the_shipped_model_is_not_taken_for_other_people() -> None:
    source = load_domain(DomainConfig("h36m", train_subjects=("S1",), test_subjects=("S5",)), root="no-such-folder")
    lifter, _ = load_source_model(STANDIN)
    assert find_source_model(lifter, source.train) is None
