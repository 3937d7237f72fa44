"""The help of a command, read from the source files of the config dataclasses: nothing heavy is imported."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poseda.cli.discover import (
    LIFTERS,
    PACKAGE,
    STAGES,
    Kind,
    configs_folder,
    domain_formats,
    headline,
    preset_files,
    raw_datasets,
)
from poseda.errors import choose

if TYPE_CHECKING:
    from poseda.cli.app import Command

WIDTH = 110
WIDEST = 16
"""Widest type that has the texts beside it."""
CHOSEN = ("source", "target", "lifter")
"""Configs that a preset stands for."""
PRESETS = ("lifter", "stages", "experiment")
"""Options whose value names a part of the help."""
SCHEMA = PACKAGE / "cli" / "schema.py"


@dataclass(frozen=True)
class Option:
    """One key as the help shows it."""

    key: str
    kind: str
    default: str
    text: str


@dataclass(frozen=True)
class ClassSource:
    """A class as its file has it."""

    file: Path
    node: ast.ClassDef

    @property
    def headline(self) -> str:
        return (ast.get_docstring(self.node) or "").partition("\n")[0]


@dataclass(frozen=True)
class FieldSource:
    """A dataclass field: name, annotation, default and the docstring after it."""

    owner: ClassSource
    name: str
    hint: str
    default: ast.expr | None
    text: str


def help_text(command: Command, words: Sequence[str] = ()) -> str:
    """What the command does, examples, and every option with type, default and meaning; of what `words` name alone.

    Raises ConfigError for a word that names no part.
    """
    if words:
        parts = parts_of(command)
        return "\n\n".join(parts[choose(name, parts, "part of the help")] for name in names_in(words))
    fields = job_fields(command.name)
    blocks = [f"{command.line}: {command.summary}", usage(command), general_block(fields)]
    names = {field.name for field in fields}
    if "dataset" in names:
        blocks.append(dataset_block())
    if {"source", "target"} & names:
        blocks.append(domain_block([name for name in ("source", "target") if name in names]))
    if "lifter" in names:
        blocks.append(plugin_block(LIFTERS, "lifter=NAME", own_key=False))
    if "stages" in names:
        blocks.append(plugin_block(STAGES, "stages=[NAME,...]", own_key=True))
    if "name" in names:
        blocks.append(experiment_block())
    blocks += [nested_block(f) for f in fields if nested(f) and f.name not in CHOSEN]
    return "\n\n".join([*(block for block in blocks if block), closing()])


def names_in(words: Sequence[str]) -> list[str]:
    """What words such as tto, tto.steps=5, lifter=mixste or stages=[gpa,lpa] name: tto, tto, mixste, gpa and lpa."""
    names = []
    for word in words:
        key, _, value = word.partition("=")
        names += value.strip("[]").split(",") if value and key in PRESETS else [key.partition(".")[0]]
    return list(dict.fromkeys(name.strip() for name in names))


def parts_of(command: Command) -> dict[str, str]:
    """What can be asked for by name: each lifter and stage, each nested config, and the whole lists."""
    fields = job_fields(command.name)
    names = {field.name for field in fields}
    parts = {"options": general_block(fields)}
    if "dataset" in names:
        parts["dataset"] = dataset_block()
    for name in ("source", "target"):
        if name in names:
            parts[name] = domain_block([name])
    if "stages" in names:
        parts |= preset_parts("stage") | plugin_parts(STAGES, own_key=True)
        parts["stages"] = plugin_block(STAGES, "stages=[NAME,...]", own_key=True)
    if "lifter" in names:
        parts |= preset_parts("lifter") | plugin_parts(LIFTERS, own_key=False)
        parts["lifter"] = plugin_block(LIFTERS, "lifter=NAME", own_key=False)
    if "name" in names:
        for name, text in preset_parts("experiment").items():
            parts[name] = f"{parts[name]}\n{text}" if name in parts else text
        parts["experiment"] = experiment_block()
    own = [field for field in fields if nested(field) and field.name not in CHOSEN]
    return parts | {field.name: nested_block(field) for field in own}


def usage(command: Command) -> str:
    lines = [f"  # {what}\n  {command.line} {arguments}" for arguments, what in command.examples]
    return "\n".join(["Use: options are written key=value, without dashes, in any order.", *lines])


def general_block(fields: list[FieldSource]) -> str:
    plain = [option(f, "") for f in fields if not nested(f) and f.name != "stage_configs"]
    return titled("Options", table(plain))


def dataset_block() -> str:
    """The raw data sets: what each is, where it is had, its layouts and the options that it reads."""
    lines = []
    for name, path in raw_datasets().items():
        facts = {key: literal(path, key) for key in ("TITLE", "SITE", "LAYOUTS", "USES")}
        lines.append(f"  {name}: {facts['TITLE']} ({facts['SITE']})")
        lines += [textwrap.fill(f"    - {layout}", WIDTH, subsequent_indent="      ") for layout in facts["LAYOUTS"]]
        if facts["USES"]:
            lines.append(f"    options: {', '.join(facts['USES'])}")
    return titled("Data sets: dataset=NAME (docs/datasets.md)", "\n".join(lines))


def literal(path: Path, name: str) -> Any:
    """The value of `NAME = literal` at the top of a file, or of another file of ours that it is imported from."""
    for node in parsed(path).body:
        if isinstance(node, ast.Assign) and name in map(name_of, node.targets):
            return ast.literal_eval(node.value)
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.name for alias in node.names}:
            return literal(module_file(node.module), name)
    raise LookupError(f"{path}: {name} is not a literal at top level")


def domain_block(names: list[str]) -> str:
    presets = preset_files("domain", (configs_folder(),))
    choices = {name: "" for name in domain_formats()} | {name: headline(path) for name, path in presets.items()}
    title = f"Domains: {' and '.join(f'{name}=NAME' for name in names)} (configs/domain)"
    described = fields_of(find_class(PACKAGE / "data" / "domains.py", "DomainConfig"))
    options = [option(f, f"{names[0]}.") for f in described if f.name != "name"]
    if len(names) > 1:
        title += f"; what is said of {names[0]}.* holds for {names[1]}.* as well"
    rigs = ", ".join(sorted(path.stem for path in (PACKAGE / "geometry" / "rigs").glob("*.json")))
    return titled(title, listed(choices), table(options), f"  Rigs: {rigs}")


def plugin_block(kind: Kind, how: str, own_key: bool) -> str:
    """Lifters or stages: what there is, the options of each, and the presets."""
    parts, texts = plugin_parts(kind, own_key), headlines(kind)
    presets = {name: text for name, text in texts.items() if name not in parts}
    return titled(f"{kind.group.capitalize()}s: {how} (configs/{kind.group})", *parts.values(), listed(presets))


def headlines(kind: Kind) -> dict[str, str]:
    """Preset -> its first comment."""
    return {name: headline(path) for name, path in preset_files(kind.group, (configs_folder(),)).items()}


def plugin_parts(kind: Kind, own_key: bool) -> dict[str, str]:
    """Lifter or stage -> what it is, and its options."""
    texts, parts = headlines(kind), {}
    for name, path in kind.files().items():
        owner, config = plugin_classes(path, kind.marker)
        key = f"{name}." if own_key else f"{kind.group}."
        title = f"  {name}: {texts.get(name) or owner.headline}"
        parts[name] = f"{title}\n{table([option(f, key) for f in fields_of(config)])}"
    return parts


def preset_parts(group: str) -> dict[str, str]:
    """Preset -> what it is, and what it pins."""
    parts = {}
    for name, path in preset_files(group, (configs_folder(),)).items():
        lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
        parts[name] = "\n".join([f"  {group}={name}: {headline(path)}", *(f"    {line}" for line in lines)])
    return parts


def experiment_block() -> str:
    presets = preset_files("experiment", (configs_folder(),))
    return titled(
        "Experiments: experiment=NAME pins options (configs/experiment)",
        listed({name: headline(path) for name, path in presets.items()}),
    )


def nested_block(field: FieldSource) -> str:
    config = find_class(field.owner.file, field.hint)
    return titled(f"{field.name}.*: {field.text}", table([option(f, f"{field.name}.") for f in fields_of(config)]))


def closing() -> str:
    more = {
        "--help tto adapt": "shows these parts alone: a stage, a lifter, train, adapt, source, experiment, ...",
        "--cfg job": "prints the options as they would be used, and does nothing else",
        "-m key=a,b,c": "runs once for each value",
        "--config-dir DIR": "reads presets of your own from DIR/domain, DIR/lifter, ... as well",
        "POSEDA_DEBUG=1": "(environment) shows the whole trace of an error",
    }
    return titled("Also", listed(more))


def titled(title: str, *parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f"{title}\n{body}" if body else ""


def listed(choices: Mapping[str, str]) -> str:
    width = max(map(len, choices), default=0)
    return "\n".join(f"  {name:<{width}}  {text}".rstrip() for name, text in choices.items())


def table(options: list[Option]) -> str:
    """Options in aligned columns, the texts wrapped; after a long list of choices the text has lines of its own."""
    left = [f"    {o.key}={o.default}" for o in options]
    first = min(max(map(len, left), default=0), 44)
    second = max((len(o.kind) for o in options if len(o.kind) <= WIDEST), default=0)
    indent = " " * (first + second + 4)
    lines = []
    for o, start in zip(options, left, strict=True):
        texts = textwrap.wrap(o.text, WIDTH - len(indent)) or [""]
        if len(o.kind) > max(second, 1):
            texts.insert(0, "")
        lines.append(f"{start:<{first}}  {o.kind:<{second}}  {texts[0]}".rstrip())
        lines += [indent + text for text in texts[1:]]
    return "\n".join(lines)


def job_fields(command: str) -> list[FieldSource]:
    """Fields of a command's job, those of its base classes last: what is special to it comes first."""
    tree = parsed(SCHEMA)
    jobs = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and name_of(n.target) == "JOBS")
    assert isinstance(jobs, ast.Dict)
    named = {k.value: name_of(v) for k, v in zip(jobs.keys, jobs.values, strict=True) if isinstance(k, ast.Constant)}
    fields = fields_of(find_class(SCHEMA, named[command]))
    own = find_class(SCHEMA, named[command]).node.name
    return sorted(fields, key=lambda field: field.owner.node.name != own)


