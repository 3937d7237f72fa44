"""Every lifter in the package trains, adapts, refines and travels through a checkpoint, at a tiny width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from poseda.data.clips import LabelledClips
from poseda.engine.checkpoint import load_lifter, save_lifter
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ShapeError
from poseda.lifters import create_lifter, list_lifters
from poseda.stages.gpa import GPA
from poseda.stages.lpa import LPA
from poseda.stages.pipeline import AdaptConfig, adapt_lifter, lift_with_stages
from poseda.stages.tto import TTO, TTOConfig

SMALL: dict[str, dict[str, Any]] = {
    "simplebaseline": {"hidden": 16},
    "videopose3d": {"channels": 16, "frames": 9},
    "semgcn": {"channels": 8},
    "stgcn": {"channels": 8},
    "gumlp": {"channels": 16},
    "glagcn": {"channels": 8, "frames": 9},
    "convformer": {"dim": 8, "heads": 2, "frames": 9},
    "mixste": {"dim": 16, "depth": 2, "heads": 2, "frames": 9},
    "motionbert": {"dim": 16, "depth": 2, "heads": 2, "frames": 9},
    "motionagformer": {"variant": "xs", "dim": 16, "layers": 2, "frames": 9},
    "poseformer": {"dim": 8, "depth": 2, "heads": 2, "frames": 9},
    "poseformerv2": {"dim": 8, "depth": 2, "heads": 2, "frames": 9, "kept_frames": 3, "coefficients": 3},
    "ktpformer": {"dim": 16, "depth": 2, "heads": 2, "frames": 9},
    "hot": {"dim": 16, "depth": 3, "heads": 2, "frames": 9, "tokens": 3, "layer": 1},
    "hot_motionbert": {"dim": 16, "depth": 2, "heads": 2, "frames": 9, "max_frames": 9, "tokens": 3},
    "hot_motionagformer": {"dim": 16, "layers": 2, "heads": 2, "frames": 9, "tokens": 5, "layer": 1},
}


@pytest.mark.parametrize("name", list_lifters())
def test_it_trains_adapts_refines_and_is_saved(
    name: str, tiny_source: LabelledClips, tiny_target: LabelledClips, tmp_path: Path
) -> None:
    lifter = create_lifter(name, seed=0, **SMALL[name])
    train_lifter(lifter, tiny_source, TrainConfig(steps=2, batch_size=8))
    target = tiny_target.limit(60).unlabelled()
    stages = [GPA(), LPA(), TTO(TTOConfig(latent="feature", steps=2))]
    lifter = adapt_lifter(lifter, tiny_source, target, stages, AdaptConfig(steps=2, batch_size=8))
    lifted = lift_with_stages(lifter, target, stages, flip=True)
    assert lifted.poses.shape == (target.num_frames, 17, 3) and bool(lifted.poses.isfinite().all())
    assert lifted.sigma is not None and bool((lifted.sigma > 0).all())
    save_lifter(tmp_path / "lifter.safetensors", lifter, {})
    again, _ = load_lifter(tmp_path / "lifter.safetensors")
    before, after = (lift_with_stages(each, target, []).poses for each in (lifter, again))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("name", list_lifters())
def test_no_windows_at_all_are_refused_in_one_line(name: str) -> None:
    lifter = create_lifter(name, seed=0, **SMALL[name])
    with pytest.raises(ShapeError, match=rf"{name} takes .* with B at least 1 and T .*, got \(0, ") as caught:
        lifter(torch.zeros(0, lifter.frames, 17, 2))
    assert "\n" not in str(caught.value)
