"""The user's own body model files: found by their published names, read without running what their pickles ask for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csc_matrix

from poseda.data.body_model import BodyModel, Doubles, Skinning
from poseda.errors import ConfigError, DataError, MissingDataError
from poseda.files.checks import a_dict, an_array
from poseda.files.npz import load_npy, open_npz
from poseda.files.pickles import Record, load_pickle
from poseda.skeleton import get_skeleton

FAMILIES = {24: "SMPL", 52: "SMPL+H", 55: "SMPL-X"}
"""Bones -> name of the body model."""
LICENCE = "SMPL family: each user's own, non-commercial, licence (smpl.is.tue.mpg.de)"
REGRESSOR = "J_regressor_h36m*.npy"
_RECORDS = ("chumpy.ch.Ch", "scipy.sparse.csc.csc_matrix", "scipy.sparse._csc.csc_matrix")
_MOST_SHAPES = 16  # AMASS fits 16; SMPL and SMPL-X files hold up to 300
_GENDER = re.compile(r"(?:^|_)(female|male|neutral|f|m|n)(?=[_.]|$)")
_FULL = {"f": "female", "m": "male", "n": "neutral"}
_CLEARLY_M = 0.01


def load_body_model(path: Path) -> BodyModel:
    """An SMPL, SMPL+H or SMPL-X file as its makers publish it: .npz, or .pkl with chumpy arrays or without.

    Keys v_template shapedirs posedirs J_regressor weights kintree_table. Raises DataError in one line.
    """
    fields = _npz_fields(path) if path.suffix == ".npz" else a_dict(_pickle(path), str(path))
    weights = _array(fields, "weights", path, (None, None))
    vertices, bones = weights.shape
    if bones not in FAMILIES:
        known = ", ".join(f"{name} {count}" for count, name in FAMILIES.items())
        raise DataError(f"{path}: weights has {bones} bones; give a body model file ({known}).")
    shapes = _array(fields, "shapedirs", path, (vertices, 3, None))
    if FAMILIES[bones] == "SMPL-X" and shapes.shape[-1] < 400:
        shapes = shapes[..., :10]  # 10 shapes, then expressions; 300 and 100 in the files with 400
    tree = _array(fields, "kintree_table", path, (2, bones)).astype(np.int64)
    parents = (-1, *tree[0, 1:].tolist())  # the root's own entry is 2^32 - 1
    template = _array(fields, "v_template", path, (vertices, 3))
    correctives = _array(fields, "posedirs", path, (vertices, 3, 9 * (bones - 1)))
    regressor = _array(fields, "J_regressor", path, (bones, vertices))
    try:
        return BodyModel(template, shapes[..., :_MOST_SHAPES], correctives, regressor, weights, parents)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _pickle(path: Path) -> Any:
    return load_pickle(path, records=_RECORDS)


def _npz_fields(path: Path) -> Mapping[str, Any]:
    wanted = ("weights", "shapedirs", "kintree_table", "v_template", "posedirs", "J_regressor")
    with open_npz(path) as archive:
        return {key: archive.array(key) for key in wanted if key in archive}


def _array(fields: Mapping[str, Any], key: str, path: Path, shape: tuple[int | None, ...]) -> Doubles:
    if key not in fields:
        raise DataError(f"{path}: no key {key}; give an SMPL, SMPL+H or SMPL-X file as its makers publish it.")
    where = f"{path}: key {key}"
    value = an_array(_dense(fields[key], where, shape), where, shape).astype(np.float64, copy=False)
    if not np.isfinite(value).all():
        raise DataError(f"{where}: not all numbers are finite; download the file again.")
    return value


def _dense(value: Any, where: str, shape: tuple[int | None, ...]) -> Any:
    """The array inside a chumpy variable or a scipy matrix; anything else as it is."""
    if not isinstance(value, Record):
        return value
    state = a_dict(value.state, where)
    if value.name == "chumpy.ch.Ch":
        return state.get("x")
    found = tuple(state.get("_shape", state.get("shape", ())))
    if found != shape:
        raise DataError(f"{where}: shape {found}; expected {shape}.")
    try:
        matrix = csc_matrix((state["data"], state["indices"], state["indptr"]), shape=found)
        matrix.check_format(full_check=True)
        return matrix.toarray()
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: not a sparse matrix ({' '.join(str(error).split())}); download it again.") from None


def load_h36m_rows(path: Path, model: BodyModel) -> tuple[Doubles, str]:
    """The Human3.6M regressor in the order of h36m17: rows (17, V), and what was found about its order.

    Two orders are in use, alike but for the legs: SPIN's J_regressor_h36m.npy has the left leg first, Pose2Mesh's
    J_regressor_h36m_correct.npy the right one. The sides are those on which the rows lie on the model's template, whose
    x axis points to the body's left. Raises DataError where neither fits.
    """
    rows = an_array(load_npy(path), str(path), (17, None)).astype(np.float64)
    if rows.shape[1] != len(model.template):
        raise DataError(f"{path}: {rows.shape[1]} vertices; the body model has {len(model.template)}.")
    place = rows @ model.template
    upright = np.diff(place[[0, 7, 8, 9, 10], 1])  # pelvis, spine, thorax, nose, head
    sides = np.array([place[first : first + 3, 0].mean() - place[first + 3 : first + 6, 0].mean() for first in (1, 11)])
    if not (np.isfinite(place).all() and (upright > 0).all() and (abs(sides) > _CLEARLY_M).all()):
        raise DataError(f"{path}: its rows are not Human3.6M's 17 joints; give SPIN's or Pose2Mesh's file.")
    left, right = (list(range(first, first + 3)) for first in (1, 4))
    legs = right + left if sides[0] > 0 else left + right
    arms = [*range(11, 17)] if sides[1] > 0 else [*range(14, 17), *range(11, 14)]
    order = "left" if sides[0] > 0 else "right"
    return rows[[0, *legs, 7, 8, 9, 10, *arms]], f"{path.name} ({order} leg first)"


@dataclass
class Bodies:
    """The user's body models by gender, with h36m17 joints of each."""

    family: str
    """SMPL, SMPL+H or SMPL-X."""
    files: dict[str, Path]
    """Gender -> file; "" is one file that serves all."""
    rows_file: Path | None
    """Human3.6M's regressor, or None."""
    found: str = ""
    """What was found, for the user."""
    _skinnings: dict[Path, Skinning] = field(default_factory=dict)

    @classmethod
    def find(cls, place: str, families: Sequence[str]) -> Bodies:
        """Body models of the first of `families` that is in the file or folder `place`.

        A folder's files are told apart by their published names: basicModel_f_lbs_10_207_0_v1.0.0.pkl,
        SMPL_FEMALE.pkl, SMPLH_FEMALE.pkl, female/model.npz (SMPL+H), SMPLX_FEMALE.npz ... One is read, to see which
        joints it gives. Raises ConfigError without a place, MissingDataError and DataError.
        """
        wanted = " or ".join(families)
        if not place:
            raise ConfigError(f"this data needs a body model: body_model=<your {wanted} file, or the folder of them>.")
        path = Path(place)
        if not path.exists():
            raise MissingDataError(f"body_model={place}: not there; give your {wanted} file, or the folder of them.")
        groups = {families[0]: {"": path}} if path.is_file() else _group(path)
        family = next((name for name in families if name in groups), None)
        if family is None:
            raise MissingDataError(f"body_model={place}: no file there has the name of an {wanted} model.")
        bodies = cls(family, groups[family], _rows_file(path))
        bodies._look(families)
        return bodies

    def _look(self, families: Sequence[str]) -> None:
        """Read one file: is it of the family wanted, and does the regressor fit it?"""
        path = next(iter(self.files.values()))
        model = load_body_model(path)
        self.family = FAMILIES[len(model.parents)]
        if self.family not in families:
            raise DataError(f"{path}: an {self.family} model; this data needs {' or '.join(families)}.")
        if self.rows_file:
            rows = an_array(load_npy(self.rows_file), str(self.rows_file), (17, None))
            self.rows_file = self.rows_file if rows.shape[1] == len(model.template) else None
        self._skinnings[path] = self._skin(model)

    def _skin(self, model: BodyModel) -> Skinning:
        if self.rows_file is None:
            self.found = f"{self.family}'s own joints"
            return model.skin_own(get_skeleton("h36m17").joints)
        rows, said = load_h36m_rows(self.rows_file, model)
        self.found = f"{self.family} with {said}"
        return model.skin_rows(rows)

    def skinning(self, gender: str) -> Skinning:
        """h36m17 joints for a person: the gender's own file, else the neutral, else the first."""
        path = self.file(gender)
        if path not in self._skinnings:
            self._skinnings[path] = self._skin(load_body_model(path))
        return self._skinnings[path]

    def file(self, gender: str) -> Path:
        """The file that serves a gender ("f", "female", "male", ...)."""
        name = _FULL.get(gender.strip().lower()[:1], "neutral")
        return next(self.files[key] for key in (name, "neutral", *self.files) if key in self.files)

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that joints are made from."""
        return (*sorted(set(self.files.values())), *filter(None, [self.rows_file]))

    @property
    def notes(self) -> str:
        """Which file serves whom where it is not the gender's own, and what the joints are without the regressor."""
        if "" in self.files:
            said = [f"the body model {self.files[''].name} serves every gender"]
        else:
            genders = [name for name in ("female", "male") if name not in self.files]
            said = [f"no {name} body model: {self.file(name).name} serves" for name in genders]
        if self.rows_file is None:
            said.append(
                f"joints are those of {self.family}'s skeleton nearest to Human3.6M's, the head its highest vertex: "
                "their definitions differ by some centimetres"
            )
        return "; ".join(said)