def fields_of(source: ClassSource) -> list[FieldSource]:
    """Fields of a dataclass as dataclasses order them: its bases' first, one that it sets anew in its old place."""
    inherited = [fields_of(find_class(source.file, name_of(base))) for base in source.node.bases if name_of(base)]
    fields = [*(field for some in inherited for field in some), *own_fields(source)]
    return list({field.name: field for field in fields}.values())


def own_fields(source: ClassSource) -> Iterator[FieldSource]:
    body = source.node.body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar"):
            text = following.value.value if is_text(following) else ""  # type: ignore[union-attr]
            hint = ast.unparse(node.annotation)
            yield FieldSource(source, name_of(node.target), hint, node.value, " ".join(str(text).split()))


def is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def nested(field: FieldSource) -> bool:
    """Whether a field holds a config of its own, made by a default_factory."""
    return isinstance(field.default, ast.Call) and field.name != "stage_configs"


def option(field: FieldSource, prefix: str) -> Option:
    return Option(f"{prefix}{field.name}", shown_type(field.hint), shown_default(field.default), field.text)


def shown_type(hint: str) -> str:
    """tuple[str, ...] -> [str,...], Literal['a', 'b'] -> a|b, bool | None -> bool|null."""
    if hint.startswith("Literal["):
        return "|".join(str(value) for value in ast.literal_eval(f"({hint[8:-1]},)"))
    if hint.startswith("tuple["):
        return hint.removeprefix("tuple").replace(" ", "")
    return hint.replace(" | ", "|").replace("None", "null")


