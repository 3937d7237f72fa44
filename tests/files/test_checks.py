"""Taking foreign values apart."""

from __future__ import annotations

import numpy as np
import pytest

from poseda.files.checks import a_dict, a_list, a_number, a_text, an_array

WHERE = "x.npz: key 'a'"


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_what_fits_comes_back():
    assert a_dict({"a": 1}, WHERE) == {"a": 1} and a_dict(np.array({"a": 1}), WHERE) == {"a": 1}
    assert a_list([1], WHERE) == [1] and a_list((1, 2), WHERE) == [1, 2]
    assert a_list(objects("a", None), WHERE) == ["a", None]
    assert an_array([[1, 2.5]], WHERE, (None, 2)).tolist() == [[1, 2.5]]
    array = np.ones((4, 17, 2), np.float32)
    assert an_array(array, WHERE, (None, 17, 2), "f") is array and an_array(3, WHERE, ()).shape == ()
    assert a_number(3, WHERE) == a_number(np.float32(3), WHERE) == a_number(np.array([[3]]), WHERE) == 3.0
    assert type(a_number(np.int64(3), WHERE)) is float
    assert [a_text(text, WHERE) for text in ("a", b"a", np.array(["a"]), np.str_("a"))] == ["a"] * 4
    assert type(a_text(np.str_("a"), WHERE)) is str


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: a_dict([1], WHERE), "is a list of 1; expected a dictionary"),
        (lambda: a_dict(np.ones(3), WHERE), r"is an array float64 \(3,\); expected a dictionary"),
        (lambda: a_list({}, WHERE), "is a dict of 0; expected a list"),
        (lambda: a_list(np.ones(3), WHERE), "expected a list"),
        (lambda: a_list("abc", WHERE), "is str 'abc'; expected a list"),
        (lambda: an_array(np.ones((3, 16, 2)), WHERE, (None, 17, 2)), r"is float64 \(3, 16, 2\); .* \(any, 17, 2\)"),
        (lambda: an_array(np.ones(3, int), WHERE, (3,), "f"), r"is int64 \(3,\); expected float \(3,\)"),
        (lambda: an_array([[1], [1, 2]], WHERE, (2, 2)), "is a list of 2; expected an array"),
        (lambda: an_array({"a": 1}, WHERE, (2,)), r"is a dict of 1; expected"),
        (lambda: an_array(None, WHERE, (2,)), "is of type NoneType; expected"),
        (lambda: an_array([None, 1.0], WHERE, (2,)), r"is object \(2,\); expected"),
        (lambda: a_number("3", WHERE), "is str '3'; expected a number"),
        (lambda: a_number(True, WHERE), "expected a number"),
        (lambda: a_number(float("nan"), WHERE), "is nan; expected a finite number"),
        (lambda: a_number(10**400, WHERE), "is inf; expected a finite number"),
        (lambda: a_number(np.ones(2), WHERE), "expected a number"),
        (lambda: a_text(3, WHERE), "is int '3'; expected a text"),
        (lambda: a_text(b"\xff", WHERE), "not UTF-8"),
        (lambda: a_text(10**5000, WHERE), "is of type int; expected a text"),
        (lambda: a_dict("a\nb\x1b[0m", WHERE), r"is str 'a b\\x1b\[0m'; expected"),
    ],
)
def test_what_does_not_fit_is_described_in_one_line(call, message, refused):
    with refused(WHERE, match=message):
        call()
