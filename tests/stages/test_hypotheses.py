"""Hypotheses as a stage: where they come from, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from poseda.engine.checkpoint import save_lifter
from poseda.errors import ConfigError, MissingDataError
from poseda.geometry.rigs import load_rig
from poseda.lifters import create_lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.lifters.simplebaseline import SimpleBaseline, SimpleBaselineConfig
from poseda.stages.hypotheses import Hypotheses, HypothesesConfig, aggregate


@pytest.fixture(scope="module")
def clips(make_clips):
    return make_clips(sequences=3, frames=4, cameras=load_rig("3dhp_test").cameras).unlabelled()


@pytest.fixture
def lifter(small_lifter):
    return small_lifter().eval()


def refined(stage, lifter, clips):
    return stage.refine(lifter, clips, lift_clips(lifter, clips)).poses


def test_an_ensemble_is_the_mean_of_what_its_lifters_say(clips, lifter, tmp_path):
    others = [create_lifter("simplebaseline", seed=seed, hidden=8, blocks=1).eval() for seed in (3, 4)]
    for number, other in enumerate(others):
        save_lifter(tmp_path / f"{number}.safetensors", other, {"data": "none"})
    paths = tuple(str(tmp_path / f"{number}.safetensors") for number in (0, 1))
    found = refined(Hypotheses(HypothesesConfig(checkpoints=paths, how="mean")), lifter, clips)
    expected = torch.stack([lift_clips(one, clips).poses for one in (lifter, *others)]).mean(0)
    torch.testing.assert_close(found, expected)


def test_draws_come_from_the_seed_alone_and_leave_what_came_in_first(clips, lifter):
    stage = Hypotheses(HypothesesConfig(draws=3, jitter=4.0, how="mean"), seed=2)
    torch.manual_seed(9)
    first, again = refined(stage, lifter, clips), refined(stage, lifter, clips)
    assert torch.equal(first, again)
    assert not torch.equal(first, refined(Hypotheses(stage.config, seed=3), lifter, clips))
    generator = torch.Generator().manual_seed(2)
    moved = [
        replace(clips, keypoints=clips.keypoints + 4.0 * torch.randn(clips.keypoints.shape, generator=generator))
        for _ in range(3)
    ]
    expected = torch.stack([lift_clips(lifter, some).poses for some in (clips, *moved)]).mean(0)
    torch.testing.assert_close(first, expected)


class Samples(SimpleBaseline):
    """A lifter with hypotheses of its own: noise around its pose."""

    def hypothesise(self, clips, generator):
        poses = lift_clips(self, clips).poses.unsqueeze(1)
        return poses + 30 * torch.randn(len(poses), 5, 17, 3, generator=generator)


def test_hypotheses_of_the_lifters_own_are_taken(clips):
    lifter = Samples(SimpleBaselineConfig(hidden=8, blocks=1)).eval()
    lifted = lift_clips(lifter, clips)
    start = LiftedClips(lifted.poses, lifted.sigma)
    found = Hypotheses(seed=1).refine(lifter, clips, start)
    own = lifter.hypothesise(clips, torch.Generator().manual_seed(1))
    cameras = clips.cameras_at(torch.arange(clips.num_frames))
    several = torch.cat([lifted.poses[:, None], own], 1)
    torch.testing.assert_close(found.poses, aggregate(several, clips.keypoints, clips.confidence, cameras))
    assert found.sigma is lifted.sigma


def test_one_pose_alone_and_wrong_files_are_refused_in_one_line(clips, lifter, tmp_path):
    with pytest.raises(ConfigError, match=r"gives one pose; say hypotheses\.draws=8") as caught:
        refined(Hypotheses(), lifter, clips)
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingDataError, match="no such file"):
        refined(Hypotheses(HypothesesConfig(checkpoints=("none.safetensors",))), lifter, clips)
    path = tmp_path / "other.safetensors"
    save_lifter(path, create_lifter("simplebaseline", seed=0, hidden=8, blocks=1, skeleton="h36m16"), {"data": "none"})
    with pytest.raises(ConfigError, match="lifts h36m16, not h36m17"):
        refined(Hypotheses(HypothesesConfig(checkpoints=(str(path),))), lifter, clips)


WRONG = [{"how": "median"}, {"per": "limb"}, {"draws": -1}, {"jitter": 0.0}, {"top": -2}, {"flow": -1}]


@pytest.mark.parametrize("options", [*WRONG, {"flow_steps": 0}, {"flow_spread": 0.0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        HypothesesConfig(**options)


def test_the_command_runs_them(tmp_path, monkeypatch, capsys):
    from poseda import adapt

    monkeypatch.chdir(tmp_path)
    words = ["experiment=quick", "source.max_frames=300", "target.max_frames=200", "threads=1", "adapt.steps=2"]
    assert adapt.main([*words, "stages=[hypotheses]", "hypotheses.draws=2"]) == 0
    assert "\n+ hypotheses " in capsys.readouterr().out
    assert adapt.main([*words, "stages=[hypotheses]", "hypotheses.how=median"]) == 1
    assert "hypotheses.how=median is none of: mean, best, softmax. Did you mean 'mean'?" in capsys.readouterr().err
