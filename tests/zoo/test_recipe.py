"""The recipe of the zoo: its words are options that exist, and its command makes a model with a whole card."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from poseda.engine.checkpoint import read_card
from poseda.zoo.cards import render_card
from poseda.zoo.index import INDEX, Entry

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "train_zoo"
NAMES = ("run", "recipe", "ship", "cost")


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The experiment's modules, as the script imports them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    loaded = {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        monkeypatch.delitem(sys.modules, name)
    return loaded


@pytest.fixture
def motion(tmp_path: Path, tiny_source: Any) -> Path:
    """A motion file of four people, each one second of somebody's in the stand-in, in metres and on the floor."""
    rows = tiny_source.cameras_at(tiny_source.bounds[:4]).camera_to_world(
        tiny_source.poses[tiny_source.bounds[:4, None] + torch.arange(30)]
    )
    path = tmp_path / "people.npz"
    np.savez(path, **{f"{subject}/01": rows[subject].numpy() / 1000 for subject in range(4)})
    return path


def test_every_model_of_the_recipe_is_a_job_that_train_would_take(zoo: Any, capsys: Any, motion: Path) -> None:
    from poseda import train

    for source in ("cmu", "h36m", "standin"):
        models = zoo["recipe"].recipe_models(source, ["*"])
        assert len({model.name for model in models}) == len(models)
        for model in models[:: 1 if source == "standin" else 3]:  # every family once
            words = [word.format(path=motion, root="data") for word in model.words]
            assert train.main([*words, "--cfg", "job"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert {model.published == "" for model in zoo["recipe"].recipe_models("cmu", ["*"])} == {True}


def test_the_command_trains_writes_the_card_and_goes_on_where_it_stopped(
    zoo: Any, tmp_path: Path, motion: Path, capsys: Any
) -> None:
    name, runs = "simplebaseline-cmu-h36mrig-cpn", tmp_path / "zoo"
    small = ["lifter.hidden=16", "train.steps=4", "train.batch_size=16", "train.log_every=2"]
    words = [str(motion), "--models", name, "--runs", str(runs), "--device", "cpu", "--threads", "1"]
    words += ["--words", *small, 'source.test_subjects=["3"]', "--seeds", "0", "1"]
    assert zoo["run"].main(words) == 0
    table = capsys.readouterr().out
    assert f"\n{name} " in table and "windows a second" in table
    card = read_card(runs / f"{name}.safetensors")[1]
    assert card["held_out"]["subjects"] == ["3"] and card["keypoints"] == "gt+cpn noise"
    assert card["settings"]["source"]["path"] == "people.npz" and card["half_precision"]["stored"] == "float16"
    assert set(card["spread"]["mpjpe"]) == {"0", "1"} and card["time"]["threads"] == 1
    text = render_card(Entry(name, "0" * 64, 1), card)
    for part in ("seed 0:", "seed 1:", "Known limits:", card["command"]):
        assert part in text
    times = [path.stat().st_mtime_ns for path in sorted(runs.glob("*/*/*/lifter.safetensors"))]
    assert zoo["run"].main(words) == 0
    assert times == [path.stat().st_mtime_ns for path in sorted(runs.glob("*/*/*/lifter.safetensors"))]


def test_into_the_package_goes_what_fits(zoo: Any, tmp_path: Path) -> None:
    ship, folder = zoo["ship"], tmp_path / "package"
    folder.mkdir()
    small = tmp_path / "a.safetensors"
    small.write_bytes(b"model")
    ship.put_into_package({"a": small}, folder)
    index = json.loads((folder / INDEX).read_text())
    assert index["shipped"]["a"]["size"] == 5 and (folder / "a.safetensors").read_bytes() == b"model"
    ship.LARGEST_PACKAGE = 9
    with pytest.raises(Exception, match="more than the package may hold"):
        ship.put_into_package({"b": small}, folder)
    assert not (folder / "b.safetensors").exists()


def test_mistakes_are_one_line(zoo: Any, capsys: Any, tmp_path: Path) -> None:
    run = zoo["run"]
    for words, said in [
        (["--models", "nobody"], "--models nobody: none of simplebaseline-cmu-h36mrig"),
        (["--source", "cmv"], "Did you mean 'cmu'"),
        ([], "needs the motion file"),
    ]:
        assert run.main([*words, "--runs", str(tmp_path)]) == 1
        assert said in capsys.readouterr().err
