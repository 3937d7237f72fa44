"""Cameras: batched pinhole with lens distortion, world and camera frames, screen normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from poseda.errors import ShapeError
from poseda.geometry.rotations import rotate
from poseda.skeleton import constant_tensor

_SHAPES: dict[str, tuple[int, ...]] = {"radial": (3,), "tangential": (2,), "R": (3, 3), "t": (3,)}
_NEWTON_STEPS = 5
_CLOSEST_MM = 1.0

Numbers = float | Sequence[float] | Sequence[Sequence[float]] | Sequence[Sequence[Sequence[float]]] | Tensor


@dataclass(frozen=True, eq=False)
class Camera:
    """N cameras. Frame x right, y down, z forward; millimetres and pixels; x_cam = R X_world + t.

    With x, y = X/Z, Y/Z and r2 = x² + y² the lens gives (tau = tangential_factor)
        x' = x (1 + k1 r2 + k2 r2² + k3 r2³) + tau p1 x y + p2 (r2 + tau x²)
        y' = y (1 + k1 r2 + k2 r2² + k3 r2³) + p1 (r2 + tau y²) + tau p2 x y
    and the pixel is (fx x' + cx, fy y' + cy). tau = 2 is OpenCV's (Brown-Conrady) model, tau = 1 that of
    Human3.6M. Each camera of a batch has its own. Raises ShapeError when a field has the wrong shape.
    """

    fx: Tensor
    """(N,) focal length along x, pixels."""
    fy: Tensor
    """(N,) focal length along y, pixels."""
    cx: Tensor
    """(N,) principal point x, pixels."""
    cy: Tensor
    """(N,) principal point y, pixels."""
    width: Tensor
    """(N,) image width, pixels."""
    height: Tensor
    """(N,) image height, pixels."""
    radial: Tensor
    """(N, 3) k1 k2 k3."""
    tangential: Tensor
    """(N, 2) p1 p2 in OpenCV's order."""
    tangential_factor: Tensor
    """(N,) 2 = OpenCV, 1 = Human3.6M."""
    R: Tensor
    """(N, 3, 3) rotation, world to camera."""
    t: Tensor
    """(N, 3) translation, world to camera, mm."""

    def __post_init__(self) -> None:
        count = self.fx.shape[0] if self.fx.ndim else 0
        for field in fields(self):
            expected, actual = (count, *_SHAPES.get(field.name, ())), tuple(getattr(self, field.name).shape)
            if actual != expected:
                raise ShapeError(f"Camera.{field.name}: expected shape {expected}, got {actual}.")

    @classmethod
    def create(
        cls,
        *,
        fx: Numbers,
        fy: Numbers,
        cx: Numbers,
        cy: Numbers,
        width: Numbers,
        height: Numbers,
        radial: Numbers = (0.0, 0.0, 0.0),
        tangential: Numbers = (0.0, 0.0),
        tangential_factor: Numbers = 2.0,
        R: Numbers | None = None,
        t: Numbers = (0.0, 0.0, 0.0),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Camera:
        """Cameras from numbers, lists or tensors, in px and mm; what is given once holds for all N cameras.

        Left out: no distortion, and a camera in the world's origin. Raises ShapeError as the class does.
        """
        given = {
            "fx": fx, "fy": fy, "cx": cx, "cy": cy, "width": width, "height": height,
            "radial": radial, "tangential": tangential, "tangential_factor": tangential_factor,
            "R": torch.eye(3) if R is None else R, "t": t,
        }  # fmt: skip
        values = {name: torch.as_tensor(value, dtype=dtype, device=device) for name, value in given.items()}
        batched = {
            name: value if value.ndim > len(_SHAPES.get(name, ())) else value[None] for name, value in values.items()
        }
        count = max(value.shape[0] for value in batched.values())
        return cls(**{name: _stretch(value, count) for name, value in batched.items()})

    def __len__(self) -> int:
        return self.fx.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the cameras are."""
        return self.fx.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of all fields."""
        return self.fx.dtype

    def _tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __getitem__(self, index: Tensor | slice | int) -> Camera:
        """Some of the cameras, by (n,) indices or mask, slice or int; the batch dimension stays."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        tensors = self._tensors()
        learned = torch.compiler.is_compiling() or any(value.requires_grad for value in tensors.values())
        if learned or not isinstance(index, Tensor) or index.ndim != 1:
            return self._made_into({name: value[index] for name, value in tensors.items()})
        chosen = torch.split(self._numbers[index], [_count(name) for name in tensors], -1)
        values = zip(tensors, chosen, strict=True)
        return self._made_into({name: value.reshape(-1, *_SHAPES.get(name, ())) for name, value in values})

    @cached_property
    def _numbers(self) -> Tensor:
        """(N, 26): all fields side by side, so that a batch of cameras is picked at once in each training step."""
        with torch.inference_mode(False):  # kept, and perhaps asked for again where gradients are
            return torch.cat([value.reshape(len(self), _count(name)) for name, value in self._tensors().items()], -1)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Camera:
        """The same cameras on another device or in another floating-point type."""
        return self._made_into({name: value.to(device, dtype) for name, value in self._tensors().items()})

    def expand(self, count: int) -> Camera:
        """One camera seen as `count` equal ones, without a copy. Raises ShapeError when there are more."""
        if len(self) != 1:
            raise ShapeError(f"Camera.expand: expected 1 camera, got {len(self)}.")
        return self._made_into({name: _stretch(value, count) for name, value in self._tensors().items()})

    @staticmethod
    def cat(cameras: Sequence[Camera]) -> Camera:
        """All cameras of a list in one batch."""
        parts = [camera._tensors() for camera in cameras]
        joined = Camera(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        joined.__dict__["pinhole"] = all(camera.pinhole for camera in cameras)
        return joined

    def without_lens(self) -> Camera:
        """The same cameras with a lens that does not distort."""
        zero = {"radial": torch.zeros_like(self.radial), "tangential": torch.zeros_like(self.tangential)}
        made = Camera(**{**self._tensors(), **zero})
        made.__dict__["pinhole"] = True
        return made

    def _made_into(self, tensors: dict[str, Tensor]) -> Camera:
        """The same cameras, or some of them, with these fields: what is known of their lenses stays known."""
        made = Camera(**tensors)
        made.__dict__["pinhole"] = self.pinhole
        return made

    @cached_property
    def pinhole(self) -> bool:
        """Whether it is known that no lens bends anything, so that nothing need be computed of it.

        That is looked up on a CPU alone, where it costs no wait, and kept by whatever is made of these cameras.
        """
        lens = (self.radial, self.tangential)
        if self.device.type != "cpu" or torch.compiler.is_compiling() or any(part.requires_grad for part in lens):
            return False
        return not any(bool(part.any()) for part in lens)

    def project(self, points: Tensor) -> Tensor:
        """Pixels by the full lens model: (N, ..., 3) mm in the camera frame -> (N, ..., 2) px.

        Differentiable; nothing is clamped to the image. Behind the camera (z < 0) the same formula yields
        finite pixels that mean nothing, and where |z| < 1 mm it takes z as 1 mm of its sign: see `in_front`.
        """
        x, y, z = points.unbind(-1)
        z = torch.where(z < 0, z.clamp_max(-_CLOSEST_MM), z.clamp_min(_CLOSEST_MM))
        x, y = x / z, y / z
        if not self.pinhole:
            x, y = _Lens.of(self, x).bent(x, y)
        u = torch.addcmul(_per_camera(self.cx, x), _per_camera(self.fx, x), x)
        v = torch.addcmul(_per_camera(self.cy, y), _per_camera(self.fy, y), y)
        return torch.stack((u, v), -1)

    def unproject(self, pixels: Tensor) -> Tensor:
        """Undistorted rays (x/z, y/z): (N, ..., 2) px -> (N, ..., 2). Inverse of `project` inside the image.

        A fixed number of Newton steps: nothing waits for the device. Differentiable: the last step carries
        the gradient of the implicit function to the pixels and the camera.
        """
        u, v = pixels.unbind(-1)
        u = (u - _per_camera(self.cx, u)) / _per_camera(self.fx, u)
        v = (v - _per_camera(self.cy, v)) / _per_camera(self.fy, v)
        if self.pinhole:
            return torch.stack((u, v), -1)
        lens = _Lens.of(self, u)
        x, y = u.detach(), v.detach()
        with torch.no_grad():
            for _ in range(_NEWTON_STEPS):
                x, y = lens.newton(x, y, u, v)
        return torch.stack(lens.newton(x, y, u, v), -1)

    def world_to_camera(self, points: Tensor) -> Tensor:
        """(N, ..., 3) mm in the world -> (N, ..., 3) mm in the camera frame."""
        return rotate(self.R, points) + _per_camera(self.t, points)

    def camera_to_world(self, points: Tensor) -> Tensor:
        """(N, ..., 3) mm in the camera frame -> (N, ..., 3) mm in the world."""
        return rotate(self.R.mT, points - _per_camera(self.t, points))

    def in_front(self, points: Tensor, minimum: float = 0.0) -> Tensor:
        """(N, ..., 3) mm in the camera frame -> (N, ...) bool: more than `minimum` mm before the camera."""
        return points[..., 2] > minimum

    def centre(self) -> Tensor:
        """(N, 3) mm: where the cameras stand in the world."""
        return rotate(self.R.mT, -self.t)


@dataclass(frozen=True, eq=False)
class _Lens:
    """A batch of lenses, and what every Newton step needs of them: fused operations, since each is a kernel of its own
    on a GPU. Numbers broadcast over (N, ...)."""

    one: Tensor
    radial: tuple[Tensor, Tensor, Tensor]
    """k1, k2, k3."""
    slopes: tuple[Tensor, Tensor, Tensor]
    """2 k1, 4 k2, 6 k3: of the derivative by r2, twice."""
    tangential: tuple[Tensor, Tensor]
    """p1, p2."""
    bending: tuple[Tensor, Tensor]
    """tau p1, tau p2."""

    @classmethod
    def of(cls, cameras: Camera, like: Tensor) -> _Lens:
        """The lenses of N cameras, for coordinates (N, ...)."""
        tau, radial = _per_camera(cameras.tangential_factor, like), _per_camera(cameras.radial, like[..., None])
        tangential = _per_camera(cameras.tangential, like[..., None])
        k1, k2, k3 = radial.unbind(-1)
        p1, p2 = tangential.unbind(-1)
        return cls(torch.ones_like(tau), (k1, k2, k3), (2 * k1, 4 * k2, 6 * k3), (p1, p2), (tau * p1, tau * p2))

    def bent(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Where rays (x, y) go through the lens: x', y' of `Camera`."""
        r2, bend = self._bend(x, y)
        return self._moved(x, y, r2, bend)

    def newton(self, x: Tensor, y: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """One Newton step from the ray (x, y) towards the ray that the lens takes to (u, v)."""
        r2, bend = self._bend(x, y)
        gu, gv = self._moved(x, y, r2, bend)
        du, dv = u - gu, v - gv
        with torch.no_grad():
            s1, s2, s3 = self.slopes
            (p1, p2), (tp1, tp2) = self.tangential, self.bending
            slope = torch.addcmul(s1, r2, torch.addcmul(s2, r2, s3))
            bend_x, bend_y = torch.addcmul(tp2, slope, x), torch.addcmul(tp1, slope, y)
            px, py = p2 * x, p1 * y
            xx = torch.addcmul(bend, x, bend_x).add_(px, alpha=2)
            yy = torch.addcmul(bend, y, bend_y).add_(py, alpha=2)
            xy = torch.addcmul(x * bend_y, p2, y, value=2)
            yx = torch.addcmul(y * bend_x, p1, x, value=2)
            det = torch.addcmul(xx * yy, xy, yx, value=-1)
        x = torch.addcdiv(x, torch.addcmul(yy * du, xy, dv, value=-1), det)
        y = torch.addcdiv(y, torch.addcmul(xx * dv, yx, du, value=-1), det)
        return x, y

    def _bend(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """r2, and what multiplies the ray: 1 + k1 r2 + k2 r2² + k3 r2³ + tau (p1 y + p2 x)."""
        k1, k2, k3 = self.radial
        r2 = torch.addcmul(x * x, y, y)
        radial = torch.addcmul(self.one, r2, torch.addcmul(k1, r2, torch.addcmul(k2, r2, k3)))
        tp1, tp2 = self.bending
        return r2, torch.addcmul(torch.addcmul(radial, tp1, y), tp2, x)

    def _moved(self, x: Tensor, y: Tensor, r2: Tensor, bend: Tensor) -> tuple[Tensor, Tensor]:
        p1, p2 = self.tangential
        return torch.addcmul(p2 * r2, x, bend), torch.addcmul(p1 * r2, y, bend)


def _count(name: str) -> int:
    """Numbers of a field of one camera."""
    return math.prod(_SHAPES.get(name, ()))


def _stretch(value: Tensor, count: int) -> Tensor:
    """(1, ...) seen as (count, ...); any other length stays for the shape check."""
    return value.expand(count, *value.shape[1:]) if value.shape[0] == 1 else value


def _per_camera(values: Tensor, like: Tensor) -> Tensor:
    """(N, ...) camera values with 1s after N, so that they broadcast over `like` (N, ..., same last dims)."""
    extra = like.ndim - values.ndim
    return values.reshape(values.shape[0], *(1,) * extra, *values.shape[1:]) if extra > 0 else values


def project_frames(cameras: Camera, points: Tensor, chunk: int = 8192) -> Tensor:
    """Pixels of many frames, a piece at a time: (F, ..., 3) mm in the camera frame -> (F, ..., 2) px, without gradient.

    `cameras` holds one camera, or one a frame. On a CPU ten times as fast as one `project` of millions of frames, whose
    intermediate results would not stay in the cache.
    """
    pixels = points.new_empty(*points.shape[:-1], 2)
    with torch.no_grad():
        for first in range(0, len(points), chunk):
            some = points[first : first + chunk]
            seen = cameras.expand(len(some)) if len(cameras) == 1 else cameras[first : first + chunk]
            pixels[first : first + chunk] = seen.project(some)
    return pixels


def has_extrinsics(cameras: Camera) -> Tensor:
    """(N,) bool: cameras that know how they stand in the world. One with R = 1 has not been told, or its world is that
    of a camera, whose z is no vertical."""
    straight = torch.eye(3, dtype=cameras.dtype, device=cameras.device)
    return (cameras.R - straight).abs().amax((1, 2)) >= 1e-6


def vertical(cameras: Camera) -> Tensor:
    """(N, 3) unit vectors that point up, in camera axes: the world's z, or -y for a camera without extrinsics."""
    return world_axes(cameras)[:, :, 2]


def world_axes(cameras: Camera) -> Tensor:
    """(N, 3, 3) world to camera, world z up; a camera without extrinsics is taken to stand level."""
    level = constant_tensor((1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0), cameras.dtype, cameras.device)
    return torch.where(has_extrinsics(cameras)[:, None, None], cameras.R, level.view(3, 3))


def normalise_screen(pixels: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Screen coordinates by the width, (N, ..., 2) px -> x/w*2-1, y/w*2-h/w. width, height: (N,) px."""
    width, height = _screen(width, pixels), _screen(height, pixels)
    return pixels * (2 / width) - _half_screen(width, height)


def denormalise_screen(points: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Pixels from screen coordinates, (N, ..., 2) -> (N, ..., 2) px: inverse of normalise_screen."""
    width, height = _screen(width, points), _screen(height, points)
    return (points + _half_screen(width, height)) * (width / 2)


def _half_screen(width: Tensor, height: Tensor) -> Tensor:
    """The image's centre in screen coordinates that start at its corner: (..., 2) = 1, h/w."""
    aspect = height / width
    return torch.cat((torch.ones_like(aspect), aspect), -1)


def _screen(size: Tensor | float, like: Tensor) -> Tensor:
    """A size in px as a tensor that broadcasts over (N, ..., 1)."""
    size = size if isinstance(size, Tensor) else like.new_full((1,), size)
    return _per_camera(size, like[..., 0]).unsqueeze(-1)
