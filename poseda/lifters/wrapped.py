"""Any user's nn.Module as a lifter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from poseda.errors import ConfigError, ShapeError, choose
from poseda.lifters.base import MM_PER_METRE, Lifter, LifterOutput, OutputForm, evaluation_mode, gather_frames, one_line
from poseda.skeleton import Skeleton, get_skeleton

_SCALES = {"m": MM_PER_METRE, "mm": 1.0}


class _Reached(Exception):
    """Ends a forward pass at the latent."""


def wrap(
    module: nn.Module,
    skeleton: str = "h36m17",
    frames: int = 1,
    units: Literal["m", "mm"] = "m",
    latent: str | None = None,
) -> Lifter:
    """A lifter of a module that maps screen-normalised keypoints (B, frames, J, 2) to poses (B, T', J, 3).

    T' is `frames` (seq2seq) or 1 (seq2frame), in camera axes and `units`; the root joint is subtracted.
    `latent` names a submodule, as in module.named_modules(), whose output stands between encode and decode;
    without one the latent is the 2D input itself. The module is run on random keypoints: raises ShapeError
    where it gives another shape, ConfigError where its poses depend on more than the latent.
    """
    if not isinstance(module, nn.Module):
        raise ConfigError(f"wrap takes a torch.nn.Module; got {type(module).__name__}.")
    choose(units, _SCALES, "unit")
    if latent is not None:
        choose(latent, [name for name, _ in module.named_modules() if name], "submodule")
    joints = get_skeleton(skeleton)
    keypoints = _probe_keypoints(module, frames, joints)
    with evaluation_mode(module):
        form = _output_form(_run_once(module, keypoints), frames, joints)
        lifter = WrappedLifter(module, joints, frames, form, units, latent)
        if latent is not None:
            lifter.find_split(keypoints)
    lifter.training = module.training  # not train(): parts of the module may have a mode of their own
    return lifter


class WrappedLifter(Lifter):
    """What `wrap` makes. With a named latent, decode runs the module with that submodule's output given."""

    name = "wrapped"

    def __init__(
        self,
        module: nn.Module,
        skeleton: Skeleton,
        frames: int,
        output: OutputForm,
        units: Literal["m", "mm"],
        latent: str | None,
    ) -> None:
        options = {"units": units, "latent": latent, "module": type(module).__qualname__}
        super().__init__(skeleton=skeleton, frames=frames, output=output, options=options)
        self.module = module
        self.scale = _SCALES[units]
        self.latent = latent
        self.rows_per_sample = 1

    def forward(self, keypoints: Tensor) -> LifterOutput:
        """Poses (B, T', J, 3) mm of screen-normalised keypoints (B, T, J, 2), in one pass of the module."""
        self.check_keypoints(keypoints)
        return self._output(self.module(keypoints))

    def lift_windows(self, frames: Tensor, windows: Tensor, half: bool = False) -> LifterOutput:
        """Poses (B, T', J, 3) mm of windows (B, T) of frames (N, J, 2), in one pass; `half`: in bfloat16."""
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=half):
            pose = self.module(gather_frames(frames, windows))
        return self._output(pose.to(frames))

    def encode(self, keypoints: Tensor) -> Tensor:
        """(B, T, J, 2) -> output of the named submodule, or the keypoints themselves."""
        if self.latent is None:
            return keypoints
        found: list[Tensor] = []

        def keep(output: Tensor) -> Tensor:
            found.append(output)
            raise _Reached

        with self._at_latent(keep):
            try:
                self.module(keypoints)
            except _Reached:
                return found[0]
        raise ConfigError(f"The module does not run its submodule '{self.latent}'; choose another latent.")

    def decode(self, latent: Tensor) -> LifterOutput:
        """Poses of a latent. Raises ConfigError in training mode with a named latent.

        What comes before the latent runs on zeros, which must not reach a batch norm's statistics.
        """
        if self.latent is None:
            return self._output(self.module(latent))
        if self.module.training:
            raise ConfigError("decode() of a wrapped module with a latent needs eval(): its first part runs on zeros.")
        samples = latent.shape[0] // self.rows_per_sample
        zeros = latent.new_zeros(samples, self.frames, self.skeleton.num_joints, 2)
        with self._at_latent(lambda _: latent):
            return self._output(self.module(zeros))

    def find_split(self, keypoints: Tensor) -> None:
        """Learn the latent's rows per sample; ConfigError unless the poses follow from the latent alone."""
        with torch.no_grad():
            latent = self.encode(keypoints)
            self.rows_per_sample = max(latent.shape[0] // keypoints.shape[0], 1)
            whole = self._output(self.module(keypoints)).pose
            try:
                split = self.decode(latent).pose
            except RuntimeError as error:
                raise ConfigError(f"The module cannot be run from '{self.latent}' on: {one_line(error)}") from error
        if split.shape != whole.shape or not torch.allclose(split, whole, rtol=1e-3, atol=1e-2):
            raise ConfigError(
                f"The module's poses do not follow from the output of '{self.latent}' alone (something goes "
                "around it); name a later submodule, or leave latent out to use the 2D input."
            )

    def _output(self, pose: Tensor) -> LifterOutput:
        root = self.skeleton.root
        return LifterOutput((pose - pose[..., root : root + 1, :]) * self.scale)

    @contextmanager
    def _at_latent(self, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Let `replace` change the named submodule's output."""

        def hook(_module: nn.Module, _inputs: object, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise ConfigError(f"The submodule '{self.latent}' gives a {type(output).__name__}, not a tensor.")
            return replace(output)

        handle = self.module.get_submodule(self.latent or "").register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


def _probe_keypoints(module: nn.Module, frames: int, skeleton: Skeleton) -> Tensor:
    """Two windows of random keypoints (2, frames, J, 2) in [-1, 1], where and as the module's weights are."""
    if frames < 1:
        raise ConfigError(f"frames={frames}: a window has at least 1 frame.")
    keypoints = torch.rand(2, frames, skeleton.num_joints, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    weight = next((p for p in module.parameters() if p.is_floating_point()), keypoints)
    return keypoints.to(weight)


def _run_once(module: nn.Module, keypoints: Tensor) -> object:
    try:
        with torch.no_grad():
            return module(keypoints)
    except Exception as error:  # whatever a user's module raises on our input
        raise ShapeError(
            f"{type(module).__name__} fails on keypoints {tuple(keypoints.shape)}: {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error


def _output_form(pose: object, frames: int, skeleton: Skeleton) -> OutputForm:
    """Form of an output for a batch of two; raises ShapeError for anything that is not finite poses."""
    want = f"a tensor (B, {frames}, {skeleton.num_joints}, 3)"
    want += f" or (B, 1, {skeleton.num_joints}, 3)" if frames > 1 else ""
    if not isinstance(pose, Tensor):
        raise ShapeError(f"The module must return {want}, not a {type(pose).__name__}.")
    joints = (skeleton.num_joints, 3)
    if pose.ndim != 4 or pose.shape[0] != 2 or pose.shape[2:] != joints or pose.shape[1] not in (1, frames):
        raise ShapeError(f"The module must return {want}; with B = 2 it returned {tuple(pose.shape)}.")
    if not bool(torch.isfinite(pose).all()):
        raise ShapeError("The module returns values that are not finite.")
    return "seq2seq" if pose.shape[1] == frames else "seq2frame"
