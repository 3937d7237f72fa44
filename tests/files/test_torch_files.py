"""torch.save's two formats: the same tensors as torch reads, foreign objects inert, false claims refused."""

import argparse
import collections
import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch

from poseda.errors import DataError, MissingDataError
from poseda.files.torch_files import is_torch_file, open_torch

FORMATS = pytest.mark.parametrize("new", [True, False])


def saved(tmp_path, value, new=True):
    path = tmp_path / "file.pt"
    torch.save(value, path, _use_new_zipfile_serialization=new)
    return path


def tensors():
    shared = torch.randn(6, 4)
    return {
        "float": torch.randn(3, 4),
        "half": torch.randn(4).half(),
        "brain": torch.randn(4).bfloat16(),
        "double": torch.randn(2, 2, dtype=torch.float64),
        "counter": torch.tensor(7),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "flags": torch.tensor([True, False]),
        "turned": shared.t(),
        "part": shared[2:4, 1:],
        "expanded": torch.randn(1, 3)[0],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "empty": torch.zeros(0, 3),
    }


@FORMATS
def test_tensors_are_those_that_torch_reads(new, tmp_path):
    given = tensors()
    path = saved(tmp_path, {"net": given}, new)
    file = open_torch(path)
    found = file.tensors(file.root["net"])
    assert found is not None and list(found) == list(given)
    for key, value in given.items():
        assert found[key].shape == value.shape
        read = found[key].read()
        assert read.dtype == value.dtype and read.is_contiguous()
        assert torch.equal(read, value)
    assert is_torch_file(path)


@FORMATS
def test_what_is_no_dictionary_of_tensors_is_none(new, tmp_path):
    file = open_torch(saved(tmp_path, {"mixed": {"a": torch.ones(1), "b": 2}, "empty": {}, "numbers": {3: 4}}, new))
    assert [file.tensors(value) for value in (*file.root.values(), file.root, 3)] == [None] * 5


class Attributes(dict):
    """As configuration packages have them."""


