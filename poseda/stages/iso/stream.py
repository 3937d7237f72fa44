"""ISO along a live stream: `mode=online` for frames that come one by one."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from poseda.geometry.camera import Camera
from poseda.lifters.base import Lifter, LifterOutput, gather_frames
from poseda.stages.iso.copies import Copies, moving_names
from poseda.stages.iso.cycle import Seen
from poseda.stages.iso.learner import Learner
from poseda.stages.iso.stage import ISOConfig


class StreamingISO:
    """Learns whenever a group of `iso.group` windows of new frames is full, on that group; then the soft reset follows
    before the next group. There is no discriminator, for the source is not here. A `poseda.engine.streaming.Adapter`.

    With one frame a group and a lifter of one frame, poses are those of the stage on the same frames as one sequence.
    """

    def __init__(self, lifter: Lifter, camera: Camera, config: ISOConfig | None = None, *, seed: int = 0) -> None:
        """The lifter must be in evaluation mode whenever this is used. Weights of the discriminator do not count."""
        self.lifter, self.camera, self.config, self.seed = lifter, camera, config or ISOConfig(mode="online"), seed
        self.learner = Learner(lifter, self.config.recipe, None)
        self.names = moving_names(lifter, self.config.weights)
        self.frames: deque[tuple[Tensor, Tensor]] = deque(maxlen=self.config.pieces * lifter.frames)
        self.reset()

    def reset(self) -> None:
        """Back to the trained weights, with the turns of the start."""
        self.copies = Copies(self.lifter, self.names, 1, self.config.lr)
        self.generator = torch.Generator(device=self.camera.device).manual_seed(self.seed)
        self.frames.clear()
        self.learned = False

    def learn(self, keypoints: Tensor, confidence: Tensor) -> None:
        """See one more frame, (J, 2) px and (J,)."""
        self.frames.append((keypoints, confidence))
        if len(self.frames) < (self.frames.maxlen or 1):
            return
        if self.learned:
            self.copies.pull_back(self.config.soft_reset, 1)
        length, pieces = self.lifter.frames, self.config.pieces
        pixels, sure = (torch.stack(values) for values in zip(*self.frames, strict=True))
        pixels, sure = (values.view(pieces, length, *values.shape[1:]) for values in (pixels, sure))
        seen = Seen(pixels, sure, self.camera.expand(pieces))
        wide = self.learner.padded(seen.screen().unsqueeze(1))[:, 0]
        self.learner.learn(self.copies, wide[None], seen, torch.ones_like(sure[None, :, 0, 0]), self.generator)
        self.frames.clear()
        self.learned = True

    @torch.no_grad()
    def lift(self, frames: Tensor, windows: Tensor) -> LifterOutput:
        """Poses of windows (B, T) of screen frames (N, J, 2), by the weights as they are now."""
        return self.copies.output(gather_frames(frames, windows))
