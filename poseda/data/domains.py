"""Domains by name: a format file reads the data, and this file applies what is common to all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import torch

from poseda.data import formats
from poseda.data.archive import load_archive
from poseda.data.clips import AnyClips, Clips, LabelledClips, UnlabelledClips, concatenate
from poseda.data.detections.options import DetectionOptions
from poseda.data.noise import add_detector_noise
from poseda.errors import ConfigError, DataError, MissingDataError, choose
from poseda.skeleton import Skeleton, get_skeleton

Require = Literal["any", "real"]
_OPTIONAL = {"path", "rig", "spread_mm", *(field.name for field in fields(DetectionOptions))}
"""Options that have a meaning only for the formats that list them in USES."""


@dataclass(frozen=True)
class DomainConfig(DetectionOptions):
    """Which data, whose, and how many frames."""

    name: str = "h36m"
    """Name of the domain, which is the name of its format: h36m, 3dhp, motion, archive."""
    path: str = ""
    """motion: the npz file. archive: a file, or a folder with train.safetensors and test.safetensors.
    h36m, 3dhp: such a folder in place of <root>/<name>."""
    rig: str = ""
    """motion only: the cameras, by the name of a published rig or the path of a JSON file."""
    train_subjects: tuple[str, ...] = ()
    """Subjects to adapt or train on; empty = the domain's own."""
    test_subjects: tuple[str, ...] = ()
    """Subjects to evaluate on; empty = the domain's own."""
    noise: str = "none"
    """Detector noise put on the 2D: none, cpn (5.4 px at a 400 px box), hrnet (4.4), wild (10, with many left/right
    swaps and misses), or the mean error in px at a 400 px box."""
    every: int = 1
    """Keep one frame in so many."""
    max_frames: int = 0
    """Keep at most so many frames of train and of test; 0 = all."""
    spread_mm: float = 500.0
    """motion only: trials lie so near, along world x and y, to the point where the cameras' axes meet."""
    transductive: bool = False
    """As a target: adapt to the 2D of the test clips themselves; their labels stay unseen."""
    seed: int = 0
    """Seed of placement, of noise and of the stand-in's motion."""


@dataclass(frozen=True, eq=False)
class Domain:
    """Clips to train or adapt on and clips to evaluate on; they never share a subject."""

    name: str
    train: LabelledClips
    test: LabelledClips

    def __post_init__(self) -> None:
        shared = sorted(set(self.train.subjects) & set(self.test.subjects))
        if shared:
            raise DataError(f"{self.name}: subject {', '.join(shared)} is in train and in test; keep them apart.")


@dataclass(frozen=True, eq=False)
class Footage:
    """Clips that are not split into train and test: somebody's unlabelled 2D, or a test set alone."""

    name: str
    clips: LabelledClips | UnlabelledClips
    where: str
    """The file or folder, for messages."""
    remarks: tuple[str, ...] = ()
    """What was found, and what had to be assumed; printed by the commands."""


@dataclass(frozen=True, eq=False)
class Target:
    """A domain as an adaptation sees it: the clips to adapt to have no 3D, whatever there is elsewhere."""

    name: str
    train: UnlabelledClips
    """What is adapted to."""
    test: LabelledClips | UnlabelledClips
    """What results are computed on; without labels the training clips themselves."""
    oracle: LabelledClips | None
    """The training clips with their 3D, for the oracle row and the figures alone; None without labels."""
    remarks: tuple[str, ...] = ()
    """What was found, and what had to be assumed; printed by the commands."""

    def to(self, device: torch.device | str) -> Target:
        """The same target on another device."""
        moved = {name: getattr(self, name).to(device) for name in ("train", "test")}
        return replace(self, **moved, oracle=None if self.oracle is None else self.oracle.to(device))


def list_domains() -> tuple[str, ...]:
    """Names of all domains: the files of poseda/data/formats, a leading _ before a digit left out."""
    return tuple(sorted(module.name.lstrip("_") for module in pkgutil.iter_modules(formats.__path__)))


def load_domain(config: DomainConfig, *, root: str, require: Require = "any", skeleton: str = "h36m17") -> Domain:
    """Train and test clips of a domain, in the joints of `skeleton`.

    A licence-gated domain that has not been prepared under `root` becomes its stand-in; require="real"
    turns that into MissingDataError. Raises ConfigError for an unknown name, option or subject.
    """
    choose(require, get_args(Require), "data.require")
    joints = get_skeleton(skeleton)
    module = _format(config)
    domain = _read(module, config, root, require)
    if isinstance(domain, Footage):
        raise DataError(_alone(domain))
    return _divided(domain, config, joints)


