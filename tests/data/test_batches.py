"""Batches: seeded, inside one sequence, only usable target frames, each with its own camera."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.data.batches import SourceSampler, TargetSampler
from poseda.errors import ConfigError, DataError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(clips):
    """The clips with the frame's number as the x of the first keypoint, and the others beside it."""
    keypoints = torch.arange(clips.num_frames).float().view(-1, 1, 1) + 20 * torch.arange(17).view(-1, 1).expand(-1, 2)
    return replace(clips, keypoints=keypoints)


def test_source_batches_are_windows_of_one_sequence_with_its_camera(make_clips):
    clips = make_clips()
    place = {tuple(clips.poses[i, 0].tolist()): i for i in range(12)}
    batch = SourceSampler(clips, 3).draw(200, seeded())
    assert batch.poses.shape == (200, 3, 17, 3) and batch.weight.tolist() == [1.0] * 200
    drawn = set()
    for window, focal in zip(batch.poses, batch.cameras.fx, strict=True):
        frames = [place[tuple(frame[0].tolist())] for frame in window]
        owners = clips.sequence_index[frames]
        assert (owners == owners[0]).all()
        assert focal == (1200.0 if owners[0] == 1 else 1000.0)
        drawn.add(frames[1])
    assert drawn == set(range(12))


def test_draws_depend_on_the_generator_alone(make_clips):
    sampler = SourceSampler(make_clips(), 3)
    torch.manual_seed(1)
    first = sampler.draw(16, seeded(5)).poses
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, sampler.draw(16, seeded(5)).poses)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, sampler.draw(16, seeded(6)).poses)


def test_the_clips_own_keypoints_come_with_their_poses(make_clips):
    clips = make_clips()
    batch, keypoints, _ = SourceSampler(clips, 3).draw_with_keypoints(20, seeded())
    assert torch.allclose(keypoints, batch.poses[..., :2] / batch.poses[..., 2:] * 1000 + 500)


def test_target_batches_are_centred_on_usable_frames(make_clips):
    clips = numbered(make_clips())
    confidence = clips.confidence.clone()
    confidence[4, 1:] = 0.0  # one joint is not enough
    target = replace(clips, confidence=confidence).unlabelled()
    sampler = TargetSampler(target, 3)
    batch = sampler.draw(300, seeded())
    assert set(batch.keypoints[:, 1, 0, 0].int().tolist()) == set(range(12)) - {4} and sampler.degenerate == 1
    assert torch.equal(batch.visible, (confidence > 0)[batch.keypoints[..., 0, 0].long()])
    assert batch.frames is not None and torch.equal(batch.frames, batch.keypoints[:, 1, 0, 0].long())


def test_what_cannot_be_drawn_is_refused(make_clips):
    target = make_clips().unlabelled()
    with pytest.raises(DataError, match=r"no frame can be adapted to"):
        TargetSampler(replace(target, keypoints=torch.full_like(target.keypoints, 300.0)), 1)
    with pytest.raises(ConfigError, match=r"frames=0"):
        SourceSampler(make_clips(), 0)
