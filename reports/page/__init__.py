"""The page: the seam of a section, its style, and a report as HTML, with tables, figures and what to cite.

It imports `reports.study` and `benchmarks`.
"""
