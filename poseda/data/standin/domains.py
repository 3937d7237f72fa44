"""The stand-ins of Human3.6M and MPI-INF-3DHP: bodies, actions, cameras, and places of people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from poseda.data.clips import LabelledClips, Provenance
from poseda.data.domains import Domain, DomainConfig
from poseda.data.standin.bodies import H36M_BODY, NARROW_BODY, draw_bodies
from poseda.data.standin.generate import generate_motion
from poseda.data.standin.statistics import FPS, load_statistics
from poseda.data.views import Take, see_takes
from poseda.geometry.rigs import Rig, load_rig
from poseda.geometry.rotations import yaw_matrix
from poseda.skeleton import get_skeleton

FRAMES_PER_TAKE = 200

EVERYDAY = {"walk": 3.0, "sit": 7.0, "drink": 2.0, "laugh": 2.0, "direct": 2.0, "reach": 2.0, "kick": 0.5}
EVERYTHING = {
    "walk": 2.0, "sit": 2.0, "drink": 1.0, "reach": 2.0, "exercise": 3.0, "boxing": 2.0, "kick": 2.0,
    "dance": 3.0, "basketball": 2.0, "playground": 3.0, "climb": 1.0, "run": 1.0, "jump": 2.0, "direct": 1.0,
    "uneven": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One split of a stand-in."""

    rig: str
    """The cameras."""
    subjects: Mapping[str, tuple[int, ...]]
    """The cameras that see each subject; takes go round them in turn."""
    takes: int
    """Takes of 200 frames for each subject."""
    body: Mapping[str, float]
    """Typical bone lengths, mm."""
    spread: float
    """How much people differ in size."""
    actions: Mapping[str, float]
    """Classes of action and how often each comes."""
    reach: float
    """How far poses go from the mean of their take."""
    sideways_mm: float
    """People stand up to this far off the optical axis."""
    depth_mm: tuple[float, float]
    """People stand this far from the camera, along the floor; (0, 0) = round the axes' meeting point."""


def make_h36m_standin(config: DomainConfig) -> Domain:
    """Everyday actions of wide-hipped people amid four far cameras: S1 S5 S6 S7 S8; S9 S11 to test."""
    groups = load_rig("h36m").groups
    train, test = (
        Part(
            "h36m",
            {name: groups[name] for name in names},
            takes,
            H36M_BODY,
            0.04,
            EVERYDAY,
            1.0,
            650.0,
            (0.0, 0.0),
        )
        for names, takes in ((("S1", "S5", "S6", "S7", "S8"), 50), (("S9", "S11"), 16))
    )
    return _domain("h36m", "Human3.6M", train, test, config.seed)


def make_3dhp_standin(config: DomainConfig) -> Domain:
    """Many actions of narrow-hipped people anywhere before near, low cameras: S1 to S8; TS1 to TS6."""
    every = tuple(range(len(load_rig("3dhp_vnect8").cameras)))
    people = {f"S{n}": every for n in range(1, 9)}
    depth = (2100.0, 4200.0)
    train = Part("3dhp_vnect8", people, 13, NARROW_BODY, 0.06, EVERYTHING, 1.2, 600.0, depth)
    cameras = {f"TS{n}": (0,) if n <= 4 else (1,) for n in range(1, 7)}
    test = Part("3dhp_test", cameras, 6, NARROW_BODY, 0.06, EVERYTHING, 1.2, 600.0, depth)
    return _domain("3dhp", "MPI-INF-3DHP", train, test, config.seed)


def _domain(name: str, real: str, train: Part, test: Part, seed: int) -> Domain:
    generator = torch.Generator().manual_seed(seed)
    notes = (
        f"stand-in for {real}: generated motion (statistics of CMU motion capture) seen through the "
        f"published cameras of {real}; it has that data set's kinds of gap but none of its frames, so what "
        f"is measured on it is no {real} result"
    )
    provenance = Provenance(name, "stand-in", load_statistics().licence, "metric", "gt", notes)
    return Domain(name, _make(train, provenance, generator), _make(test, provenance, generator))


def _make(part: Part, provenance: Provenance, generator: torch.Generator) -> LabelledClips:
    rig = load_rig(part.rig)
    classes = _draw_classes(part, generator)
    bodies = draw_bodies(dict(part.body), len(part.subjects), part.spread, generator)
    lengths = bodies.repeat_interleave(part.takes, 0)
    world = generate_motion(load_statistics(), classes, FRAMES_PER_TAKE, lengths, part.reach, generator)
    takes = _takes(part, classes)
    cameras = torch.tensor([take.cameras[0] for take in takes])
    world = world + _places(part, rig, cameras, generator)[:, None, None]
    bounds = torch.arange(len(takes) + 1) * FRAMES_PER_TAKE
    return see_takes(world.flatten(0, 1), bounds, takes, rig.cameras, get_skeleton("h36m17"), FPS, provenance)


def _draw_classes(part: Part, generator: torch.Generator) -> Tensor:
    """The class of each take: (N,) int64."""
    statistics = load_statistics()
    numbers = torch.tensor([statistics.index(name) for name in part.actions])
    weights = torch.tensor(list(part.actions.values()))
    drawn = torch.multinomial(weights, part.takes * len(part.subjects), replacement=True, generator=generator)
    return numbers[drawn]


def _takes(part: Part, classes: Tensor) -> list[Take]:
    """One take a class: subject by subject, each take through the subject's next camera."""
    actions = [load_statistics().classes[number] for number in classes.tolist()]
    return [
        Take(
            f"{subject}/take{number}",
            subject,
            actions[place * part.takes + number],
            (cameras[number % len(cameras)],),
        )
        for place, (subject, cameras) in enumerate(part.subjects.items())
        for number in range(part.takes)
    ]


def _places(part: Part, rig: Rig, cameras: Tensor, generator: torch.Generator) -> Tensor:
    """Where each take stands: cameras (N,) -> (N, 3) mm, world, on the floor."""
    draws = torch.rand(len(cameras), 2, generator=generator)
    nearest, farthest = part.depth_mm
    if nearest == farthest:
        return torch.cat([rig.centre_mm[:2] + (draws * 2 - 1) * part.sideways_mm, torch.zeros(len(cameras), 1)], -1)
    camera = rig.cameras[cameras]
    position, forward = camera.centre(), camera.R[:, 2].clone()
    position[:, 2], forward[:, 2] = 0.0, 0.0  # down to the floor
    forward = torch.nn.functional.normalize(forward, dim=-1)
    right = forward @ yaw_matrix(torch.tensor(-math.pi / 2)).T
    depth = nearest + draws[:, :1] * (farthest - nearest)
    return position + depth * forward + (draws[:, 1:] * 2 - 1) * part.sideways_mm * right
