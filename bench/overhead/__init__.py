"""`chiasm bench overhead`: what gateway and scheduler add, against the same engine asked directly."""
