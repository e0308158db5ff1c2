"""The sections of the report, one module each, with its texts in `text/`.

The report finds a section by its entry point (`sen_bench.report_sections`), as it finds those of plug-ins; only
`reports.explain` imports one by name, for the figures and the table of `equivalence`. A section may import
`reports.study`, `reports.page`, `reports.environments`, `reports.auditing`, `sen`, and all of `benchmarks` but
`benchmarks.cli`.
"""

__all__: list[str] = []
