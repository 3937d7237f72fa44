"""The documents: blocks of docs/extending.md run, links and anchors resolve, and options that are named exist."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import poseda.data.formats
import poseda.lifters
import poseda.stages
from poseda import adapt, calibrate, evaluate, export, models, predict, prepare, train
from poseda.plugins import list_plugins
from poseda.stages import list_stages

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/*/README.md"), ROOT / "README.md"])
GUIDE = (ROOT / "docs" / "extending.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
NAMED = {found.group(1): block for block in PYTHON if (found := re.match(r"# (\S+\.py)\n", block))}
PACKAGES = {
    "poseda/stages": poseda.stages,
    "poseda/lifters": poseda.lifters,
    "poseda/data/formats": poseda.data.formats,
}


COMMANDS = {"train": train, "adapt": adapt, "evaluate": evaluate, "predict": predict}
COMMANDS |= {"prepare": prepare, "export": export, "calibrate": calibrate, "models": models}


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The guide's parts as files on the paths of their packages, and its presets in tmp_path/configs."""
    for folder, package in PACKAGES.items():
        here = tmp_path / folder
        here.mkdir(parents=True)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(here)])
    for name, block in NAMED.items():
        if name.startswith("poseda/"):
            (tmp_path / name).write_text(block)
    for block in re.findall(r"```yaml\n(.*?)```", GUIDE, re.S):
        name, text = block.split("\n", 1)
        file = tmp_path / name.removeprefix("# ")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.rsplit(".", 1)[-1] in ("resize", "plain", "takes"):
            del sys.modules[name]


@pytest.mark.parametrize("name", [name for name in NAMED if name.startswith("tests/")])
def test_the_guides_tests_pass_on_the_guides_parts(name: str, parts: Path, tmp_path: Path) -> None:
    space: dict[str, Any] = {}
    exec(compile(NAMED[name], name, "exec"), space)
    tests = {key: value for key, value in space.items() if key.startswith("test_")}
    assert len(tests) >= 2
    for key, test in tests.items():
        (tmp_path / key).mkdir()
        test(**{argument: tmp_path / key for argument in inspect.signature(test).parameters})


def test_the_guides_wrapped_module_trains(capsys: pytest.CaptureFixture[str]) -> None:
    block = next(block for block in PYTHON if "poseda.wrap(" in block)
    exec(compile(block, "extending.md", "exec"), {})
    assert float(capsys.readouterr().out) > 0


def test_help_knows_the_guides_parts(parts: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("poseda.cli.help.configs_folder", lambda: parts / "configs")
    assert adapt.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "resize: Resize: source people become larger or smaller at random." in text
    assert "resize.share=0.1" in text and "Largest change of a person's size" in text
    assert "plain: Plain: two layers on one frame." in text
    assert "A folder of npy files, one a person (path=FOLDER)." in text


def anchors(page: Path) -> set[str]:
    """Anchors that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = (page.parent / file).resolve() if file else page
        assert linked.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(linked), f"{page}: {target}"
    for path in re.findall(r"`((?:docs|experiments|poseda|configs|notebooks|tests)/[\w./-]+)`", text):
        made = page.name == "extending.md" and path.split("/")[-1].split(".")[0] in ("resize", "plain", "takes")
        assert made or (ROOT / path).exists(), f"{page}: {path}"


KEY = re.compile(r"(?<![\w./<>{}-])([a-z]\w*(?:\.[a-z0-9_]\w*)*)=(?![=\s])")
NO_OPTIONS = {"key", "config", "glibc.malloc.check", "lifter.checkpoint"}
"""What --help has not: a placeholder, an argument in Python, a variable of glibc's, another name of checkpoint=."""


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """Command -> keys that its --help shows; "" -> those of all commands and of the guide's own parts."""
    row = re.compile(r"^    ([a-z_0-9.]+)=", re.MULTILINE)
    known = {}
    for name, command in COMMANDS.items():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert command.main(["--help"]) == 0
        keys = set(row.findall(out.getvalue())) | {"resize.share"}
        if name not in ("prepare", "export", "models"):
            keys |= {key.replace("source.", "target.", 1) for key in keys}  # --help shows them once
            keys |= {"source", "target", "lifter", "experiment"}
        known[name] = keys
    known[""] = set().union(*known.values(), *({key.split(".")[-1] for key in keys} for keys in known.values()))
    return known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_that_are_named_exist(page: Path, options: dict[str, set[str]]) -> None:
    text = page.read_text()
    blocks = re.findall(r"```(?:bash)?\n(.*?)```", text, re.S)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    for code in [line for block in blocks for line in block.splitlines()] + [" ".join(span.split()) for span in spans]:
        if "(" in code.replace("$(", "") and "python -m" not in code:
            continue  # Python
        found = re.search(r"-m poseda\.(\w+)", code)
        for key in KEY.findall(code.split(" #")[0]):
            assert key in options[found.group(1) if found else ""] | NO_OPTIONS, f"{page}: {key} in {code}"


def test_every_stage_is_in_the_table_of_stages() -> None:
    text = (ROOT / "docs" / "stages.md").read_text()
    rows = {row for row in re.findall(r"^\| `(\w+)` \|", text, re.M)}
    assert rows == set(list_stages())
    assert set(re.findall(r"^## `?(\w+)`?$", text, re.M)) >= set(list_stages())


def test_the_index_names_every_document() -> None:
    text = (ROOT / "docs" / "README.md").read_text()
    for page in ROOT.glob("docs/**/*.md"):
        name = str(page.relative_to(ROOT / "docs"))
        assert name == "README.md" or f"({name})" in text, name


def test_nothing_of_the_guide_is_a_part_of_the_package() -> None:
    names = {*list_plugins(poseda.stages.__path__, "STAGE"), *list_plugins(poseda.lifters.__path__, "LIFTER")}
    assert not names & {"resize", "plain"}
