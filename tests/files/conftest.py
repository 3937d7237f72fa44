"""What the tests of the file readers share: the one way in which a file may be refused."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from poseda.errors import DataError


@pytest.fixture
def refused():
    """A context in which a DataError must be raised: one line, which names the file and matches a pattern."""

    @contextmanager
    def check(where, match=None):
        with pytest.raises(DataError, match=match) as caught:
            yield
        message = str(caught.value)
        assert message.startswith(str(where)) and message.isprintable() and len(message) < 500, message

    return check
