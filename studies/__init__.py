"""Study files: ablations, reports and archives in one TOML file, of which `sen-bench study` makes what is missing.

`study_file` reads a file, `commands` has the command, and `display` shows how far a study file is. The TOML files of
this folder come with sen-bench. Everything is planned, trained and written by what `sen-bench ablate`, `report` and
`archive` call themselves. It imports `ablations`, `reports`, `benchmarks` and `sen`.
"""

__all__ = ["commands", "display", "study_file"]
