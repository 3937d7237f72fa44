"""What can be found wrong with a job before anything is loaded, made or written."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from poseda.cli.schema import (
    NO_SOURCE,
    AdaptJob,
    CalibrateJob,
    EvaluateJob,
    Machine,
    PredictJob,
    PrepareJob,
    TrainJob,
)
from poseda.data.domains import DomainConfig
from poseda.engine.predictions import FORMATS as PREDICTION_FORMATS
from poseda.engine.runtime import resolve_device
from poseda.errors import ConfigError, MissingDataError, choose
from poseda.geometry.rigs import load_rig
from poseda.metrics.protocols import get_protocol
from poseda.stages import stage_class
from poseda.stages.pipeline import check_source_free
from poseda.uncertainty import list_estimators
from poseda.zoo.index import find_entry


def check_train(job: TrainJob) -> None:
    """Raise a PosedaError for the first thing wrong with a `train` job."""
    check_machine(job)
    check_run_folder(job)
    check_domain(job.source, "source")
    get_protocol(job.protocol)
    if job.source_model:
        find_entry(job.source_model)


def check_adapt(job: AdaptJob) -> None:
    """Raise a PosedaError for the first thing wrong with an `adapt` job."""
    check_machine(job)
    check_run_folder(job)
    check_domain(job.source, "source")
    check_domain(job.target, "target")
    if same_data(job.source, job.target):
        raise ConfigError(
            f"source and target are the same domain ({job.source.name}): there is nothing to adapt to. "
            "Give another target=, or train on it: python -m poseda.train source=..."
        )
    if len(set(job.stages)) < len(job.stages):
        raise ConfigError(f"stages=[{','.join(job.stages)}] names a stage twice.")
    get_protocol(job.protocol)
    if job.checkpoint or job.source_model:
        check_lifter(job.checkpoint, job.source_model)
    if job.source.name == NO_SOURCE:
        check_source_free([stage_class(job.stage_configs[label].name) for label in job.stages])
        if not (job.checkpoint or job.source_model):
            raise ConfigError("source=none needs a trained lifter: give source_model=NAME or checkpoint=FILE.")


def check_evaluate(job: EvaluateJob) -> None:
    """Raise a PosedaError for the first thing wrong with an `evaluate` job."""
    check_machine(job)
    check_lifter(job.checkpoint, job.source_model)
    check_domain(job.target, "target")
    get_protocol(job.protocol)
    check_uncertainty(job)
    if job.output:
        inputs = [*lifter_inputs(job), *domain_inputs(job.target, "target", job.data.root)]
        check_output(job.output, ".json", inputs=inputs)


def check_predict(job: PredictJob) -> None:
    """Raise a PosedaError for the first thing wrong with a `predict` job."""
    check_machine(job)
    check_lifter(job.checkpoint, job.source_model)
    if not job.input:
        raise ConfigError("input=FILE_OR_FOLDER is needed: an archive, or a 2D detector's output.")
    if not Path(job.input).exists():
        raise MissingDataError(f"input={job.input}: there is no such file or folder.")
    check_uncertainty(job)
    inputs = [*lifter_inputs(job), ("input", job.input)]
    check_output(job.output, *PREDICTION_FORMATS, inputs=inputs)
    if job.animation:
        check_output(job.animation, ".gif", key="animation", inputs=inputs)


def check_calibrate(job: CalibrateJob) -> None:
    """Raise a PosedaError for the first thing wrong with a `calibrate` job."""
    check_machine(job)
    check_lifter(job.checkpoint, job.source_model)
    check_domain(job.source, "source")
    choose(job.uncertainty, list_estimators(), "uncertainty")
    for path in job.ensemble.checkpoints:
        check_file(path, "ensemble.checkpoints")
    members = [("ensemble.checkpoints", path) for path in job.ensemble.checkpoints]
    inputs = [*lifter_inputs(job), *members, *domain_inputs(job.source, "source", job.data.root)]
    check_output(job.output, ".safetensors", inputs=inputs)


def check_uncertainty(job: EvaluateJob | PredictJob) -> None:
    if job.uncertainty and job.uncertainty != "own":
        check_file(job.uncertainty, "uncertainty")
    if job.inflate and job.uncertainty in ("", "own"):
        raise ConfigError("inflate=true needs uncertainty=FILE, which knows the residuals of the source.")


def check_prepare(job: PrepareJob) -> None:
    """Raise a PosedaError for the first thing wrong with a `prepare` job."""
    if bool(job.raw) == bool(job.check):
        raise ConfigError("give raw=FILE_OR_FOLDER with dataset=NAME to prepare, or check=FILE_OR_FOLDER to look.")
    if job.raw and not job.dataset:
        raise ConfigError(f"raw={job.raw}: dataset=NAME says what it is; add --help to see which there are.")
    for key, path in (("raw", job.raw), ("check", job.check)):
        if path and not Path(path).exists():
            raise MissingDataError(f"{key}={path}: there is no such file or folder.")
    if job.check and job.output:
        raise ConfigError("check= writes nothing: leave output out.")
    if job.rig:
        load_rig(job.rig)


def check_machine(job: Machine) -> None:
    resolve_device(job.device)


def check_run_folder(job: TrainJob | AdaptJob) -> None:
    """A file in the place of the run folder, or of one above it, is found before hours of work and not after."""
    there = next(path for path in (job.folder, *job.folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"out={job.out}: {there} is a file where a folder is needed; choose another out= or name=.")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"out={job.out}: nothing can be written in {there}; choose another out=.")


def check_domain(domain: DomainConfig, key: str) -> None:
    """Files and rig that a domain names are there."""
    if domain.path and not Path(domain.path).exists():
        raise MissingDataError(f"{key}.path={domain.path}: there is no such file or folder.")
    if domain.rig:
        load_rig(domain.rig)


def check_lifter(checkpoint: str, source_model: str) -> None:
    """Exactly one of the two names a lifter that is there."""
    if checkpoint and source_model:
        raise ConfigError(f"checkpoint={checkpoint} and source_model={source_model} name two lifters: leave one out.")
    if source_model:
        find_entry(source_model)
    elif not checkpoint:
        raise ConfigError("checkpoint=FILE or source_model=NAME is needed; python -m poseda.models lists the names.")
    else:
        check_file(checkpoint, "checkpoint")


def check_file(path: str, key: str) -> None:
    if not path:
        raise ConfigError(f"{key}=FILE is needed; add --help to see what it holds.")
    if not Path(path).is_file():
        raise MissingDataError(f"{key}={path}: there is no such file.")


def check_output(path: str, *suffixes: str, key: str = "output", inputs: Iterable[tuple[str, str]] = ()) -> None:
    """The file can be written, and is none that the job reads: `inputs` are keys and their files or folders."""
    if Path(path).suffix not in suffixes:
        raise ConfigError(f"{key}={path} must end in {' or '.join(suffixes)}.")
    if Path(path).is_dir():
        raise ConfigError(f"{key}={path} is a folder: name a file.")
    if not Path(path).absolute().parent.is_dir():
        raise MissingDataError(f"{key}={path}: there is no folder {Path(path).parent}.")
    for source, given in inputs:
        if Path(path).exists() and any(file.samefile(path) for file in files_read(given)):
            raise ConfigError(f"{key}={path} would overwrite what {source}={given} reads: name another file.")


def files_read(given: str) -> Iterator[Path]:
    """The file, or of a folder what is read there: archives, and detections a frame."""
    path = Path(given)
    if given and path.is_dir():
        yield from (file for file in (path / "train.safetensors", path / "test.safetensors") if file.is_file())
        yield from path.glob("*.json")
    elif given and path.is_file():
        yield path


def lifter_inputs(job: EvaluateJob | PredictJob | CalibrateJob) -> list[tuple[str, str]]:
    """Key and value of the files that make a job's lifter and its uncertainty; a name in place of a file is no harm."""
    return [("checkpoint", job.checkpoint), ("uncertainty", job.uncertainty)]


def domain_inputs(domain: DomainConfig, key: str, root: str) -> list[tuple[str, str]]:
    """Key and value of the files and folders that a domain is read from."""
    prepared = [] if domain.path else [("data.root", str(Path(root) / domain.name))]
    return [(f"{key}.path", domain.path), (f"{key}.rig", domain.rig), *prepared]


def same_data(source: DomainConfig, target: DomainConfig) -> bool:
    """Whether two domains differ in nothing that makes a gap: seed and number of frames do not."""
    alike = {"seed": 0, "every": 1, "max_frames": 0}
    return dataclasses.replace(source, **alike) == dataclasses.replace(target, **alike)  # type: ignore[arg-type]
