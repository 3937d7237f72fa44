"""What the table says of the data that its numbers are from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poseda import adapt
from poseda.data.archive import save_archive
from tests.cli.conftest import labelled_clips


def test_a_source_that_is_a_stand_in_is_said_beside_a_target_that_is_none(capsys: Any) -> None:
    people = labelled_clips(24, ("A", "B", "C", "D", "E")).with_provenance(name="mine", kind="real")
    save_archive(Path("people.safetensors"), people)
    words = ["source=h36m", "source.max_frames=300", "target=archive", "target.path=people.safetensors", "threads=1"]
    assert adapt.main([*words, "stages=[gpa]", "adapt.steps=2", "adapt.batch_size=8"]) == 0
    printed = capsys.readouterr().out
    assert "data: h36m (stand-in) -> mine (real)" in printed
    assert "; the source is a stand-in." in printed
