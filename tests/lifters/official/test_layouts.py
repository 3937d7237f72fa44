"""Every recorded layout of an official checkpoint, with exactly its names and shapes, loads into our lifter."""

import json

import pytest
import torch

from poseda.errors import CheckpointError
from poseda.lifters import create_lifter
from poseda.lifters.official import load_official_checkpoint
from tests.lifters.official.synthetic import random_weights, same_outputs, write
from tests.lifters.published import layout, recorded

STREAMS = {"dim_rep": 96, "units": "image"}
BERT = {"frames": 27, "max_frames": 27, "dim": 64, "depth": 2, **STREAMS}
CENTRAL = {"kept_frames": 9, "coefficients": 5}


def case(lifter, repository, wrapper, prefix="", **options):
    return lifter, repository, wrapper, prefix, {"sigma": False, **options}


CASES = {
    "gla_gcn": case("glagcn", "bruceyo/GLA-GCN", "model_pos", "module.", frames=243),
    "gla_gcn_he27": case("glagcn", "bruceyo/GLA-GCN", "model_pos", "module.", frames=27, skeleton="humaneva15"),
    "hot_mixste": case("hot", "NationalGAILab/HoT", "", frames=24, dim=64, tokens=8),
    "hot_motionagformer": case(
        "hot_motionagformer", "NationalGAILab/HoT", "", frames=24, dim=32, layers=4, tokens=8, layer=2, units="image"
    ),
    "hot_motionbert": case(
        "hot_motionbert", "NationalGAILab/HoT", "", frames=24, max_frames=24, dim=64, depth=3, tokens=8, **STREAMS
    ),
    "ktpformer": case("ktpformer", "JihuaPeng/KTPFormer", "model_pos", "module.", frames=27, dim=64, depth=2),
    "mixste": case("mixste", "JinluZhang1126/MixSTE", "model_pos", "module.", frames=27, dim=64, depth=3),
    "mixste_hotrepo": case("mixste", "JinluZhang1126/MixSTE", "", frames=27, dim=64, depth=8),
    "mlp_poseaug": case("simplebaseline", "jfzhang95/PoseAug", "state_dict", skeleton="h36m16"),
    "motionagformer": case(
        "motionagformer", "TaatiTeam/MotionAGFormer", "model", "module.", frames=27, layers=4, dim=32, **STREAMS
    ),
    "motionbert": case(
        "motionbert",
        "Walter0807/MotionBERT",
        "model_pos",
        "module.",
        frames=27,
        max_frames=27,
        dim=64,
        depth=2,
        **STREAMS,
    ),
    "motionbert_short": case(
        "motionbert",
        "Walter0807/MotionBERT",
        "model_pos",
        "module.",
        frames=27,
        max_frames=27,
        dim=64,
        depth=2,
        mlp_ratio=4.0,
        **STREAMS,
    ),
    "poseformer": case("poseformer", "zczcwh/PoseFormer", "model_pos", "module.", frames=27, dim=16),
    "poseformerv2": case("poseformerv2", "QitaoZhao/PoseFormerV2", "model_pos", "module.", frames=27, dim=16),
    "poseformerv2_k9c5": case(
        "poseformerv2",
        "QitaoZhao/PoseFormerV2",
        "model_pos",
        "module.",
        frames=81,
        dim=16,
        kept_frames=9,
        coefficients=5,
    ),
    "semgcn": case("semgcn", "garyzhao/SemGCN", "state_dict", skeleton="h36m16"),
    "semgcn_nl": case("semgcn", "garyzhao/SemGCN", "state_dict", skeleton="h36m16", non_local=True),
    "stgcn": case("stgcn", "jfzhang95/PoseAug", "model_pos", skeleton="h36m16"),
    "tpc_mixste": case("mixste", "JinluZhang1126/MixSTE", "", frames=25, dim=64, depth=8),
    "uao": case("gumlp", "xiu-cs/UAO-Pose3D", "", sigma=True),
    "videopose3d": case("videopose3d", "facebookresearch/VideoPose3D", "model_pos", frames=27, channels=128),
    "videopose3d_1f": case("videopose3d", "facebookresearch/VideoPose3D", "model_pos", frames=27, channels=128),
    "videopose3d_1frame": case(
        "videopose3d", "jfzhang95/PoseAug", "model_pos", frames=1, channels=256, skeleton="h36m16"
    ),
    "videopose3d_243": case("videopose3d", "facebookresearch/VideoPose3D", "model_pos", frames=243, channels=64),
    "videopose3d_causal": case("videopose3d", "facebookresearch/VideoPose3D", "model_pos", frames=27, channels=128),
}
OLD_FORMAT = ("semgcn", "videopose3d", "mlp_poseaug", "stgcn")


@pytest.mark.parametrize("name", CASES)
def test_a_file_with_exactly_these_names_and_shapes_loads_strictly(name, tmp_path):
    _, shapes = layout(name)
    lifter, repository, wrapper, prefix, options = CASES[name]
    weights = random_weights(shapes)
    path = write(tmp_path / "best_epoch.bin", weights, wrapper, prefix, new=name not in OLD_FORMAT)
    official = load_official_checkpoint(path)
    expected = create_lifter(lifter, **options)
    expected.load_state_dict(weights)
    same_outputs(official.lifter, expected)
    assert official.repository == repository
    assert official.recognised.startswith(f"best_epoch.bin holds the lifter {lifter} of {repository}: joints")
    assert expected.skeleton.name in official.recognised
    assert ("bones sum to 4150 mm" in " ".join(official.remarks)) == (options.get("units") == "image")


def test_weigqs_simplebaseline_needs_its_statistics(tmp_path):
    _, shapes = layout("mlp_martinez")
    path = write(tmp_path / "ckpt_best.pth.tar", random_weights(shapes), "state_dict", "")
    with pytest.raises(CheckpointError, match=r"weigq's network.* put stat_2d\.pth\.tar and stat_3d\.pth\.tar"):
        load_official_checkpoint(path)
    for name, axes in (("stat_2d", 2), ("stat_3d", 3)):
        torch.save({"mean": [0.0] * 32 * axes, "std": [1.0] * 32 * axes}, tmp_path / f"{name}.pth.tar")
    official = load_official_checkpoint(path)
    assert official.repository == "weigq/3d_pose_baseline_pytorch"
    assert official.lifter.skeleton.name == "h36m16"


def test_no_recorded_layout_is_left_out():
    assert set(json.loads(recorded("checkpoint_layouts.json").read_text())) == {*CASES, "mlp_martinez"}
