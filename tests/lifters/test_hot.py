"""HoT against outputs and kept frames of the original network, its checkpoint layout and parameter count."""

import pytest
import torch

from poseda.errors import ConfigError
from poseda.lifters import create_lifter
from poseda.lifters.hot import CrossAttention, select_frames
from tests.lifters.published import check_lifter, count, layout, parity, shapes, stirred


def test_parameter_count_is_the_published_one():
    assert count("hot") == 35_000_323


def options_of(config: dict) -> dict:
    return {
        "frames": config["T"],
        "dim": config["dim"],
        "depth": config["depth"],
        "heads": config["heads"],
        "tokens": config["token_num"],
        "layer": config["layer_index"],
        "neighbours": config["knn_k"],
        "sigma": False,
    }


def test_state_has_the_published_names_and_shapes():
    config, keys = layout("hot_mixste")
    assert shapes(create_lifter("hot", **options_of(config))) == keys


def test_outputs_and_kept_frames_are_those_of_the_original_network_without_jitter():
    config, tensors, weights = parity("hot_mixste")
    lifter = create_lifter("hot", ties="none", **options_of(config)).eval()
    lifter.load_state_dict(weights)
    with torch.no_grad():
        seen = lifter.alternate(lifter.first_pair(tensors["input"]), 1, lifter.layer).mean(2)
        pose = lifter(tensors["input"]).pose / 1000
    kept = tensors["const.tpc_index_sorted"]
    torch.testing.assert_close(seen, tensors["const.tpc_knn_input"], rtol=0, atol=1e-5)
    assert torch.equal(select_frames(seen, lifter.tokens, lifter.neighbours, "none"), kept)
    assert kept.tolist() == config["tpc_index_sorted"]
    torch.testing.assert_close(pose[:, :, 1:], tensors["output.0"][:, :, 1:], rtol=0, atol=1e-5)


def kept_by_loops(tokens, keep, neighbours, bonus):
    """Density peaks of tokens (T, C) in double precision; `bonus` (T,) is added to the densities."""
    points = tokens.double()
    frames, dim = points.shape
    far = [[((points[i] - points[j]).square().sum() / dim).sqrt().item() for j in range(frames)] for i in range(frames)]
    density = []
    for i in range(frames):
        nearest = sorted(far[i])[:neighbours]
        density.append(torch.tensor([-sum(d * d for d in nearest) / neighbours]).exp().item() + bonus[i])
    scores = []
    for i in range(frames):
        gaps = [far[i][j] for j in range(frames) if density[j] > density[i]]
        scores.append(density[i] * min(gaps, default=max(map(max, far))))
    return sorted(sorted(range(frames), key=lambda i: (-scores[i], i))[:keep])


def test_the_first_of_equally_dense_frames_counts_as_denser():
    tokens = torch.randn(4, 20, 6)
    bonus = [1e-9 * (20 - i) for i in range(20)]
    expected = [kept_by_loops(one, 7, 2, bonus) for one in tokens]
    assert select_frames(tokens, 7, 2).tolist() == expected


def test_random_ties_keep_other_frames_in_other_passes_and_the_default_does_not():
    tokens = torch.randn(4, 40, 6)
    assert torch.equal(select_frames(tokens, 9, 2), select_frames(tokens, 9, 2))
    drawn = {str(select_frames(tokens, 9, 2, "random").tolist()) for _ in range(5)}
    assert len(drawn) > 1


def test_selection_of_all_frames_is_all_frames():
    assert select_frames(torch.randn(2, 6, 4), 6, 2).tolist() == [list(range(6))] * 2


def test_equal_frames_keep_the_first():
    assert select_frames(torch.ones(1, 6, 4), 2, 2).tolist() == [[0, 1]]


def test_it_lifts_windows():
    check_lifter(stirred("hot", frames=7, tokens=3, dim=8, depth=3, layer=2, heads=2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 8}, "layer=8"),
        ({"frames": 27}, r"tokens=81 is outside \[1, 27\]"),
        ({"ties": "last"}, "HoT tie rule"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        create_lifter("hot", **options)


def test_recovery_is_attention_of_each_query_to_the_kept_frames_of_its_joint_by_loops():
    layer = CrossAttention(6, 2).double()
    queries, kept = torch.randn(1, 5, 6, dtype=torch.float64), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        q, k, v = layer.linear_q(queries)[0], layer.linear_k(kept), layer.linear_v(kept)
        expected = torch.zeros(2, 5, 4, 6, dtype=torch.float64)
        for b in range(2):
            for t in range(5):
                for j in range(4):
                    heads = []
                    for part in (slice(0, 3), slice(3, 6)):
                        scores = [float(q[t, part] @ k[b, s, j, part]) / 3**0.5 for s in range(3)]
                        weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
                        heads.append(sum(weights[s] * v[b, s, j, part] for s in range(3)))
                    expected[b, t, j] = layer.proj(torch.cat(heads))
        torch.testing.assert_close(layer(queries, kept), expected, rtol=0, atol=1e-12)


def test_equally_dense_frames_are_ordered_by_time_whatever_the_batch_and_the_run():
    pairs = torch.randn(1, 6, 4).repeat_interleave(2, 1)  # each frame twice: every density is tied
    alone = select_frames(pairs, 4, 2)
    assert torch.equal(select_frames(pairs.expand(3, -1, -1), 4, 2), alone.expand(3, -1))
    assert (alone % 2 == 0).all()  # of each pair the first, since the second is at no distance from it
