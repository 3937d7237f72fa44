"""Score a lifter on labelled clips under a named protocol: the only place where a target's 3D is read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, UnlabelledClips
from poseda.engine.supervised import check_skeletons
from poseda.lifters.base import Lifter
from poseda.lifters.inference import LiftedClips, lift_clips
from poseda.metrics.accumulate import Evaluation, evaluate_poses
from poseda.metrics.label_free import LabelFreeEvaluation, evaluate_without_labels
from poseda.metrics.protocols import Protocol, get_protocol, with_options

Lift = Callable[[UnlabelledClips], LiftedClips]


def evaluate_lifter(
    lifter: Lifter, clips: LabelledClips, protocol: Protocol | str = "h36m17", *, lift: Lift | None = None
) -> Evaluation:
    """Errors in mm of a lifter on all frames of `clips`, each once; flipped as the protocol says.

    `lift` takes the place of plain lifting (test-time stages); it is given the clips without their 3D. The label scale
    that is printed with the numbers is that of the clips. Raises ConfigError where the joints differ from the lifter's.
    """
    chosen = get_protocol(protocol) if isinstance(protocol, str) else protocol
    chosen = with_options(chosen, label_scale=clips.provenance.label_scale)
    check_skeletons(lifter, clips.skeleton.name, clips.provenance.name)
    unlabelled = clips.unlabelled()
    lifted = lift(unlabelled) if lift else lift_clips(lifter, unlabelled, flip=chosen.flip)
    rows, bounds, owners = scored_runs(clips)
    return evaluate_poses(
        lifted.poses[rows],
        clips.poses[rows],
        skeleton=clips.skeleton,
        protocol=chosen,
        bounds=bounds,
        actions=[clips.sequences[owner].action for owner in owners],
    )


def scored_runs(clips: LabelledClips) -> tuple[Tensor | slice, Tensor, list[int]]:
    """Frames that are scored (n,), the bounds (R + 1,) of their runs of neighbours, and the sequence of each run."""
    if clips.scored is None:
        return slice(None), clips.bounds, list(range(len(clips.sequences)))
    rows = clips.scored.nonzero().squeeze(-1)
    owner = clips.sequence_index[rows]
    first = torch.ones_like(rows, dtype=torch.bool)
    first[1:] = (rows[1:] != rows[:-1] + 1) | (owner[1:] != owner[:-1])
    starts = first.nonzero().squeeze(-1)
    return rows, torch.cat([starts, starts.new_tensor([len(rows)])]), owner[first].tolist()


def evaluate_unlabelled(
    lifter: Lifter, clips: UnlabelledClips, *, flip: bool = False, lift: Lift | None = None
) -> LabelFreeEvaluation:
    """What can be said of a lifter on clips without labels: fit to the 2D, symmetry, constancy and jitter of its poses.

    Raises ConfigError where the joints differ from the lifter's.
    """
    check_skeletons(lifter, clips.skeleton.name, clips.provenance.name)
    lifted = lift(clips) if lift else lift_clips(lifter, clips, flip=flip)
    return evaluate_without_labels(
        lifted.poses,
        clips.keypoints,
        clips.confidence,
        clips.cameras[clips.camera_index],
        clips.bounds,
        clips.skeleton,
    )
