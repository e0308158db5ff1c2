"""What a report is about: results of one task read from runs and from published files, and facts about their rows.

It imports `benchmarks` and `sen`, and no other part of `reports`.
"""
