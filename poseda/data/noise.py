"""2D detector noise: a published fit of jitter and outliers, left/right swaps, misses, all lasting in time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain

import torch
from torch import Tensor

from poseda.data.checks import MINIMUM_VISIBLE
from poseda.data.clips import AnyClips
from poseda.data.windows import sequence_limits
from poseda.errors import ConfigError
from poseda.geometry.boxes import pixel_box
from poseda.skeleton import Skeleton, constant_tensor, get_skeleton, index_tensor

# PoseLifter (Chang, Moon, Lee, arXiv:1910.12029): fit of a mixture to a detector's errors on Human3.6M, as
# released in Pose2Mesh: mean x, mean y, std x, std y in px of a 256 px person crop, and the share of
# outliers, which lie uniformly within 50 px. Human3.6M-17 order.
_ERRORS = (
    (-0.06, -2.37, 1.33, 2.13, 0.00), (-0.83, -2.07, 3.41, 2.69, 0.00), (-0.04, -1.01, 1.74, 2.20, 0.05),
    (0.52, -3.40, 1.39, 2.14, 0.07), (0.78, -2.79, 3.26, 2.28, 0.00), (0.42, -0.15, 1.53, 1.99, 0.06),
    (-0.15, -3.78, 1.39, 2.39, 0.07), (-0.05, 0.10, 1.36, 1.74, 0.01), (0.14, -2.56, 1.18, 1.15, 0.01),
    (0.13, -0.26, 0.78, 0.59, 0.02), (0.09, 0.49, 1.35, 0.87, 0.01), (-0.19, 0.31, 2.51, 1.48, 0.01),
    (0.11, -0.60, 1.79, 1.76, 0.05), (-0.02, 0.88, 2.02, 2.10, 0.09), (0.52, -0.12, 2.23, 1.73, 0.01),
    (0.06, -0.44, 1.93, 1.63, 0.05), (0.05, 0.16, 2.02, 2.24, 0.10),
)  # fmt: skip
_OUTLIER_PX = 50.0  # of the 256 px crop
_CROP_PX = 256.0

# PoseFix's states of a fully visible person, after Ronchi and Perona (ICCV 2017), on COCO: the share of joints that
# change places with their twin, and of joints that are missed (the trunk, which COCO lacks, as the shoulders). On
# indoor footage they are about a tenth: an estimate.
_SWAPS = {"arm": 0.03, "leg": 0.06, "other": 0.01}
_LIMBS = {"shoulder": "arm", "elbow": "arm", "wrist": "arm", "hip": "leg", "knee": "leg", "ankle": "leg"}
_MISSES = {
    "nose": 0.02, "head": 0.02, "thorax": 0.05, "spine": 0.05, "pelvis": 0.05, "shoulder": 0.05, "elbow": 0.10,
    "wrist": 0.10, "hip": 0.10, "knee": 0.10, "ankle": 0.05,
}  # fmt: skip
_TWIN_NEAR = 0.05  # of the box: of two twins so near in the image, one often hides the other
_NEAR_MISSES, _OUTLIER_MISSES = 2.0, 3.0  # how many times likelier a miss then is, and for an outlier
_LEAST_LEFT = 0.5  # of the visible joints: no detector gives a pose with fewer, so such a frame loses none

_LEVELS = {
    # Mean error in px of fine-tuned detectors on Human3.6M (EvoSkeleton's README); of detectors trained on COCO alone,
    # 8 to 12. And the share of PoseFix's rates.
    "cpn": (5.4, 0.1),
    "hrnet": (4.4, 0.08),
    "wild": (10.0, 1.0),
}
# Mean errors in px of visible joints at a 400 px box over Human3.6M's 17 joints, by Monte Carlo (the tests repeat it):
_FIT_PX = 6.31  # of the fit alone
_MISSED_PX = 0.38  # what misses, which meet outliers most, take off it at PoseFix's full rates
_SWAP_PX = 1.87  # what swaps add at the full rates: 1.85 on CMU's motion, 1.88 on the stand-in, 2.3 on HDM05
_RHO = 0.8  # correlation of the jitter over 20 ms; detectors' errors persist (0.7 to 0.9)
_BURST_MS = (60.0, 300.0)  # how long an outlier, a swap or a miss lasts: 3 to 15 frames at 50 Hz

_SURE, _DOUBT_PX = 0.97, 14.0  # confidence is about _SURE exp(-error / _DOUBT_PX), error in px of the crop,
_CONFIDENCE_SPREAD = 0.8  # with this much noise on its log odds
_LEAST_CONFIDENCE = 0.02  # of a joint that is there


def noise_level(level: str | float) -> tuple[float, float]:
    """Mean error in px at a 400 px box, and share of the full swap and miss rates, of a level; else ConfigError.

    A number has CPN's rates, and in proportion fewer below CPN's error.
    """
    if isinstance(level, str) and level in _LEVELS:
        return _LEVELS[level]
    try:
        pixels = float(level)
    except ValueError:
        pixels = float("nan")
    if not 0.0 < pixels < 100.0:
        raise ConfigError(f"noise={level}: expected none, {', '.join(_LEVELS)}, or px at a 400 px box (0 to 100).")
    error, share = _LEVELS["cpn"]
    return pixels, share * min(1.0, pixels / error)


def add_detector_noise(clips: AnyClips, level: str | float, generator: torch.Generator) -> AnyClips:
    """The clips with noisy 2D: level is "cpn" (5.4 px), "hrnet" (4.4 px), "wild" (10 px, many swaps and misses) or the
    mean error in px of the visible joints at a 400 px box.

    Jitter and outliers grow with the longer side of the person's box; outliers, left/right swaps and misses come in
    bursts. Confidence falls with the error; a missed joint has confidence 0 and keypoint 0. Draws come from
    `generator` alone, on its device.
    """
    seen = Seen(clips.keypoints, clips.confidence, clips.bounds, clips.fps, clips.skeleton)
    keypoints, confidence = noisy_keypoints(seen, level, generator)
    name = f"{clips.provenance.keypoints}+{level if isinstance(level, str) else f'{level:g}'}"
    return clips.with_keypoints(keypoints, confidence, f"{name} noise")


@dataclass(frozen=True, eq=False)
class Seen:
    """2D of consecutive frames, as much of it as the noise depends on."""

    keypoints: Tensor
    """(F, J, 2) px."""
    confidence: Tensor
    """(F, J) in [0, 1]; 0 = missing."""
    bounds: Tensor
    """(S + 1,) int64: the sequences, as clips have them."""
    fps: float
    """Frames a second."""
    skeleton: Skeleton
    """Joint order."""
    each: int | None = None
    """Frames of every sequence, where that is known and the same for all."""

    @cached_property
    def limits(self) -> tuple[Tensor, Tensor]:
        """(F,), (F,) int64: first and last frame of each frame's sequence."""
        return sequence_limits(self.bounds, len(self.keypoints))

    @property
    def visible(self) -> Tensor:
        """(F, J) bool: keypoints that are there."""
        return self.confidence > 0