@FORMATS
def test_foreign_objects_become_records_and_plain_values_stay(new, tmp_path):
    network = torch.nn.DataParallel(torch.nn.Linear(2, 3))
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    lists = collections.defaultdict(list)
    lists["a"].append(1)
    held = {
        "lr": np.float64(1e-3),
        "mean": np.arange(3.0),
        "state": np.random.RandomState(1),
        "args": argparse.Namespace(device=torch.device("cpu"), kind=torch.float32, widths=[3, 3]),
        "config": Attributes(a=1),
        "lists": lists,
        "optimizer": optimiser.state_dict(),
        "weights": network.state_dict(),
        "words": ["é", ("a", None), {1, 2}],
    }
    file = open_torch(saved(tmp_path, held, new))
    root = file.root
    assert root["lr"] == 1e-3 and root["mean"].tolist() == [0.0, 1.0, 2.0] and root["words"] == held["words"]
    assert root["args"].name == "argparse.Namespace" and root["args"].state["widths"] == [3, 3]
    assert root["state"].name.startswith("numpy.random")
    assert root["config"].name.endswith("Attributes") and root["lists"].name == "collections.defaultdict"
    assert root["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)
    found = file.tensors(root["weights"])
    assert all(torch.equal(found[key].read(), value) for key, value in network.state_dict().items())


def test_python_2_wrote_texts_as_bytes(tmp_path):
    """Strings of Python 2 and a storage type of CUDA, as in files of torch 0.4 under Python 2."""
    path = saved(tmp_path, {"a": torch.arange(4.0)}, new=False)
    data = path.read_bytes()
    swapped = data.replace(b"ctorch\nFloatStorage\n", b"ctorch.cuda\nFloatStorage\n")
    swapped = swapped.replace(b"X\x01\x00\x00\x00a", b"U\x01a")
    assert swapped != data
    path.write_bytes(swapped)
    file = open_torch(path)
    assert torch.equal(file.tensors(file.root)["a"].read(), torch.arange(4.0))


class Call:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@FORMATS
@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ("echo run",), "system"),
        (eval, ("print('run')",), "builtins.eval"),
        (getattr, (os, "system"), "builtins.getattr"),
        (open, ("run", "w"), "open"),
        (pickle.loads, (b"",), "loads"),
    ],
)
def test_calls_of_the_standard_library_are_refused_by_name(function, args, name, new, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    args = tuple(arg for arg in args if arg is not os)  # a module cannot be pickled
    path = saved(tmp_path, {"weights": {"a": torch.ones(1)}, "extra": Call(function, *args)}, new)
    with pytest.raises(DataError, match=rf"holds a pickled \S*{name}, which is refused") as caught:
        open_torch(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == "" and not (tmp_path / "run").exists()


def test_calls_of_other_packages_are_not_made(tmp_path):
    path = saved(tmp_path, {"extra": Call(torch.nn.Linear, 1 << 40, 1 << 40)})
    record = open_torch(path).root["extra"]
    assert (record.name, record.args) == ("torch.nn.modules.linear.Linear", (1 << 40, 1 << 40))


def rewritten(path, change):
    """A zip file again with entries changed: change(name, data) -> data, or None to leave it out."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in entries:
            new = change(name.partition("/")[2], data)
            if new is not None:
                archive.writestr(name, new)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n, d: d.replace(b"K\x18", b"J\x00\x00\x00\x7f") if n == "data.pkl" else d, "declared with 8522825728"),
        (lambda n, d: d[:-4] if n == "data/0" else d, "declared with 96 bytes and has 92"),
        (lambda n, d: None if n == "data/0" else d, "declared with 96 bytes and has 0"),
        (lambda n, d: None if n == "data.pkl" else d, "without data.pkl"),
        (lambda n, d: d[:20] if n == "data.pkl" else d, "not a whole torch.save file"),
        (lambda n, d: b"big" if n == "byteorder" else d, "big-endian"),
    ],
)
def test_archives_that_lie_are_refused_in_one_line(change, message, tmp_path):
    path = rewritten(saved(tmp_path, {"a": torch.randn(6, 4)}), change)
    with pytest.raises(DataError, match=message) as caught:
        open_torch(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_compressed_archives_are_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 20))
    with pytest.raises(DataError, match="declare more bytes than the file has, or are compressed"):
        open_torch(path)


def test_a_changed_byte_is_told_by_the_checksum(tmp_path):
    path = saved(tmp_path, {"a": torch.full((64,), 3.0)})
    data = path.read_bytes()
    place = data.index(struct.pack("<f", 3.0) * 64)
    path.write_bytes(data[:place] + b"\x01" + data[place + 1 :])
    file = open_torch(path)
    with pytest.raises(DataError, match=r"file\.pt: a: its bytes do not have the checksum"):
        file.tensors(file.root)["a"].read()


@pytest.mark.parametrize("kept", [4, 20, 200, -1])
@FORMATS
def test_files_that_end_too_early_are_refused(kept, new, tmp_path):
    path = saved(tmp_path, {"a": torch.randn(6, 4)}, new)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"file\.pt: ") as caught:
        open_torch(path)
    assert "\n" not in str(caught.value)


def legacy(root_pickle, storages=()):
    """A legacy file of a pickle of one's own and storages (key, count, bytes)."""
    out = io.BytesIO()
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    for value in (0x1950A86A20F9469CFC6C, 1001, machine):
        pickle.dump(value, out, protocol=2)
    out.write(root_pickle)
    pickle.dump([key for key, _, _ in storages], out, protocol=2)
    for _, count, data in storages:
        out.write(struct.pack("<q", count) + data)
    return out.getvalue()


def tensor_pickle(count, first, shape, stride):
    """{"a": a tensor of these claims on the float storage "0"}, in protocol 2."""
    numbers = [pickle.dumps(each, protocol=2)[2:-1] for each in (count, first, shape, stride)]
    storage = (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + numbers[0] + b"NtQ"
    )
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"".join(numbers[1:]) + b"\x89Nt"
    return b"\x80\x02}X\x01\x00\x00\x00a" + rebuild + b"Rs."


def test_the_hand_written_file_is_read(tmp_path):
    data = np.arange(6, dtype="<f4")
    path = tmp_path / "file.pt"
    path.write_bytes(legacy(tensor_pickle(6, 1, (2, 2), (2, 1)), [("0", 6, data.tobytes())]))
    file = open_torch(path)
    assert file.tensors(file.root)["a"].read().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert torch.load(path, weights_only=True)["a"].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ((6, 0, (2, 4), (4, 1)), r"shape \(2, 4\) does not fit the 6 numbers"),
        ((6, 5, (2,), (1,)), "does not fit the 6 numbers"),
        ((6, 0, (1 << 40,), (0,)), "does not fit the 6 numbers"),
        ((6, 0, (1 << 20, 1 << 20), (0, 0)), "does not fit the 6 numbers"),
        ((6, 0, (2,), (-1,)), "impossible shape"),
        ((6, -2, (2,), (1,)), "impossible shape"),
        ((6, 0, (2, 3), (1,)), "impossible shape"),
        ((6, 0, (2.0,), (1,)), "impossible shape"),
        ((1 << 40, 0, (2,), (1,)), "declared with 4398046511104 bytes and has"),
        ((1 << 60, 0, (2,), (1,)), "storage declared in two ways"),
        ((-6, 0, (2,), (1,)), "storage declared in two ways"),
    ],
)
def test_tensors_that_lie_about_their_storage_are_refused(claims, message, tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(legacy(tensor_pickle(*claims), [("0", claims[0] if claims[0] < 1 << 60 else 6, bytes(24))]))
    with pytest.raises(DataError, match=message) as caught:
        file = open_torch(path)
        file.tensors(file.root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04" + bytes(50), b"{}", bytes(100), pickle.dumps({"a": 1})])
def test_other_files_are_refused_in_one_line(data, tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"file\.pt: ") as caught:
        open_torch(path)
    assert "\n" not in str(caught.value)


def test_missing_and_too_large_files_are_refused(tmp_path):
    with pytest.raises(MissingDataError, match="There is no file"):
        open_torch(tmp_path / "none.pt")
    assert not is_torch_file(tmp_path / "none.pt")
    with pytest.raises(DataError, match="the limit is"):
        open_torch(saved(tmp_path, {"a": torch.ones(1000)}), limit=100)
