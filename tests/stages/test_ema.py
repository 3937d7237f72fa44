"""The moving average against its closed form."""

from __future__ import annotations

import pytest
import torch

from poseda.engine.checkpoint import load_state, save_state
from poseda.errors import ConfigError
from poseda.stages.base import Setting
from poseda.stages.ema import EMA, EMAConfig


@pytest.fixture
def lifter(small_lifter):
    return small_lifter(hidden=4, blocks=0).train()


def prepared(lifter, **options):
    stage = EMA(EMAConfig(**options))
    stage.prepare(Setting(lifter, None, None, 10, 0, torch.Generator()))
    return stage


def walk(lifter, stage, steps, seed=0):
    """Random weights and one batch through the batch norms at each step; all states, in float64."""
    generator = torch.Generator().manual_seed(seed)
    states = []
    for _ in range(steps):
        with torch.no_grad():
            for parameter in lifter.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
            lifter(torch.randn(8, 1, 17, 2, generator=generator))
        stage.after_step(lifter)
        states.append(snapshot(lifter))
    return states


def snapshot(lifter):
    return {name: value.double().clone() for name, value in lifter.state_dict().items()}


def test_the_average_is_the_geometric_sum_of_the_weights_it_has_seen(lifter):
    """Below the decay of the first step (2/11) it never varies: avg_k = d^k w_0 + (1 - d) sum d^(k-i) w_i."""
    decay, steps = 0.15, 6
    stage, start = prepared(lifter, decay=decay), snapshot(lifter)
    states = walk(lifter, stage, steps)
    for name, value in stage.average.items():
        if not value.is_floating_point():
            continue
        expected = decay**steps * start[name]
        for i, state in enumerate(states, start=1):
            expected = expected + (1 - decay) * decay ** (steps - i) * state[name]
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def test_early_steps_forget_faster_and_late_ones_keep_the_decay(lifter):
    stage, expected = prepared(lifter, decay=0.4), snapshot(lifter)
    for n, state in enumerate(walk(lifter, stage, 8), start=1):
        keep = min(0.4, (1 + n) / (10 + n))
        expected = {name: keep * value + (1 - keep) * state[name] for name, value in expected.items()}
    for name, value in stage.average.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)


def test_batch_norm_statistics_are_averaged_and_counters_are_the_latest(lifter):
    stage = prepared(lifter, decay=0.1)
    states = walk(lifter, stage, 3)
    mean, count = stage.average["batch_norm1.running_mean"], stage.average["batch_norm1.num_batches_tracked"]
    assert not torch.equal(mean.double(), states[-1]["batch_norm1.running_mean"])
    assert int(count) == 3


def test_finish_gives_a_copy_and_leaves_the_lifter_alone(lifter):
    stage = prepared(lifter, decay=0.5)
    walk(lifter, stage, 3)
    before = snapshot(lifter)
    averaged = stage.finish(lifter)
    assert averaged is not lifter
    assert all(torch.equal(value, stage.average[name]) for name, value in averaged.state_dict().items())
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in snapshot(lifter).items())
    assert any(float(value.abs().sum()) > 0 for value in stage.average.values())


def test_a_stage_that_has_seen_no_step_gives_the_lifter_back(lifter):
    assert EMA().finish(lifter) is lifter


def test_preparing_again_starts_anew(lifter):
    stage = prepared(lifter, decay=0.5)
    walk(lifter, stage, 3)
    stage.prepare(Setting(lifter, None, None, 10, 0, torch.Generator()))
    assert stage.steps == 0
    assert all(torch.equal(value, stage.average[name]) for name, value in lifter.state_dict().items())


def test_a_resumed_average_goes_on_as_an_unbroken_one(small_lifter, tmp_path):
    lifter = small_lifter(hidden=4, blocks=0).train()
    unbroken = prepared(lifter, decay=0.6)
    walk(lifter, unbroken, 3)
    save_state(tmp_path / "state.pt", unbroken.state_dict())
    resumed = prepared(small_lifter(hidden=4, blocks=0), decay=0.6)
    resumed.load_state_dict(load_state(tmp_path / "state.pt"))
    for step in range(3):
        walk(lifter, unbroken, 1, seed=step)
        resumed.after_step(lifter)
    assert resumed.steps == unbroken.steps
    assert all(torch.equal(value, unbroken.average[name]) for name, value in resumed.average.items())


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_outside_0_to_1_is_refused(decay):
    with pytest.raises(ConfigError, match=r"ema\.decay"):
        EMAConfig(decay=decay)
