"""Files of our own lifters' weights under the original names: what is told from them, and what is refused."""

import argparse
import os

import numpy as np
import pytest
import torch

import poseda
from poseda.errors import CheckpointError, DataError, MissingDataError, ShapeError
from poseda.lifters import create_lifter
from poseda.lifters.official import list_official_layouts, load_official_checkpoint
from poseda.lifters.official.layout import Layout
from poseda.plugins import load_plugin
from tests.lifters.official.synthetic import same_outputs, write
from tests.lifters.published import stirred

SMALL = [
    ("mixste", {"frames": 9, "dim": 16, "depth": 2}),
    ("mixste", {"frames": 3, "dim": 8, "depth": 1, "skeleton": "h36m16", "mlp_ratio": 4.0}),
    ("hot", {"frames": 9, "dim": 16, "depth": 4, "tokens": 3}),
    ("hot", {"frames": 9, "dim": 16, "depth": 2, "tokens": 3, "layer": 1}),
    ("ktpformer", {"frames": 9, "dim": 16, "depth": 2}),
    ("motionbert", {"frames": 9, "max_frames": 9, "dim": 16, "depth": 2, "dim_rep": 6, "units": "image"}),
    (
        "hot_motionbert",
        {"frames": 9, "max_frames": 9, "dim": 16, "depth": 2, "dim_rep": 6, "tokens": 4, "units": "image"},
    ),
    ("motionagformer", {"frames": 9, "layers": 2, "dim": 16, "dim_rep": 6, "units": "image"}),
    (
        "hot_motionagformer",
        {"frames": 9, "layers": 3, "dim": 16, "dim_rep": 6, "tokens": 5, "layer": 2, "units": "image"},
    ),
    ("poseformer", {"frames": 9, "dim": 8, "depth": 2}),
    ("poseformerv2", {"frames": 27, "dim": 8, "depth": 2, "kept_frames": 1, "coefficients": 3}),
    ("poseformerv2", {"frames": 243, "dim": 8, "depth": 2, "kept_frames": 27, "coefficients": 27}),
    ("glagcn", {"frames": 9, "channels": 8}),
    ("glagcn", {"frames": 3, "channels": 8, "skeleton": "humaneva15"}),
    ("videopose3d", {"frames": 9, "channels": 8}),
    ("videopose3d", {"frames": 27, "channels": 8, "skeleton": "humaneva15"}),
    ("videopose3d", {"frames": 1, "channels": 8, "skeleton": "h36m16"}),
    ("semgcn", {"channels": 8, "blocks": 3, "skeleton": "h36m16"}),
    ("semgcn", {"channels": 8, "blocks": 2, "non_local": True}),
    ("stgcn", {"channels": 8, "skeleton": "h36m16"}),
    ("gumlp", {"channels": 8, "blocks": 2, "sigma": True}),
    ("simplebaseline", {"hidden": 8, "blocks": 1, "skeleton": "h36m16"}),
]


def lifter_of(name, options):
    return stirred(name, **{"sigma": False, **options})


@pytest.mark.parametrize(("name", "options"), SMALL)
@pytest.mark.parametrize("new", [True, False])
def test_every_lifter_comes_back_from_a_file_with_the_original_names(name, options, new, tmp_path):
    lifter = lifter_of(name, options)
    path = write(tmp_path / "model.pth", lifter.state_dict(), "model", "module.", new)
    official = load_official_checkpoint(path)
    same_outputs(official.lifter, lifter)
    assert not official.lifter.training
    assert all("\n" not in line for line in (official.recognised, *official.remarks))


@pytest.mark.parametrize(("name", "options"), SMALL)
def test_no_layout_is_taken_for_two(name, options, tmp_path):
    state = lifter_of(name, options).state_dict()
    layout = Layout(tmp_path, {key: tuple(value.shape) for key, value in state.items()})
    converters = [load_plugin("poseda.lifters.official", each, "OFFICIAL") for each in list_official_layouts()]
    assert [converter.read(layout).lifter for converter in converters if converter.recognises(layout)] == [name]


def test_every_layout_is_tried_above():
    assert set(list_official_layouts()) == {name for name, _ in SMALL} | {"stgcn_authors"}


def test_the_package_offers_it_by_name():
    assert poseda.load_official_checkpoint is load_official_checkpoint


def test_the_authors_own_stgcn_has_17_joints(tmp_path):
    lifter = lifter_of("stgcn", {"channels": 8})
    bare = {key.removeprefix("stgcn."): value for key, value in lifter.state_dict().items()}
    official = load_official_checkpoint(write(tmp_path / "m.pth", bare, "", ""))
    same_outputs(official.lifter, lifter)
    assert "refinement network" in official.remarks[0]