def load_target(config: DomainConfig, *, root: str, require: Require = "any", skeleton: str = "h36m17") -> Target:
    """A domain as the target of an adaptation: labelled, unlabelled, or a test set that is adapted to without its
    labels.

    Raises as `load_domain` does; ConfigError for a test set alone unless `transductive` says that this is meant.
    """
    choose(require, get_args(Require), "data.require")
    joints = get_skeleton(skeleton)
    domain = _read(_format(config), config, root, require)
    if isinstance(domain, Domain):
        whole = _divided(domain, config, joints)
        known = whole.test if config.transductive else whole.train
        return Target(whole.name, known.unlabelled(), whole.test, known)
    clips = _whole(domain, config, joints)
    if isinstance(clips, UnlabelledClips):
        return Target(domain.name, clips, clips, None, domain.remarks)
    if not config.transductive:
        raise DataError(_alone(domain))
    return Target(domain.name, clips.unlabelled(), clips, clips, domain.remarks)


def load_test(config: DomainConfig, *, root: str, require: Require = "any", skeleton: str = "h36m17") -> LabelledClips:
    """The labelled test clips of a domain, which may be a test set alone. Raises as `load_domain` does."""
    choose(require, get_args(Require), "data.require")
    joints = get_skeleton(skeleton)
    domain = _read(_format(config), config, root, require)
    if isinstance(domain, Domain):
        return _divided(domain, config, joints).test
    clips = _whole(domain, config, joints)
    if isinstance(clips, UnlabelledClips):
        raise DataError(f"{domain.where}: has no poses to compare with; it can be adapted to, and predicted.")
    return clips


def _divided(domain: Domain, config: DomainConfig, joints: Skeleton) -> Domain:
    """A domain with the subjects, joints, frames and noise that the config asks for."""
    train, test = _assign_subjects(domain, config)
    return Domain(domain.name, _finish(train.convert(joints), config, 1), _finish(test.convert(joints), config, 2))


def _whole(domain: Footage, config: DomainConfig, joints: Skeleton) -> LabelledClips | UnlabelledClips:
    if config.train_subjects or config.test_subjects:
        raise ConfigError(f"{domain.where}: is not split in two; leave train_subjects and test_subjects out.")
    clips = domain.clips
    if isinstance(clips, LabelledClips):
        return _finish(clips.convert(joints), config, 2)
    return _finish(clips.convert(joints), config, 2)


def _alone(domain: Footage) -> str:
    if isinstance(domain.clips, UnlabelledClips):
        return f"{domain.where}: has no poses, so it can be the target of adapt or the input of predict, no more."
    return (
        f"{domain.where}: is a test set alone; evaluate takes it, and adapt with target.transductive=true, "
        "which adapts to the test set's own 2D and never sees its labels."
    )


def read_prepared(folder: str | Path, name: str) -> Domain | Footage:
    """The domain in the archives train.safetensors and test.safetensors of a folder, or the test set that is there
    alone.
    """
    train, test = (Path(folder) / f"{part}.safetensors" for part in ("train", "test"))
    if not test.is_file():
        # train alone is a mistake to report; neither is a domain that has not been prepared
        kind = DataError if train.is_file() else MissingDataError
        raise kind(f"no archive {test}: docs/datasets.md says what to prepare, docs/archive.md how to write one.")
    if not train.is_file():
        return Footage(name, load_archive(test), str(test))
    return Domain(name, labelled(load_archive(train), train), labelled(load_archive(test), test))


def read_gated(config: DomainConfig, root: str, name: str, title: str, site: str, rig: str) -> Domain | Footage:
    """The archives of <root>/<name>, or of the folder `path`, of a data set that may not be handed on.

    `title`, `site` and `rig` are for the message where nothing has been prepared: what it is, where to get it, and
    which rig sees real motion as it does.
    """
    folder = Path(config.path) if config.path else Path(root) / name
    if not config.path and not any((folder / f"{part}.safetensors").exists() for part in ("train", "test")):
        raise MissingDataError(
            f"{title} is not prepared: no {folder}/train.safetensors. Its licence forbids handing it on: get it from "
            f"{site}, then python -m poseda.prepare dataset={name} raw=FOLDER; or use the stand-in (data.require=any) "
            f"or real motion (motion with path=<npz> rig={rig})."
        )
    return read_prepared(folder, name)


