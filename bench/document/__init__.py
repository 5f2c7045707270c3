"""docs/benchmarks.md, README's table of results, and what `make bench` runs to make them again.

`python -m bench.document` writes both from `bench/results/*.json` and two templates whose prose is typed and whose
figures are not; `--check` tells whether they are what the results give. `python -m bench.document.reproduced` measures
first.
"""
