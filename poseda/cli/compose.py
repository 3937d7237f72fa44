"""The tree of options that Hydra composes, and the job that comes out of it.

Every YAML file of `configs/` is a named preset: values laid over the defaults of a config dataclass. One file
in `configs/domain` serves `source=` and `target=`, one in `configs/lifter` serves `lifter=`, one in
`configs/stage` is a name for `stages=[...]` with its options at <name>.*, and one in `configs/experiment`
pins options of a whole command.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from poseda.cli.discover import LIFTERS, STAGES, Kind, configs_folder, domain_formats, preset_files
from poseda.cli.schema import JOBS, NO_SOURCE, Job, LifterChoice, StageChoice
from poseda.cli.typed import build, field_values, mirror, refuse_unknown, twin
from poseda.data.domains import DomainConfig
from poseda.errors import ConfigError, choose
from poseda.zoo import read_source_card

T = TypeVar("T")
Folders = tuple[Path, ...]

GROUPS = {"source": "h36m", "target": "3dhp", "lifter": "simplebaseline_small"}
QUIET = [{"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"}]
# Hydra keeps no folder of its own, the run folder is ours; a sweep leaves its settings in OUT/multirun.yaml.
NO_FOLDERS = {
    "output_subdir": None,
    "run": {"dir": "."},
    "sweep": {"dir": "${oc.select:out,runs}", "subdir": "."},
}


def register(command: str, extra: Folders = ()) -> None:
    """Put a command's typed options and all presets into Hydra's store; `extra` folders win over configs/."""
    folders = (configs_folder(), *extra)
    names = get_type_hints(JOBS[command])
    store = ConfigStore.instance()
    defaults: list[Any] = [f"{command}_options"]
    for group in (group for group in GROUPS if group in names):
        store.repo[group] = {}
        nodes = (lifter_nodes if group == "lifter" else domain_nodes)(folders)
        if group == "source" and command == "adapt":
            nodes[NO_SOURCE] = mirror(DomainConfig(name=NO_SOURCE))
        for name, node in nodes.items():
            store.store(group=group, name=name, node=node)
        defaults.append({group: GROUPS[group]})
    if "name" in names:
        store.repo["experiment"] = {}
        for name, path in preset_files("experiment", folders).items():
            store.store(group="experiment", name=name, package="_global_", node=read_yaml(path))
        defaults.append({"experiment": None})
    store.store(name=f"{command}_options", node=root_node(JOBS[command], folders))
    store.store(name=command, node={"defaults": [*defaults, *QUIET, "_self_"], "hydra": NO_FOLDERS})


def root_node(kind: type[Job], folders: Folders) -> Any:
    """The typed options of a command: its job's fields, and in the place of `stage_configs` one node a stage.

    What a group chooses (source=, lifter=) is left open here: the group's own node is typed.
    """
    hints = {name: hint for name, hint in get_type_hints(kind).items() if name not in GROUPS}
    values = {name: None if name in GROUPS else value for name, value in field_values(kind()).items()}
    if values.pop("stage_configs", None) is not None:
        choices = stage_choices(folders)
        if clash := sorted(choices.keys() & values.keys()):
            raise ConfigError(f"configs/stage/{clash[0]}.yaml has the name of an option: give the preset another one.")
        values |= {label: choice.config for label, choice in choices.items()}
    return twin(kind.__name__, values, hints)


def domain_nodes(folders: Folders) -> dict[str, Any]:
    """Name -> typed node of a domain: each format under its own name, and each preset under its own."""
    nodes = {name: mirror(DomainConfig(name=name)) for name in domain_formats()}
    for name, path in preset_files("domain", folders).items():
        nodes[name] = mirror(laid_over(DomainConfig(name=name), read_yaml(path), path))
    return nodes


def lifter_nodes(folders: Folders) -> dict[str, Any]:
    """Preset name -> typed node of a lifter: `name` and the options of its Config."""
    nodes = {}
    for label, (name, config) in configured(LIFTERS, folders).items():
        hints = get_type_hints(type(config)) | {"name": str}
        nodes[label] = twin(type(config).__name__, {"name": name} | field_values(config), hints)
    return nodes


def stage_choices(folders: Folders) -> dict[str, StageChoice]:
    """Name for `stages=[...]` -> the stage that it stands for, with its defaults."""
    return {label: StageChoice(*choice) for label, choice in configured(STAGES, folders).items()}


def configured(kind: Kind, folders: Folders) -> dict[str, tuple[str, Any]]:
    """Label -> (name of the part, Config instance): each file and each preset under its own name."""
    presets = {label: (path, read_yaml(path)) for label, path in preset_files(kind.group, folders).items()}
    found = {}
    for label in sorted({*kind.names(), *presets}):
        path, values = presets.get(label, (Path(), {}))
        name = str(values.pop("name", label))
        found[label] = (name, laid_over(kind.load(name).Config(), values, path))
    return found


def laid_over(config: T, values: Mapping[str, Any], path: Path) -> T:
    """A config with the values of a preset file over its own; ConfigError naming the file."""
    if not values:
        return config
    try:
        refuse_unknown(values, field_values(config))
        merged = OmegaConf.merge(OmegaConf.structured(mirror(config)), dict(values))
    except (ConfigError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    return build(type(config), plain(merged))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, {} when it holds comments alone."""
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys with values.")
    return {str(key): value for key, value in content.items()}


def plain(node: Any) -> dict[str, Any]:
    """An OmegaConf node as plain containers, every reference resolved."""
    return OmegaConf.to_container(node, resolve=True, throw_on_missing=True)  # type: ignore[return-value]


def job_of(command: str, cfg: DictConfig, extra: Folders = ()) -> Job:
    """The job that a composed config describes. Raises ConfigError for what does not fit."""
    values = plain(cfg)
    if "lifter" in values:
        model = values.get("source_model", "")
        values["lifter"] = model_choice(model) if model else lifter_choice(values["lifter"])
    if "stages" in values:
        known = stage_choices((configs_folder(), *extra))
        options = {label: values.pop(label) for label in known}
        used = {choose(label, known, "stage"): options[label] for label in values["stages"]}
        values["stage_configs"] = {
            label: StageChoice(known[label].name, build(type(known[label].config), given, f"{label}."))
            for label, given in used.items()
        }
    return build(JOBS[command], values)


def imply(command: str, words: list[str]) -> list[str]:
    """The words of a command with what source_model= implies: a lifter of its own, and no source unless one is given.

    Raises ConfigError where a lifter is given beside it.
    """
    keys = [word.partition("=")[0] for word in words]
    model = next((word for word in words if word.startswith("source_model=") and not word.endswith("=")), "")
    if not model:
        return words
    lifter = next((word for word in words if word.startswith(("lifter=", "lifter."))), "")
    if lifter:
        raise ConfigError(f"{model} brings its own lifter: leave {lifter} out.")
    if command == "adapt" and not any(key == "source" or key.startswith("source.") for key in keys):
        place = words.index(model) + 1  # beside another option: Hydra takes none from behind a flag
        return [*words[:place], f"source={NO_SOURCE}", *words[place:]]
    return words


def model_choice(name: str) -> LifterChoice:
    """The lifter of a source model."""
    (lifter, options), _ = read_source_card(name)
    return LifterChoice(lifter, options)


def lifter_choice(values: dict[str, Any]) -> LifterChoice:
    """A lifter's node as its name and checked options."""
    name = str(values.pop("name", ""))
    config = build(LIFTERS.load(name).Config, values, "lifter.")
    return LifterChoice(name, dataclasses.asdict(config))
