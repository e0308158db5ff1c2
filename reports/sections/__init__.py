"""The sections of a report, found by the entry points `sen_bench.report_sections`.

It imports every other part of `reports`, `benchmarks` and `sen`.
"""
