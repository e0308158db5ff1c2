"""The sections of the report, one module each, with its texts in `text/`.

A section is found by its entry point (`sen_bench.report_sections`), as those of plug-ins are, and nothing imports it by
name. A section may import every other part of `reports`, `benchmarks` and `sen`.
"""
