from __future__ import annotations

import csv
import io

import pytest

from reports.page.section import Table
from reports.page.tables import as_csv, as_latex, is_numeric, shown

TABLE = Table(
    name="t",
    columns=["model", "MAE (eV)", "std", "n", "95 % low", "note"],
    rows=[
        ["a_b & c", 33.774, 4.0662, 1265, 30.1651, "5 %"],
        ["coNGN", 28.8876, None, 12, -0.5, "Å ± 2₁"],
        ["x", 323.98, 17.7269, None, 1e-9, ""],
    ],
    caption="What R² is, 100 % of it",
)


def column(name: str) -> list[str]:
    return [row[TABLE.columns.index(name)] for row in shown(TABLE)]


def test_numbers_of_a_column_line_up() -> None:
    assert column("MAE (eV)") == ["33.77", "28.89", "323.98"]
    assert column("n") == ["1,265", "12", "–"]


def test_how_sure_a_number_is_has_the_decimals_of_the_number() -> None:
    assert column("std") == ["4.07", "–", "17.73"]


def test_a_small_number_is_not_shown_as_zero() -> None:
    table = Table(
        "p", ["model", "share"], [["a", 0.0], ["b", 0.41], ["c", 0.004], ["d", 6.3e-7], ["e", -0.00479]], "", "", 2
    )
    assert [row[1] for row in shown(table)] == [
        "0.0000",
        "0.4100",
        "0.0040",
        "6e\N{MINUS SIGN}07",
        "\N{MINUS SIGN}0.0048",
    ]
    table = Table("p", ["model", "d"], [["a", 1.27], ["b", 5.51], ["c", -0.00479]], "", "", 3)
    assert [row[1] for row in shown(table)] == ["1.27", "5.51", "\N{MINUS SIGN}0.005"]


def test_p_values_have_three_decimals_or_are_tiny() -> None:
    table = Table("p", ["model", "p (Holm)"], [["a", 0.62733], ["b", 0.0012], ["c", 3e-7]], "", "", 4)
    assert [row[1] for row in shown(table)] == ["0.627", "0.001", "3e\N{MINUS SIGN}07"]


def test_columns_of_numbers_are_known() -> None:
    assert [is_numeric(TABLE, i) for i in range(6)] == [False, True, True, True, True, False]
    assert not is_numeric(Table("t", ["a"], [[None]], ""), 0)


def test_csv_has_all_digits() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(TABLE))))
    assert [row["MAE (eV)"] for row in rows] == ["33.774", "28.8876", "323.98"]
    assert rows[1]["std"] == ""
    assert rows[0]["model"] == "a_b & c"


def test_latex_is_escaped_and_aligned() -> None:
    latex = as_latex(TABLE, "my table")
    assert r"\begin{tabular}{lrrrrl}" in latex
    assert r"a\_b \& c & 33.77" in latex
    assert r"\AA{} $\pm$ 2$_1$" in latex
    assert r"\caption{What R$^2$ is, 100 \% of it}" in latex
    assert r"\label{tab:my-table}" in latex
    for char in "±Å₁²–":
        assert char not in latex


@pytest.mark.parametrize("hostile", [r"\input{/etc/passwd}", "$x^2$", "{}~#"])
def test_latex_runs_no_command_from_a_name(hostile: str) -> None:
    latex = as_latex(Table("t", ["model"], [[hostile]], "c"), "t")
    assert hostile not in latex
