"""Source models that come with the package: a safetensors file each, with its card inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poseda.data.clips import LabelledClips
from poseda.engine.checkpoint import load_lifter, read_card
from poseda.errors import choose
from poseda.lifters.base import Lifter

FOLDER = Path(__file__).resolve().parent


def list_source_models() -> tuple[str, ...]:
    """Names of the shipped models."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.safetensors")))


def load_source_model(name: str) -> tuple[Lifter, dict[str, Any]]:
    """A shipped model by name, with its card: data, settings, protocol and metrics."""
    return load_lifter(FOLDER / f"{choose(name, list_source_models(), 'source model')}.safetensors")


def find_source_model(lifter: Lifter, source: LabelledClips) -> Path | None:
    """The shipped model of this architecture that was trained on these data and these people; None if there is none."""
    for name in list_source_models():
        path = FOLDER / f"{name}.safetensors"
        built, card = read_card(path)
        if built == (lifter.name, lifter.options) and _same_data(card, source):
            return path
    return None


def _same_data(card: Mapping[str, Any], source: LabelledClips) -> bool:
    """Whether a model saw this domain and exactly these subjects: others might be someone's test set."""
    return card.get("data") == asdict(source.provenance) and card.get("subjects") == list(source.subjects)
