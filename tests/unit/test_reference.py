"""The reference names everything that there is."""

from __future__ import annotations

import re
from pathlib import Path

from eventferry import config

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


def test_every_key_of_the_configuration_is_documented() -> None:
    text = (REFERENCE / "configuration.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))
    tables = (config._Settings, config._Producing, config._Consuming)
    assert {key for table in tables for key in table.model_fields} - {"producing", "consuming"} == (
        documented
    )
