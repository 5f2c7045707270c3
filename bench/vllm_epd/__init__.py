"""`chiasm bench vllm-epd`: our split against vLLM's own encoder disaggregation, on the same cores."""