def noisy_keypoints(seen: Seen, level: str | float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Keypoints (F, J, 2) px and confidence (F, J) as `add_detector_noise` gives them to clips."""
    pixels, share = noise_level(level)
    scale = (pixels - share * _SWAP_PX) / (_FIT_PX - share * _MISSED_PX)
    bursts = _Bursts(seen, generator)
    box = torch.maximum(*pixel_box(seen.keypoints, seen.visible)).unsqueeze(-1)  # (F, 1) px, the longer side
    shape = tuple(seen.keypoints.shape)
    errors, outlier = _errors(seen.skeleton, _normal(shape, seen, generator), bursts)
    swapped = _swapped(seen.skeleton, share, bursts, seen.keypoints)
    keypoints = exchange_twins(seen.keypoints, seen.visible, swapped, seen.skeleton)
    keypoints = keypoints + errors * scale * (box / _CROP_PX).unsqueeze(-1)
    distance = (keypoints - seen.keypoints).norm(dim=-1) * _CROP_PX / box.clamp(min=1.0)
    confidence = seen.confidence * _sureness(distance, _normal(shape[:2], seen, generator))
    missed = _missed(seen, box, outlier, share, bursts)
    return keypoints.masked_fill(missed.unsqueeze(-1), 0.0), confidence.masked_fill(missed, 0.0)


def exchange_twins(keypoints: Tensor, visible: Tensor, swapped: Tensor, skeleton: Skeleton) -> Tensor:
    """Keypoints (F, J, 2) where swapped (F, J) joints that are visible (F, J), like their twin, lie at the twin."""
    mirror = skeleton.mirror_index(keypoints)
    exchanged = swapped & swapped[:, mirror] & visible & visible[:, mirror]
    return torch.where(exchanged.unsqueeze(-1), keypoints[:, mirror], keypoints)


def autoregress(fresh: Tensor, first: Tensor, rho: float, longest: int | None = None) -> Tensor:
    """Unit-variance AR(1) noise from white noise (F, ...), restarted at each sequence's first frame first
    (F,). `longest` is the most frames of a sequence, where that is known.

    x_t = rho x_(t-1) + sqrt(1 - rho^2) e_t, by doubling: after step k each frame sums its last 2^k
    innovations.
    """
    frame = torch.arange(len(first), device=first.device)
    start = frame == first
    shape = (-1, *(1,) * (fresh.dim() - 1))
    noise = torch.where(start.view(shape), fresh, fresh * (1 - rho * rho) ** 0.5)
    reach = 1
    while rho**reach > 1e-4 and reach < (longest or len(first)):
        inside = (frame[reach:] - reach >= first[reach:]).view(shape)
        noise = torch.cat([noise[:reach], noise[reach:] + rho**reach * noise[:-reach] * inside])
        reach *= 2
    return noise


class _Bursts:
    """Random events that last some frames, stay inside a sequence, and are as frequent at its start as later."""

    def __init__(self, seen: Seen, generator: torch.Generator) -> None:
        self.first, self.last = (limit.unsqueeze(-1) for limit in seen.limits)  # (F, 1)
        self.frame = torch.arange(len(self.first), device=seen.bounds.device).unsqueeze(-1)  # (F, 1)
        self.generator = generator
        self.each = seen.each or max(len(self.first), 1)
        self.mean, self.whole, self.rest = _burst_lengths(seen.fps)

    def draw(self, share: Tensor, values: int = 1) -> tuple[Tensor, Tensor]:
        """Events that each hold a share (K,) of the frames: where they are (F, K) bool, and uniform numbers
        (F, K, values) that stay the same during a burst.
        """
        start = self.frame == self.first
        chance = 1 - (1 - share) ** (1 / self.mean)  # of a burst to begin, so that any covers a frame with p = share
        begins = self._uniform(len(share), like=share) < torch.where(start, share, chance)
        place = self._uniform(len(share), like=share)
        length = torch.where(start, _number(place, self.rest), _number(place, self.whole))
        end = torch.where(begins, torch.minimum(self.frame + length, self.last + 1), 0)
        # sequences of one length are scanned side by side: a burst ends with its sequence
        end, begun = end.view(-1, self.each, len(share)).cummax(1)
        drawn = self._uniform(len(share), values, like=share).view(-1, self.each, len(share), values)
        drawn = drawn.gather(1, begun.unsqueeze(-1).expand_as(drawn))
        return end.flatten(0, 1) > self.frame, drawn.flatten(0, 1)

    def _uniform(self, *shape: int, like: Tensor) -> Tensor:
        size = (len(self.frame), *shape)
        return torch.rand(size, generator=self.generator, device=self.generator.device).to(like)


@cache
def _burst_lengths(fps: float) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Frames that a burst lasts: their mean; P(length < k) for k from 1 on; and P(rest < k), the rest being what is
    left of a burst that is under way at a sequence's first frame."""
    low, high = (max(1, round(limit * fps / 1000.0)) for limit in _BURST_MS)
    lasting = torch.tensor([min(1.0, (high + 1 - k) / (high + 1 - low)) for k in range(1, high + 1)])
    mean = float(lasting.sum())  # lasting[k - 1] = P(length >= k)
    rest = torch.cat([lasting.new_zeros(1), lasting.cumsum(0)[:-1]]) / mean
    return mean, tuple((1 - lasting).tolist()), tuple(rest.tolist())


def _number(uniform: Tensor, below: tuple[float, ...]) -> Tensor:
    """The whole numbers k from 1 on whose distribution is below (L,) = P(number < k), from uniform ones."""
    return torch.searchsorted(_constant(below, uniform), uniform, right=True)


def _constant(values: Iterable[float], like: Tensor) -> Tensor:
    """Numbers as a tensor of the type and on the device of `like`, where they are copied once."""
    return constant_tensor(tuple(values), like.dtype, like.device)


def _normal(shape: tuple[int, ...], seen: Seen, generator: torch.Generator) -> Tensor:
    """Unit Gaussian noise (F, ...), autoregressive inside a sequence."""
    white = torch.randn(shape, generator=generator, device=generator.device).to(seen.keypoints)
    return autoregress(white, seen.limits[0], _RHO ** (50.0 / seen.fps), seen.each)


def _fitted(skeleton: Skeleton) -> tuple[int, ...]:
    """The joint of Human3.6M-17 whose statistics each joint takes: itself, or the nearest above it in the tree."""
    known = get_skeleton("h36m17").joints

    def nearest(joint: int) -> int:
        while skeleton.joints[joint] not in known:
            if skeleton.parents[joint] == -1:
                return known.index("thorax")
            joint = skeleton.parents[joint]
        return known.index(skeleton.joints[joint])

    return tuple(nearest(joint) for joint in range(skeleton.num_joints))


def _parts(skeleton: Skeleton) -> list[str]:
    """Names of the fitted joints without their side."""
    model = get_skeleton("h36m17")
    return [model.joints[i][1:] if model.mirror[i] != i else model.joints[i] for i in _fitted(skeleton)]


def _swapped(skeleton: Skeleton, share: float, bursts: _Bursts, like: Tensor) -> Tensor:
    """Joints (F, J) bool that change places with their twins: a whole pair of limbs, or one joint of each."""
    limbs = index_tensor(tuple(list(_SWAPS).index(_LIMBS.get(part, "other")) for part in _parts(skeleton)), like.device)
    # either kind has half the share; a joint under both is swapped
    rates = 1 - (1 - share * _constant(_SWAPS.values(), like)) ** 0.5
    whole, _ = bursts.draw(rates)
    single, _ = bursts.draw(rates[limbs])
    one_of_two = index_tensor(tuple(map(min, enumerate(skeleton.mirror))), like.device)
    return whole[:, limbs] | single[:, one_of_two]


def _errors(skeleton: Skeleton, noise: Tensor, bursts: _Bursts) -> tuple[Tensor, Tensor]:
    """Errors (F, J, 2) in px of the crop as the fit has them, from unit noise (F, J, 2); which are outliers (F, J)."""
    table = _constant(chain(*(_ERRORS[i] for i in _fitted(skeleton))), noise).view(-1, 5)
    outlier, place = bursts.draw(table[:, 4], 2)
    jitter = table[:, :2] + table[:, 2:4] * noise
    return torch.where(outlier.unsqueeze(-1), (place * 2 - 1) * _OUTLIER_PX, jitter), outlier


def _missed(seen: Seen, box: Tensor, outlier: Tensor, share: float, bursts: _Bursts) -> Tensor:
    """Joints (F, J) bool that the detector misses: outliers (F, J) and joints near their twin more than others."""
    skeleton = seen.skeleton
    rates = share * _constant((_MISSES[part] for part in _parts(skeleton)), seen.keypoints)
    apart = (seen.keypoints - seen.keypoints[:, skeleton.mirror_index(seen.keypoints)]).norm(dim=-1)
    paired = skeleton.mirror_index(apart) != torch.arange(len(rates), device=apart.device)
    factor = torch.where(paired & (apart < _TWIN_NEAR * box), _NEAR_MISSES, 1.0)
    factor = torch.where(outlier, _OUTLIER_MISSES, factor)
    burst, place = bursts.draw(_OUTLIER_MISSES * rates)  # of which part is used where the factor is less
    missed = burst & (place.squeeze(-1) * _OUTLIER_MISSES < factor) & seen.visible
    there = seen.visible.sum(-1, keepdim=True)
    left = there - missed.sum(-1, keepdim=True)
    return missed & (left >= (_LEAST_LEFT * there).clamp(min=MINIMUM_VISIBLE))


def _sureness(distance: Tensor, noise: Tensor) -> Tensor:
    """Confidence (F, J) from the error (F, J) in px of the crop and unit noise (F, J)."""
    likely = _SURE * torch.exp(-distance / _DOUBT_PX)
    return torch.sigmoid(torch.logit(likely, eps=1e-4) + _CONFIDENCE_SPREAD * noise).clamp(min=_LEAST_CONFIDENCE)
