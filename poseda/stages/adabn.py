"""AdaBN: the lifter's BatchNorm statistics become those of the target (Li et al., arXiv 1603.04779).

After the last step the running means and variances are measured again on random target windows, as plain averages over
batches; each layer is normalised by its batch meanwhile, and no weight changes. A lifter without BatchNorm stays as it
is. Dropout stays on, as it was when the statistics of training were taken: without it the variances are others on the
source too. Departure: averages over batches of one size stand for the online update of the paper.

Where the target's people move otherwise than the source's, which is the rule, the statistics differ for a reason that a
lifter must not normalise away: on real motion this made a lifter much worse.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch

from poseda.data.batches import TargetSampler
from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.lifters.norms import batch_norms
from poseda.stages.base import Setting, Stage


@dataclass(frozen=True)
class AdaBNConfig:
    """Options of AdaBN."""

    batches: int = 32
    """Batches of target windows that the statistics are measured on."""
    batch_size: int = 1024
    """Windows in a batch."""

    def __post_init__(self) -> None:
        if self.batches < 1 or self.batch_size < 2:
            raise ConfigError(
                f"adabn.batches={self.batches}, adabn.batch_size={self.batch_size}: need 1 and 2 at least."
            )


class AdaBN(Stage):
    """Target statistics in the finished lifter."""

    Config = AdaBNConfig
    name = "adabn"
    label = "AdaBN"
    needs_source = False
    finishes_last = True

    def __init__(self, config: AdaBNConfig | None = None) -> None:
        self.config = config or AdaBNConfig()
        self.setting: Setting | None = None

    def prepare(self, setting: Setting) -> str:
        """Remember the target; say so where there is nothing to adapt."""
        self.setting = setting
        return "" if batch_norms(setting.lifter) else f"{setting.lifter.name} has no BatchNorm and stays as it is"

    @torch.no_grad()
    def finish(self, lifter: Lifter) -> Lifter:
        """A copy of the lifter with the target's statistics."""
        if self.setting is None or not batch_norms(lifter):
            return lifter
        adapted = copy.deepcopy(lifter).train()
        layers = batch_norms(adapted)
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # a plain average over the batches
        self._measure(adapted, self.setting)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        return adapted.train(lifter.training)

    def _measure(self, lifter: Lifter, setting: Setting) -> None:
        # random windows: frames of one sequence in one batch would hide the spread between sequences
        device = setting.target.keypoints.device
        generator = torch.Generator(device=device).manual_seed(setting.seed)
        sampler = TargetSampler(setting.target, lifter.frames)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(setting.seed)  # of dropout
            for _ in range(self.config.batches):
                batch = sampler.draw(self.config.batch_size, generator)
                lifter(lifter.see(batch.keypoints, batch.visible, batch.cameras).keypoints)


STAGE = AdaBN
