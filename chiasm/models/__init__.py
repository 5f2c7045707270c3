"""The models that Chiasm builds or ships."""