def shown_default(node: ast.expr | None) -> str:
    """A default as one would write it on the command line."""
    if node is None:
        return "(required)"
    try:
        return shown_value(ast.literal_eval(node))
    except ValueError:
        return ast.unparse(node)


def shown_value(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, tuple | list):
        return f"[{','.join(shown_value(item) for item in value)}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def plugin_classes(path: Path, marker: str) -> tuple[ClassSource, ClassSource]:
    """The class that a lifter or stage file declares, and its Config."""
    owner = find_class(path, assigned(parsed(path), marker))
    for node in owner.node.body:
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            return owner, ClassSource(owner.file, node)
    inside = ast.Module(body=list(owner.node.body), type_ignores=[])
    return owner, find_class(owner.file, assigned(inside, "Config"))


def assigned(tree: ast.Module, name: str) -> str:
    """The name on the right of `name = ...`."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and name in map(name_of, node.targets):
            return name_of(node.value)
        if isinstance(node, ast.AnnAssign) and name_of(node.target) == name and node.value is not None:
            return name_of(node.value)
    raise LookupError(name)


def find_class(file: Path, name: str) -> ClassSource:
    """A class by the name that it has in `file`, defined there or imported from another file of ours."""
    for node in parsed(file).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return ClassSource(file, node)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("poseda"):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return find_class(module_file(node.module), alias.name)
    raise LookupError(f"{file}: no class {name}")


def module_file(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text("utf-8"))


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ""
