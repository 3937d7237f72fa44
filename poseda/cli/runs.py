"""The run folder seen from the command line: its config.yaml, and whether an earlier run there may go on."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from poseda.cli.locks import locked
from poseda.cli.schema import AdaptJob, TrainJob
from poseda.engine.checkpoint import atomic_write
from poseda.engine.loop import STATE, flat
from poseda.engine.records import RunFolder
from poseda.errors import ConfigError, DataError

# Options that may change between an interrupted run and its continuation.
FREE = ("resume", "device", "threads", "out", "oracle")
BACK = "the earlier run is back, as the one that was to replace it left nothing"


@contextmanager
def run_folder(job: TrainJob | AdaptJob) -> Iterator[Path]:
    """The job's folder with its config.yaml, for this process alone; as it was before if nothing else is written.

    Raises ConfigError when an earlier run with other settings lies there and resume=auto, and when another run works
    there. With resume=never the earlier run is set aside, and dropped once the new one has something to put in its
    place; however the new one ends without, the earlier one comes back: now, or when the next run starts here.
    """
    folder, settings = job.folder, settings_of(job)
    aside, config = folder.with_name(f".{folder.name}.replaced"), folder / "config.yaml"
    with folders_made(folder.parent), locked(folder):
        if put_back(folder, aside):
            print(f"{folder}: {BACK}.", file=sys.stderr)
        if folder.exists():
            check_takeover(folder, settings, job.resume)
            if job.resume == "never" and config.is_file():
                folder.rename(aside)
        fresh = not config.is_file()
        try:
            atomic_write(config, OmegaConf.to_yaml(OmegaConf.create(settings)).encode())
            yield folder
        except BaseException as error:  # Ctrl-C too
            if put_back(folder, aside):
                error.add_note(f"{folder}: {BACK}.")
            elif fresh and folder.exists() and {path.name for path in folder.iterdir()} <= {config.name}:
                shutil.rmtree(folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def put_back(folder: Path, aside: Path) -> bool:
    """Settle what an earlier run that was set aside becomes: True where it is back, as nothing worth keeping has taken
    its place; else it is dropped."""
    if not aside.exists() or foreign(folder):
        return False
    if RunFolder(folder).results.is_file() or any(folder.rglob(STATE)):
        shutil.rmtree(aside, ignore_errors=True)
        return False
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return True


def foreign(folder: Path) -> bool:
    """Whether a folder holds files, and no run."""
    return folder.exists() and any(folder.iterdir()) and not (folder / "config.yaml").is_file()


@contextmanager
def folders_made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; take them away again where they stay empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # not empty: a run lies there
                path.rmdir()


def check_takeover(folder: Path, settings: dict[str, Any], resume: str) -> None:
    """Raise ConfigError unless `folder` holds a run with these settings, or one that may be dropped."""
    config = folder / "config.yaml"
    if not config.is_file():
        if foreign(folder):
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
