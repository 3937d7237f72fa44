"""HoT on MotionBERT and on MotionAGFormer: recorded layouts, published counts, and where frames are dropped."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.hot import select_frames
from tests.lifters.batch_norms import awake
from tests.lifters.published import check_lifter, count, layout, shapes, stirred

BERT = {"frames": 7, "max_frames": 7, "dim": 8, "depth": 3, "heads": 2, "dim_rep": 6, "tokens": 3, "layer": 2}
AGFORMER = {"frames": 7, "layers": 3, "dim": 16, "heads": 2, "neighbours": 2, "dim_rep": 6, "tokens": 3, "layer": 2}


@pytest.mark.parametrize(("name", "number"), [("hot_motionbert", 16_347_661), ("hot_motionagformer", 11_828_031)])
def test_parameter_count_is_the_published_one(name, number):
    assert count(name) == number


def test_states_have_the_published_names_and_shapes():
    _, keys = layout("hot_motionbert")
    options = {"frames": 24, "max_frames": 24, "dim": 64, "depth": 3, "dim_rep": 96, "tokens": 8}
    assert shapes(create_lifter("hot_motionbert", sigma=False, **options)) == keys
    _, keys = layout("hot_motionagformer")
    options = {"frames": 24, "dim": 32, "layers": 4, "tokens": 8, "layer": 2}
    assert shapes(create_lifter("hot_motionagformer", sigma=False, **options)) == keys


@pytest.mark.parametrize(("name", "options"), [("hot_motionbert", BERT), ("hot_motionagformer", AGFORMER)])
def test_they_lift_windows(name, options):
    check_lifter(awake(stirred(name, **options)))


def test_motionbert_drops_frames_before_its_layer_and_recovers_them_after_the_last_norm():
    lifter = stirred("hot_motionbert", **BERT)
    keypoints = torch.randn(2, 7, 17, 3)
    options = {option: value for option, value in BERT.items() if option not in ("tokens", "layer")}
    plain = create_lifter("motionbert", mlp_ratio=4.0, **options)
    plain.load_state_dict({key: lifter.state_dict()[key] for key in plain.state_dict()})
    seen = {}
    plain.eval().blocks_st[2].register_forward_pre_hook(lambda _, given: seen.update(whole=given[0]))
    lifter.blocks_st[2].register_forward_pre_hook(lambda _, given: seen.update(kept=given[0]))
    lifter.norm.register_forward_hook(lambda *given: seen.update(last=given[-1]))
    with torch.no_grad():
        plain.represent(keypoints)
        latent = lifter.represent(keypoints)
        index = select_frames(seen["whole"].mean(2), 3, 2)
        kept = torch.stack([window[rows] for window, rows in zip(seen["whole"], index, strict=True)])
        torch.testing.assert_close(seen["kept"], kept + lifter.pos_embed_token[:, :, None])
        recovered = lifter.x_token[:, :, None] + lifter.cross_attention(lifter.x_token, seen["last"])
        torch.testing.assert_close(latent, lifter.pre_logits(recovered))


def test_motionagformer_drops_frames_before_its_layer():
    lifter = awake(stirred("hot_motionagformer", **AGFORMER))
    frames = []
    for layer in lifter.layers:
        layer.register_forward_pre_hook(lambda _, given: frames.append(given[0].shape[1]))
    lifter(torch.randn(1, 7, 17, 2))
    assert frames == [7, 7, 3]
    assert [layer.graph_temporal.mixer.batch_norm.num_features for layer in lifter.layers] == [7, 7, 3]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hot_motionbert", {"layer": 5}, "layer=5"),
        ("hot_motionbert", {"frames": 27}, r"tokens=81 is outside \[1, 27\]"),
        ("hot_motionagformer", {"layer": 16}, "layer=16"),
        ("hot_motionagformer", {"ties": "last"}, "HoT tie rule"),
        ("hot_motionagformer", {"tokens": 3}, r"neighbours=4 is outside \[1, 3\]"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, options, message):
    with pytest.raises(ConfigError, match=message):
        create_lifter(name, **options)
