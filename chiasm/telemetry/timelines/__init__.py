"""Where a request's time went: the gateway's marks and the engines' records, put together on one clock.

marks ──────────────────────────────────────────┐
records ──clock_offsets──► recollections ───────┼─phase_cuts──► spans ──► timeline ──► view
"""
