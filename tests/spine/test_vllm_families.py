"""The list of families against vLLM's registry. vLLM is imported here, but no engine starts."""

from typing import Any

import pytest

from chiasm.families import COUNTED, FAMILIES

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

LISTED = {architecture for family in FAMILIES.values() for architecture in family}
ALWAYS_DEEPSTACK = {"Cosmos3ForConditionalGeneration"}  # Qwen3-VL's tower, which is Chiasm's to teach and it has not


def data_parser(info: Any) -> Any:
    """The class of data parser that a processing info makes: the one that its method names."""
    from vllm.multimodal.parse import MultiModalDataParser

    named = [info.get_data_parser.__globals__.get(name) for name in info.get_data_parser.__code__.co_names]
    [parser] = [each for each in named if isinstance(each, type) and issubclass(each, MultiModalDataParser)]
    return parser


def declared_fit() -> set[str]:
    """Architectures that generate, and whose data parser declares metadata for images."""
    from vllm import ModelRegistry
    from vllm.model_executor.models.interfaces_base import is_pooling_model

    found = set()
    for architecture in ModelRegistry.get_supported_archs():
        try:
            model = ModelRegistry.models[architecture].load_model_cls()
        except ImportError:  # it needs CUDA, or a library of its own
            continue
        info = getattr(getattr(model, "_processor_factory", None), "info", None)
        generates = isinstance(info, type) and not is_pooling_model(model)
        if generates and data_parser(info).placeholder_metadata_fields("image"):
            found.add(architecture)
    return found


def test_the_list_has_what_vllm_declares_fit_and_no_more() -> None:
    ours = set(COUNTED)
    assert declared_fit() - ours == (LISTED - ours) | ALWAYS_DEEPSTACK


def test_every_architecture_on_the_list_is_one_that_vllm_knows() -> None:
    from vllm import ModelRegistry

    assert set(ModelRegistry.get_supported_archs()) >= LISTED
