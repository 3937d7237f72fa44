"""Domains by name: a format file reads the data, and this file applies what is common to all of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Literal, get_args

import torch

from poseda.data import formats
from poseda.data.archive import load_archive
from poseda.data.clips import Clips, LabelledClips, concatenate
from poseda.data.noise import add_detector_noise
from poseda.errors import ConfigError, DataError, MissingDataError, choose
from poseda.skeleton import get_skeleton

Require = Literal["any", "real"]


@dataclass(frozen=True)
class DomainConfig:
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
    """Detector noise put on the 2D: none, cpn, hrnet, or the mean error in px at a 400 px box."""
    every: int = 1
    """Keep one frame in so many."""
    max_frames: int = 0
    """Keep at most so many frames of train and of test; 0 = all."""
    spread_mm: float = 500.0
    """motion only: trials lie so near, along world x and y, to the point where the cameras' axes meet."""
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
    train, test = _assign_subjects(domain, config)
    return Domain(domain.name, _finish(train.convert(joints), config, 1), _finish(test.convert(joints), config, 2))


def read_prepared(folder: str | Path, name: str) -> Domain:
    """The domain in the archives train.safetensors and test.safetensors of a folder."""
    paths = [Path(folder) / f"{part}.safetensors" for part in ("train", "test")]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        # one of the two is a mistake to report; none of them is a domain that has not been prepared
        kind = MissingDataError if len(missing) == len(paths) else DataError
        raise kind(f"no archive {missing[0]}: docs/archive.md shows how to write one.")
    train, test = (labelled(load_archive(path), path) for path in paths)
    return Domain(name, train, test)


def read_gated(config: DomainConfig, root: str, name: str, title: str, site: str, rig: str) -> Domain:
    """The archives of <root>/<name>, or of the folder `path`, of a data set that may not be handed on.

    `title`, `site` and `rig` are for the message where nothing has been prepared: what it is, where to get it, and
    which rig sees real motion as it does.
    """
    folder = Path(config.path) if config.path else Path(root) / name
    if not config.path and not any((folder / f"{part}.safetensors").exists() for part in ("train", "test")):
        raise MissingDataError(
            f"{title} is not prepared: no {folder}/train.safetensors. Its licence forbids handing it on: get it from "
            f"{site}, then write an archive as docs/archive.md shows; or use the stand-in (data.require=any) or real "
            f"motion (motion with path=<npz> rig={rig})."
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
        if changed and field.name in ("path", "rig", "spread_mm") and field.name not in module.USES:
            raise ConfigError(f"{field.name} has no meaning for {config.name}; leave it out.")
    return module


def _read(module: ModuleType, config: DomainConfig, root: str, require: Require) -> Domain:
    """The format's data, or its stand-in where it has one, the data are missing and no path was asked for."""
    try:
        domain: Domain = module.load(config, root)
    except MissingDataError:
        if require == "real" or config.path or module.STANDIN is None:
            raise
        return module.STANDIN(config)  # type: ignore[no-any-return]
    if require == "real" and "stand-in" in (domain.train.provenance.kind, domain.test.provenance.kind):
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


def _finish(clips: LabelledClips, config: DomainConfig, part: int) -> LabelledClips:
    """Thinned, limited and noisy as the config says. `part` keeps the noise of train and test apart."""
    if config.max_frames < 0:
        raise ConfigError(f"max_frames={config.max_frames}: expected 0 (all) or more.")
    clips = clips.subsample(config.every)
    clips = clips.limit(config.max_frames) if config.max_frames else clips
    if config.noise == "none":
        return clips
    return add_detector_noise(clips, config.noise, torch.Generator().manual_seed(2 * config.seed + part))
