"""The encoder worker and the publishing half of the embedding connector."""
