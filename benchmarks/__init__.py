"""Tasks, data, folds, training, the run store and the `sen-bench` command."""
