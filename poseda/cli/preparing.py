"""What `python -m poseda.prepare` does: archives from raw data, and the doctor."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from poseda.cli.app import show
from poseda.cli.schema import PrepareJob
from poseda.data.archive import open_archive
from poseda.data.clean import thin_recording
from poseda.data.doctor import Report, examine, examine_raw
from poseda.data.domains import list_domains
from poseda.data.prepare import open_raw_dataset, prepare_dataset
from poseda.data.recordings import RawOptions, Recording
from poseda.engine.progress import Progress
from poseda.errors import ConfigError, DataError, MissingDataError


def prepare_data(job: PrepareJob) -> None:
    """Write the archives, with a progress line, and print what they hold."""
    options = raw_options(job)
    dataset = open_raw_dataset(job.dataset, job.raw, options)
    show(f"{job.raw}: {dataset.recognised}.")
    output = Path(job.output or f"data/{job.dataset}")
    prepared = prepare_dataset(dataset, output, options, report=_bar(f"prepare {dataset.name}"))
    for reason, count in sorted(prepared.dropped.items()):
        show(f"left out: {count} frames, {reason}")
    for split, path in prepared.archives.items():
        show(f"{path}: {prepared.frames[split]} frames, {dataset.label_scale} labels, 2D: {dataset.keypoints}.")
    for remark in prepared.remarks:
        show(remark)
    if dataset.notes:
        show(f"note: {dataset.notes}")
    show(f"licence: {dataset.licence}")
    show(f"Look at it: python -m poseda.prepare check={output}")
    if "test" not in prepared.archives:
        show(f"Use it: source=archive source.path={prepared.archives['train']}, which is then split by subject.")
    elif not job.output and job.dataset in list_domains():
        show(f"Use it: target={job.dataset}")
    else:
        show(f"Use it: target=archive target.path={output}")


def check_data(job: PrepareJob) -> None:
    """Print what is there; DataError, after all is said, where something is certainly wrong."""
    path = Path(job.check)
    reports = _examine_raw(job, path) if job.dataset else {str(file): _examine(file) for file in _archives(path)}
    for name, (report, more) in reports.items():
        show("\n".join([name, report.text(), *more, ""]))
    wrong = sum(finding.severity == "error" for report, _ in reports.values() for finding in report.findings)
    if wrong:
        raise DataError(f"{path}: {wrong} {'things are' if wrong > 1 else 'thing is'} wrong; see above what to do.")


def _examine(archive: Path) -> tuple[Report, list[str]]:
    """The doctor's page of an archive, and where it comes from."""
    opened = open_archive(archive)
    record, about = opened.record, opened.header.provenance
    more = [f"licence: {about.licence}", *([f"note: {about.notes}"] if about.notes else [])]
    if record:
        dropped = sum(record.get("dropped", {}).values())
        more.append(f"made from: {record.get('recognised')}; {record.get('read')} frames read, {dropped} left out")
    return examine(opened.unchecked()), more


def _examine_raw(job: PrepareJob, path: Path) -> dict[str, tuple[Report, list[str]]]:
    """The doctor's page of raw data; motion capture is looked at as the rig sees it."""
    options = raw_options(job)
    dataset = open_raw_dataset(job.dataset, path, options)
    if dataset.kind == "motion":
        with tempfile.TemporaryDirectory() as folder:
            made = prepare_dataset(dataset, folder, options, report=_bar(f"check {dataset.name}"))
            return {f"{path} ({split})": _examine(archive) for split, archive in made.archives.items()}
    bar = _bar(f"check {dataset.name}")

    def recordings() -> Iterator[Recording]:
        for number, unit in enumerate(dataset.units, 1):
            found = (item for item in unit.read() if isinstance(item, Recording))
            yield from (thin_recording(item, dataset.fps) for item in found)
            bar(number, len(dataset.units), unit.name)

    facts = {"name": dataset.name, "label_scale": dataset.label_scale, "keypoints": dataset.keypoints}
    report = examine_raw(recordings(), dataset.skeleton, **facts)
    return {str(path): (report, [f"recognised: {dataset.recognised}", f"licence: {dataset.licence}"])}


def _bar(label: str) -> Callable[[int, int, str], None]:
    """A progress line that learns its length when it starts."""
    bars: list[Progress] = []

    def update(done: int, total: int, name: str) -> None:
        bars.extend([] if bars else [Progress(label, total)])
        bars[0].update(done)

    return update


def raw_options(job: PrepareJob) -> RawOptions:
    """The part of a job that readers see."""
    return RawOptions(**{field.name: getattr(job, field.name) for field in dataclasses.fields(RawOptions)})


def _archives(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ConfigError(f"check={path} is no archive: dataset=NAME says what raw data it is.")
        return [path]
    found = [path / f"{split}.safetensors" for split in ("train", "test")]
    if not any(file.is_file() for file in found):
        raise MissingDataError(f"{path}: no train.safetensors or test.safetensors there; raw data want dataset=NAME.")
    return [file for file in found if file.is_file()]


