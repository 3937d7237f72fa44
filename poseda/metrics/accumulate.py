"""Evaluation of a domain: sums and counts by action and joint, merged across batches and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from poseda.errors import DataError, ShapeError
from poseda.geometry.alignment import procrustes, scale_align
from poseda.metrics.pose import joint_errors, threshold_shares, velocity_errors, within_sequence
from poseda.metrics.protocols import Protocol, get_protocol
from poseda.skeleton import Skeleton, convert_joints

MEASURES = ("mpjpe", "pa_mpjpe", "n_mpjpe", "pck", "auc", "mpjve")
NO_ACTION = "all"


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one evaluation: errors in mm, PCK and AUC in %, MPJVE in mm per frame.

    `values` holds the means over all frames under their own names ("mpjpe", "pa_mpjpe", "n_mpjpe", "pck",
    "auc", and "mpjve" where sequences are known) and, where actions are known, "mpjpe_action_mean" and
    "pa_mpjpe_action_mean": the mean over actions of each action's mean.
    """

    values: dict[str, float]
    per_joint: dict[str, dict[str, float]]
    """Joint name -> "mpjpe", "pa_mpjpe", "pck"."""
    per_action: dict[str, dict[str, float]]
    """Action name -> the same names as in `values`, and "frames"."""
    frames: int
    protocol: Protocol

    def describe(self) -> str:
        """How the numbers are computed, in a sentence."""
        return self.protocol.describe()

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers; `from_json` reads them back."""
        return {**asdict(self), "describe": self.describe()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Evaluation:
        """Build an evaluation from what `to_json` returned, possibly after a trip through a file.

        Raises DataError where a field is missing or unknown.
        """
        try:
            stored = record["protocol"].items()
            rule: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored}
            fields = {name: record[name] for name in ("values", "per_joint", "per_action", "frames")}
            return cls(**fields, protocol=Protocol(**rule))
        except (AttributeError, KeyError, TypeError) as error:
            raise DataError(f"This record is not an evaluation as poseda writes it: {error}.") from None


@dataclass(frozen=True)
class PoseErrors:
    """Sums of errors by measure, action and joint, with counts: merge in any order, then `summarise`."""

    protocol: Protocol
    actions: tuple[str, ...]
    sums: Tensor
    """(len(MEASURES), A, J) float64 on the CPU; "pck" and "auc" are sums of hits and of threshold shares."""
    frames: Tensor
    """(A,) frames that were counted."""
    steps: Tensor
    """(A,) frame pairs within sequences, the count of "mpjve"; all zero where sequences are unknown."""

    def merge(self, other: PoseErrors) -> PoseErrors:
        """Return the state of both parts together. They must follow the same protocol."""
        if self.protocol != other.protocol:
            raise DataError(
                f"Results of {self.protocol.name} and {other.protocol.name} (or other options) do not merge."
            )
        actions = tuple(sorted({*self.actions, *other.actions}))
        mine, theirs = (torch.tensor([actions.index(a) for a in part.actions]) for part in (self, other))
        sums = self.sums.new_zeros(len(MEASURES), len(actions), self.sums.shape[-1])
        counts = self.frames.new_zeros(len(actions))
        return PoseErrors(
            self.protocol,
            actions,
            sums.index_add(1, mine, self.sums).index_add(1, theirs, other.sums),
            counts.index_add(0, mine, self.frames).index_add(0, theirs, other.frames),
            counts.index_add(0, mine, self.steps).index_add(0, theirs, other.steps),
        )

    def summarise(self) -> Evaluation:
        """Turn the sums into means."""
        values = self._means(slice(None))
        per_action = {}
        if self.actions != (NO_ACTION,):
            for i, action in enumerate(self.actions):
                per_action[action] = {"frames": int(self.frames[i]), **self._means(slice(i, i + 1))}
            for name in ("mpjpe", "pa_mpjpe"):
                means = [row[name] for row in per_action.values()]
                values[f"{name}_action_mean"] = sum(means) / len(means)
        return Evaluation(values, self._per_joint(), per_action, int(self.frames.sum()), self.protocol)

    def _means(self, rows: slice) -> dict[str, float]:
        """Mean of each measure over the frames of some actions and the joints that the protocol counts."""
        counted = {"pa_mpjpe": tuple(range(self.sums.shape[-1]))}  # the root too: alignment gives it an error
        counted |= dict.fromkeys(("pck", "auc"), self.protocol.pck_indices)
        means = {}
        for i, name in enumerate(MEASURES):
            joints = counted.get(name, self.protocol.mean_joints)
            number = int((self.steps if name == "mpjve" else self.frames)[rows].sum()) * len(joints)
            if number:
                means[name] = _scale(name) * float(self.sums[i, rows][:, list(joints)].sum()) / number
        return means

    def _per_joint(self) -> dict[str, dict[str, float]]:
        names = ("mpjpe", "pa_mpjpe", "pck")
        means = self.sums.sum(dim=1) / self.frames.sum()
        columns = {name: (_scale(name) * means[MEASURES.index(name)]).tolist() for name in names}
        joints = self.protocol.joint_set.joints
        return {joint: {name: columns[name][j] for name in names} for j, joint in enumerate(joints)}


def measure_poses(
    pred: Tensor,
    target: Tensor,
    *,
    skeleton: Skeleton,
    protocol: Protocol | str,
    bounds: Tensor | None = None,
    actions: Sequence[str] | None = None,
) -> PoseErrors:
    """Measure predictions against labels, any root. pred, target: (F, J, 3) mm, camera frame -> PoseErrors.

    Both are brought to the protocol's joints by name and made relative to its root. `bounds` (S+1,) are the
    sequence bounds, needed for MPJVE; `actions` names the action of each sequence, or of each frame where
    there are no bounds. A part of a domain must hold whole sequences. Raises DataError naming the first frame
    that is not finite.
    """
    rule = get_protocol(protocol) if isinstance(protocol, str) else protocol
    _check(pred, target, bounds)
    names, action = _action_index(actions, bounds, len(pred))
    pred, target = (_root_relative(poses, skeleton, rule.joint_set) for poses in (pred.to(target), target))
    errors = joint_errors(pred, target)
    steps = torch.zeros(len(pred), dtype=torch.bool)
    velocity = torch.zeros_like(errors)
    if bounds is not None:
        steps[:-1] = within_sequence(bounds.cpu())
        velocity[:-1] = velocity_errors(pred, target)
        velocity = velocity * steps.to(velocity).unsqueeze(1)
    aligned = procrustes(pred, target)
    _check_aligned(aligned)
    scores = {
        "mpjpe": errors,
        "pa_mpjpe": joint_errors(aligned, target),
        "n_mpjpe": joint_errors(scale_align(pred, target), target),
        "pck": (errors < rule.pck_threshold).to(errors),
        "auc": threshold_shares(errors, rule.auc_thresholds),
        "mpjve": velocity,
    }
    empty = torch.zeros(len(names), errors.shape[1], dtype=torch.float64)
    sums = torch.stack([empty.index_add(0, action, scores[name].cpu().double()) for name in MEASURES])
    counts = (torch.bincount(index, minlength=len(names)) for index in (action, action[steps]))
    return PoseErrors(rule, names, sums, *counts)


def evaluate_poses(
    pred: Tensor,
    target: Tensor,
    *,
    skeleton: Skeleton,
    protocol: Protocol | str,
    bounds: Tensor | None = None,
    actions: Sequence[str] | None = None,
) -> Evaluation:
    """Score predictions under a protocol. Arguments as in `measure_poses`: (F, J, 3) mm -> Evaluation."""
    state = measure_poses(pred, target, skeleton=skeleton, protocol=protocol, bounds=bounds, actions=actions)
    return state.summarise()


def _scale(measure: str) -> float:
    """Shares are reported in per cent."""
    return 100.0 if measure in ("pck", "auc") else 1.0


def _root_relative(poses: Tensor, source: Skeleton, target: Skeleton) -> Tensor:
    converted = convert_joints(poses, source, target)
    return converted - converted[:, target.root : target.root + 1]


def _action_index(actions: Sequence[str] | None, bounds: Tensor | None, frames: int) -> tuple[tuple[str, ...], Tensor]:
    """Return the sorted action names and the index of each frame's action, (F,) on the CPU."""
    if actions is None:
        return (NO_ACTION,), torch.zeros(frames, dtype=torch.int64)
    expected = frames if bounds is None else len(bounds) - 1
    if len(actions) != expected:
        unit = "frame" if bounds is None else "sequence"
        raise ShapeError(f"One action a {unit} is needed: {expected} {unit}s, but {len(actions)} actions.")
    names = tuple(sorted(set(actions)))
    place = {name: i for i, name in enumerate(names)}
    index = torch.tensor([place[action] for action in actions])
    return names, index if bounds is None else index.repeat_interleave(bounds.cpu().diff())


