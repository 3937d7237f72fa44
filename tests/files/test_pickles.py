"""Pickles: what plain data hold comes back from every protocol, and nothing else is ever called."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import sys
import tracemalloc
from collections import OrderedDict
from fractions import Fraction

import numpy as np
import pytest

from poseda.errors import DataError, MissingDataError
from poseda.files.pickles import Record, load_pickle, loads_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
VALUES = {
    "numbers": [0, -1, 255, 1 << 40, -(10**60), 1.5, float("inf"), True, None],
    "texts": ["", "S1", "Größe \u2603 \U0001f600", "line\nbreak"],
    "bytes": [b"", b"a", b"\x00\xff" * 300],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), tuple(range(10))],
    "sets": [{1, 2}, frozenset("ab"), set()],
    "ordered": OrderedDict([("b", 1), ("a", [2])]),
    "keys": {1: "a", 2.5: "b", None: "c", ("S1", 3): "d", "e": True, np.int64(7): "f"},
}
ARRAYS = {
    "float32": np.arange(12, dtype=np.float32).reshape(3, 4),
    "fortran": np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
    "strided": np.arange(20, dtype=np.int16)[::3],
    "big endian": np.arange(5, dtype=">i4"),
    "bool": np.array([[True, False]]),
    "bytes": np.array([b"ab", b"c"]),
    "texts": np.array(["Grüße", "x"]),
    "0-d": np.array(3.5),
    "empty": np.zeros((0, 17, 3), np.float32),
    "uint8": np.zeros(3, np.uint8),
    "half": np.ones(2, np.float16),
}


def array_opcodes(payload, shape=b"K\x02\x85", dtype=b"f4", order=b"<"):
    """Protocol 2 as Python 2 wrote it: an array whose bytes are a str."""
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape
        + b"cnumpy\ndtype\nU" + bytes([len(dtype)]) + dtype + b"K\x00K\x01\x87R(K\x03U\x01" + order
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + payload + b"tb."
    )  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", VALUES)
def test_plain_values_come_back(name, protocol):
    assert loads_pickle(pickle.dumps(VALUES[name], protocol), "x.pkl") == VALUES[name]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back_writable_and_in_the_machines_byte_order(name, protocol):
    array = ARRAYS[name]
    read = loads_pickle(pickle.dumps({"a": array}, protocol), "x.pkl")["a"]
    assert type(read) is np.ndarray and read.dtype == array.dtype.newbyteorder("=") and read.dtype.isnative
    assert read.shape == array.shape and (read == array).all() and read.flags.writeable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_dtypes_and_arrays_of_objects_come_back(protocol):
    objects = np.empty((2, 2), object)
    objects[0, 0], objects[0, 1], objects[1, 0] = np.ones((2, 3)), {"k": [np.float64(2.5)]}, "x"
    scalars = [np.float32(1.5), np.int8(-3), np.bool_(True), np.str_("ab"), np.dtype("f4")]
    value = [*scalars, objects, np.asfortranarray(objects)]
    read = loads_pickle(pickle.dumps(value, protocol), "x.pkl")
    assert read[:5] == value[:5] and [type(item) for item in read[:4]] == [type(item) for item in value[:4]]
    for array in read[5:]:
        assert array.shape == (2, 2) and (array[0, 0] == 1).all() and array[0, 1] == {"k": [2.5]} and array[1, 0] == "x"


@pytest.mark.parametrize("order", [b"<", b">"])
def test_the_arrays_of_python_2_come_back(order):
    numbers = np.array([1.5, -2.25], np.dtype("f4").newbyteorder(order.decode()))
    data = array_opcodes(b"U\x08" + numbers.tobytes(), order=order)
    assert loads_pickle(data, "x.pkl").tolist() == [1.5, -2.25]
    quoted = b"S'" + "".join(f"\\x{byte:02x}" for byte in numbers.tobytes()).encode() + b"'\n"  # protocol 0
    assert loads_pickle(array_opcodes(quoted, order=order), "x.pkl").tolist() == [1.5, -2.25]


def test_the_texts_and_containers_of_python_2_come_back():
    assert loads_pickle(b"\x80\x02}U\x01aU\x02\xe9!s.", "x.pkl") == {"a": "é!"}
    assert loads_pickle(b"c__builtin__\nset\n((lp0\nI1\natR.", "x.pkl") == {1}
    ordered = b"ccollections\nOrderedDict\n((l(lS'b'\naI1\naa(lS'a'\naI2\naatR."
    assert loads_pickle(ordered, "x.pkl") == OrderedDict([("b", 1), ("a", 2)])


def test_what_is_referred_to_twice_stays_one():
    shared, array = [1], np.arange(3)
    read = loads_pickle(pickle.dumps([shared, shared, array, (array, np.float32(1))]), "x.pkl")
    assert read[0] is read[1] and read[2] is read[3][0]


def test_references_do_not_multiply():
    laughs = ["ha"]
    for _ in range(60):
        laughs = [laughs, laughs]
    value = loads_pickle(pickle.dumps(laughs), "x.pkl")
    for _ in range(60):
        assert value[0] is value[1]
        value = value[0]


def test_named_records_are_inert():
    class Ch:
        def __init__(self):
            self.x, self.parts = np.arange(3.0), {"deep": [1]}

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    module = type(sys)("chumpy.ch")
    module.Ch = Ch
    sys.modules["chumpy"], sys.modules["chumpy.ch"] = type(sys)("chumpy"), module
    try:
        written = [pickle.dumps({"v": Ch()}, protocol) for protocol in PROTOCOLS]
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]
    for data in written:
        record = loads_pickle(data, "smpl.pkl", records=("chumpy.ch.Ch",))["v"]
        assert isinstance(record, Record) and record.name == "chumpy.ch.Ch" and record.args == ()
        assert record.state["x"].tolist() == [0, 1, 2] and record.state["parts"] == {"deep": [1]}
        with pytest.raises(DataError, match=r"holds a pickled (chumpy\.ch\.Ch|copy_reg\._reconstructor), which is"):
            loads_pickle(data, "smpl.pkl")


def test_a_sparse_matrix_as_a_record_holds_its_arrays():
    from scipy.sparse import csc_matrix

    for protocol in PROTOCOLS:
        data = pickle.dumps(csc_matrix(np.eye(3)), protocol)
        record = loads_pickle(data, "smpl.pkl", records=["scipy.sparse._csc.csc_matrix"])
        assert record.state["data"].tolist() == [1, 1, 1] and record.state["indptr"].tolist() == [0, 1, 2, 3]


class Calls:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


REFUSED_CALLS = {
    r"posix\.system|nt\.system": Calls(os.system, "false"),
    r"builtins\.eval|__builtin__\.eval": Calls(eval, "1"),
    r"builtins\.exec|__builtin__\.exec": Calls(exec, "1"),
    r"builtins\.getattr|__builtin__\.getattr": Calls(getattr, 1, "real"),
    r"builtins\.print|__builtin__\.print": [1, {"k": np.array([Calls(builtins.print)], object)}],
    r"fractions\.Fraction": Fraction(1, 2),
    r"numpy\.float32": np.float32,
    r"builtins\.complex|__builtin__\.complex": 1j,
    r"numpy\.rec\.recarray|numpy\.recarray": np.rec.array([(1,)], dtype=[("a", "i4")]),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", REFUSED_CALLS)
def test_everything_else_is_refused_by_its_name(name, protocol, refused):
    with refused("x.pkl", match=rf"holds a pickled ({name}), which is refused: only numbers"):
        loads_pickle(pickle.dumps(REFUSED_CALLS[name], protocol), "x.pkl")


DTYPE = b"cnumpy\ndtype\n(Vf4\nI0\nI1\ntR"
DAMAGED = {
    "a function that is only mentioned": (b"cnumpy\ndtype\n.", r"numpy\.dtype itself"),
    "a function that is not there": (b"cnumpy.core\nsystem\n.", r"numpy\.core\.system"),
    "a name of several lines": (b"\x80\x04\x8c\x02os\x8c\x05a\nb\x1b[\x93.", r"pickled os\.a b\\x1b"),
    "a name that is no text": (b"\x80\x04K\x01K\x01\x93.", None),
    "state for a function": (b"cnumpy\ndtype\n}b.", r"state of a numpy\.dtype"),
    "state for a list": (b"]}b.", "state of a list"),
    "state for a set": (b"\x80\x04\x8f}b.", "state of a set"),
    "a call of a text": (b"Vx\n)R.", "call of str"),
    "a call of ndarray": (b"cnumpy\nndarray\n(I3\ntR.", r"call of numpy\.ndarray"),
    "an object of the opcode OBJ": (b"(cposix\nsystem\nVx\no.", r"posix\.system"),
    "an object of the opcode INST": (b"(Vx\niposix\nsystem\n.", r"posix\.system"),
    "an object of the opcode NEWOBJ": (b"\x80\x02cposix\nsystem\n)\x81.", r"posix\.system"),
    "keyword arguments": (b"\x80\x04cnumpy\ndtype\n)}Va\nI1\ns\x92.", "keyword"),
    "a registered extension": (b"\x80\x02\x82\x01.", "opcode"),
    "a registered extension of two bytes": (b"\x80\x02\x83\x01\x00.", "opcode"),
    "a registered extension of four bytes": (b"\x80\x02\x84\x01\x00\x00\x00.", "opcode"),
    "a persistent id": (b"Pabc\n.", "opcode"),
    "a persistent id of the stack": (b"\x80\x02Va\nQ.", "opcode"),
    "a buffer from elsewhere": (b"\x80\x05\x97.", "opcode"),
    "a read-only buffer": (b"\x80\x05C\x01a\x98.", "opcode"),
    "a later protocol": (b"\x80\x63N.", "protocol"),
    "nothing on the stack": (b".", None),
    "no mark": (b"t.", None),
    "a memo that is not there": (b"h\x07.", "Memo"),
    "huge bytes": (b"\x80\x05\x8e" + struct.pack("<Q", 1 << 40) + b"a.", "announced"),
    "a huge text": (b"\x80\x05\x8d" + struct.pack("<Q", 1 << 62) + b"a.", "announced"),
    "a huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.", "announced"),
    "a huge integer": (b"\x8b" + struct.pack("<i", (1 << 31) - 1) + b"a.", "announced"),
    "an integer of negative length": (b"\x8b" + struct.pack("<i", -1) + b"a.", None),
    "an integer of many digits": (b"L" + b"9" * 5000 + b"L\n.", None),
    "20 000 nested lists": (b"]" * 20_000 + b"a" * 19_999 + b".", "100 levels"),
    "20 000 nested tuples": (b"\x80\x02N" + b"\x85" * 20_000 + b".", "100 levels"),
    "a list in itself": (b"]q\x00h\x00a.", "contains itself"),
    "a dict in itself": (b"}q\x00Vk\nh\x00s.", "contains itself"),
    "a list as a key": (b"}]I1\ns.", "list is a key"),
    "nested tuples as a key": (b"\x80\x02}" + b"N" + b"\x85" * 3 + b"I1\ns.", "tuple is a key"),
    "a long tuple as a key": (b"}(" + b"I1\n" * 99 + b"tI1\ns.", "tuple is a key"),
    "a dict without its last value": (b"(I1\nd.", "dictionary"),
    "a text that is filled like a list": (b"Vx\nI1\na.", "filled like a list"),
    "a list that is filled like a dict": (b"]I0\nI1\ns.", "filled like a dict"),
    "a function that is filled like a dict": (b"cnumpy\ndtype\nI0\nI1\ns.", "filled like a dict"),
    "bytes in another encoding": (b"c_codecs\nencode\n(Vabc\nVutf-16\ntR.", "encoding"),
    "text that is not UTF-8": (b"X\x02\x00\x00\x00\xff\xfe.", None),
    "an array of a huge shape": (array_opcodes(b"U\x04abcd", shape=b"J\xff\xff\xff\x7f\x85"), "of shape"),
    "an array of a shape of 71 bits": (array_opcodes(b"U\x01a", shape=b"\x8a\x09aaaaaaaaa\x85"), "shape"),
    "an array of a negative shape": (array_opcodes(b"U\x08abcdefgh", shape=b"J\xfe\xff\xff\xff\x85"), "shape"),
    "an array of a shape of texts": (array_opcodes(b"U\x08abcdefgh", shape=b"U\x01a\x85"), "shape"),
    "an array of texts without length": (array_opcodes(b"U\x00", shape=b"J\xff\xff\xff\x7f\x85", dtype=b"U0"), "shape"),
    "characters that do not exist": (array_opcodes(b"U\x08" + b"\xff" * 8, dtype=b"U1"), "characters"),
    "numbers of an array of objects": (array_opcodes(b"U\x08abcdefgh", dtype=b"O8"), "type"),
    "objects of an array of numbers": (array_opcodes(b"]"), "type"),
    "fewer objects than the shape says": (array_opcodes(b"]", dtype=b"O8"), "shape"),
    "an array with fields": (array_opcodes(b"U\x08abcdefgh", dtype=b"V4"), "type 'V4'"),
    "an array of a huge type": (array_opcodes(b"U\x08abcdefgh", dtype=b"U99999999"), "shape"),
    "an array of dates": (array_opcodes(b"U\x08abcdefgh", dtype=b"M8"), "type 'M8'"),
    "an array of an odd byte order": (array_opcodes(b"U\x08abcdefgh", order=b"x"), "byte order"),
    "an array without content": (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR.", "content"),
    "an array of something else": (b"cnumpy.core.multiarray\n_reconstruct\n(I1\n(I0\ntVb\ntR.", "ndarray"),
    "an array that is its own content": (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntRp0\n"
                                         b"(I1\n(I1\nt" + DTYPE + b"I00\ng0\ntb.", "not bytes"),
    "a scalar of objects": (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(VO8\nI0\nI1\ntR]tR.", "objects"),
    "a scalar of a list": (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE + b"]tR.", "not bytes"),
    "garbage": (b"\xde\xad\xbe\xef" * 50, "not a whole pickle"),
    "a text": (b"hello, world\n" * 3, "not a whole pickle"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_hostile_or_damaged_pickle_is_refused_in_one_line(name, refused, tmp_path):
    data, message = DAMAGED[name]
    with refused("x.pkl", match=message):
        loads_pickle(data, "x.pkl")
    path = tmp_path / "x.pkl"
    path.write_bytes(data)
    with refused(path, match=message):
        load_pickle(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_truncated_pickle_is_refused(protocol, refused):
    data = pickle.dumps({"a": ARRAYS["float32"], "b": ["x", 1.5], "c": np.array([{}], object)}, protocol)
    for end in range(0, len(data) - 1, 10):
        with refused("x.pkl"):
            loads_pickle(data[:end], "x.pkl")


def test_a_memo_of_a_huge_index_takes_no_memory():
    tracemalloc.start()
    assert loads_pickle(b"\x80\x02]r\xff\xff\xff\x7f.", "x.pkl") == []
    assert loads_pickle(b"]p999999999999999\n.", "x.pkl") == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize(
    "call",
    [b"c_codecs\nencode\nh\x00h\x01\x86R", b"c__builtin__\nbytearray\nh\x00h\x01\x86R"],
)
def test_a_long_text_cannot_be_copied_over_and_over(call, refused):
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x000Vlatin1\nq\x010"
    with refused("x.pkl", match="more memory than the file"):
        loads_pickle(b"\x80\x02" + text + (call + b"0") * 5000 + b"N.", "x.pkl")


def test_one_content_cannot_become_many_arrays(refused):
    head = b"\x80\x02X" + struct.pack("<I", 80_000) + b"a" * 80_000 + b"q\x000]("
    array = array_opcodes(b"h\x00", shape=b"M\x20\x4e\x85")[2:-1]
    with refused("x.pkl", match="more memory than the file"):
        loads_pickle(head + array * 2000 + b"e.", "x.pkl")


def test_a_file_is_looked_at_before_it_is_read(tmp_path, refused):
    path = tmp_path / "x.pkl"
    with pytest.raises(MissingDataError, match=r"no file .*x\.pkl"):
        load_pickle(path)
    path.write_bytes(b"")
    with refused(path, match="the file is empty"):
        load_pickle(path)
    path.write_bytes(pickle.dumps(list(range(1000))))
    with refused(path, match="the limit is"):
        load_pickle(path, limit=1000)
    with refused(tmp_path, match="not a file"):
        load_pickle(tmp_path)
    assert load_pickle(path) == list(range(1000))