def test_the_window_of_poseformerv2_is_taken_from_the_files_name(tmp_path):
    lifter = lifter_of("poseformerv2", {"frames": 81, "dim": 8, "depth": 1, "kept_frames": 3, "coefficients": 3})
    named, other = (
        load_official_checkpoint(write(tmp_path / name, lifter.state_dict())) for name in ("3_81_47.1.bin", "best.bin")
    )
    same_outputs(named.lifter, lifter)
    assert "81 frames is that of the file's name" in named.remarks[0]
    assert other.lifter.frames == 27
    assert "27 frames is the published one for 3 central frames" in other.remarks[0]


def test_other_weights_in_the_file_are_named(tmp_path):
    lifter = lifter_of("videopose3d", {"frames": 9, "channels": 8})
    held = {"model_traj": {"shrink.weight": torch.ones(3, 8, 1)}, "model_pos": lifter.state_dict()}
    torch.save(held, tmp_path / "semi.bin")
    official = load_official_checkpoint(tmp_path / "semi.bin")
    same_outputs(official.lifter, lifter)
    assert official.remarks[-1] == "The weights under 'model_traj' are not used."


def test_what_the_file_does_not_tell_is_said(tmp_path):
    def remarks(name, **options):
        lifter = lifter_of(name, options)
        return " ".join(load_official_checkpoint(write(tmp_path / "m.bin", lifter.state_dict())).remarks)

    assert "attention heads, 8" in remarks("mixste", frames=3, dim=8, depth=1)
    assert "before layer 3, as published" in remarks("hot", frames=9, dim=8, depth=4, tokens=3)
    assert "--causal" in remarks("videopose3d", frames=9, channels=8)
    assert "MPI-INF-3DHP" in remarks("glagcn", frames=3, channels=8)
    assert "run_s-agcn_HE_13.py" in remarks("glagcn", frames=3, channels=8, skeleton="humaneva15")
    assert "confidence, is 1" in remarks("motionagformer", frames=3, layers=1, dim=8, dim_rep=6)


def test_what_is_said_of_motionberts_window_is_true_of_the_lifter(tmp_path):
    lifter = lifter_of("motionbert", {"frames": 9, "max_frames": 9, "dim": 16, "depth": 1, "units": "image"})
    official = load_official_checkpoint(write(tmp_path / "m.bin", lifter.state_dict()))
    assert "this lifter does not" in official.remarks[-1]
    with pytest.raises(ShapeError, match="with B at least 1 and T 9"):
        official.lifter(torch.rand(1, 5, 17, 2))


def test_half_precision_and_counters_that_old_files_lack_are_taken(tmp_path):
    lifter = lifter_of("semgcn", {"channels": 8, "skeleton": "h36m16"})
    weights = {k: v.half() for k, v in lifter.state_dict().items() if not k.endswith("num_batches_tracked")}
    official = load_official_checkpoint(write(tmp_path / "m.tar", weights, "state_dict", ""))
    for key, value in official.lifter.state_dict().items():
        assert torch.equal(value, weights[key].float() if key in weights else torch.tensor(0))


def z_scored(tmp_path, folder_has_statistics=True, **beside):
    """weigq's port of SimpleBaseline, whose numbers are z-scores, with its statistics: (file, what it computes)."""
    lifter = lifter_of("simplebaseline", {"hidden": 8, "skeleton": "h36m16", "root_output": True})
    generator = np.random.default_rng(0)
    statistics = {}
    for name, axes in (("stat_2d", 2), ("stat_3d", 3)):
        mean, std = generator.normal(500, 100, 32 * axes), generator.uniform(50, 150, 32 * axes)
        statistics[name] = mean, std
        held = {"mean": mean, "std": std, "dim_use": np.arange(3)}
        if folder_has_statistics:
            torch.save(held, tmp_path / f"{name}.pth.tar", _use_new_zipfile_serialization=False)
    held = {"epoch": 1, "state_dict": lifter.state_dict(), **beside}
    torch.save(held, tmp_path / "ckpt_best.pth.tar")

    def poses(pixels):
        """(N, 16, 2) px -> (N, 17, 3) mm by the formulas of z-scores."""
        used = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
        seen = [joint for joint in used if joint != 14]
        (mean2, std2), (mean3, std3) = ((m.reshape(32, -1), s.reshape(32, -1)) for m, s in statistics.values())
        scores = torch.from_numpy((pixels - mean2[seen]) / std2[seen]).float()
        with torch.no_grad():
            out = lifter.w2(lifter.encode(scores[:, None])[:, 0]).numpy().reshape(-1, 16, 3)
        return np.concatenate([np.zeros((len(out), 1, 3)), out * std3[used[1:]] + mean3[used[1:]]], 1)

    return tmp_path / "ckpt_best.pth.tar", poses


