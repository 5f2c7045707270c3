"""What a cluster did in some seconds, as a file for Perfetto (https://ui.perfetto.dev).

`events` is the format, `engines` and `requests` make slices of what was measured, `trace` lays them out. All of it is
pure: measurements in, a file out.
"""
