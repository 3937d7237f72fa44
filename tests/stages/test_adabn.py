"""BatchNorm statistics of the target, against a plain average; nothing else of the lifter changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from poseda.data.batches import TargetSampler
from poseda.engine.supervised import TrainConfig, train_lifter
from poseda.errors import ConfigError
from poseda.geometry.camera import normalise_screen
from poseda.lifters import create_lifter
from poseda.stages import create_stage
from poseda.stages.base import Setting
from poseda.stages.pipeline import AdaptConfig, adapt_lifter


def adapted(lifter, clips, **options):
    stage = create_stage("adabn", **options)
    source, target = clips
    remark = stage.prepare(Setting(lifter, source, target.unlabelled(), 10, 0, torch.Generator()))
    return stage.finish(lifter), remark


def test_the_first_layers_statistics_are_the_mean_over_the_drawn_batches(tiny_clips, small_lifter):
    lifter = small_lifter()
    result, remark = adapted(lifter, tiny_clips, batches=3, batch_size=16)
    target = tiny_clips[1].unlabelled()
    sampler, draws = TargetSampler(target, 1), torch.Generator().manual_seed(0)
    means, variances = [], []
    for _ in range(3):
        batch = sampler.draw(16, draws)
        keypoints = normalise_screen(batch.keypoints, batch.cameras.width, batch.cameras.height)
        values = lifter.w1(keypoints.flatten(1)).double()
        means.append(values.mean(0))
        variances.append(values.var(0))
    norm = result.batch_norm1
    torch.testing.assert_close(norm.running_mean.double(), torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var.double(), torch.stack(variances).mean(0), rtol=1e-4, atol=1e-5)
    assert remark == ""


def test_only_statistics_change_and_the_lifter_stays(tiny_clips, small_lifter):
    lifter = small_lifter().eval()
    before = {name: value.clone() for name, value in lifter.state_dict().items()}
    rng = torch.get_rng_state()
    result, _ = adapted(lifter, tiny_clips, batches=2, batch_size=8)
    assert torch.equal(torch.get_rng_state(), rng)
    assert result is not lifter and not result.training
    assert all(torch.equal(value, before[name]) for name, value in lifter.state_dict().items())
    for name, value in result.state_dict().items():
        assert torch.equal(value, before[name]) == ("running" not in name and "num_batches" not in name), name
    momenta = [layer.momentum for layer in result.modules() if isinstance(layer, nn.BatchNorm1d)]
    assert set(momenta) == {0.1}


def test_on_the_domain_that_a_lifter_was_trained_on_nothing_much_changes(tiny_clips, small_lifter):
    source, _ = tiny_clips
    lifter = small_lifter(hidden=64, dropout=0.25)
    train_lifter(lifter, source, TrainConfig(steps=300, batch_size=256, flip=False), seed=0)
    result, _ = adapted(lifter, (source, source), batches=16, batch_size=256)
    for name, value in lifter.state_dict().items():
        if "running_var" in name:
            ratio = result.state_dict()[name] / value
            assert float((ratio.log().abs()).mean()) < 0.1, name


def test_missing_joints_are_filled_and_no_statistic_is_nan(tiny_clips, small_lifter):
    source, target = tiny_clips
    confidence = target.confidence.clone()
    confidence[:, 5] = 0
    keypoints = target.keypoints.clone()
    keypoints[:, 5] = 1e9
    target = target.with_keypoints(keypoints, confidence, "made")
    result, _ = adapted(small_lifter(), (source, target), batches=2, batch_size=8)
    assert float(result.batch_norm1.running_mean.abs().max()) < 10


def test_a_lifter_without_batch_norm_stays_and_a_remark_says_so(tiny_clips):
    lifter = create_lifter("poseformer", seed=0, frames=3)
    result, remark = adapted(lifter, tiny_clips)
    assert result is lifter
    assert remark == "poseformer has no BatchNorm and stays as it is"


def test_alone_it_needs_no_training(tiny_clips, small_lifter):
    source, target = tiny_clips
    lifter, remarks = small_lifter(), []
    stages = [create_stage("adabn", batches=2, batch_size=8)]
    result = adapt_lifter(lifter, source, target.unlabelled(), stages, AdaptConfig(steps=5), report=remarks.append)
    assert result is not lifter and remarks == []
    assert torch.equal(result.w1.weight, lifter.w1.weight)
    assert not torch.equal(result.batch_norm1.running_mean, lifter.batch_norm1.running_mean)


@pytest.mark.parametrize("averaging", ["ema", "mean_teacher"])
def test_it_measures_what_averaging_gives_wherever_it_stands(tiny_clips, small_lifter, averaging):
    source, target = tiny_clips
    results = []
    for names in (("gpa", "adabn", averaging), ("gpa", averaging, "adabn"), ("gpa", averaging)):
        small = {"adabn": {"batches": 2, "batch_size": 8}}
        stages = [create_stage(name, **small.get(name, {})) for name in names]
        config = AdaptConfig(steps=3, batch_size=16)
        results.append(adapt_lifter(small_lifter(), source, target.unlabelled(), stages, config).state_dict())
    first, second, without = results
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["batch_norm1.running_mean"], without["batch_norm1.running_mean"])
    assert torch.equal(first["w1.weight"], without["w1.weight"])


def test_a_stage_that_was_not_prepared_gives_the_lifter_back(small_lifter):
    lifter = small_lifter()
    assert create_stage("adabn").finish(lifter) is lifter


@pytest.mark.parametrize("options", [{"batches": 0}, {"batch_size": 1}])
def test_bad_options_are_refused(options):
    with pytest.raises(ConfigError, match=r"adabn\.batches"):
        create_stage("adabn", **options)
