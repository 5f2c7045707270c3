"""The decoder worker and the fetching half of the embedding connector."""
