"""The phase signature: what encode, prefill and decode ask of a machine, and how much of it they get.

    configuration ──shapes──► matrices ──work──► FLOPs and bytes of a phase ─┐
    this machine ──peaks──► the most FLOP/s and bytes/s that were seen ──────┼─roofline──► rows, tables, plot
    a run ──► seconds, and NVML's and GPM's counters while it ran ───────────┘

Imports nothing that a machine with only torch and NVIDIA's bindings would lack.
"""
