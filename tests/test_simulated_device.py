"""Everything runs on a device of its own, and no step waits for it: tested on one that is simulated on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from poseda.data.clips import LabelledClips
from poseda.engine.supervised import SupervisedTask, TrainConfig
from poseda.lifters import create_lifter, list_lifters
from poseda.stages import create_stage, list_stages
from poseda.stages.pipeline import AdaptConfig, AdaptTask, finish_stages, lift_with_stages, recast_source
from tests.lifters.test_every_lifter import SMALL
from tests.simulated_device import DEVICE, back, simulated_device

AT_TEST_TIME: dict[str, dict[str, Any]] = {"tto": {}, "hypotheses": {"draws": 2}, "iso": {}}
"""Stages that refine, with the options that they need."""
WARM = 5
"""Steps after which constants are on the device, and replay pools have their place."""


def test_the_simulation_refuses_two_devices_and_writes_down_what_waits() -> None:
    with simulated_device() as waits:
        there = torch.arange(6.0).to(DEVICE)
        assert there.device == DEVICE and len(waits) == 1
        half = there[:3] * 2 + there.new_ones(3)
        half[1:] = 7.0
        assert len(waits) == 1 and back(half).tolist() == [1.0, 7.0, 7.0]
        for wait in (lambda: half.sum().item(), half.cpu, lambda: half[half > 1], lambda: half.__setitem__(0, 2.0)):
            before = len(waits)
            wait()
            assert len(waits) == before + 1
        with pytest.raises(RuntimeError, match=r"one of \(3,\) on the CPU"):
            half + torch.ones(3)
    assert not isinstance(torch.zeros(2, device=DEVICE), type(there))


@pytest.mark.parametrize("name", list_lifters())
def test_a_lifter_gives_there_what_it_gives_here(name: str) -> None:
    here = create_lifter(name, seed=0, **SMALL[name]).eval()
    generator = torch.Generator().manual_seed(0)
    keypoints = torch.rand(3, here.frames, here.skeleton.num_joints, 2, generator=generator) * 2 - 1
    pose = here(keypoints).pose
    (pose / 1000).square().mean().backward()
    with simulated_device() as waits:
        there = create_lifter(name, seed=0, **SMALL[name]).to(DEVICE)
        moved = keypoints.to(DEVICE)
        there.train()(moved)  # constants are copied once
        there = create_lifter(name, seed=0, **SMALL[name]).to(DEVICE).eval()
        there(moved)
        del waits[:]
        lifted = there(moved).pose
        (lifted / 1000).square().mean().backward()
        there.train()(moved)
        assert not waits
        torch.testing.assert_close(back(lifted), pose.detach(), rtol=1e-4, atol=1e-2)
        for moved, parameter in zip(there.parameters(), here.parameters(), strict=True):
            assert (moved.grad is None) == (parameter.grad is None)
            if parameter.grad is not None:
                torch.testing.assert_close(back(moved.grad), parameter.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in list_stages() if name not in AT_TEST_TIME])
def test_no_step_of_a_stage_waits(name: str, tiny_source: LabelledClips, tiny_target: LabelledClips) -> None:
    with simulated_device() as waits:
        task = adaptation([name], tiny_source, tiny_target)
        for index in range(WARM):
            task.step(index)
        del waits[:]
        for index in range(WARM, WARM + 3):
            task.step(index)
        assert not waits


@pytest.mark.parametrize("options", [{}, {"rotate": True}, {"noise": "cpn"}])
def test_no_step_of_supervised_training_waits(options: dict[str, Any], tiny_source: LabelledClips) -> None:
    with simulated_device() as waits:
        lifter = create_lifter("videopose3d", seed=0, frames=9, channels=8).to(DEVICE)
        config = TrainConfig(steps=10, batch_size=8, **options)
        generator = torch.Generator(DEVICE)
        task = SupervisedTask(lifter.train(), tiny_source.to(DEVICE), config, generator)
        for index in range(2):
            task.step(index)
        del waits[:]
        task.step(2)
        assert not waits


@pytest.mark.parametrize("name", sorted(AT_TEST_TIME))
def test_stages_refine_there(name: str, tiny_source: LabelledClips, tiny_target: LabelledClips) -> None:
    with simulated_device():
        stages = [create_stage(name, **AT_TEST_TIME[name])]
        lifter = create_lifter("simplebaseline", seed=0, hidden=16).to(DEVICE).eval()
        source, target = tiny_source.limit(120).to(DEVICE), tiny_target.limit(60).unlabelled().to(DEVICE)
        AdaptTask(lifter, source, target, stages, AdaptConfig(steps=2, batch_size=8), seed=0)
        lifter = finish_stages(lifter, source, stages)
        assert bool(back(lift_with_stages(lifter, target, stages, flip=True).poses).isfinite().all())


def adaptation(names: list[str], source: LabelledClips, target: LabelledClips) -> AdaptTask:
    """A task on the device."""
    stages = [create_stage(name) for name in names]
    lifter = create_lifter("simplebaseline", seed=0, hidden=16).to(DEVICE)
    there = target.unlabelled().to(DEVICE)
    recast = recast_source(source.to(DEVICE), there, stages)
    return AdaptTask(lifter.train(), recast, there, stages, AdaptConfig(steps=100, batch_size=16), seed=0)
