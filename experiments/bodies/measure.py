"""How well the target's build is measured from its 2D: estimates beside the truth, for real motion and the stand-ins.

    python experiments/bodies/measure.py cmu17.npz hdm05_17.npz
    python experiments/bodies/measure.py cmu17.npz hdm05_17.npz --stretches 50 100 200 500 1000 2000

The truth is the mean over people (each counts alike) of the lengths in 3D, which no stage sees of the target.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from poseda.anthropometry import proportions
from poseda.anthropometry.height import standing_height
from poseda.anthropometry.people import people_of
from poseda.anthropometry.proportions import Anatomy, mean_lengths
from poseda.anthropometry.reference import Reference
from poseda.data.clips import LabelledClips
from poseda.data.domains import Domain, DomainConfig, load_domain


def main() -> None:
    """Print a table for each pair of domains."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n")[0])
    parser.add_argument("cmu", type=Path)
    parser.add_argument("hdm05", type=Path)
    parser.add_argument("--noise", default="none", help="detector noise on the target's 2D: none, cpn, hrnet")
    parser.add_argument("--stretches", type=int, nargs="*", default=[], metavar="FRAMES",
                        help="how well test people are measured from so many frames in a row")  # fmt: skip
    given = parser.parse_args()

    def motion(path: Path, rig: str, noise: str, **options: object) -> Domain:
        return load_domain(DomainConfig("motion", path=str(path), rig=rig, noise=noise, **options), root="")  # type: ignore[arg-type]

    def cmu(noise: str) -> Domain:
        return motion(given.cmu, "h36m", noise, every=2, test_subjects=("16", "35"))

    def hdm05(noise: str) -> Domain:
        return motion(given.hdm05, "3dhp_test", noise)

    pairs = {
        "CMU to HDM05": (cmu("none"), hdm05(given.noise)),
        "HDM05 to CMU": (hdm05("none"), cmu(given.noise)),
    }  # fmt: skip
    if given.stretches:
        for title, pair in pairs.items():
            show_stretches(title, *pair, given.stretches)
        return
    for title, pair in pairs.items():
        show(title, *pair)
    if given.noise == "none":
        standins = (load_domain(DomainConfig(name), root="") for name in ("h36m", "3dhp"))
        show("stand-ins: h36m to 3dhp", *standins)


def show(title: str, source: Domain, target: Domain) -> None:
    """Ratios and shifts of one pair: estimated, of the adaptation people, of the test people."""
    anatomy, reference = Anatomy(source.train.skeleton), Reference.of(source.train)
    assert reference is not None
    found = reference.proportions(target.train.unlabelled())
    assert found is not None
    own = people(source.train, anatomy)
    adapted, tested = (people(clips, anatomy) for clips in (target.train, target.test))
    print(f"\n{title}\n{'':12s} estimate  adaptation people  test people")
    truths = [(there[0] / own[0]).log() for there in (adapted, tested)]
    truths = [(log - log.mean()).exp() for log in truths]
    for row, (name, ratio) in enumerate(found.ratios.items()):
        print(f"{name:12s} {ratio:8.3f}  {truths[0][row]:17.3f}  {truths[1][row]:11.3f}")
    for row, (joint, shift) in enumerate(found.shifts.items()):
        moved = [float(there[1][row] - own[1][row]) for there in (adapted, tested)]
        print(f"{anatomy.skeleton.joints[joint] + ' place':12s} {shift:+8.3f}  {moved[0]:+17.3f}  {moved[1]:+11.3f}")
    estimate = torch.tensor(list(found.ratios.values())).log()
    errors = [float((estimate - truth.log()).abs().mean()) for truth in truths]
    nothing = [float(truth.log().abs().mean()) for truth in truths]
    print(f"{'mean error of log ratios':39s}{errors[0]:.3f}        {errors[1]:.3f}")
    print(f"{'all ratios 1':39s}{nothing[0]:.3f}        {nothing[1]:.3f}")
    size = reference.floor.size_of(target.train.unlabelled()) if reference.floor else None
    heights = [float(there[2] / own[2]) for there in (adapted, tested)]
    print(f"{'height':12s} {size[0] if size else float('nan'):8.3f}  {heights[0]:17.3f}  {heights[1]:11.3f}")


def show_stretches(title: str, source: Domain, target: Domain, lengths: list[int]) -> None:
    """Errors of the ratios of stretches of test people, seven of each person, beside those of taking all as 1."""
    proportions.FEWEST_FRAMES = 1  # what is asked is how many it takes
    reference = Reference.of(source.train)
    assert reference is not None
    own = people(source.train, reference.anatomy)[0].log()
    who = people_of(target.test)
    print(f"\n{title}\nframes  stretches  mean error  worst  all ratios 1  worse than that")
    for count in lengths:
        errors, nothing = [], []
        for number in range(len(target.test.subjects)):
            frames = (who == number).nonzero().squeeze(-1)
            for first in range(0, len(frames) - count, max((len(frames) - count) // 6, 1)):
                keep = torch.zeros_like(who, dtype=torch.bool)
                keep[frames[first : first + count]] = True
                some = target.test._take(keep)
                found = reference.proportions(some.unlabelled())
                truth = mean_lengths(some.poses, reference.anatomy).log() - own
                truth = truth - truth.mean()
                if found is not None:
                    errors.append(float((torch.tensor(list(found.ratios.values())).log() - truth).abs().mean()))
                    nothing.append(float(truth.abs().mean()))
        worse = sum(error > without for error, without in zip(errors, nothing, strict=True))
        mean, without = (sum(values) / len(values) for values in (errors, nothing))
        print(f"{count:6d}  {len(errors):9d}  {mean:10.3f}  {max(errors):5.3f}  {without:12.3f}  {worse:15d}")


def people(clips: LabelledClips, anatomy: Anatomy) -> tuple[Tensor, Tensor, Tensor]:
    """Mean over people: lengths (K,) mm, places along the trunk, and height mm."""
    each = [clips.select(lambda sequence, who=name: sequence.subject == who) for name in clips.subjects]  # type: ignore[misc]
    lengths = torch.stack([mean_lengths(one.poses, anatomy).log() for one in each]).mean(0).exp()
    places = torch.stack([trunk_places(one.poses, anatomy) for one in each]).mean(0)
    heights = torch.stack([standing_height(one.poses, anatomy.skeleton) for one in each]).mean()
    return lengths, places, heights


def trunk_places(poses: Tensor, anatomy: Anatomy) -> Tensor:
    """Median place of the trunk's joints between the middle of the hips (0) and that of the shoulders (1)."""
    points = anatomy.points(poses)
    axis = points[:, -1] - points[:, -2]
    along = ((points[:, list(anatomy.trunk)] - points[:, -2:-1]) * axis.unsqueeze(1)).sum(-1)
    return (along / axis.square().sum(-1, keepdim=True)).median(0).values


if __name__ == "__main__":
    main()
