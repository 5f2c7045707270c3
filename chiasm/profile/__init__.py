"""`chiasm profile`: what a running cluster does, asked at its endpoint: recorded, and held against its machines."""
