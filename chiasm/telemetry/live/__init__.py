"""The roofline of running engines: what their steps had to do, against what their machines can do.

    records of an engine ──step_times──► how long each step took ─┐
    the same, its model  ──step_work──►  FLOPs and bytes of each ─┼─rooflines──► rows, as of `telemetry.signature`
    its machine ─────────────────────►  peaks ────────────────────┘

Pure, but for `engine_machine`, which engines load.
"""