def _check(pred: Tensor, target: Tensor, bounds: Tensor | None) -> None:
    if pred.dim() != 3 or pred.shape != target.shape or pred.shape[-1] != 3:
        raise ShapeError(
            "Predictions and labels must both be (frames, joints, 3): "
            f"got {tuple(pred.shape)} and {tuple(target.shape)}."
        )
    if len(pred) == 0:
        raise DataError("There is no frame to evaluate.")
    if bounds is not None and (int(bounds[0]) != 0 or int(bounds[-1]) != len(pred) or bool((bounds.diff() <= 0).any())):
        raise ShapeError(f"Sequence bounds must increase from 0 to {len(pred)}, the number of frames.")
    for poses, what in ((pred, "predicted pose"), (target, "3D label")):
        broken = ~torch.isfinite(poses).flatten(1).all(dim=1)
        if bool(broken.any()):
            first, count = int(broken.nonzero()[0]), int(broken.sum())
            raise DataError(f"The {what} of frame {first} is not finite ({count} such frames of {len(poses)}).")


def _check_aligned(aligned: Tensor) -> None:
    """Alignment has no answer for a pose without extent: say so rather than report NaN or a guess."""
    broken = aligned.isnan().flatten(1).any(dim=1)
    if bool(broken.any()):
        first = int(broken.nonzero()[0])
        raise DataError(
            f"All joints of frame {first} coincide in the prediction or in the label "
            f"({int(broken.sum())} such frames of {len(aligned)}): PA-MPJPE is not defined there."
        )
