"""Source models by name: shipped with the package, or fetched on request, each with a card that says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poseda.data.clips import LabelledClips
from poseda.engine.checkpoint import describe_lifter, load_lifter, read_card, with_common_options
from poseda.errors import CheckpointError
from poseda.lifters.base import Lifter
from poseda.zoo.hub import Report, fetch
from poseda.zoo.index import find_entry, list_names, read_index, verified


def list_source_models(pattern: str = "*") -> tuple[str, ...]:
    """Sorted names of the models that match a pattern ("*-cmu-*"): those in the package, and those to fetch."""
    return list_names(pattern)


def source_model_path(name: str, *, cache: Path | None = None) -> Path:
    """The file of a model, its hash compared with the index.

    Raises ConfigError, with the nearest, for an unknown name; MissingDataError for a model that has to be fetched
    first; CheckpointError for a file that is not the one that the index means.
    """
    return verified(find_entry(name), cache)


def fetch_source_model(name: str, *, cache: Path | None = None, report: Report | None = None) -> Path:
    """The file of a model, downloaded if it is neither in the package nor in `cache` (~/.cache/poseda by default).

    `report` gets the bytes that are there and those to come. Raises as `source_model_path` does, and MissingDataError
    where the download fails.
    """
    return fetch(find_entry(name), cache, report)


def load_source_model(
    name: str, *, download: bool = False, cache: Path | None = None, report: Report | None = None
) -> tuple[Lifter, dict[str, Any]]:
    """A model by name (CPU, float32, eval mode), and its card: data, licence, command, protocol and metrics.

    Nothing is downloaded unless `download` says so. Raises as `fetch_source_model` and `load_lifter` do.
    """
    fetched = fetch_source_model(name, cache=cache, report=report) if download else source_model_path(name, cache=cache)
    lifter, card = load_lifter(fetched)
    if card.get("name") != name:
        raise CheckpointError(f"{fetched}: its card is of '{card.get('name')!s:.80}', not of {name}.")
    for key, value in describe_lifter(lifter).items():
        said = with_common_options(card[key], lifter.options) if key == "options" and key in card else card.get(key)
        if key in card and said != value:
            raise CheckpointError(f"{fetched}: its card says {key} is {card[key]!r:.80}, not {value!r:.80}.")
    return lifter, card


def read_source_card(name: str, *, cache: Path | None = None) -> tuple[tuple[str, dict[str, Any]], dict[str, Any]]:
    """((lifter name, its options), card) of a model, without its weights. Raises as `source_model_path` does."""
    return read_card(source_model_path(name, cache=cache))


def find_source_model(lifter: Lifter, source: LabelledClips) -> Path | None:
    """The shipped model of this architecture, trained on these stand-ins and these people; None if there is none.

    Only for stand-ins, which are the package's own: where somebody's data are at hand, training is as they say, and a
    model of the zoo is used when it is named.
    """
    if source.provenance.kind != "stand-in":
        return None
    for name in (name for name, entry in read_index().items() if not entry.url):
        built, card = read_source_card(name)
        if built == (lifter.name, lifter.options) and _same_data(card, source):
            return source_model_path(name)
    return None


def _same_data(card: Mapping[str, Any], source: LabelledClips) -> bool:
    """Whether a model saw this domain and exactly these subjects: others might be someone's test set."""
    return card.get("data") == asdict(source.provenance) and card.get("subjects") == list(source.subjects)
