"""Body model files in each published form, found by their names, with both Human3.6M regressors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.sparse import csc_matrix

from poseda.data.body_files import Bodies, load_body_model, load_h36m_rows
from poseda.errors import ConfigError, DataError, MissingDataError
from tests.data.smpl_bodies import SPIN_ORDER, h36m_rows, make_body, pose_h36m, write_body

POSES = np.random.default_rng(2).normal(0, 0.5, (2, 72))
BETAS = np.linspace(-1, 1, 10)


def same(model, body):
    np.testing.assert_array_equal(model.template, body["v_template"])
    np.testing.assert_array_equal(model.shapes, body["shapedirs"])
    np.testing.assert_array_equal(model.correctives, body["posedirs"])
    np.testing.assert_array_equal(model.regressor, body["J_regressor"])
    np.testing.assert_array_equal(model.weights, body["weights"])
    assert model.parents == (-1, *body["kintree_table"][0, 1:].tolist())


@pytest.mark.parametrize("bones", [24, 52, 55])
@pytest.mark.parametrize("name", ["m.npz", "m.pkl"])
def test_each_family_in_each_form(tmp_path, bones, name):
    body = make_body(bones)
    same(load_body_model(write_body(tmp_path / name, body)), body)


def test_plain_pickle_with_a_scipy_matrix_of_today(tmp_path):
    body = make_body()
    with open(tmp_path / "m.pkl", "wb") as file:
        pickle.dump(body | {"J_regressor": csc_matrix(body["J_regressor"])}, file, protocol=2)
    same(load_body_model(tmp_path / "m.pkl"), body)


@pytest.mark.parametrize(("bones", "stored", "read"), [(24, 300, 16), (55, 20, 10), (55, 400, 16)])
def test_shapes_without_expressions(tmp_path, bones, stored, read):
    body = make_body(bones, shapes=stored)
    model = load_body_model(write_body(tmp_path / "m.npz", body))
    np.testing.assert_array_equal(model.shapes, body["shapedirs"][..., :read])


@pytest.mark.parametrize("spin", [True, False])
@pytest.mark.parametrize("arms_swapped", [True, False])
def test_regressors_are_told_apart_by_the_side_of_their_rows(tmp_path, spin, arms_swapped):
    body = make_body()
    rows = h36m_rows(body)
    stored = rows[SPIN_ORDER] if spin else rows
    stored = stored[[*range(11), 14, 15, 16, 11, 12, 13]] if arms_swapped else stored
    np.save(tmp_path / "J_regressor_h36m.npy", stored)
    model = load_body_model(write_body(tmp_path / "m.npz", body))
    read, said = load_h36m_rows(tmp_path / "J_regressor_h36m.npy", model)
    np.testing.assert_array_equal(read, rows)
    assert said == f"J_regressor_h36m.npy ({'left' if spin else 'right'} leg first)"


def test_a_regressor_of_other_joints_is_refused(tmp_path):
    body = make_body()
    model = load_body_model(write_body(tmp_path / "m.npz", body))
    np.save(tmp_path / "a.npy", h36m_rows(body)[::-1])
    with pytest.raises(DataError, match=r"a\.npy: its rows are not Human3\.6M's 17 joints; give SPIN's"):
        load_h36m_rows(tmp_path / "a.npy", model)
    np.save(tmp_path / "b.npy", np.ones((17, 7)))
    with pytest.raises(DataError, match=r"b\.npy: 7 vertices; the body model has 120"):
        load_h36m_rows(tmp_path / "b.npy", model)


NAMES = {
    "SMPL": ["basicModel_f_lbs_10_207_0_v1.0.0.pkl", "basicmodel_m_lbs_10_207_0_v1.0.0.pkl", "smpl/SMPL_NEUTRAL.npz"],
    "SMPL+H": ["female/model.npz", "smplh/SMPLH_MALE.pkl", "neutral/model.npz"],
    "SMPL-X": ["SMPLX_FEMALE.npz", "models/smplx/SMPLX_MALE.npz", "smplx_locked/neutral/model.npz"],
}
BONES = {"SMPL": 24, "SMPL+H": 52, "SMPL-X": 55}


@pytest.mark.parametrize("family", NAMES)
def test_a_folder_of_all_families_gives_each_gender_its_own(tmp_path, family):
    for other, names in NAMES.items():
        for seed, name in enumerate(names if other == family else names[:1]):
            write_body(tmp_path / name, make_body(BONES[other], seed=seed))
    bodies = Bodies.find(str(tmp_path), (family,))
    assert bodies.files == dict(zip(("female", "male", "neutral"), (tmp_path / n for n in NAMES[family]), strict=True))
    assert [bodies.file(gender).name for gender in ("f", "Male", "neutral", "other")] == [
        tmp_path.joinpath(name).name for name in (*NAMES[family], NAMES[family][2])
    ]
    assert bodies.paths == tuple(sorted(tmp_path / name for name in NAMES[family]))


def test_each_person_gets_the_body_of_their_gender(tmp_path):
    bodies_of = {"female": make_body(seed=1), "male": make_body(seed=2)}
    for gender, body in bodies_of.items():
        write_body(tmp_path / f"SMPL_{gender.upper()}.pkl", body)
    rows = h36m_rows(make_body())
    np.save(tmp_path / "J_regressor_h36m_correct.npy", rows)
    bodies = Bodies.find(str(tmp_path), ("SMPL",))
    assert bodies.found == "SMPL with J_regressor_h36m_correct.npy (right leg first)"
    assert bodies.notes == ""
    for gender, body in bodies_of.items():
        joints = bodies.skinning(gender[0]).joints(POSES, BETAS)
        np.testing.assert_allclose(joints, pose_h36m(body, POSES, BETAS, rows), atol=1e-12)


def test_what_stands_in_for_what_is_said(tmp_path):
    one = write_body(tmp_path / "mine.npz", make_body())
    bodies = Bodies.find(str(one), ("SMPL+H", "SMPL"))
    assert bodies.family == "SMPL"
    assert bodies.notes.startswith("the body model mine.npz serves every gender; joints are those of SMPL's skeleton")
    write_body(tmp_path / "f" / "SMPL_FEMALE.npz", make_body())
    write_body(tmp_path / "f" / "SMPL_NEUTRAL.npz", make_body())
    assert "no male body model: SMPL_NEUTRAL.npz serves" in Bodies.find(str(tmp_path / "f"), ("SMPL",)).notes


def test_a_regressor_of_another_mesh_is_not_used(tmp_path):
    np.save(tmp_path / "J_regressor_h36m.npy", np.ones((17, 7)))
    bodies = Bodies.find(str(write_body(tmp_path / "m.npz", make_body())), ("SMPL",))
    assert bodies.rows_file is None
    assert bodies.found == "SMPL's own joints"


def test_missing_models_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"body_model=<your SMPL\+H or SMPL file, or the folder of them>"):
        Bodies.find("", ("SMPL+H", "SMPL"))
    with pytest.raises(MissingDataError, match="not there; give your SMPL file"):
        Bodies.find(str(tmp_path / "none"), ("SMPL",))
    write_body(tmp_path / "SMPLX_MALE.npz", make_body(55))
    with pytest.raises(MissingDataError, match="no file there has the name of an SMPL model"):
        Bodies.find(str(tmp_path), ("SMPL",))
    with pytest.raises(DataError, match=r"an SMPL-X model; this data needs SMPL\."):
        Bodies.find(str(tmp_path / "SMPLX_MALE.npz"), ("SMPL",))


def test_broken_models_are_refused_by_key(tmp_path):
    body, path = make_body(), tmp_path / "m.npz"
    cases = {
        "key posedirs: is float64 (120, 3, 9)": body | {"posedirs": np.zeros((120, 3, 9))},
        "weights has 7 bones": body | {"weights": np.zeros((120, 7))},
        "no key J_regressor": {key: value for key, value in body.items() if key != "J_regressor"},
        "key v_template: not all numbers are finite": body | {"v_template": np.full((120, 3), np.nan)},
        "kintree_table: bone 1 hangs from 5": body | {"kintree_table": np.full((2, 24), 5)},
    }
    for said, fields in cases.items():
        np.savez(path, **fields)
        with pytest.raises(DataError) as caught:
            load_body_model(path)
        assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_false_sparse_matrix_is_refused(tmp_path):
    body = make_body()
    matrix = csc_matrix(body["J_regressor"])
    matrix.indices[0] = 99
    with open(tmp_path / "m.pkl", "wb") as file:
        pickle.dump(body | {"J_regressor": matrix}, file, protocol=2)
    with pytest.raises(DataError, match="key J_regressor: not a sparse matrix"):
        load_body_model(tmp_path / "m.pkl")
