"""Protocols: how a number is computed. Each result carries one; each table prints its `describe()` line."""

from __future__ import annotations

from dataclasses import dataclass, replace

from poseda.errors import ConfigError, choose
from poseda.metrics.pose import AUC_THRESHOLDS, PCK_THRESHOLD
from poseda.skeleton import Skeleton, get_skeleton

LABEL_SCALES = ("metric", "universal")

# Joints of the official MPI-INF-3DHP evaluation: head, neck, shoulders, elbows, wrists, hips, knees, ankles.
OFFICIAL_JOINTS = (
    "head", "thorax", "rshoulder", "relbow", "rwrist", "lshoulder", "lelbow", "lwrist",
    "rhip", "rknee", "rankle", "lhip", "lknee", "lankle",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """One way to score root-relative poses. Unknown skeletons, joints and label scales raise ConfigError."""

    name: str
    """The name under which the protocol is registered."""
    skeleton: str
    """Joint set in which poses are scored; predictions and labels are brought to it by joint name."""
    root_in_mean: bool
    """Whether the root, whose error is zero by construction, counts in MPJPE, N-MPJPE and MPJVE."""
    pck_joints: tuple[str, ...]
    """Joints over which PCK and AUC are taken."""
    flip: bool
    """Whether predictions are averaged with those of the mirrored input."""
    label_scale: str
    """Scale of the 3D labels: "metric" or "universal" (subjects scaled to one height, as univ_annot3)."""
    pck_threshold: float = PCK_THRESHOLD
    """A joint is correct when its error is strictly below this, in mm."""
    auc_thresholds: tuple[float, ...] = AUC_THRESHOLDS
    """Increasing thresholds whose PCK is averaged into AUC, in mm."""

    def __post_init__(self) -> None:
        choose(self.label_scale, LABEL_SCALES, "label scale")
        for joint in self.pck_joints:
            choose(joint, self.joint_set.joints, f"joint of {self.skeleton}")
        if not self.pck_joints or not self.auc_thresholds:
            raise ConfigError(f"Protocol '{self.name}' needs at least one PCK joint and one AUC threshold.")
        if list(self.auc_thresholds) != sorted(set(self.auc_thresholds)):
            raise ConfigError(f"The AUC thresholds of protocol '{self.name}' must increase.")

    @property
    def joint_set(self) -> Skeleton:
        """The skeleton in which poses are scored."""
        return get_skeleton(self.skeleton)

    @property
    def mean_joints(self) -> tuple[int, ...]:
        """Indices of the joints that count in MPJPE, N-MPJPE and MPJVE."""
        skeleton = self.joint_set
        return tuple(j for j in range(skeleton.num_joints) if self.root_in_mean or j != skeleton.root)

    @property
    def pck_indices(self) -> tuple[int, ...]:
        """Indices of the joints that count in PCK and AUC."""
        return tuple(self.joint_set.index(joint) for joint in self.pck_joints)

    def describe(self) -> str:
        """Return the one line that is printed under every table."""
        root, limits = self.joint_set.joints[self.joint_set.root], self.auc_thresholds
        counted = "with" if self.root_in_mean else "without"
        joints = f"{len(self.mean_joints)} joints of {self.skeleton} {counted} the root"
        curve = f"{limits[0]:g}-{limits[-1]:g} mm in {len(limits)} steps"
        return (
            f"{self.name}{self._changes()}: relative to the {root}; MPJPE over {joints}; "
            f"PCK below {self.pck_threshold:g} mm and AUC {curve} over {len(self.pck_joints)} joints; "
            f"{self.label_scale} labels; test-time flip {'on' if self.flip else 'off'}."
        )

    def _changes(self) -> str:
        """Name the options that differ from the registered protocol, lest an altered number pass for it."""
        published = PROTOCOLS.get(self.name)
        fields = ("root_in_mean", "flip", "label_scale")
        changed = [f for f in fields if published and getattr(self, f) != getattr(published, f)]
        return f" (altered: {', '.join(f'{f}={getattr(self, f)}' for f in changed)})" if changed else ""


PROTOCOLS: dict[str, Protocol] = {
    # Official MPI-INF-3DHP evaluation (Mehta et al. 2017): pelvis in the MPJPE, PCK and AUC over 14 joints.
    "official17": Protocol("official17", "3dhp17", True, OFFICIAL_JOINTS, flip=False, label_scale="universal"),
    # PoseAug and the work after it (PoseDA among it): 16 joints, root in every mean, flipped test input.
    "poseaug16": Protocol(
        "poseaug16", "h36m16", True, get_skeleton("h36m16").joints, flip=True, label_scale="universal"
    ),
    # Human3.6M "Protocol 1" as published: 17 joints with the root. PCK and AUC, no part of it, take 3DHP's.
    "h36m17": Protocol("h36m17", "h36m17", True, OFFICIAL_JOINTS, flip=False, label_scale="metric"),
}


def get_protocol(name: str) -> Protocol:
    """Return the protocol called `name`; ConfigError with the nearest name where there is none."""
    return PROTOCOLS[choose(name, PROTOCOLS, "protocol")]


def with_options(
    protocol: Protocol,
    *,
    root_in_mean: bool | None = None,
    flip: bool | None = None,
    label_scale: str | None = None,
) -> Protocol:
    """Return `protocol` with the given options changed; `describe()` then names each departure."""
    return replace(
        protocol,
        root_in_mean=protocol.root_in_mean if root_in_mean is None else root_in_mean,
        flip=protocol.flip if flip is None else flip,
        label_scale=protocol.label_scale if label_scale is None else label_scale,
    )
