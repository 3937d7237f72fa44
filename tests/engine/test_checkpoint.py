"""Checkpoints come back as they were, and whatever else is in the file ends in one clear line."""

import io
import json
import os
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from poseda.engine import checkpoint
from poseda.engine.checkpoint import atomic_write, load_lifter, load_state, save_lifter, save_state
from poseda.errors import CheckpointError, MissingDataError
from poseda.lifters import create_lifter
from poseda.lifters.wrapped import wrap

CARD = {"data": "stand-in h36m", "protocol": "official17", "metrics": {"mpjpe": 51.25}}


@pytest.fixture
def saved(tmp_path):
    """A small lifter that is not fresh, and its file."""
    lifter = create_lifter("simplebaseline", seed=1, hidden=6, blocks=1)
    lifter.train()(torch.rand(8, 1, 17, 2))
    save_lifter(tmp_path / "lifter.safetensors", lifter, CARD)
    return lifter, tmp_path / "lifter.safetensors"


def contents(path):
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["poseda"])  # noqa: SIM118


def rewrite(path, tensors=None, **fields):
    """The same file with some tensors or header fields changed; a value of None takes the entry out."""
    old, header = contents(path)
    merged = {key: value for key, value in {**old, **(tensors or {})}.items() if value is not None}
    header = {key: value for key, value in {**header, **fields}.items() if value is not None}
    save_file(merged, path, metadata={"poseda": json.dumps(header)})


def refused(path, match, **options):
    with pytest.raises(CheckpointError, match=match) as caught:
        load_lifter(path, **options)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value) and len(str(caught.value)) < 600


def test_round_trip_keeps_weights_options_and_card(saved):
    lifter, path = saved
    loaded, card = load_lifter(path)
    assert card == CARD
    assert (loaded.name, loaded.options) == (lifter.name, lifter.options)
    assert not loaded.training
    expected = lifter.state_dict()
    assert all(torch.equal(expected[key], value) for key, value in loaded.state_dict().items())


def test_loading_leaves_the_global_generator_alone(saved):
    before = torch.get_rng_state()
    load_lifter(saved[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_half_precision_file_is_half_as_large_and_loads_as_float32(tmp_path):
    lifter = create_lifter("simplebaseline", seed=1, hidden=128)
    save_lifter(tmp_path / "full", lifter, {})
    save_lifter(tmp_path / "half", lifter, {}, half=True)
    assert os.path.getsize(tmp_path / "half") < 0.6 * os.path.getsize(tmp_path / "full")
    weights = load_lifter(tmp_path / "half")[0].state_dict()
    assert weights["w1.weight"].dtype == torch.float32
    assert weights["batch_norm1.num_batches_tracked"].dtype == torch.int64
    torch.testing.assert_close(weights["w1.weight"], lifter.w1.weight.detach(), rtol=2**-11, atol=1e-7)


def test_header_says_what_a_reader_must_know(saved):
    header = contents(saved[1])[1]
    wanted = {"skeleton": "h36m17", "units": "mm", "normalisation": "screen-width", "frames": 1, "format": 1}
    assert {key: header[key] for key in wanted} == wanted
    assert header["joints"][0] == "pelvis"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(MissingDataError, match=r"nothing\.safetensors"):
        load_lifter(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 8, 200, -1])
def test_truncated_file_is_refused(saved, keep):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "not a whole safetensors file")


def test_huge_header_is_refused_before_it_is_read(saved):
    saved[1].write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    refused(saved[1], "header claims 1152921504606846976 bytes")


def test_noise_is_refused(saved):
    saved[1].write_bytes(struct.pack("<Q", 64) + bytes(range(200)))
    refused(saved[1], "not a whole safetensors file")


def test_foreign_safetensors_file_is_refused(saved):
    save_file({"x": torch.zeros(2)}, saved[1])
    refused(saved[1], "not one of poseda's lifters")


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"w1.weight": None}, r"lacks 1 tensor\(s\), such as 'w1.weight'"),
        ({"more": torch.zeros(1)}, r"has unknown 1 tensor\(s\), such as 'more'"),
        ({"w1.weight": torch.zeros(6, 33)}, r"w1.weight is F32 \[6, 33\], must be F32 \[6, 34\]"),
        ({"w1.weight": torch.zeros(6, 34, dtype=torch.float64)}, "w1.weight is F64"),
        ({"w1.weight": torch.zeros(6, 34, dtype=torch.float16)}, "w1.weight is F16"),
        ({"batch_norm1.num_batches_tracked": torch.tensor(1.0)}, "must be I64"),
        ({"w1.bias": torch.full((6,), torch.nan)}, "w1.bias is not finite"),
        ({"batch_norm1.running_var": torch.full((6,), torch.inf)}, "running_var is not finite"),
    ],
)
def test_wrong_tensors_are_refused(saved, tensors, match):
    rewrite(saved[1], tensors)
    refused(saved[1], match)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"format": 2}, "format 2, this version reads 1"),
        ({"lifter": None}, "header lacks one of"),
        ({"options": [1]}, "header lacks one of"),
        ({"card": None}, "header lacks one of"),
        ({"stored": "float8"}, "stored as 'float8'"),
        ({"stored": "float16"}, "must be F16"),
        ({"lifter": "videopose3d"}, "its options do not make a videopose3d"),
        ({"lifter": "mixstur"}, "'mixstur', which is not one of poseda's"),
        ({"lifter": "os:system"}, r"pass allow=\['os:system'\] if you trust it"),
        ({"options": {"hidden": 7, "blocks": 1}}, "options is"),
        ({"options": {"hidden": 10**12}}, "hidden=1000000000000 is outside"),
        ({"options": {"hidden": "6"}}, "must be int"),
        ({"options": {"blocks": 10**9}}, "blocks=1000000000 is outside"),
        ({"options": {"seed": 3}}, "its options do not make"),
        ({"skeleton": "3dhp17"}, "skeleton is '3dhp17' in the file, 'h36m17' in the lifter"),
        ({"frames": 27}, "frames is 27 in the file, 1 in the lifter"),
        ({"normalisation": "none"}, "normalisation is 'none'"),
        ({"units": "m"}, "units is 'm'"),
    ],
)
def test_header_that_contradicts_itself_is_refused(saved, fields, match):
    rewrite(saved[1], **fields)
    refused(saved[1], match)


