"""What pyproject.toml cannot say: a package index shows README.md alone, so its links to other files become text."""

import re
from pathlib import Path

from setuptools import setup

_BESIDE = r"\((?!https?:|#)([^)]+)\)"

text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
text = re.sub(rf"!\[[^]]*\]{_BESIDE}", "", text)
text = re.sub(rf"\[([^]]*)\]{_BESIDE}", lambda link: link[1] if link[1] == link[2] else f"{link[1]} ({link[2]})", text)
setup(long_description=text, long_description_content_type="text/markdown")
