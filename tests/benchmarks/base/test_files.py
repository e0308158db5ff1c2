"""What is written for other programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

from benchmarks.base.files import write_json


def test_bytes_of_a_name_that_are_no_utf_8_become_escapes_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"file": os.fsdecode(b"Si\xff.cif"), "greek": "\u0394"})
    text = (tmp_path / "a.json").read_bytes().decode()
    assert json.loads(text) == {"file": "Si\\udcff.cif", "greek": "\u0394"}
