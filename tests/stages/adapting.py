"""A few steps of an adaptation, and the weights that it ends with."""

from __future__ import annotations

import torch

from poseda.stages import create_stage
from poseda.stages.pipeline import AdaptConfig, adapt_lifter

CONFIG = AdaptConfig(steps=6, batch_size=16, log_every=2)


def adapt(clips, lifter, names, *, seed=0, config=CONFIG, extra=(), **options):
    source, target = clips
    stages = [create_stage(name) for name in names]
    return adapt_lifter(lifter, source, target.unlabelled(), [*stages, *extra], config, seed=seed, **options), stages


def weights(lifter):
    return [value.clone() for value in lifter.state_dict().values()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
