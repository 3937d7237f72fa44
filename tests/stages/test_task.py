"""One step of an adaptation: what is drawn, augmented, aligned, and where gradients go."""

from __future__ import annotations

import torch

from poseda.stages import create_stage
from poseda.stages.base import Stage
from poseda.stages.pipeline import (
    AdaptConfig,
    AdaptTask,
    aligned_sample,
)
from poseda.stages.task import join_batches, split_batch
from tests.stages.adapting import CONFIG, adapt


def test_remarks_of_the_stages_are_reported(tiny_clips, small_lifter):
    remarks = []
    source, target = tiny_clips
    adapt((source, target), small_lifter(), ["gpa"], report=remarks.append)
    assert remarks == [], "where all frames can be used there is nothing to say"
    confidence = target.confidence.clone()
    confidence[:5] = 0
    target = target.with_keypoints(target.keypoints, confidence, "gt")
    adapt((source, target), small_lifter(), ["gpa"], report=remarks.append)
    assert remarks == ["5 of 72 target frames are degenerate and are not used"]


def test_degenerate_target_frames_are_never_drawn(tiny_clips, small_lifter):
    source, target = tiny_clips
    keypoints = target.keypoints.clone()
    keypoints[::2] = 300.0
    seen = []

    class Watch(Stage):
        name, label = "watch", "watch"

        def align(self, source, target, generator):
            seen.append(target.keypoints.flatten(2).std(-1).min())
            return source

    broken = target.with_keypoints(keypoints, target.confidence, "made")
    adapt((source, broken), small_lifter(), ["gpa"], extra=[Watch()])
    assert len(seen) == CONFIG.steps
    assert float(min(seen)) > 1.0


def test_only_the_wanted_share_of_a_step_is_augmented(tiny_clips, small_lifter):
    source, target = tiny_clips

    class Grow(Stage):
        name, label = "grow", "grow"

        def augment(self, source, generator):
            first, second = split_batch(source, len(source.weight))
            assert len(first.weight) == 0
            return type(second)(second.poses + 1000.0, second.cameras, second.weight)

    config = AdaptConfig(steps=1, batch_size=16, augmented_share=0.25)
    task = AdaptTask(small_lifter(), source, target.unlabelled(), [Grow()], config, seed=0)
    batch = task.sources.draw(16, torch.Generator().manual_seed(0))
    shift = (task._augment(batch).poses - batch.poses).flatten(1).mean(1)
    torch.testing.assert_close(shift, torch.tensor([0.0] * 12 + [1000.0] * 4))


def test_a_batch_that_was_split_and_joined_is_the_same(tiny_clips, small_lifter):
    source, target = tiny_clips
    task = AdaptTask(small_lifter(), source, target.unlabelled(), [create_stage("gpa")], CONFIG, seed=0)
    batch = task.sources.draw(9, torch.Generator().manual_seed(0))
    joined = join_batches(*split_batch(batch, 4))
    assert torch.equal(joined.poses, batch.poses)
    assert torch.equal(joined.cameras.fx, batch.cameras.fx)
    assert torch.equal(joined.weight, batch.weight)


def test_no_gradient_of_the_lifter_reaches_the_stages_and_none_of_theirs_the_lifter(tiny_clips, small_lifter):
    source, target = tiny_clips
    stages = [create_stage("lpa"), create_stage("gpa")]
    task = AdaptTask(small_lifter().train(), source, target.unlabelled(), stages, CONFIG, seed=0)
    fit, seen = task.fitting.fit, []

    def watch(index, keypoints, poses, weight, generator):
        seen.append(keypoints.requires_grad or poses.requires_grad)
        seen.append(any(p.grad is not None for p in task.lifter.parameters()))
        return fit(index, keypoints, poses, weight, generator)

    task.fitting.fit = watch
    task.step(0)
    assert seen == [False, False]


def test_an_aligned_sample_stands_where_the_targets_stand(tiny_clips):
    source, target = tiny_clips
    draws = torch.Generator().manual_seed(0)
    poses, keypoints = aligned_sample(source, target.unlabelled(), [create_stage("gpa")], 400, draws)
    assert len(poses) == len(keypoints) > 350
    cameras = target.cameras_at(torch.arange(target.num_frames))
    roots = target.keypoints[:, 0] / cameras.width[:, None] * 2
    roots = roots - torch.stack([torch.ones_like(cameras.width), cameras.height / cameras.width], -1)
    distance = (keypoints[:, None, 0] - roots).norm(dim=-1).min(1).values
    assert float(distance.max()) < 2e-5
