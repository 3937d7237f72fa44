"""calibrate, and its file in predict and evaluate, through their files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseda import calibrate, evaluate, predict
from poseda.data.archive import save_archive
from poseda.engine.checkpoint import save_lifter
from poseda.lifters import create_lifter
from tests.cli.conftest import labelled_clips
from tests.cli.test_mistakes import assert_one_line


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """An archive of five people; the last two are its test people."""
    path = tmp_path / "people.safetensors"
    save_archive(path, labelled_clips(120, ("A", "B", "C", "D", "E")))
    return path


def words(checkpoint: Path, people: Path, *more: str) -> list[str]:
    return [f"checkpoint={checkpoint}", "source=archive", f"source.path={people}", *more]


@pytest.mark.parametrize("name", ["posthoc", "own", "flip"])
def test_a_file_is_fitted_scored_and_used(name: str, checkpoint: Path, people: Path, capsys: Any) -> None:
    more = ["posthoc.steps=5", "posthoc.hidden=8"] if name == "posthoc" else []
    assert calibrate.main(words(checkpoint, people, f"uncertainty={name}", *more)) == 0
    said = capsys.readouterr().out
    assert "calibration error %" in said and "fitted on 120 frames of D" in said
    target = [f"checkpoint={checkpoint}", "target=archive", f"target.path={people}", "protocol=h36m17", "flip=false"]
    use = ["uncertainty=uncertainty.safetensors", "inflate=true"]
    assert evaluate.main([*target, *use, "output=n.json"]) == 0
    assert "uncertainty, inflated" in capsys.readouterr().out
    results = json.loads(Path("n.json").read_text())["results"]
    assert 80 < results["uncertainty"]["values"]["coverage90"] <= 100
    assert len(results["uncertainty"]["coverage"]) == 19
    for output in ("p.npz", "p.json"):
        assert predict.main([f"checkpoint={checkpoint}", f"input={people}", f"output={output}", *use]) == 0
    assert "sigma and 90 % radii" in capsys.readouterr().out
    with np.load("p.npz", allow_pickle=False) as file:
        sigma, radius = file["sigma"], file["radius90"]
    assert sigma.shape == radius.shape == (600, 17)
    assert (radius[:, 0] == 0).all() and (radius[:, 1:] > 0).all()
    np.testing.assert_allclose(json.loads(Path("p.json").read_text())["radius90"], radius, atol=6e-4)


def test_the_own_head_is_scored_without_a_file(checkpoint: Path, people: Path, capsys: Any) -> None:
    target = [f"checkpoint={checkpoint}", "target=archive", f"target.path={people}"]
    assert evaluate.main([*target, "uncertainty=own"]) == 0
    assert "AUSE" in capsys.readouterr().out
    assert evaluate.main(target) == 0
    assert "AUSE" not in capsys.readouterr().out


def test_mistakes_get_one_line(checkpoint: Path, people: Path, tmp_path: Path, capsys: Any) -> None:
    def wrong(*more: str, says: str) -> None:
        assert_one_line(calibrate.main, words(checkpoint, people, *more), capsys, says)

    wrong("uncertainty=posthok", says="Did you mean 'posthoc'")
    wrong("recalibrate=magic", says="temperature, isotonic, conformal")
    wrong("uncertainty=ensemble", says="ensemble.checkpoints")
    wrong("uncertainty=ensemble", "ensemble.checkpoints=[gone]", says="ensemble.checkpoints=gone")
    wrong("output=u.txt", says=".safetensors")
    wrong("score_share=1.0", says="score_share=1.0")
    wrong("uncertainty=constant", "source.max_frames=60", says="at least 100")
    wrong("uncertainty=constant", "source.test_subjects=[E]", says="score_share=0 fits on all")
    bare = tmp_path / "bare.safetensors"
    save_lifter(bare, create_lifter("simplebaseline", seed=0, hidden=8, blocks=1, sigma=False), {})
    assert_one_line(calibrate.main, words(bare, people, "uncertainty=own"), capsys, "uncertainty=posthoc")
    target = [f"checkpoint={checkpoint}", "target=archive", f"target.path={people}"]
    assert_one_line(evaluate.main, [*target, "inflate=true"], capsys, "uncertainty=FILE")
    assert_one_line(evaluate.main, [*target, "uncertainty=gone"], capsys, "uncertainty=gone")


def test_people_that_the_lifter_was_trained_on_are_refused(people: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "trained.safetensors"
    card = {"data": {"name": "made up"}, "subjects": ["A", "E"]}
    save_lifter(path, create_lifter("simplebaseline", seed=0, hidden=8, blocks=1), card)
    assert_one_line(calibrate.main, words(path, people), capsys, "trained on E")


def test_an_estimator_may_have_the_name_of_another_option(checkpoint: Path, people: Path, capsys: Any) -> None:
    assert calibrate.main(words(checkpoint, people, "uncertainty=flip", "flip=true")) == 0
    assert "flip, " in capsys.readouterr().out
