"""The run folder seen from the command line: its config.yaml, and whether an earlier run there may go on."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from poseda.cli.schema import AdaptJob, TrainJob
from poseda.engine.checkpoint import atomic_write
from poseda.engine.loop import flat
from poseda.errors import ConfigError, DataError, PosedaError

# Options that may change between an interrupted run and its continuation.
FREE = ("resume", "device", "threads", "out", "oracle")


@contextmanager
def run_folder(job: TrainJob | AdaptJob) -> Iterator[Path]:
    """The job's folder with its config.yaml; as it was before if the job fails with nothing else written.

    Raises ConfigError when an earlier run with other settings lies there and resume=auto; with resume=never
    the earlier run is dropped, once the new one has something to put in its place.
    """
    folder, settings = job.folder, settings_of(job)
    aside = folder.with_name(f".{folder.name}.replaced")
    if folder.exists():
        check_takeover(folder, settings, job.resume)
        if job.resume == "never":
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
    resumed = folder.exists()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    atomic_write(config, OmegaConf.to_yaml(OmegaConf.create(settings)).encode())
    try:
        yield folder
    except PosedaError:
        if not resumed and [*folder.iterdir()] == [config]:
            config.unlink()
            for path in made:
                path.rmdir()
            if aside.exists():
                aside.rename(folder)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_takeover(folder: Path, settings: dict[str, Any], resume: str) -> None:
    """Raise ConfigError unless `folder` holds a run with these settings, or one that may be dropped."""
    config = folder / "config.yaml"
    if not config.is_file():
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} holds files but no run (no config.yaml): choose another out= or name=.")
        return
    differing = differences(read_settings(config), settings) if resume == "auto" else ""
    if differing:
        raise ConfigError(
            f"{folder} holds a run with other settings ({differing}): give name=NEW to keep both, "
            "or resume=never to replace it."
        )


def read_settings(config: Path) -> dict[str, Any]:
    try:
        settings = OmegaConf.to_container(OmegaConf.load(config))
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException) as error:
        raise DataError(f"{config} cannot be read: {' '.join(str(error).split())}") from error
    return {str(key): value for key, value in settings.items()} if isinstance(settings, dict) else {}


def settings_of(job: TrainJob | AdaptJob) -> dict[str, Any]:
    """All options of a job as one would write them in YAML: used stages under their names, nothing hidden."""
    settings: dict[str, Any] = plain(dataclasses.asdict(job))
    settings["lifter"] = {"name": job.lifter.name, **plain(job.lifter.options)}
    for label, choice in settings.pop("stage_configs", {}).items():
        settings[label] = choice["config"]
    return settings


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Up to three options that differ, as key: before -> now; '' when none does that matters."""
    old, new = ({k: v for k, v in flat(s).items() if k not in FREE} for s in (before, now))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    shown = [f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys[:3]]
    return ", ".join([*shown, "..."] if len(keys) > 3 else shown)
