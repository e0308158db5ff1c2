"""The page: the interface of a section, what it shows, its style, and a report as one HTML file.

A `Section` computes facts from a study, which go to report.json, and makes items of them (`Heading`, `Text`, `Figure`,
`Table`); `Items` helps it with texts from a template. Figures are drawn on axes of `subplots` and `panels`, and each
result has its look there (`look_of`). The modules `report` and `html` run all sections and write the page. It imports
`reports.study`, `sen`, and all of `benchmarks` but `benchmarks.cli`.
"""

from reports.page.items import Column, Items
from reports.page.section import Figure, Heading, Item, Section, Table, Text
from reports.page.style import look_of, panels, subplots

__all__ = [
    "Column",
    "Figure",
    "Heading",
    "Item",
    "Items",
    "Section",
    "Table",
    "Text",
    "look_of",
    "panels",
    "subplots",
]
