"""What everything else stands on: errors, files, the cache, worker processes, signals, the machine and the terminal.

Nothing here knows of crystals or models. It imports no other package of sen-bench.
"""
