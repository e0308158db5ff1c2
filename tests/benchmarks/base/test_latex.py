"""LaTeX that compiles whatever the text is."""

from __future__ import annotations

import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest

from benchmarks.base.latex import escape, table


def made(*cells: str) -> str:
    rows = [[cell, cell] for cell in cells]
    return table(cells[:2], rows, alignment="ll", caption=" ".join(cells), label="tab:x", begin=[r"\begin{table}"])


def is_missing(package: str) -> bool:
    """Whether there is no pdfLaTeX, or none with a package."""
    command = ["kpsewhich", package]
    return not (shutil.which("pdflatex") and subprocess.run(command, check=False, capture_output=True).stdout)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R² 10⁻³ H₂O⁺", "R$^2$ 10$^-$$^3$ H$_2$O$^+$"),
        ("ⁿ™ ₓ", r"$^{\mathrm{n}}$$^{\mathrm{TM}}$ $_{\mathrm{x}}$"),
        ("Δα Αά µ", r"$\Delta$$\alpha$ $\mathrm{A}$$\acute{\alpha}$ $\mu$"),
        ("[4.2] *x", "{[}4.2] {*}x"),
        ("Müller, Åland, Łódź", r"Müller, \AA{}land, Łódź"),
        ("Mu\u0308ller", "Müller"),
        ("電", r"\unicodechar{電}{96FB}"),
        ("a\x1b[31m", r"a\textbackslash{}x1b{[}31m"),
        ("a\n\nb", "a  b"),
    ],
)
def test_text_survives(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_only_a_table_that_needs_it_says_how_to_compile() -> None:
    assert "XeLaTeX" in made("電")
    assert made("Müller α²").startswith(r"\begin{table}")


def test_a_label_has_no_command() -> None:
    assert r"\label{tab:a_b-c-}" in table(["x"], [], alignment="l", caption="", label="tab:a_b{c}", begin=[])


@pytest.mark.skipif(is_missing("booktabs.sty"), reason="needs pdflatex with booktabs")
def test_pdflatex_compiles_a_table_of_every_kind_of_character(tmp_path: Path) -> None:
    kinds = (*range(0x20, 0x250), *range(0x370, 0x400), *range(0x1F00, 0x2100), *range(0x2190, 0x2200), 0x96FB, 0x1F600)
    names = [chr(code) for code in kinds if unicodedata.category(chr(code)) != "Cn"]
    document = (
        rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{made('[5]', '*x', '電')}\listoftables "
    )
    # Not in the table, which has to fit on a page.
    document += "\n\n".join(f"x{escape(name)}" for name in names) + r"\end{document}"
    (tmp_path / "a.tex").write_text(document, "utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "a.tex"]
    for _ in range(2):  # the second reads the caption from the list of tables
        answer = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True)
        log = answer.stdout.decode(errors="replace")
        assert answer.returncode == 0, log[-2000:]
        assert "Missing character" not in log
