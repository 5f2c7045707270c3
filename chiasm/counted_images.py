"""Images that travel as a number of tokens: what vLLM lacks to split LLaVA-1.5 and InternVL.

In these families an image's placeholders are one token repeated, perhaps between two brackets, so their number says
everything. vLLM's processors can lay placeholders out for a number, since that is how they treat embeddings that come
with a request; but their data parsers declare no metadata that would let the embedding itself stay away. The classes
below declare `image_num_tokens`, and differ from vLLM's in nothing else. `chiasm.plugins.register_models` puts them in
the place of vLLM's; encoders report the number (`encoder.connector`), decoders take it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from transformers import BatchFeature, PixtralVisionConfig
from vllm.exceptions import VLLMValidationError
from vllm.model_executor.models import interns1, llava
from vllm.multimodal import MULTIMODAL_REGISTRY
from vllm.multimodal.inputs import MultiModalFieldConfig
from vllm.multimodal.parse import ImageEmbeddingItems, ModalityDataItems, MultiModalDataParser
from vllm.multimodal.processing import (
    BaseDummyInputsBuilder,
    BaseMultiModalProcessor,
    BaseProcessingInfo,
    InputProcessingContext,
)

from chiasm.families import IMAGE_NUM_TOKENS


class CountedImages(ImageEmbeddingItems):
    """Images of one prompt of which only the number of tokens is known. `counts`: int64, `[images, 1]`."""

    def __init__(self, counts: torch.Tensor) -> None:
        # Stand-ins that have a length and no memory, for whatever of vLLM measures an embedding.
        super().__init__([torch.empty(int(count), 0, device="meta") for [count] in counts.tolist()])
        self._counts = counts

    def get(self, index: int) -> Any:
        """The image's count: what names it, should it come without a uuid."""
        return {IMAGE_NUM_TOKENS: self._counts[index]}

    def get_feature_size(self, item_idx: int) -> int:
        """Embeddings, and so placeholders, of the image."""
        return int(self._counts[item_idx])

    def get_passthrough_data(self) -> Mapping[str, object]:
        """What reaches the model with the image: the count, and no embedding."""
        return {IMAGE_NUM_TOKENS: self._counts}


class CountedImageParser(MultiModalDataParser):
    """Takes an image's number of tokens in its place. `most` is what one image may have."""

    embedding_fields: ClassVar = {"image": {IMAGE_NUM_TOKENS: "metadata"}}

    def __init__(self, most: int, **options: Any) -> None:
        super().__init__(**options)
        self._most = most

    def _parse_image_data(self, data: Any) -> ModalityDataItems[Any, Any] | None:
        if not isinstance(data, dict):
            return super()._parse_image_data(data)
        if not self.allow_missing_mm_embeddings:
            raise VLLMValidationError("only a decoder of a split model takes images as metadata; send the image itself")
        return CountedImages(self._checked(data))

    def _checked(self, data: dict[str, Any]) -> torch.Tensor:
        if set(data) != {IMAGE_NUM_TOKENS}:
            raise VLLMValidationError(f"an image must come as {IMAGE_NUM_TOKENS} alone, not as {sorted(data)}")
        counts = data[IMAGE_NUM_TOKENS]
        shape: Any = getattr(counts, "shape", ())
        if len(shape) != 2 or shape[1] != 1 or counts.dtype != torch.int64:
            raise VLLMValidationError(f"{IMAGE_NUM_TOKENS} must be a list of one integer for each image")
        if not bool(((counts >= 1) & (counts <= self._most)).all()):
            wrong = counts.flatten().tolist()
            raise VLLMValidationError(f"{IMAGE_NUM_TOKENS} must be between 1 and {self._most}, not {wrong}")
        return counts


class _CountedInfo(BaseProcessingInfo):
    """Mixed into a model's processing info: the parser above instead of vLLM's."""

    def get_data_parser(self) -> MultiModalDataParser:
        return CountedImageParser(
            self.ctx.model_config.max_model_len,  # a longer image fits no prompt
            expected_hidden_size=self._get_expected_hidden_size(),
            allow_missing_mm_embeddings=self.allow_missing_mm_embeddings,
        )


class _CountedProcessor(BaseMultiModalProcessor[Any]):
    """Mixed into a model's processor: the count is one of the fields that belong to an image."""

    def _get_mm_fields_config(
        self, hf_inputs: BatchFeature, hf_processor_mm_kwargs: Mapping[str, object]
    ) -> Mapping[str, MultiModalFieldConfig]:
        fields = super()._get_mm_fields_config(hf_inputs, hf_processor_mm_kwargs)
        return {**fields, IMAGE_NUM_TOKENS: MultiModalFieldConfig.batched("image", keep_on_cpu=True)}


class LlavaInfo(_CountedInfo, llava.LlavaProcessingInfo):
    """LLaVA-1.5's processing info."""

    @property
    def image_token_bounds(self) -> tuple[int, int]:
        """The fewest and the most tokens of an image: the tower sees every image in one size."""
        return (self.get_max_image_tokens(),) * 2


class LlavaProcessor(_CountedProcessor, llava.LlavaMultiModalProcessor):
    """LLaVA-1.5's processor."""


class InternVLInfo(_CountedInfo, interns1.InternS1ProcessingInfo):
    """InternVL's processing info."""

    @property
    def image_token_bounds(self) -> tuple[int, int]:
        """The fewest and the most tokens of an image: those of one tile, and of all tiles."""
        return self.get_hf_processor().image_seq_length, self.get_max_image_tokens()


class InternVLProcessor(_CountedProcessor, interns1.InternS1MultiModalProcessor):
    """InternVL's processor."""


def _llava_info(context: InputProcessingContext) -> llava.BaseLlavaProcessingInfo:
    # A Pixtral tower's images break into rows, which their number of tokens does not tell: left as vLLM has it.
    if isinstance(context.get_hf_config().vision_config, PixtralVisionConfig):
        return llava.PixtralHFProcessingInfo(context)
    return LlavaInfo(context)


def _llava_processor(info: Any, dummy_inputs: BaseDummyInputsBuilder[Any]) -> Any:
    known = LlavaProcessor if isinstance(info, LlavaInfo) else llava.PixtralHFMultiModalProcessor
    return known(info, dummy_inputs)


@MULTIMODAL_REGISTRY.register_processor(_llava_processor, info=_llava_info, dummy_inputs=llava.LlavaDummyInputsBuilder)
class LlavaForConditionalGeneration(llava.LlavaForConditionalGeneration):
    """LLaVA-1.5."""


@MULTIMODAL_REGISTRY.register_processor(
    InternVLProcessor, info=InternVLInfo, dummy_inputs=interns1.InternS1DummyInputsBuilder
)
class InternVLForConditionalGeneration(interns1.InternS1ForConditionalGeneration):
    """InternVL in the layout of transformers (the hub's `-hf` checkpoints)."""
