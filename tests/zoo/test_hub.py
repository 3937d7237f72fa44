"""Fetching a model: on request, from a local server and from a file, verified before it is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from poseda import models
from poseda.engine.checkpoint import save_lifter
from poseda.errors import CheckpointError, ConfigError, MissingDataError
from poseda.lifters import create_lifter
from poseda.zoo import fetch_source_model, load_source_model
from poseda.zoo import index as zoo_index
from poseda.zoo.index import INDEX, digest

NAME = "tiny-hub"


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder that holds the model, the address at which a local server gives it, and what was asked for."""
    folder = tmp_path / "served"
    folder.mkdir()
    lifter = create_lifter("simplebaseline", seed=0, hidden=8, blocks=0)
    save_lifter(folder / "model.safetensors", lifter, {"name": NAME})
    asked: list[str] = []
    handler = type("Handler", (Quiet,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder / "model.safetensors", f"http://127.0.0.1:{server.server_address[1]}/model.safetensors", asked
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str, list[str]]) -> Path:
    """An index with that one model, and a home whose cache is empty; returns the index's folder."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr(zoo_index, "FOLDER", folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write_index(folder, served[0], served[1])
    return folder


def write_index(folder: Path, model: Path, url: str, **changes: object) -> None:
    entry = {"sha256": digest(model), "size": model.stat().st_size, "url": url, **changes}
    (folder / INDEX).write_text(json.dumps({"shipped": {}, "hub": {NAME: entry}}))


def test_nothing_is_fetched_unasked_and_the_message_says_how(hub, served, tmp_path) -> None:
    with pytest.raises(MissingDataError, match=f"has not been fetched yet .*model={NAME} fetch=true"):
        load_source_model(NAME)
    assert served[2] == [] and not (tmp_path / "home").exists()


def test_a_fetched_model_is_verified_cached_and_loaded(hub, served, tmp_path) -> None:
    seen: list[tuple[int, int]] = []
    lifter, card = load_source_model(NAME, download=True, report=lambda done, total: seen.append((done, total)))
    size = served[0].stat().st_size
    assert lifter.name == "simplebaseline" and card["name"] == NAME and seen[-1] == (size, size)
    cached = tmp_path / "home" / ".cache" / "poseda" / f"{NAME}.safetensors"
    assert digest(cached) == digest(served[0])
    load_source_model(NAME)
    fetch_source_model(NAME)
    assert len(served[2]) == 1, "what is there is not fetched again"
    cached.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="fetch it again"):
        load_source_model(NAME)
    fetch_source_model(NAME)
    assert len(served[2]) == 2 and digest(cached) == digest(served[0])


def test_a_file_address_and_a_cache_of_ones_own(hub, served, tmp_path) -> None:
    write_index(hub, served[0], served[0].as_uri())
    path = fetch_source_model(NAME, cache=tmp_path / "mine")
    assert path.parent == tmp_path / "mine"
    assert load_source_model(NAME, cache=tmp_path / "mine")[1]["name"] == NAME


@pytest.mark.parametrize("change", ["longer", "shorter", "other"])
def test_another_file_than_the_pinned_one_is_not_kept(hub, served, tmp_path, change: str) -> None:
    whole = served[0].read_bytes()
    other = {"longer": whole + b"x" * (3 << 20), "shorter": whole[:-1], "other": whole[:-1] + bytes([whole[-1] ^ 1])}
    served[0].write_bytes(other[change])
    seen: list[int] = []
    with pytest.raises(CheckpointError, match="is not the file that the index means") as caught:
        fetch_source_model(NAME, cache=tmp_path / "mine", report=lambda done, total: seen.append(done))
    assert "\n" not in str(caught.value) and list((tmp_path / "mine").iterdir()) == []
    assert max(seen) <= len(whole) + 1, "no more is read than the file may have"


def test_an_address_that_answers_not_or_cannot_be_used_is_one_line(hub, served, tmp_path) -> None:
    cases = [
        (served[1] + ".gone", MissingDataError, "404"),
        ((tmp_path / "gone").as_uri(), MissingDataError, "cannot be fetched"),
        ("http://127.0.0.1:1/model", MissingDataError, "cannot be fetched"),
        ("ftp://127.0.0.1/model", ConfigError, "must begin with one of https, http, file"),
    ]
    for url, kind, said in cases:
        write_index(hub, served[0], url)
        with pytest.raises(kind, match=said) as caught:
            fetch_source_model(NAME, cache=tmp_path / "mine")
        assert "\n" not in str(caught.value)
    assert list((tmp_path / "mine").iterdir()) == []


def test_the_command_lists_and_fetches(hub, served, tmp_path, capsys) -> None:
    assert models.main([]) == 0
    assert f"{NAME} " in capsys.readouterr().out
    assert models.main([f"model={NAME}"]) == 0
    assert "not fetched yet" in capsys.readouterr().out
    assert models.main(["fetch=true"]) == 1
    assert "which of them?" in capsys.readouterr().err
    assert models.main([f"model={NAME}", "fetch=true"]) == 0
    printed = capsys.readouterr()
    assert "home/.cache/poseda" in printed.out and f"{NAME}: 0.0 of 0.0 MB" in printed.err
    assert models.main(["model=tiny-hib"]) == 1
    assert f"Did you mean '{NAME}'" in capsys.readouterr().err
