"""docs/lifters.md names every lifter in each of its tables, and its parameter counts are those of the code."""

import importlib

import pytest
import torch

from poseda.lifters import create_lifter, list_lifters
from tests.lifters.published import REPOSITORY

PAGE = (REPOSITORY / "docs" / "lifters.md").read_text()


def rows_of(title: str) -> list[list[str]]:
    """Cells of the table rows of one section."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    return lines[2:]


TABLES = ("Papers, published accuracy, official weights", "Where they depart from the originals")


@pytest.mark.parametrize("title", TABLES)
def test_every_lifter_is_in_the_table(title):
    named = [name.strip("`") for row in rows_of(title) for name in row[0].split(", ")]
    assert sorted(named) == sorted(list_lifters())


def test_parameters_are_those_of_the_code(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "experiments" / "bench"))
    sizes = importlib.import_module("lifters").ROWS
    written = {row[0]: row[1] for row in rows_of("Parameters, MACs and speed")}
    assert list(written) == [size.label for size in sizes]
    for size in sizes:
        with torch.device("meta"):
            lifter = create_lifter(size.name, **{"sigma": False} | size.options)
        count = sum(p.numel() for p in lifter.parameters())
        assert written[size.label] == (f"{count:,} ({size.parameters:,})" if size.parameters else f"{count:,}")
        assert size.parameters in (0, count)
