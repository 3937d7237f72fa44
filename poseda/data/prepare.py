"""Raw data sets to archives: recognised, read unit by unit, cleaned, joined. An interrupted preparation goes on.

    <output>/train.safetensors, test.safetensors     archives (docs/archive.md)
    <output>/.parts/                                 one archive a unit while the work goes on; gone when it is done
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from poseda import __version__
from poseda.data import raw as readers
from poseda.data.archive import open_archive, save_archive
from poseda.data.clean import Counts, clean_recordings
from poseda.data.clips import LabelledClips, Provenance, Sequence, UnlabelledClips
from poseda.data.domains import split_subjects
from poseda.data.parts import join_archives
from poseda.data.recordings import RawDataset, RawOptions, Recording, Unit, WorldTake
from poseda.data.rigged import see_world_takes
from poseda.errors import ConfigError, DataError, MissingDataError, PosedaError, choose

Report = Callable[[int, int, str], None]
"""Called with units done, units in all, and the name of the last one."""


@dataclass(frozen=True)
class Prepared:
    """What a preparation made."""

    archives: Mapping[str, Path]
    """train and test -> archive."""
    frames: Mapping[str, int]
    """Frames of each that are scored."""
    read: int
    """Frames in the raw files."""
    dropped: Mapping[str, int]
    """Reason -> frames that were left out."""
    remarks: tuple[str, ...]
    """What the user must know: counts that are not the expected ones."""


def list_raw_datasets() -> tuple[str, ...]:
    """Names of the raw data sets that can be prepared: the files of poseda/data/raw."""
    return tuple(sorted(module.name.lstrip("_") for module in pkgutil.iter_modules(readers.__path__)))


def raw_reader(name: str) -> ModuleType:
    """The reader of a raw data set: see poseda/data/raw. Raises ConfigError for an unknown name."""
    choose(name, list_raw_datasets(), "dataset")
    file = name if name.isidentifier() else f"_{name}"
    return importlib.import_module(f"{readers.__name__}.{file}")


def open_raw_dataset(name: str, path: str | Path, options: RawOptions | None = None) -> RawDataset:
    """Recognise a raw data set; nothing but what is needed for that is read.

    Raises ConfigError for an option that this data set does not use, MissingDataError or DataError where it is not
    there.
    """
    module, options = raw_reader(name), options or RawOptions()
    defaults = asdict(RawOptions())
    always = {"test_subjects"}
    for key, value in asdict(options).items():
        if value != defaults[key] and key not in {*module.USES, *always}:
            raise ConfigError(f"{key} has no meaning for dataset={name}; leave it out.")
    path = Path(path)
    if not path.exists():
        raise MissingDataError(f"raw={path}: there is no such file or folder. {module.TITLE} is at {module.SITE}.")
    dataset: RawDataset = module.open_raw(path, options)
    if not dataset.units:
        raise DataError(f"{path}: holds nothing of {module.TITLE}. Layouts: {'; '.join(module.LAYOUTS)}.")
    return dataset


def prepare_dataset(
    dataset: RawDataset,
    output: str | Path,
    options: RawOptions | None = None,
    *,
    report: Report = lambda done, total, name: None,
) -> Prepared:
    """Read all units of a raw data set and write <output>/train.safetensors and test.safetensors.

    Units that an interrupted call finished are not read again unless their files or the options have changed. Raises
    DataError that names file, key and frame for what cannot be read; what is done by then is kept for the next call.
    Archives that are there are replaced if they were prepared from the same data set; ConfigError for others.
    """
    output, options = Path(output), options or RawOptions()
    _refuse_others(dataset, output)
    parts = output / ".parts"
    parts.mkdir(parents=True, exist_ok=True)
    records, hashes = [], cache(sha256_of)  # a file that many units share is hashed once
    for number, unit in enumerate(dataset.units):
        report(number, len(dataset.units), unit.name)
        records.append(_part(dataset, unit, options, parts / f"{number:05d}.safetensors", hashes))
    report(len(dataset.units), len(dataset.units), "joining")
    prepared = _join(dataset, options, output, parts, records)
    shutil.rmtree(parts)
    return prepared


def _refuse_others(dataset: RawDataset, output: Path) -> None:
    """Raise ConfigError for an archive in `output` that no preparation of this data set wrote."""
    for path in (output / "train.safetensors", output / "test.safetensors"):
        if not path.exists():
            continue
        try:
            made_of = open_archive(path).record.get("dataset")
        except DataError:  # no archive at all
            made_of = None
        if made_of != dataset.name:
            raise ConfigError(
                f"{path} is there, and was not prepared from {dataset.name}: give another output=, or move it away."
            )


def _part(
    dataset: RawDataset, unit: Unit, options: RawOptions, path: Path, hash_of: Callable[[Path], str]
) -> dict[str, Any]:
    """The record of a unit's part, which is made unless it is there already."""
    state = _state(dataset, unit, options)
    said = path.with_suffix(".json")
    if said.is_file() and (record := _read_json(said)).get("state") == state:
        return record
    clips, counts = _read_unit(dataset, unit, options)
    record = {
        "state": state,
        "unit": unit.name,
        "empty": clips is None,
        **counts.to_json(),
        "files": [{"name": file.name, "bytes": file.stat().st_size, "sha256": hash_of(file)} for file in unit.files],
    }
    said.unlink(missing_ok=True)
    if clips is not None:
        save_archive(path, clips)
    said.write_text(json.dumps(record), encoding="utf-8")  # last: where it is, the part is whole
    return record


