"""Targets as cameras in the field give them: each works, or is refused with a sentence; never a NaN."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from poseda import adapt
from poseda.data.archive import save_archive
from poseda.data.clips import Sequence, UnlabelledClips
from poseda.data.domains import DomainConfig, load_domain

SMALL = ["train.steps=60", "train.batch_size=64", "train.lr=5e-3", "lifter.hidden=64", "threads=1", "oracle=false"]
SMALL += ["adapt.steps=4", "adapt.batch_size=32", "source.max_frames=600", "source.every=10", "target=archive"]
SMALL += ["rows=last"]
RECIPES = ("stages=[gpa,lpa,pseudo_labels,tto]", "experiment=best")


@pytest.fixture(scope="module")
def plain() -> UnlabelledClips:
    """Eight cameras of the 3DHP stand-in, some of them 1920 x 1080."""
    domain = load_domain(DomainConfig(name="3dhp", every=5, max_frames=600), root="nowhere")
    return domain.test.unlabelled().limit(300)


@pytest.fixture(params=RECIPES, ids=("poseda", "best"))
def recipe(request: pytest.FixtureRequest) -> str:
    """The word that says which stages adapt."""
    return str(request.param)


def run(clips: UnlabelledClips, capsys: Any, recipe: str, *words: str) -> dict[str, Any]:
    """Adapt to clips; the numbers of the last row."""
    save_archive(Path("target.safetensors"), clips)
    status = adapt.main([*SMALL, "target.path=target.safetensors", "target.transductive=true", recipe, *words])
    assert status == 0, capsys.readouterr().err
    rows = json.loads(next(Path("runs").glob("*/*/seed0/results.json")).read_text())["results"]["rows"]
    values: dict[str, Any] = rows[list(rows)[-1]]["values"]
    assert all(math.isfinite(value) for value in values.values() if value is not None), values
    return values


def missing(clips: UnlabelledClips, share: float) -> UnlabelledClips:
    """Joints missing at random, as a detector misses them; their numbers are anything."""
    gone = torch.rand(clips.confidence.shape, generator=torch.Generator().manual_seed(0)) < share
    return replace(
        clips, confidence=clips.confidence.masked_fill(gone, 0),
        keypoints=clips.keypoints.masked_fill(gone.unsqueeze(-1), 0.0),
    )  # fmt: skip


@pytest.mark.parametrize("view", ["screen", "perspective"])
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_missing_joints(plain: UnlabelledClips, capsys: Any, recipe: str, view: str, share: float) -> None:
    run(missing(plain, share), capsys, recipe, f"lifter.view={view}")


def test_several_cameras_are_each_used_with_their_own_intrinsics(
    plain: UnlabelledClips, capsys: Any, recipe: str
) -> None:
    assert len(set(plain.cameras.width.tolist())) > 1 or len(plain.cameras) > 1
    run(plain, capsys, recipe)


@pytest.mark.parametrize("view", ["screen", "cliff"])
def test_portrait_images(plain: UnlabelledClips, capsys: Any, recipe: str, view: str) -> None:
    """A person in the middle of an upright phone's picture, 1080 x 1920."""
    upright = {"width": 1080.0, "height": 1920.0, "cx": 540.0, "cy": 960.0}
    cameras = replace(plain.cameras, **{name: torch.full_like(plain.cameras.cx, n) for name, n in upright.items()})
    keypoints = plain.keypoints - plain.keypoints.mean(1, keepdim=True) + 500
    run(replace(plain, cameras=cameras, keypoints=keypoints), capsys, recipe, f"lifter.view={view}")


def test_people_cut_off_at_the_border(plain: UnlabelledClips, capsys: Any, recipe: str) -> None:
    """Half of the frames show the upper body alone."""
    confidence = plain.confidence.clone()
    confidence[::2, 1:7] = 0
    run(replace(plain, confidence=confidence), capsys, recipe)


@pytest.mark.parametrize("lifter", [("simplebaseline",), ("videopose3d", "lifter.frames=27", "lifter.channels=16")])
def test_clips_of_one_frame(plain: UnlabelledClips, capsys: Any, recipe: str, lifter: tuple[str, ...]) -> None:
    count = 40
    some = UnlabelledClips(
        keypoints=plain.keypoints[:count], confidence=plain.confidence[:count], bounds=torch.arange(count + 1),
        sequences=tuple(Sequence(f"photo {n}", f"person {n}", "photo", 0) for n in range(count)),
        cameras=plain.cameras[:1], skeleton=plain.skeleton, fps=plain.fps, provenance=plain.provenance,
    )  # fmt: skip
    name, *options = lifter
    words = [word for word in SMALL if not (word.startswith("lifter.") and name != "simplebaseline")]
    save_archive(Path("target.safetensors"), some)
    status = adapt.main(
        [*words, f"lifter={name}", *options, "target.path=target.safetensors", "target.transductive=true", recipe]
    )
    assert status == 0, capsys.readouterr().err


def test_degenerate_frames_are_counted(plain: UnlabelledClips, capsys: Any, recipe: str) -> None:
    keypoints = plain.keypoints.clone()
    keypoints[:50] = 500.0
    run(replace(plain, keypoints=keypoints), capsys, recipe)
    printed = capsys.readouterr()
    assert "50 of 300 target frames are degenerate" in printed.out + printed.err


def test_a_target_without_anybody_is_refused_with_a_sentence(plain: UnlabelledClips, capsys: Any, recipe: str) -> None:
    confidence = torch.zeros_like(plain.confidence)
    confidence[:, :2] = 1
    keypoints = torch.full_like(plain.keypoints, 500.0)
    save_archive(Path("target.safetensors"), replace(plain, confidence=confidence, keypoints=keypoints))
    assert adapt.main([*SMALL, "target.path=target.safetensors", "target.transductive=true", recipe]) != 0
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1 and "no frame can be adapted to" in error[0]
