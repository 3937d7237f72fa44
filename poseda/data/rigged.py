"""Motion capture of a raw data set through a rig: takes in a world with z up to camera-frame clips."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence as SequenceOf

import numpy as np
import torch

from poseda.data.clean import Counts
from poseda.data.clips import LabelledClips, Provenance
from poseda.data.motion import place_takes
from poseda.data.recordings import RawOptions, WorldTake
from poseda.data.resample import resample
from poseda.data.views import SHORTEST_PIECE, Take, see_takes
from poseda.errors import DataError
from poseda.geometry.rigs import Rig, load_rig
from poseda.skeleton import Skeleton

DEFAULT_RIG = "h36m"
SPREAD_MM = 500.0


def see_world_takes(
    takes: SequenceOf[WorldTake], skeleton: Skeleton, fps: float, provenance: Provenance, options: RawOptions
) -> tuple[LabelledClips | None, Counts]:
    """Takes as every camera of their group of the rig sees them, and what was dropped; None where nothing is left.

    A take is turned by a yaw and moved to within 0.5 m of the point where the rig's axes meet, both drawn from the
    seed and the take's own name, so that its place depends on no other take. A subject named like a group of the rig
    gets that group, others one by their name. Raises DataError for joints that are not finite.
    """
    rig = load_rig(options.rig or DEFAULT_RIG)
    motions = [resample(_checked(take), take.fps, fps) for take in takes]
    bounds = torch.tensor([0, *(len(motion) for motion in motions)]).cumsum(0)
    draws = torch.stack([_draws(take.name, options.seed) for take in takes])
    joints = torch.from_numpy(np.concatenate(motions).astype(np.float32, copy=False))
    offset = (draws[:, 1:] * 2 - 1) * SPREAD_MM
    world = place_takes(joints, bounds, draws[:, 0] * 2 * math.pi, offset, rig.centre_mm)
    seen = [Take(take.name, take.subject, take.action, _group(take.subject, rig)) for take in takes]
    asked = sum(len(motion) * len(take.cameras) for motion, take in zip(motions, seen, strict=True))
    counts = Counts(read=sum(len(take.joints) for take in takes))
    try:
        clips = see_takes(world, bounds, seen, rig.cameras, skeleton, fps, provenance)
    except DataError:  # nobody is inside any image: counted, and said with the other units' counts
        counts.dropped = Counter({_REASON: asked})
        return None, counts
    if asked > clips.num_frames:
        counts.dropped[_REASON] = asked - clips.num_frames
    notes = f"{provenance.notes}; " if provenance.notes else ""
    notes += f"through the cameras of {rig.name}, seed {options.seed}"
    if rig.assumed_extrinsics:
        notes += "; some extrinsics of this rig are assumed, not published"
    return clips.with_provenance(notes=notes), counts


_REASON = f"(views) a joint outside the image or nearer than 0.5 m, or a piece under {SHORTEST_PIECE} frames"


def _checked(take: WorldTake) -> np.ndarray[tuple[int, ...], np.dtype[np.floating]]:
    broken = ~np.isfinite(take.joints).all((-2, -1))
    if broken.any():
        raise DataError(f"{take.name}, frame {int(broken.argmax())}: a joint is not finite.")
    return take.joints


def _draws(name: str, seed: int) -> torch.Tensor:
    """Three numbers in [0, 1) that depend on the take's name and on the seed alone."""
    return torch.rand(3, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()) + (seed << 32)))


def _group(subject: str, rig: Rig) -> tuple[int, ...]:
    names = list(rig.groups)
    return rig.groups[subject if subject in rig.groups else names[zlib.crc32(subject.encode()) % len(names)]]
