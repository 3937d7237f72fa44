"""Every mistake gets one line on stderr with a way out, exit code 1, no traceback, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from poseda import adapt, evaluate, predict, train
from poseda.engine.checkpoint import save_lifter
from poseda.lifters import create_lifter
from tests.cli.conftest import rewrite


def assert_one_line(
    main: Callable[[Sequence[str]], int],
    words: list[str],
    capsys: Any,
    *fragments: str,
    folder: Path = Path(),
) -> None:
    """`main(words)` fails as it should, and its line holds the fragments."""
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    for fragment in fragments:
        assert fragment in err, err
    assert [*folder.iterdir()] == []


WORDS = {
    "target=3dpp": ("no target domain '3dpp'", "'3dhp'"),
    "lifter=videpose3d": ("no lifter 'videpose3d'", "'videopose3d'"),
    "stages=[gpa,tot]": ("no stage 'tot'", "'tto'"),
    "stages=gpa": ("stages takes a list",),
    "stages=[gpa,gpa]": ("twice",),
    "protocol=official": ("no protocol 'official'", "'official17'"),
    "experiment=quik": ("no experiment 'quik'", "'quick'"),
    "train.lrr=1": ("no option 'train.lrr'", "'train.lr'"),
    "+train.lrr=1": ("no option 'train.lrr'", "'train.lr'"),
    "+nothing=1": ("no option 'nothing'", "--help"),
    "sorce=h36m": ("no option 'sorce'", "'source'"),
    "gpa.refine_itres=1": ("no option 'gpa.refine_itres'", "'gpa.refine_iters'"),
    "lifter.name=videopose3d": ("lifter=NAME",),
    "train.lr=fast": ("train.lr", "'fast'"),
    "train.steps=0": ("train.steps=0",),
    "gpa=3": ("gpa.OPTION=VALUE",),
    "gpa.refine_iters=-1": ("gpa.refine_iters=-1",),
    "lifter.hidden=0": ("hidden=0",),
    "seed=-1": ("seed=-1",),
    "seed=99999999999999999999": ("seed=99999999999999999999", "below 2**63"),
    "source.seed=-1": ("source.seed=-1", "0 or more"),
    "seed=1,2": ("add -m",),
    "threads=-1": ("threads=-1",),
    "resume=no": ("resume=no", "auto, never"),
    "data.require=rael": ("data.require=rael", "any, real"),
    "device=abacus": ("abacus",),
    "name=a/b": ("name=a/b",),
    "name=.": ("name=.",),
    "name=..": ("name=..",),
    "out=": ("out=",),
    "source=3dhp": ("same domain", "target="),
    "source=null": ("one name",),
    "target=[h36m,3dhp]": ("one name",),
    "--source h36m": ("source=h36m (not --source h36m)",),
    "--gpa.refine-iters=2": ("gpa.refine_iters=2",),
    "source= h36m": ("source=h36m",),
    "h36m 3dhp": ("key=value",),
    "source.path=nowhere": ("source.path=nowhere",),
    "checkpoint=nowhere": ("checkpoint=nowhere",),
    "--config-dir nowhere": ("nowhere",),
    "source=motion source.path=. source.rig=h36n": ("no camera rig 'h36n'", "'h36m'"),
}


@pytest.mark.parametrize("words", WORDS)
def test_a_wrong_word_is_told_before_anything_runs(words: str, jobs: list[Any], capsys: Any) -> None:
    assert_one_line(adapt.main, words.split(" "), capsys, *WORDS[words])
    assert not jobs


def test_a_broken_preset_names_its_file(jobs: list[Any], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "lifter").mkdir()
    for text, fragment in (("hiden: 3", "hidden"), ("hidden: x", "'x'"), ("{", "YAML"), ("- 1", "keys")):
        (tmp_path / "lifter" / "mine.yaml").write_text(f"name: simplebaseline\n{text}\n" if ":" in text else text)
        assert_one_line(adapt.main, ["--config-dir", str(tmp_path)], capsys, "mine.yaml", fragment)


def test_an_experiment_of_another_command_is_named_with_what_does_not_fit(capsys: Any) -> None:
    assert_one_line(train.main, ["experiment=quick"], capsys, "experiment=quick does not fit", "'target'")


def test_real_data_that_is_not_there_is_asked_for(capsys: Any) -> None:
    words = ["source=h36m", "data.require=real"]
    assert_one_line(train.main, words, capsys, "Human3.6M", "poseda.prepare dataset=h36m")


@pytest.mark.parametrize(
    ("main", "words", "fragment"),
    [
        (evaluate.main, [], "checkpoint=FILE"),
        (evaluate.main, ["checkpoint=nowhere"], "nowhere"),
        (predict.main, ["checkpoint=nowhere", "input=nowhere"], "checkpoint=nowhere"),
        (train.main, ["source=archive"], "path="),
        (train.main, ["source=motion", "source.path=."], "rig="),
    ],
)
def test_a_missing_file_is_named(main: Any, words: list[str], fragment: str, capsys: Any) -> None:
    assert_one_line(main, words, capsys, fragment)


def nan_in_2d(tensors: dict[str, torch.Tensor]) -> None:
    tensors["keypoints"][3, 5, 0] = torch.nan


def one_visible_joint(tensors: dict[str, torch.Tensor]) -> None:
    tensors["confidence"][:, 1:] = 0


def zero_length_bone(tensors: dict[str, torch.Tensor]) -> None:
    tensors["poses"][2, 2] = tensors["poses"][2, 1]


def no_frames(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in list(tensors.items()):
        tensors[name] = tensor[:0].clone()
    tensors["bounds"] = torch.zeros(3, dtype=torch.int64)


def other_joint_count(tensors: dict[str, torch.Tensor]) -> None:
    for name in ("keypoints", "confidence", "poses"):
        tensors[name] = tensors[name][:, :15].clone()


@pytest.mark.parametrize(
    ("change", "fragments"),
    [
        (nan_in_2d, ("S1 walk", "frame 3")),
        (one_visible_joint, ("two visible joints",)),
        (zero_length_bone, ("S1 walk", "frame 2")),
        (no_frames, ("no frame",)),
        (other_joint_count, ("15 joints", "h36m17")),
    ],
)
def test_broken_clips_are_named_by_train_and_by_predict(
    change: Any, fragments: tuple[str, ...], archive: Path, checkpoint: Path, capsys: Any
) -> None:
    broken = rewrite(archive, change)
    assert_one_line(train.main, ["source=archive", f"source.path={broken}"], capsys, broken.name, *fragments)
    words = [f"checkpoint={checkpoint}", f"input={broken}"]
    assert_one_line(predict.main, words, capsys, broken.name, *fragments)


def test_joints_that_cannot_be_had_are_named(archive: Path, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "coco.safetensors"
    save_lifter(path, create_lifter("simplebaseline", seed=0, hidden=8, blocks=1, skeleton="coco17"), {})
    assert_one_line(predict.main, [f"checkpoint={path}", f"input={archive}"], capsys, "coco17", "leye")


def test_a_file_that_is_no_checkpoint_is_refused(archive: Path, tmp_path: Path, capsys: Any) -> None:
    text = tmp_path / "notes.safetensors"
    text.write_text("hello")
    for path in (archive, text):
        assert_one_line(predict.main, [f"checkpoint={path}", f"input={archive}"], capsys, path.name)


def test_a_checkpoint_with_the_weights_of_another_lifter_is_refused(
    archive: Path, checkpoint: Path, capsys: Any
) -> None:
    other = rewrite(checkpoint, lambda tensors: None, replace=("simplebaseline", "videopose3d"))
    assert_one_line(predict.main, [f"checkpoint={other}", f"input={archive}"], capsys, other.name)


@pytest.mark.parametrize("word", ["output=poses.txt", "output=nowhere/poses.npz"])
def test_an_output_that_cannot_be_is_told_first(word: str, archive: Path, checkpoint: Path, capsys: Any) -> None:
    assert_one_line(predict.main, [f"checkpoint={checkpoint}", f"input={archive}", word], capsys, word)
