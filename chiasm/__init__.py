"""Chiasm: vision-language model serving with the image encoder and the language model on different silicon."""

__version__ = "0.1.0"
