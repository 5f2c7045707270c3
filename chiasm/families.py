"""Which model families can be split, and what Chiasm adds to vLLM for some of them.

The one list that refusals and the registration with vLLM go by. Engines read it while they start: it imports nothing.
"""

FAMILIES = {
    "Qwen2-VL": ("Qwen2VLForConditionalGeneration",),
    "Qwen2.5-VL": ("Qwen2_5_VLForConditionalGeneration",),
    "Qwen3-VL": ("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
    "Qwen3.5": ("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"),
    "Qwen2.5-Omni": ("Qwen2_5OmniModel", "Qwen2_5OmniForConditionalGeneration"),
    "LLaVA-1.5": ("LlavaForConditionalGeneration",),
    "InternVL (checkpoints that end in -hf)": ("InternVLForConditionalGeneration",),
    "Keye": ("KeyeForConditionalGeneration", "KeyeVL1_5ForConditionalGeneration"),
    "MiniCPM-V": ("MiniCPMV", "MiniCPMO", "MiniCPMV4_6ForConditionalGeneration"),
    "EXAONE 4.5": ("Exaone4_5_ForConditionalGeneration",),
    "MiMo-V2-Omni": ("MiMoV2OmniForCausalLM",),
}
"""Architectures by family. What a refusal suggests; a model that vLLM can split all the same needs no entry here."""

DEEPSTACK = FAMILIES["Qwen3-VL"]
"""Architectures with DeepStack that `decoder.deepstack` lets a decoder run."""

COUNTED = (*FAMILIES["LLaVA-1.5"], *FAMILIES["InternVL (checkpoints that end in -hf)"])
"""Architectures whose images travel as a number of tokens, thanks to `chiasm.counted_images`."""

IMAGE_NUM_TOKENS = "image_num_tokens"
"""The metadata of an image of a `COUNTED` architecture: how many embeddings it has."""