def labelled(clips: Clips, path: str | Path) -> LabelledClips:
    """The clips of an archive if they have 3D; else DataError."""
    if not isinstance(clips, LabelledClips):
        raise DataError(f"{path}: has no poses, and a domain needs 3D to train and evaluate on.")
    return clips


def split_subjects(subjects: SequenceOf[str], where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Default split of subjects: the last fifth, two at least of four or more, is for testing."""
    names = sorted(subjects)
    if len(names) < 2:
        raise DataError(f"{where}: holds one subject only ({', '.join(names)}); a train and a test subject are needed.")
    held_out = min(len(names) // 2, max(2, round(len(names) / 5)))
    return tuple(names[:-held_out]), tuple(names[-held_out:])


def choose_subjects(
    config: DomainConfig, known: SequenceOf[str], where: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Train and test subjects where the data have no split: the wished, else the default or the rest."""
    for name in (*config.train_subjects, *config.test_subjects):
        choose(name, known, f"subject in {where},")
    if config.train_subjects and config.test_subjects:
        return config.train_subjects, config.test_subjects
    if config.train_subjects or config.test_subjects:
        rest = tuple(sorted(set(known) - set(config.train_subjects) - set(config.test_subjects)))
        if not rest:
            raise ConfigError(f"{where}: no subject is left for the other split. Known: {', '.join(known)}.")
        return config.train_subjects or rest, config.test_subjects or rest
    return split_subjects(known, where)


def _format(config: DomainConfig) -> ModuleType:
    """The format file of a domain; raises ConfigError for an option that this format does not use."""
    choose(config.name, list_domains(), "domain")
    file = config.name if config.name.isidentifier() else f"_{config.name}"
    module = importlib.import_module(f"{formats.__name__}.{file}")
    for field in fields(DomainConfig):
        changed = getattr(config, field.name) != field.default
        if changed and field.name in _OPTIONAL and field.name not in module.USES:
            raise ConfigError(f"{field.name} has no meaning for {config.name}; leave it out.")
    return module


def _read(module: ModuleType, config: DomainConfig, root: str, require: Require) -> Domain | Footage:
    """The format's data, or its stand-in where it has one, the data are missing and no path was asked for."""
    try:
        domain: Domain | Footage = module.load(config, root)
    except MissingDataError:
        if require == "real" or config.path or module.STANDIN is None:
            raise
        return module.STANDIN(config)  # type: ignore[no-any-return]
    parts = (domain.clips,) if isinstance(domain, Footage) else (domain.train, domain.test)
    if require == "real" and any(part.provenance.kind == "stand-in" for part in parts):
        raise MissingDataError(f"{domain.name}: the archive holds stand-in data, and data.require=real refuses them.")
    return domain


def _assign_subjects(domain: Domain, config: DomainConfig) -> tuple[LabelledClips, LabelledClips]:
    """The subjects that the config asks for, wherever they were; without a wish the domain's own split."""
    if not (config.train_subjects or config.test_subjects):
        return domain.train, domain.test
    known = (*domain.train.subjects, *domain.test.subjects)
    for name in (*config.train_subjects, *config.test_subjects):
        choose(name, known, f"subject in {domain.name},")
    train = set(config.train_subjects or domain.train.subjects)
    test = set(config.test_subjects or domain.test.subjects)
    if train == set(domain.train.subjects) and test == set(domain.test.subjects):
        return domain.train, domain.test
    everyone = concatenate([domain.train, domain.test])
    return everyone.select(lambda s: s.subject in train), everyone.select(lambda s: s.subject in test)


def _finish(clips: AnyClips, config: DomainConfig, part: int) -> AnyClips:
    """Thinned, limited and noisy as the config says. `part` keeps the noise of train and test apart."""
    if config.max_frames < 0:
        raise ConfigError(f"max_frames={config.max_frames}: expected 0 (all) or more.")
    clips = clips.subsample(config.every)
    clips = clips.limit(config.max_frames) if config.max_frames else clips
    if config.noise == "none":
        return clips
    return add_detector_noise(clips, config.noise, torch.Generator().manual_seed(2 * config.seed + part))
