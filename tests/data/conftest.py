"""Preparing into a folder of the test's own, in tiny images."""

from functools import partial

import pytest

import helpers.data


@pytest.fixture
def prepare(tmp_path):
    return partial(helpers.data.prepare, root=tmp_path / "data", size=32)
