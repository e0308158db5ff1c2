#!/usr/bin/env bash
# Train what docs/results/TASK.csv has a line for; docs/results.md has the commands that chose the recipe. From the
# repository's root, in its environment:
#
#     SEN_BENCH_DATA=../data bash docs/results/study.sh
#     python docs/results/render.py
#
# What docs/results/runs holds is not trained again, and what was stopped goes on; but own data that another version
# reads are another run. All of it takes days on two cores.
# The largest sets have 20 epochs, which are 14,000 steps of the formation energies and 19,000 of mp_gap; the 60 of
# matbench_log_kvrh are 14,000. 8,000 rows of mp_gap have 10, which are 2,250 steps, more than matbench_phonons has.
set -euo pipefail
export SEN_BENCH_DATA=${SEN_BENCH_DATA:?must name the folder that holds the data files}

ablate() {
    sen-bench ablate --jobs -1 --out docs/results/runs "$@"
}

gaps=(--task "$SEN_BENCH_DATA/paper_band_gap.json.gz" --target "gap hse (eV)" --unit eV)
energies=(--task "$SEN_BENCH_DATA/paper_formation_energy.json.gz" --target "e_form (eV/atom)" --unit eV/atom)

ablate --task matbench_phonons --blocks all
ablate --task matbench_phonons --blocks capsule,mlp --seeds 3
ablate --task matbench_log_kvrh --blocks capsule,mlp
ablate "${gaps[@]}" --split holdout:0.8/0.1/0.1 --blocks all --set training.weight_decay=3.0 --set sen.dropout=0.3
ablate "${gaps[@]}" --blocks all
ablate --task matbench_mp_gap --folds 0 --blocks capsule --epochs 20
ablate --task matbench_mp_gap --folds 0 --blocks all --limit 8000 --epochs 10
ablate "${energies[@]}" --split holdout:0.8/0.1/0.1 --blocks capsule,mlp --epochs 20