def _group(folder: Path) -> dict[str, dict[str, Path]]:
    """Family -> gender -> file, for what lies in a folder and up to two folders below."""
    found = (path for depth in ("*", "*/*", "*/*/*") for path in sorted(folder.glob(depth)))
    groups: dict[str, dict[str, Path]] = {}
    for path in found:
        if path.suffix in (".pkl", ".npz") and path.is_file():
            naming = path.parent.name if path.name.lower() == "model.npz" else path.name
            family, gender = _family(path), _GENDER.search(naming.lower())
            if family and gender:
                groups.setdefault(family, {}).setdefault(_FULL[gender[1][0]], path)
    return groups


def _family(path: Path) -> str:
    """By the file's name, or for model.npz by its folders'; "" for other names."""
    name = path.name.lower()
    if name == "model.npz":
        return "SMPL-X" if any("smplx" in part.lower() for part in path.parts[-4:-1]) else "SMPL+H"
    starts = {"smplx_": "SMPL-X", "smplh_": "SMPL+H", "smpl_": "SMPL", "basicmodel_": "SMPL"}
    return next((family for start, family in starts.items() if name.startswith(start)), "")


def _rows_file(path: Path) -> Path | None:
    """Human3.6M's regressor beside the body model's file, or in its folder or one below."""
    folder = path if path.is_dir() else path.parent
    return next((file for depth in ("", "*/") for file in sorted(folder.glob(depth + REGRESSOR))), None)
