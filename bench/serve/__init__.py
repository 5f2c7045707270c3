"""`chiasm bench serve`: an endpoint under load, and arrangements against each other over a ladder of rates."""
