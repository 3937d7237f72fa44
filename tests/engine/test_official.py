"""One way to open a lifter's file, ours or an official checkpoint, and to score, predict with and adapt it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poseda.data.clips import LabelledClips
from poseda.engine.checkpoint import load_lifter, save_lifter
from poseda.engine.evaluate import evaluate_lifter
from poseda.engine.official import open_lifter
from poseda.errors import CheckpointError, MissingDataError
from poseda.lifters import create_lifter
from poseda.stages.gpa import GPA
from poseda.stages.pipeline import AdaptConfig, adapt_lifter
from tests.lifters.official.synthetic import same_outputs, write

OFFICIAL = [
    ("ktpformer", {"frames": 9, "dim": 16, "depth": 1}),
    ("hot", {"frames": 9, "dim": 16, "depth": 4, "tokens": 3}),
    ("hot_motionbert", {"frames": 9, "max_frames": 9, "dim": 16, "depth": 2, "tokens": 3, "units": "image"}),
    ("hot_motionagformer", {"frames": 9, "dim": 16, "layers": 2, "tokens": 5, "layer": 1, "units": "image"}),
    ("motionagformer", {"frames": 9, "dim": 16, "layers": 2, "units": "image"}),
    ("poseformerv2", {"frames": 27, "dim": 8, "depth": 1, "kept_frames": 3, "coefficients": 3}),
    ("glagcn", {"frames": 9, "channels": 8}),
    ("videopose3d", {"frames": 9, "channels": 8}),
]


@pytest.mark.parametrize(("name", "options"), OFFICIAL)
def test_an_official_checkpoint_is_scored_adapted_and_saved_as_ours(
    name: str, options: dict[str, object], tiny_source: LabelledClips, tiny_target: LabelledClips, tmp_path: Path
) -> None:
    given = create_lifter(name, seed=0, sigma=False, **options)
    lines: list[str] = []
    lifter, card = open_lifter(write(tmp_path / "best.bin", given.state_dict()), say=lines.append)
    same_outputs(lifter, given)
    assert lines[0] == card["official"]["recognised"] and lines[0].startswith(f"best.bin holds the lifter {name} of ")
    assert [line.strip() for line in lines[1:]] == card["official"]["remarks"]
    evaluation = evaluate_lifter(lifter, tiny_target.limit(30))
    assert evaluation.frames == 30
    clips = tiny_target.limit(30).unlabelled()
    adapted = adapt_lifter(lifter, tiny_source, clips, [GPA()], AdaptConfig(steps=1, batch_size=4))
    save_lifter(tmp_path / "ours.safetensors", adapted, card)
    again, kept = open_lifter(tmp_path / "ours.safetensors", say=lines.append)
    same_outputs(again, adapted)
    assert kept == card and len(lines) == 1 + len(card["official"]["remarks"])


def test_our_own_files_are_opened_as_load_lifter_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lifter = create_lifter("simplebaseline", seed=0, hidden=8)
    save_lifter(tmp_path / "ours.safetensors", lifter, {"data": "x"})
    opened, card = open_lifter(tmp_path / "ours.safetensors")
    loaded, same = load_lifter(tmp_path / "ours.safetensors")
    same_outputs(opened, loaded)
    assert card == same and capsys.readouterr().out == ""


def test_what_is_recognised_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lifter = create_lifter("mixste", seed=0, frames=3, dim=8, depth=1, sigma=False)
    open_lifter(write(tmp_path / "best.bin", lifter.state_dict()))
    first, *others = capsys.readouterr().out.splitlines()
    assert first == (
        "best.bin holds the lifter mixste of JinluZhang1126/MixSTE: joints h36m17; windows of 3 frames, a pose for "
        "each frame; 2D input normalised by the image width; output in metres relative to the root, given in mm."
    )
    assert len(others) == 3


def test_files_of_neither_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no checkpoint"):
        open_lifter(tmp_path / "none.bin")
    (tmp_path / "text.bin").write_text("not a checkpoint at all")
    with pytest.raises(CheckpointError, match=r"text\.bin") as caught:
        open_lifter(tmp_path / "text.bin")
    assert "\n" not in str(caught.value)
    torch.save({"epoch": 3}, tmp_path / "empty.bin")
    with pytest.raises(CheckpointError, match="holds no dictionary of weights"):
        open_lifter(tmp_path / "empty.bin")