def test_the_z_scores_of_weigqs_port_are_folded_into_its_layers(tmp_path):
    path, poses = z_scored(tmp_path, err=np.float64(45.5))
    official = load_official_checkpoint(path)
    pixels = np.random.default_rng(1).uniform(0, 1000, (3, 16, 2))
    with torch.no_grad():
        found = official.lifter(torch.from_numpy(pixels / 500 - 1).float()[:, None]).pose[:, 0]
    expected = np.delete(poses(pixels), 9, axis=1)
    np.testing.assert_allclose(found.numpy(), expected, atol=0.01)
    assert official.repository == "weigq/3d_pose_baseline_pytorch"
    assert len(official.remarks) == 1 and "the nose" in official.remarks[0]
    path, _ = z_scored(tmp_path)  # without its 'err'
    again = load_official_checkpoint(path)
    same_outputs(again.lifter, official.lifter)
    assert "z-scores of weigq's port is assumed" in again.remarks[1]


def test_weigqs_port_without_its_statistics_is_refused(tmp_path):
    path, _ = z_scored(tmp_path, folder_has_statistics=False)
    with pytest.raises(CheckpointError, match=r"put stat_2d\.pth\.tar and stat_3d\.pth\.tar"):
        load_official_checkpoint(path)
    torch.save({"mean": [1.0] * 64, "std": [0.0] * 64}, tmp_path / "stat_2d.pth.tar")
    with pytest.raises(DataError, match="deviation that is not positive"):
        load_official_checkpoint(path)


AS_SEMGCN = {"epoch": 9, "lr": 1e-3, "step": 10, "error": np.float64(44.4), "optimizer": {}}
"""What SemGCN's main_linear.py saves beside state_dict."""


@pytest.mark.parametrize(
    ("beside", "repository"), [(AS_SEMGCN, "garyzhao/SemGCN"), ({"epoch": 9}, "jfzhang95/PoseAug")]
)
def test_45_outputs_are_semgcns_linear_network_or_poseaugs(beside, repository, tmp_path):
    lifter = lifter_of("simplebaseline", {"hidden": 8, "skeleton": "h36m16"})
    torch.save({"state_dict": lifter.state_dict(), **beside}, tmp_path / "m.pth.tar")
    official = load_official_checkpoint(tmp_path / "m.pth.tar")
    same_outputs(official.lifter, lifter)
    assert official.repository == repository and not official.remarks


def test_semgcns_first_linear_network_has_the_nose_and_not_the_hip(tmp_path):
    """32 numbers in and 48 out: all of 17 joints but the first, screen-normalised and in metres."""
    inner = lifter_of("simplebaseline", {"hidden": 8, "skeleton": "h36m16", "root_output": True})
    torch.save({"state_dict": inner.state_dict(), **AS_SEMGCN}, tmp_path / "ckpt_linear.pth.tar")
    official = load_official_checkpoint(tmp_path / "ckpt_linear.pth.tar")
    keypoints = torch.rand(3, 1, 17, 2)
    with torch.no_grad():
        expected = inner.w2(inner.encode(keypoints[:, :, 1:])).view(3, 1, 16, 3) * 1000
        found = official.lifter(keypoints).pose
    assert official.repository == "garyzhao/SemGCN" and "the hip is in neither input" in official.remarks[0]
    assert not found[:, :, 0].any()
    torch.testing.assert_close(found[:, :, 1:], expected)


@pytest.mark.parametrize("options", [{"skeleton": "humaneva15", "root_output": True}, {}, {"root_output": True}])
def test_a_simplebaseline_that_nobody_published_is_refused(options, tmp_path):
    lifter = lifter_of("simplebaseline", {"hidden": 8, **options})
    torch.save({"state_dict": lifter.state_dict(), **AS_SEMGCN}, tmp_path / "m.pth.tar")
    with pytest.raises(CheckpointError, match="published ones have 16 joints with 45 or 48") as caught:
        load_official_checkpoint(tmp_path / "m.pth.tar")
    assert "\n" not in str(caught.value)


def test_other_shapes_than_weigqs_are_refused(tmp_path):
    path, _ = z_scored(tmp_path)
    weights = lifter_of("simplebaseline", {"hidden": 8, "skeleton": "h36m16", "root_output": True}).state_dict()
    torch.save({"state_dict": weights | {"w1.weight": torch.ones(8, 33)}}, path)
    with pytest.raises(CheckpointError, match="its shapes make no simplebaseline") as caught:
        load_official_checkpoint(path)
    assert "\n" not in str(caught.value)


