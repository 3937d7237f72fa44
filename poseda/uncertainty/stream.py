"""Calibrated uncertainty along a live stream: what a file states of each frame, widened by the frames so far."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from poseda.data.clips import Provenance, Sequence, UnlabelledClips
from poseda.errors import ConfigError
from poseda.geometry.camera import Camera
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips
from poseda.uncertainty.base import Lifting
from poseda.uncertainty.calibrated import Uncertainty
from poseda.uncertainty.inflation import LEAST_RESIDUAL, growth, residuals

HISTORY = 1000
"""Frames of the stretch whose residuals are kept for inflation, 20 to 40 seconds of video: memory stays bounded."""
LEAST_HISTORY = 25
"""Frames that must have come before their median residual widens anything: a second of video."""


class StreamingUncertainty:
    """A `poseda.engine.streaming.Judge`: sigma and 90 % radii as `Uncertainty.of` states them of the same frames.

    Inflation is by the median residual of the last HISTORY frames of the stretch, those before a frame and itself; a
    reset forgets them.
    """

    def __init__(self, found: Uncertainty, lifter: Lifter, *, inflate: bool = False) -> None:
        """Raises ConfigError for an estimator that looks at a clip more than once."""
        if not found.estimator.frame_by_frame:
            raise ConfigError(
                f"uncertainty={found.estimator.name} lifts whole clips again, which a stream does not have; calibrate "
                "own, posthoc or constant for it."
            )
        self.found, self.lifter, self.inflate = found, lifter, inflate
        self.history: deque[Tensor] = deque(maxlen=HISTORY)

    def reset(self) -> None:
        """Forget the residuals of the stretch."""
        self.history.clear()

    @torch.no_grad()
    def judge(
        self, keypoints: Tensor, confidence: Tensor, camera: Camera, poses: Tensor, sigma: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Expected errors and 90 % radii (N, J) mm of frames (N, J, 2) px, (N, J), with poses (N, J, 3) mm and what
        the lifter's own head says (N, J) mm."""
        clips = _as_clips(keypoints, confidence, camera, self.lifter)
        seen = Lifting(self.lifter, clips, LiftedClips(poses, sigma), self.found.flip)
        lifted = self.found.of(seen, inflate=self.inflate, factor=self._factor(seen) if self.inflate else None).lifted()
        assert lifted.sigma is not None and lifted.radius90 is not None
        return lifted.sigma, lifted.radius90

    def _factor(self, seen: Lifting) -> Tensor:
        """(J,), at least 1, from the frames so far."""
        assert self.found.reference is not None
        self.history.extend(residuals(seen))
        if len(self.history) < LEAST_HISTORY:
            return torch.ones_like(self.found.reference)
        typical = torch.stack(list(self.history)).nanmedian(0).values.clamp_min(LEAST_RESIDUAL)
        return growth(typical, self.found.reference)


def _as_clips(keypoints: Tensor, confidence: Tensor, camera: Camera, lifter: Lifter) -> UnlabelledClips:
    """Frames of one camera as a sequence."""
    return UnlabelledClips(
        keypoints=keypoints,
        confidence=confidence,
        bounds=torch.tensor([0, len(keypoints)], device=keypoints.device),
        sequences=(Sequence("stream", "", "", 0),),
        cameras=camera.expand(1),
        skeleton=lifter.skeleton,
        fps=1.0,
        provenance=Provenance("stream", "real", "", "metric", "stream"),
    )
