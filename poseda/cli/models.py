"""Source models on the command line: the lifter that a job names, the table of all models, and fetching."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from poseda.cli.app import show
from poseda.cli.schema import ModelsJob
from poseda.engine.checkpoint import atomic_write
from poseda.engine.official import open_lifter
from poseda.engine.records import Column, format_table
from poseda.errors import ConfigError
from poseda.lifters.base import Lifter
from poseda.zoo import fetch_source_model, list_source_models, load_source_model
from poseda.zoo.cards import models_page, models_table
from poseda.zoo.index import find_entry

COLUMNS = (
    Column("model"),
    Column("lifter"),
    Column("data", "trained on"),
    Column("keypoints", "2D"),
    Column("mpjpe", "MPJPE mm"),
    Column("size", "MB"),
    Column("where"),
)


def open_job_lifter(
    checkpoint: str, source_model: str, say: Callable[[str], object] = show
) -> tuple[Lifter, dict[str, Any]]:
    """The lifter that a job asks for and its card: a source model by name, or any checkpoint.

    `say` gets what was recognised in an official one.
    """
    return load_source_model(source_model) if source_model else open_lifter(checkpoint, say=say)


def models_text(names: Sequence[str]) -> str:
    """The table of models."""
    how = "held-out people, each model's own protocol: see its card, model=NAME"
    return format_table(models_table(names), COLUMNS, how)


def chosen_models(job: ModelsJob) -> tuple[str, ...]:
    """Names that the job's pattern stands for; ConfigError where there is none."""
    names = list_source_models(job.model or "*")
    if not names:
        find_entry(job.model)  # says which there are, and the nearest
    if job.fetch and not job.model:
        raise ConfigError("fetch=true needs model=NAME: which of them?")
    return names


def fetch_models(names: Sequence[str]) -> None:
    """Fetch what is not here, with a line that grows on a terminal, and say where the files are."""
    for name in names:
        live = sys.stderr.isatty()

        def report(done: int, total: int, name: str = name, live: bool = live) -> None:
            if live or done == total:
                end = "" if live and done < total else "\n"
                print(f"\r{name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB"[not live :], end=end, file=sys.stderr)

        show(f"{name}: {fetch_source_model(name, report=report)}")


def show_models(job: ModelsJob) -> None:
    """Print the table, or the cards of some models; or write these to a file."""
    names = chosen_models(job)
    if job.fetch:
        fetch_models(names)
    elif job.output:
        atomic_write(Path(job.output), models_page(names).encode())
        show(f"{job.output}: the cards of {len(names)} models.")
    else:
        show(models_page(names) if job.model else models_text(names))
