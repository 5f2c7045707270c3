"""DeepStack on a decoder without a vision tower.

DeepStack models (Qwen3-VL) feed several feature levels of the tower into the first layers of the language model. vLLM
switches that off wherever the tower is not loaded, since it then expects no images; but on a decoder of ours the levels
arrive all the same, side by side in one wide embedding. These subclasses switch it on again. They are registered by
`chiasm.plugins.register_models`, in place of the classes of the same name, and differ from them on decoders only.
"""

from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.model_executor.models import qwen3_vl, qwen3_vl_moe


def _take_levels_from_embeddings(model: Any, vllm_config: VllmConfig) -> None:
    transfer = vllm_config.ec_transfer_config
    if model.use_deepstack or transfer is None or not transfer.is_ec_consumer:
        return
    levels = len(model.config.vision_config.deepstack_visual_indexes)
    tokens = vllm_config.scheduler_config.max_num_batched_tokens
    model.use_deepstack = levels > 0
    model.deepstack_num_level = levels
    model.multiscale_dim = model.visual_dim * levels
    model.deepstack_input_embeds = [torch.zeros(tokens, model.config.text_config.hidden_size) for _ in range(levels)]
    model.deepstack_input_embeds_num_tokens = 0


class Qwen3VLForConditionalGeneration(qwen3_vl.Qwen3VLForConditionalGeneration):
    """Qwen3-VL."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "model") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        _take_levels_from_embeddings(self, vllm_config)


class Qwen3VLMoeForConditionalGeneration(qwen3_vl_moe.Qwen3VLMoeForConditionalGeneration):
    """Qwen3-VL with a mixture of experts."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        _take_levels_from_embeddings(self, vllm_config)
