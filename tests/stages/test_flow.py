"""The flow of a lifter's errors: it draws what it was shown, frame by frame, and a stage can be asked for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters.inference import LiftedClips
from poseda.stages.hypotheses import Hypotheses, HypothesesConfig
from poseda.stages.hypotheses.flow import ErrorFlow, FlowConfig
from poseda.stages.pipeline import adapt_lifter
from poseda.uncertainty.base import Lifting
from tests.cli.conftest import labelled_clips

SMALL = FlowConfig(hidden=64, steps=1500, batch_size=256, lr=3e-3)


@pytest.fixture
def lifter(small_lifter):
    return small_lifter().eval()


def shown(lifter, sizes):
    """Clips with poses that are wrong by normal errors of `sizes` (F, 1, 3) mm about a shift of 20 mm along x."""
    clips = labelled_clips(frames=600, subjects=("A",))
    noise = torch.randn(clips.poses.shape, generator=torch.Generator().manual_seed(0))
    error = sizes * noise + torch.tensor([20.0, 0, 0])
    error[:, 0] = 0
    return Lifting(lifter, clips, LiftedClips(clips.poses - clips.poses[:, :1] + error, None))


def test_draws_have_the_mean_and_the_spread_of_the_errors(lifter):
    sizes = torch.tensor([10.0, 20.0, 60.0])
    seen = shown(lifter, sizes)
    flow = ErrorFlow(SMALL, lifter, seed=0)
    flow.fit(seen)
    drawn = seen.lifted.poses[:, None] - flow.draw(seen, 16, torch.Generator().manual_seed(1))
    assert bool((drawn[:, :, 0] == 0).all())
    found = drawn[:, :, 1:].flatten(0, 2)
    torch.testing.assert_close(found.mean(0), torch.tensor([20.0, 0, 0]), rtol=0.2, atol=4.0)
    torch.testing.assert_close(found.std(0), sizes, rtol=0.2, atol=2.0)
    wider = ErrorFlow(replace(SMALL, spread=2.0), lifter, seed=0)
    wider.load_state_dict(flow.state_dict())
    double = seen.lifted.poses[:, None] - wider.draw(seen, 16, torch.Generator().manual_seed(1))
    torch.testing.assert_close(double, 2 * drawn, rtol=1e-4, atol=0.05)


def test_the_velocity_of_the_straight_path_has_no_loss(lifter):
    flow = ErrorFlow(SMALL, lifter, seed=0)
    error, noise = torch.randn(2, 8, 48, generator=torch.Generator().manual_seed(0))
    flow.velocity = lambda x, time, given: error - noise
    assert float(flow.loss(error, noise, torch.rand(8, 1), torch.zeros(8, 85))) == 0
    end = flow._flow(noise, torch.zeros(8, 85))
    torch.testing.assert_close(end, error, rtol=1e-5, atol=1e-5)


def test_a_stage_draws_from_it_and_says_where_it_cannot(lifter, source_domain, target_domain):
    config = HypothesesConfig(flow=4, how="mean", flow_hidden=16, flow_steps=20)
    stage, clips = Hypotheses(config, seed=3), target_domain.test.limit(50).unlabelled()
    seen = Lifting.of(lifter, clips)
    with pytest.raises(ConfigError, match="not fitted"):
        stage.refine(lifter, clips, seen.lifted)
    with pytest.raises(ConfigError, match="give source=NAME"):
        adapt_lifter(lifter, None, clips, [Hypotheses(config)])
    stage.calibrate(lifter, source_domain.train.limit(200))
    drawn = stage.flow.draw(seen, 4, torch.Generator().manual_seed(3))
    expected = torch.cat([seen.lifted.poses[:, None], drawn], 1).mean(1)
    torch.testing.assert_close(stage.refine(lifter, clips, seen.lifted).poses, expected)
