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
    "Qwen4-Exp": ("Qwen4ExpForConditionalGeneration",),
    "Keye": ("KeyeForConditionalGeneration", "KeyeVL1_5ForConditionalGeneration"),
    "MiniCPM-V": (
        "MiniCPMV",
        "MiniCPMO",
        "MiniCPMV4_6ForConditionalGeneration",
        "MiniCPMV4_7ForConditionalGeneration",
    ),
    "LLaVA-OneVision-2": ("LlavaOnevision2ForConditionalGeneration",),
    "Intern-S1-Pro": ("InternS1ProForConditionalGeneration",),
    "Intern-S2": ("InternS2PreviewForConditionalGeneration", "InternS2MobiusForConditionalGeneration"),
    "EXAONE 4.5": ("Exaone4_5_ForConditionalGeneration",),
    "MiMo-V2-Omni": ("MiMoV2OmniForCausalLM",),
    "BailingMoeV3-VL": ("BailingMoeV3VLForConditionalGeneration",),
    "openPangu-VL": ("OpenPanguVLForConditionalGeneration",),
    "OpenCUA": ("OpenCUAForConditionalGeneration",),
    "dots.ocr": ("DotsOCRForCausalLM",),
    "Cosmos3-Edge": ("Cosmos3EdgeForConditionalGeneration",),
}
"""Architectures by family: all that vLLM declares to be fit, and ours (`COUNTED`). What a refusal suggests.

A model of a later vLLM that is fit needs no entry here; which of these are tested is in `docs/models.md`.
"""

DEEPSTACK = FAMILIES["Qwen3-VL"]
"""Architectures with DeepStack that `decoder.deepstack` lets a decoder run."""

UNUSED_DEEPSTACK = FAMILIES["BailingMoeV3-VL"]
"""Architectures whose configuration may name DeepStack levels, of which vLLM's model makes no use."""

COUNTED = (*FAMILIES["LLaVA-1.5"], *FAMILIES["InternVL (checkpoints that end in -hf)"])
"""Architectures whose images travel as a number of tokens, thanks to `chiasm.counted_images`."""

IMAGE_NUM_TOKENS = "image_num_tokens"
"""The metadata of an image of a `COUNTED` architecture: how many embeddings it has."""
