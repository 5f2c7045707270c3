"""The open-loop load generator and its arithmetic; knows of one endpoint, and of no topology."""
