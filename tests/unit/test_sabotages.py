"""What `make mutants` breaks is there to be broken: the code changes, and its table must, too."""

from __future__ import annotations

import pytest

from tools.mutants import SABOTAGES, missing
from tools.sabotages import Sabotage


@pytest.mark.parametrize("one", SABOTAGES, ids=lambda one: one.name)
def test_a_sabotage_finds_what_it_breaks(one: Sabotage) -> None:
    assert not missing(one)
