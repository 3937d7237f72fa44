"""Predictions as npz, JSON and BVH: the same numbers in each, and a root that fits the 2D."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from poseda.data.mocap.bvh import read_bvh
from poseda.engine.predictions import estimated_root, save_predictions
from poseda.errors import ConfigError
from poseda.lifters.inference import LiftedClips


@pytest.fixture
def clips(tiny_target):
    """Two short sequences of the stand-in, noiseless."""
    first, second = [int(n) for n in tiny_target.bounds[1:3]]
    kept = {tiny_target.sequences[0].name, tiny_target.sequences[1].name}
    chosen = tiny_target.select(lambda sequence: sequence.name in kept)
    assert chosen.num_frames == second and first < second
    return chosen


@pytest.fixture
def lifted(clips):
    poses = clips.poses - clips.poses[:, :1]
    return LiftedClips(poses, torch.full(poses.shape[:2], 12.5))


def test_npz_and_json_hold_the_same_poses_and_the_true_root(clips, lifted, tmp_path):
    for name in ("a.npz", "a.json"):
        assert save_predictions(tmp_path / name, lifted, clips.unlabelled()) == (tmp_path / name,)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        arrays = dict(file)
    plain = json.loads((tmp_path / "a.json").read_text())
    np.testing.assert_array_equal(arrays["poses"], lifted.poses.numpy())
    np.testing.assert_allclose(plain["poses"], arrays["poses"], atol=6e-4)
    np.testing.assert_allclose(arrays["root"], clips.poses[:, 0].numpy(), atol=2.0)  # perfect poses and 2D
    assert plain["joints"] == list(clips.skeleton.joints) and plain["bounds"] == clips.bounds.tolist()
    assert plain["sigma"][0][0] == 12.5 and plain["fps"] == clips.fps and plain["units"] == "mm"


def test_a_root_that_nothing_tells_is_null(clips, lifted, tmp_path):
    blind = replace(clips.unlabelled(), keypoints=clips.keypoints * 0.0 + 500.0)
    assert bool(estimated_root(lifted.poses, blind).isnan().all())
    save_predictions(tmp_path / "a.json", lifted, blind)
    assert json.loads((tmp_path / "a.json").read_text())["root"][0] == [None, None, None]


def test_bvh_is_one_file_a_sequence_and_reads_back(clips, lifted, tmp_path):
    files = save_predictions(tmp_path / "a.bvh", lifted, clips.unlabelled())
    assert [file.name for file in files] == ["a-0.bvh", "a-1.bvh"]
    assert [len(read_bvh(file)) for file in files] == clips.bounds.diff().tolist()


def test_another_suffix_is_refused(clips, lifted, tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.npz, \.json, \.bvh"):
        save_predictions(tmp_path / "a.txt", lifted, clips)
