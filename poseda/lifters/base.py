"""What a lifter is: screen-normalised 2D keypoints in, root-relative 3D joints in millimetres out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from poseda.errors import ConfigError, ShapeError
from poseda.geometry.camera import denormalise_screen, normalise_screen
from poseda.geometry.rotations import rotate
from poseda.lifters.views import VIEWS, Seen, fill_missing, get_view, look
from poseda.skeleton import Skeleton, get_skeleton

if TYPE_CHECKING:
    from poseda.geometry.camera import Camera

OutputForm = Literal["seq2seq", "seq2frame"]
MM_PER_METRE = 1000.0
LOG_MM_PER_METRE = math.log(MM_PER_METRE)
START_SIGMA_METRES = 0.1
"""What a fresh scale head says: the size of a joint error at the start of training."""
_NEAREST_MM = 1.0
_MIRRORED = {"x": -1.0}


@dataclass(frozen=True)
class LifterConfig:
    """Options of every lifter; a lifter's own come after them."""

    view: str = "screen"
    """What the 2D input is made of: screen (normalised pixels), rays, cliff, centred, canonical, pcl, perspective or
    perspective_y (docs/views.md); all but screen use each camera's intrinsics."""
    confidence: bool = False
    """Whether each joint's confidence is one more input channel."""


@dataclass(frozen=True)
class LifterOutput:
    """Poses (B, T', J, 3) mm, camera axes, root row exactly 0, and the log of each joint's error in mm.

    `log_sigma` is (B, T', J) or None for a lifter without a scale head; exp(log_sigma) = E||error|| (UAO).
    The root has no error by definition: its row is the constant 0, that is 1 mm, so that it adds nothing to a
    loss ||error|| exp(-log_sigma) + log_sigma and its weight 1/sigma is finite.
    """

    pose: Tensor
    log_sigma: Tensor | None = None


