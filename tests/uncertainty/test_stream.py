"""Uncertainty frame by frame: what whole clips say, and inflation by the frames that have come."""

from __future__ import annotations

import torch

from poseda.engine.streaming import PoseStream, StreamConfig, StreamFrame
from poseda.metrics.calibration import get_density
from poseda.uncertainty import estimator_class
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.calibrated import Uncertainty
from poseda.uncertainty.inflation import residuals
from poseda.uncertainty.recalibration import Recalibration
from poseda.uncertainty.stream import HISTORY, LEAST_HISTORY, StreamingUncertainty


def constant(lifter, reference):
    cls = estimator_class("constant")
    estimator = cls(cls.Config(), lifter)
    estimator.joint_sigma = torch.linspace(10, 40, 16)
    same = Recalibration("temperature", torch.ones(16))
    return Uncertainty(estimator, get_density("laplace"), False, same, reference)


def run(stream, clips):
    frames = zip(clips.keypoints, clips.confidence, strict=True)
    return [pose for number, frame in enumerate(frames) for pose in stream.push(StreamFrame(number, *frame))]


def test_inflation_is_by_the_median_residual_of_the_frames_so_far(lifter, clips):
    first = clips._take(clips.sequence_index == 0).unlabelled()
    lifter.w2.weight.data.mul_(0.01)  # some poses then fit their 2D at some root, others at none
    lifter.w2.bias.data.copy_(((clips.poses[0] - clips.poses[0, :1])[1:] / 1000).flatten())
    seen = Lifting.of(lifter, first)
    off = residuals(seen)
    assert 0 < int(off.isfinite().all(-1).sum()) < len(off)
    found = constant(lifter, off.nanmedian(0).values / 3)
    judge = StreamingUncertainty(found, lifter, inflate=True)
    stream = PoseStream(lifter, first.cameras[0], StreamConfig(jump=0, scale_jump=0), judge=judge)
    for number, pose in enumerate(run(stream, first)):
        typical = off[: number + 1].nanmedian(0).values
        wanted = (typical / found.reference).clamp_min(1) if number + 1 >= LEAST_HISTORY else torch.ones(17)
        torch.testing.assert_close(pose.sigma[1:], torch.linspace(10, 40, 16) * wanted[1:], rtol=1e-3, atol=1e-3)
        ratio = pose.radius90[1:] / pose.sigma[1:]
        torch.testing.assert_close(ratio, ratio[:1].expand(16))
        assert pose.sigma[0] == 1 and pose.radius90[0] == 0
    assert judge.history.maxlen == HISTORY
    stream.reset()
    (pose,) = stream.push(StreamFrame(0, first.keypoints[0], first.confidence[0]))
    torch.testing.assert_close(pose.sigma[1:], torch.linspace(10, 40, 16))


def test_the_whole_stretch_says_what_the_whole_clip_says(lifter, clips):
    first = clips._take(clips.sequence_index == 0).unlabelled()
    found = constant(lifter, torch.full((17,), 5.0))
    judge = StreamingUncertainty(found, lifter)
    stream = PoseStream(lifter, first.cameras[0], StreamConfig(jump=0, scale_jump=0), judge=judge)
    poses = run(stream, first)
    expected = found.of(Lifting.of(lifter, first)).lifted()
    torch.testing.assert_close(torch.stack([pose.sigma for pose in poses]), expected.sigma)
    torch.testing.assert_close(torch.stack([pose.radius90 for pose in poses]), expected.radius90)
