"""What Chiasm measures of itself."""