class Lifter(nn.Module):
    """Base of all lifters. A subclass writes `encode` and `decode`, and has a dataclass `Config`, a `LifterConfig`.

    Its input has `inputs` numbers a joint: two coordinates, the tokens of its view, and the confidence if it is read.

    `frames` is the window that one output depends on. seq2seq gives a pose for each frame of the window,
    seq2frame for its centre. A lifter that `slides` also takes more than `frames` frames, and then gives one
    pose for each whole window inside.
    """

    Config: ClassVar[type[Any]]
    name: str = ""
    slides: bool = False
    cached_frames: int = 0
    """Frames of input that a CPU lifts at a time when no gradient is asked for: more of them, and their features leave
    its caches. 0 for all at once, where large products or work that windows share count for more."""
    draws: str = ""
    """The option by which each pass draws at random, in evaluation too, and what to take instead; empty for none."""
    skeleton: Skeleton
    frames: int
    output: OutputForm
    options: dict[str, Any]

    def __init__(
        self, *, skeleton: Skeleton | str, frames: int, output: OutputForm, options: Mapping[str, object]
    ) -> None:
        super().__init__()
        self.skeleton = get_skeleton(skeleton) if isinstance(skeleton, str) else skeleton
        self.frames = frames
        self.output = output
        self.options = dict(options)
        self.view = get_view(str(options.get("view", "screen")))
        self.reads_confidence = bool(options.get("confidence", False))
        self.inputs = 2 + len(self.view.tokens) + self.reads_confidence

    def encode(self, keypoints: Tensor) -> Tensor:
        """Latent of keypoints (B, T, J, inputs) as `see` makes them; its shape is the lifter's own."""
        raise NotImplementedError

    def decode(self, latent: Tensor) -> LifterOutput:
        """Poses of a latent that `encode` gave."""
        raise NotImplementedError

    def forward(self, keypoints: Tensor) -> LifterOutput:
        """Poses (B, T', J, 3) mm, in the axes of the view, of keypoints (B, T, J, inputs) as `see` makes them."""
        self.check_keypoints(keypoints)
        return self._in_parts(keypoints, lambda some: self.decode(self.encode(some)))

    def lift(self, pixels: Tensor, cameras: Camera) -> LifterOutput:
        """Poses (B, T', J, 3) mm, camera axes, of keypoints (B, T, J, 2) px in cameras (B,)."""
        seen = self.see(pixels, None, cameras)
        return to_camera(self(seen.keypoints), seen.rotation)

    def see(
        self, pixels: Tensor, visible: Tensor | None, cameras: Camera, confidence: Tensor | None = None
    ) -> Seen:
        """The lifter's input of keypoints (B, T, J, 2) px in cameras (B,), and how its view turned the camera.

        visible (B, T, J) bool, None for all; confidence (B, T, J), left out: 1 where visible. For the view screen the
        image sizes are all that is read of the cameras.
        """
        if self.sees_screen:
            seen = Seen(fill_missing(normalise_screen(pixels, cameras.width, cameras.height), visible), None)
        else:
            seen = look(self.view, cameras.unproject(pixels), visible, self.skeleton.root)
        if not self.reads_confidence:
            return seen
        if confidence is None:
            confidence = torch.ones_like(pixels[..., 0]) if visible is None else visible.to(pixels)
        return Seen(torch.cat([seen.keypoints, confidence.unsqueeze(-1)], -1), seen.rotation)

    def see_poses(self, poses: Tensor, cameras: Camera) -> Seen:
        """As `see`, of the exact projections of poses (B, T, J, 3) mm, camera frame, in cameras (B,)."""
        if self.sees_screen:
            return self.see(cameras.project(poses), None, cameras)
        rays = poses[..., :2] / poses[..., 2:].clamp_min(_NEAREST_MM)  # a projection and its inverse, without the lens
        seen = look(self.view, rays, None, self.skeleton.root)
        if not self.reads_confidence:
            return seen
        return Seen(torch.cat([seen.keypoints, torch.ones_like(poses[..., :1])], -1), seen.rotation)

    def lift_screen(self, keypoints: Tensor, cameras: Camera | None) -> LifterOutput:
        """Poses (B, T', J, 3) mm, camera axes, of screen-normalised keypoints (B, T, J, 2) in cameras (B,).

        Without cameras the lifter must see the screen itself.
        """
        if self.sees_screen and not self.reads_confidence:
            return self(keypoints)  # type: ignore[no-any-return]
        if cameras is None:
            raise ConfigError(f"{self.name} with view={self.options['view']} cannot lift screen keypoints alone.")
        return self.lift(denormalise_screen(keypoints, cameras.width, cameras.height), cameras)

    @property
    def sees_screen(self) -> bool:
        """Whether the input is screen-normalised pixels, without a virtual camera."""
        return self.view == VIEWS["screen"]

    @property
    def sees_windows(self) -> bool:
        """Whether the same frame may look different in two windows, so that work on it cannot be shared."""
        return self.view.looks and self.frames > 1

    @property
    def mirror_signs(self) -> tuple[float, ...]:
        """Sign of each input channel in the mirror."""
        tokens = [_MIRRORED.get(token, 1.0) for token in self.view.tokens]
        return (-1.0, 1.0, *tokens, *[1.0] * self.reads_confidence)

    def encode_windows(self, frames: Tensor, windows: Tensor) -> Tensor:
        """Latent of windows (B, T), which number frames (N, J, inputs).

        A lifter whose first layers see one frame alone runs them once a frame here, for all windows that hold it.
        """
        return self.encode(gather_frames(frames, windows))

    def lift_windows(self, frames: Tensor, windows: Tensor, half: bool = False) -> LifterOutput:
        """Poses (B, T', J, 3) mm of windows as `encode_windows` takes them; `half` encodes in bfloat16."""

        def lifted(some: Tensor) -> LifterOutput:
            with torch.autocast(frames.device.type, torch.bfloat16, enabled=half):
                latent = self.encode_windows(frames, some)
            return self.decode(latent.to(frames))  # in full: bfloat16 would round a joint 1 m away by up to 2 mm

        return self._in_parts(windows, lifted)

    def _in_parts(self, windows: Tensor, run: Callable[[Tensor], LifterOutput]) -> LifterOutput:
        """What `run` makes of windows (B, T, ...): all at once, or some after the other where `cached_frames` says so.

        Batch norm in training sees the whole batch, a compiled program is of one piece, and a gradient would keep all
        features anyway.
        """
        learns = self.training or torch.is_grad_enabled()
        if not self.cached_frames or learns or windows.device.type != "cpu" or torch.compiler.is_compiling():
            return run(windows)
        count = max(self.cached_frames // self.frames, 1)
        parts = [run(some) for some in torch.split(windows, count)]
        scales = [part.log_sigma for part in parts if part.log_sigma is not None]
        return LifterOutput(torch.cat([part.pose for part in parts]), torch.cat(scales) if scales else None)

    @property
    def has_sigma(self) -> bool:
        """Whether the output carries `log_sigma`."""
        return bool(self.options.get("sigma", False))

    def check_keypoints(self, keypoints: Tensor) -> None:
        """Raise ShapeError unless keypoints are (B, T, J, inputs), B > 0, with the lifter's joints and window."""
        frames = f"at least {self.frames}" if self.slides else str(self.frames)
        wrong = (
            keypoints.ndim != 4
            or keypoints.shape[0] == 0
            or keypoints.shape[2:] != (self.skeleton.num_joints, self.inputs)
            or keypoints.shape[1] < self.frames
            or (keypoints.shape[1] > self.frames and not self.slides)
        )
        if wrong:
            raise ShapeError(
                f"{self.name or type(self).__name__} takes {self.skeleton.name} keypoints "
                f"(B, T, {self.skeleton.num_joints}, {self.inputs}) with B at least 1 and T {frames}, "
                f"got {tuple(keypoints.shape)}."
            )

    def to_output(self, metres: Tensor, log_metres: Tensor | None = None) -> LifterOutput:
        """LifterOutput of network values: metres (B, T', J-1 or J, 3), log metres (B, T', J-1) of scale.

        A network that predicts the root too has that row replaced by 0, as the published evaluations do; the
        other joints are left as they are.
        """
        root = self.skeleton.root
        after = root + (metres.shape[-2] == self.skeleton.num_joints)
        zero = metres.new_zeros(*metres.shape[:-2], 1, 3)
        pose = MM_PER_METRE * torch.cat([metres[..., :root, :], zero, metres[..., after:, :]], -2)
        if log_metres is None:
            return LifterOutput(pose)
        log_mm = log_metres + LOG_MM_PER_METRE
        unit = log_mm.new_zeros(*log_mm.shape[:-1], 1)
        return LifterOutput(pose, torch.cat([log_mm[..., :root], unit, log_mm[..., root:]], -1))


def to_camera(output: LifterOutput, rotation: Tensor | None) -> LifterOutput:
    """Poses in camera axes of an output in a view's, with the view's rotation (B, 3, 3); None leaves it as it is."""
    if rotation is None:
        return output
    return LifterOutput(rotate(rotation.mT, output.pose), output.log_sigma)


def gather_frames(frames: Tensor, windows: Tensor) -> Tensor:
    """(N, ...), numbers (B, T) -> (B, T, ...)."""
    return frames.index_select(0, windows.flatten()).view(*windows.shape, *frames.shape[1:])


def init_sigma_head(head: nn.Linear | nn.Conv1d) -> None:
    """Let a scale head say START_SIGMA_METRES for every joint, whatever its input."""
    nn.init.zeros_(head.weight)
    if head.bias is not None:
        nn.init.constant_(head.bias, math.log(START_SIGMA_METRES))


def check_range(option: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigError(f"The lifter option {option}={value} is outside [{low}, {high}].")


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode inside; each submodule's own mode afterwards."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def one_line(error: BaseException) -> str:
    """An error's text on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