def _state(dataset: RawDataset, unit: Unit, options: RawOptions) -> dict[str, Any]:
    """What a part depends on."""
    try:
        files = [[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in unit.files]
    except OSError as error:
        raise MissingDataError(f"{unit.name}: {error.filename} cannot be read ({error.strerror}).") from None
    facts = {"unit": unit.name, "recognised": dataset.recognised, "notes": dataset.notes, "poseda": __version__}
    return json.loads(json.dumps({**facts, "files": files, "options": asdict(options)}))  # type: ignore[no-any-return]


def _read_json(path: Path) -> dict[str, Any]:
    """A record of ours; {} when it was cut off."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return {}


def _read_unit(
    dataset: RawDataset, unit: Unit, options: RawOptions
) -> tuple[LabelledClips | UnlabelledClips | None, Counts]:
    provenance = Provenance(
        dataset.name, dataset.kind, dataset.licence, dataset.label_scale, dataset.keypoints, dataset.notes
    )
    try:
        found = list(unit.read())
        takes = [item for item in found if isinstance(item, WorldTake)]
        if takes:
            return see_world_takes(takes, dataset.skeleton, dataset.fps, provenance, options)
        recordings: Iterable[Recording] = (item for item in found if isinstance(item, Recording))
        return clean_recordings(recordings, dataset.skeleton, dataset.fps, provenance)
    except PosedaError as error:
        where = "" if any(str(file) in str(error) for file in unit.files) else f"{unit.name}: "
        raise type(error)(f"{where}{error}") from None


def _join(
    dataset: RawDataset, options: RawOptions, output: Path, parts: Path, records: list[dict[str, Any]]
) -> Prepared:
    full = [(unit, parts / f"{number:05d}.safetensors") for number, (unit, record) in enumerate(zip(
        dataset.units, records, strict=True)) if not record["empty"]]  # fmt: skip
    if not full:
        raise DataError(f"{dataset.name}: no frame of {dataset.recognised} can be used.")
    dropped: Counter[str] = Counter()
    for record in records:
        dropped.update(record["dropped"])
    read = sum(int(record["read"]) for record in records)
    files = {(file["name"], file["sha256"]): file for record in records for file in record["files"]}
    facts = {
        "dataset": dataset.name,
        "recognised": dataset.recognised,
        "poseda": __version__,
        "options": asdict(options),
        "read": read,
        "dropped": dict(dropped),
        "files": list(files.values()),
    }
    archives, frames = {}, {}
    for split, keep, paths in _splits(dataset, options, full):
        path = output / f"{split}.safetensors"
        archives[split], frames[split] = path, join_archives(paths, path, keep, {**facts, "split": split})
    for split in {"train", "test"} - archives.keys():
        (output / f"{split}.safetensors").unlink(missing_ok=True)  # of an earlier preparation of other files
    return Prepared(archives, frames, read, dict(dropped), _expectations(dataset, frames))


def _splits(
    dataset: RawDataset, options: RawOptions, full: list[tuple[Unit, Path]]
) -> list[tuple[str, Callable[[Sequence], bool], list[Path]]]:
    """train and test: which sequences of which parts."""
    if any(unit.split for unit, _ in full) and not options.test_subjects:
        named = [(split, [path for unit, path in full if unit.split == split]) for split in ("train", "test")]
        return [(split, lambda sequence: True, paths) for split, paths in named if paths]
    paths = [path for _, path in full]
    subjects = sorted({subject for path in paths for subject in _subjects(path)})
    for name in options.test_subjects:
        choose(name, subjects, f"subject in {dataset.name},")
    if len(subjects) == 1:
        return [("test", lambda sequence: True, paths)]
    test = set(options.test_subjects or split_subjects(subjects, dataset.name)[1])
    if test == set(subjects):
        return [("test", lambda sequence: True, paths)]
    return [
        ("train", lambda sequence: sequence.subject not in test, paths),
        ("test", lambda sequence: sequence.subject in test, paths),
    ]


def _subjects(path: Path) -> set[str]:
    return {sequence.subject for sequence in open_archive(path).header.sequences}


def _expectations(dataset: RawDataset, frames: Mapping[str, int]) -> tuple[str, ...]:
    """A sentence for each split whose number of frames is known and another."""
    return tuple(
        f"{split} has {frames[split]} frames, and the whole {dataset.name} gives {count}: files may be missing."
        for split, count in (dataset.expected or {}).items()
        if split in frames and frames[split] != count
    )


def sha256_of(path: Path) -> str:
    """Hash of a file, read as a stream."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