def spoilt(lifter, change):
    weights = dict(lifter.state_dict())
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("head.1.bias"), "recognised as mixste, but it lacks 1 weight.*head.1.bias"),
        (lambda w: w.update(extra=torch.ones(1)), "has besides 1 weight.*extra"),
        (lambda w: w.update({"head.1.bias": torch.ones(4)}), r"head.1.bias is float32 \(4,\), must be float32 \(3,\)"),
        (lambda w: w.update({"head.1.bias": torch.ones(3).long()}), "head.1.bias is int64"),
        (lambda w: w.update({"head.1.bias": torch.full((3,), torch.nan)}), "head.1.bias is not finite"),
        (lambda w: w.update(Spatial_pos_embed=torch.ones(1, 19, 16)), "19 joints; known are networks of 17, 16, 15"),
        (lambda w: w.update(Spatial_pos_embed=torch.ones(1)), "lacks Spatial_pos_embed, or it has too few axes"),
        (lambda w: w.update(Spatial_pos_embed=torch.ones(1, 17, 12)), "its shapes make no mixste: .*dim=12"),
        (lambda w: w.pop("Temporal_pos_embed"), "nearest is mixste .* first names: "),
    ],
)
def test_weights_that_are_not_exactly_the_layouts_are_refused_in_one_line(change, message, tmp_path):
    lifter = lifter_of("mixste", {"frames": 3, "dim": 16, "depth": 1})
    path = write(tmp_path / "m.bin", spoilt(lifter, change))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_official_checkpoint(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "beside", "lifter", "message"),
    [
        ("best.tr", {"min_p1": 15.0}, ("motionagformer", {"frames": 3, "layers": 1, "dim": 8}), "MPI-INF-3DHP"),
        ("pretrained_h36m_detectron_coco.bin", {}, ("videopose3d", {"frames": 3, "channels": 8}), "COCO keypoints"),
    ],
)
def test_weights_for_other_joints_are_refused(name, beside, lifter, message, tmp_path):
    torch.save({"model": lifter_of(*lifter).state_dict(), **beside}, tmp_path / name)
    with pytest.raises(CheckpointError, match=message):
        load_official_checkpoint(tmp_path / name)


@pytest.mark.parametrize("widths", [(3, 5), (1, 1)])
def test_other_filter_widths_are_refused(widths, tmp_path):
    lifter = create_lifter("videopose3d", frames=9, channels=8, sigma=False)
    weights = lifter.state_dict()
    for key, width in zip(("expand_conv.weight", "layers_conv.0.weight"), widths, strict=True):
        weights[key] = torch.zeros(*weights[key].shape[:2], width)
    with pytest.raises(CheckpointError, match=r"filter widths \[" + ", ".join(map(str, widths))):
        load_official_checkpoint(write(tmp_path / "m.bin", weights))


def test_unknown_weights_are_answered_with_the_nearest_layout(tmp_path):
    lifter = torch.nn.Sequential(torch.nn.Linear(2, 3))
    with pytest.raises(CheckpointError, match=r"no known layout; nearest is .* first names: 0.weight, 0.bias"):
        load_official_checkpoint(write(tmp_path / "m.bin", lifter.state_dict()))


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"epoch": 3, "args": argparse.Namespace(a=1)}, r"holds no dictionary of weights \(dict: epoch, args\)"),
        (torch.ones(3), "holds no dictionary of weights"),
        ([1, 2], r"weights \(list\)"),
    ],
)
def test_files_without_weights_are_refused(held, message, tmp_path):
    torch.save(held, tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match=message):
        load_official_checkpoint(tmp_path / "m.bin")


def test_a_pickled_network_is_not_built(tmp_path):
    torch.save(torch.nn.Linear(2, 3), tmp_path / "m.bin")
    with pytest.raises(CheckpointError, match=r"\(torch.nn.modules.linear.Linear\); save the network's state_dict"):
        load_official_checkpoint(tmp_path / "m.bin")


class Runs:
    def __reduce__(self):
        return os.system, ("echo run",)


@pytest.mark.parametrize("new", [True, False])
def test_a_call_beside_good_weights_is_refused_and_not_made(new, tmp_path, capfd):
    lifter = lifter_of("mixste", {"frames": 3, "dim": 8, "depth": 1})
    held = {"model_pos": lifter.state_dict(), "optimizer": Runs()}
    torch.save(held, tmp_path / "m.bin", _use_new_zipfile_serialization=new)
    with pytest.raises(DataError, match=r"holds a pickled (posix|nt).system, which is refused"):
        load_official_checkpoint(tmp_path / "m.bin")
    assert capfd.readouterr().out == ""


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(MissingDataError, match="There is no file"):
        load_official_checkpoint(tmp_path / "m.bin")
