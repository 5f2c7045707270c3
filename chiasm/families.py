"""Which model families can be split, and what Chiasm adds to vLLM for some of them.

The one list that refusals, the registration with vLLM, and the docs go by. Engines read it while they start, so it
imports nothing.
"""

SPLIT_BY_VLLM = {
    "Qwen2-VL": ("Qwen2VLForConditionalGeneration",),
    "Qwen2.5-VL": ("Qwen2_5_VLForConditionalGeneration",),
    "Qwen2.5-Omni": ("Qwen2_5OmniModel", "Qwen2_5OmniForConditionalGeneration"),
    "Qwen3.5": ("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"),
    "Keye": ("KeyeForConditionalGeneration", "KeyeVL1_5ForConditionalGeneration"),
    "MiniCPM-V": ("MiniCPMV", "MiniCPMO", "MiniCPMV4_6ForConditionalGeneration"),
    "EXAONE 4.5": ("Exaone4_5_ForConditionalGeneration",),
    "LLaVA-OneVision-2": ("LlavaOnevision2ForConditionalGeneration",),
    "MiMo-V2-Omni": ("MiMoV2OmniForCausalLM",),
}
"""Architectures by family whose images vLLM itself can take as metadata. Chiasm has run the first two."""

DEEPSTACK = {
    "Qwen3VLForConditionalGeneration": "decoder.deepstack:Qwen3VLForConditionalGeneration",
    "Qwen3VLMoeForConditionalGeneration": "decoder.deepstack:Qwen3VLMoeForConditionalGeneration",
}
"""Classes of ours, by architecture, that run DeepStack without a vision tower."""

COUNTED = {
    "LlavaForConditionalGeneration": "chiasm.counted_images:LlavaForConditionalGeneration",
    "InternVLForConditionalGeneration": "chiasm.counted_images:InternVLForConditionalGeneration",
}
"""Classes of ours, by architecture, whose images travel as a number of tokens."""

SPLITTABLE = ", ".join((*SPLIT_BY_VLLM, "Qwen3-VL", "LLaVA-1.5", "InternVL (checkpoints that end in -hf)"))
"""The families that can be split, for people."""

IMAGE_NUM_TOKENS = "image_num_tokens"
"""The metadata of an image of a `COUNTED` family: how many embeddings it has."""
