"""What vLLM's processes note of themselves, in rings of bounded size, and tell whoever asks."""