@pytest.mark.parametrize("text", ["[" * 100_000, "not json", "[]", "1" * 5000])
def test_header_that_is_no_json_object_is_refused(saved, text):
    save_file({"x": torch.zeros(1)}, saved[1], metadata={"poseda": text})
    refused(saved[1], "header")


def test_a_module_named_by_the_file_is_not_imported_unless_allowed(saved, tmp_path, monkeypatch):
    (tmp_path / "trap_module.py").write_text(
        "from poseda.lifters.simplebaseline import SimpleBaseline\nclass Mine(SimpleBaseline):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rewrite(saved[1], lifter="trap_module:Mine")
    import sys

    refused(saved[1], "not one of poseda's")
    assert "trap_module" not in sys.modules
    lifter, _ = load_lifter(saved[1], allow=["trap_module:Mine"])
    assert type(lifter).__name__ == "Mine" and lifter.name == "trap_module:Mine"
    sys.modules.pop("trap_module")


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(34, 51)

    def forward(self, x):
        return self.layer(x.flatten(2)).view(*x.shape[:2], 17, 3)


def test_wrapped_module_is_loaded_into_a_wrapped_one(tmp_path):
    lifter, path = wrap(Head()), tmp_path / "wrapped.safetensors"
    save_lifter(path, lifter, CARD)
    refused(path, "into=wrap")
    loaded, _ = load_lifter(path, into=wrap(Head()))
    assert torch.equal(loaded.module.layer.weight, lifter.module.layer.weight)
    refused(path, "units|options", into=wrap(Head(), units="mm"))


def test_lifter_that_is_not_finite_is_not_written(tmp_path):
    lifter = create_lifter("simplebaseline", hidden=4)
    lifter.w1.weight.data[0, 0] = 1e6
    save_lifter(tmp_path / "full", lifter, {})
    with pytest.raises(CheckpointError, match=r"w1\.weight is not finite in float16"):
        save_lifter(tmp_path / "half", lifter, {}, half=True)
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize("card", [{"x": float("nan")}, {"x": np.float32(1)}, {"x": torch.zeros(1)}])
def test_card_that_is_not_plain_is_refused_on_saving(tmp_path, card):
    with pytest.raises(CheckpointError, match="not plain JSON"):
        save_lifter(tmp_path / "lifter", create_lifter("simplebaseline", hidden=4), card)


def test_state_round_trip(tmp_path):
    state = {"step": 3, "rng": torch.get_rng_state(), "nested": {"a": [1.5, None, "x", (True, b"y")]}}
    save_state(tmp_path / "state.pt", state)
    loaded = load_state(tmp_path / "state.pt")
    assert torch.equal(loaded.pop("rng"), state.pop("rng"))
    assert loaded == state


def test_state_that_could_not_be_read_back_is_refused_on_saving(tmp_path):
    with pytest.raises(CheckpointError, match=r"state\['a'\]\[1\] is a float64"):
        save_state(tmp_path / "state.pt", {"a": [1.0, np.float64(2)]})


def test_state_never_unpickles_objects(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"x": nn.Linear(1, 1)}, path)
    with pytest.raises(CheckpointError, match="not a whole training state"):
        load_state(path)


def test_truncated_state_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, {"x": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(CheckpointError, match="not a whole training state"):
        load_state(path)


def test_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"old")

    def fails(file):
        file.write(b"half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, fails)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_training_state_that_finds_no_room_says_so(tmp_path):
    class Full(io.BytesIO):
        def write(self, part):
            if self.tell() + memoryview(part).nbytes > 2000:
                raise OSError(28, "No space left on device")
            return super().write(part)

    with pytest.raises(OSError, match="No space left"):
        checkpoint._torch_save({"weights": torch.zeros(1000)}, Full())


def test_limit_of_the_header_is_far_above_a_large_lifter(saved):
    (length,) = struct.unpack("<Q", saved[1].read_bytes()[:8])
    assert length * 100 < checkpoint.HEADER_LIMIT
