"""What preflight says of Qwen's image sizes, against vLLM's own processing. vLLM is imported; no engine starts."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from chiasm.image_tokens import qwen_tokens
from chiasm.models.tiny import Family, build_tiny_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300), pytest.mark.filterwarnings("default")]

LEAST, MOST = 9 * 1024, 16 * 1024  # pixels
PIXELS = {"min_pixels": LEAST, "max_pixels": MOST}
EDGES = {"size": {"shortest_edge": LEAST, "longest_edge": MOST}}
SIZES = [(28, 28), (224, 224), (300, 200)]  # below the least, and beyond the most twice


@pytest.fixture(scope="module", params=[Family.QWEN2_5_VL, Family.QWEN3_VL], ids=str)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp(request.param), request.param)


def inspected(model: Path, options: dict[str, Any]) -> dict[str, Any]:
    from chiasm.preflight import inspect

    return inspect(["--model", str(model), "--max-model-len=512", f"--mm-processor-kwargs={json.dumps(options)}"])


def placeholders(model: Path, options: dict[str, Any]) -> list[int]:
    """How many tokens vLLM lays out for an image of each of `SIZES`."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.multimodal import MULTIMODAL_REGISTRY

    arguments = EngineArgs(model=str(model), max_model_len=512, mm_processor_kwargs=options)
    processor = MULTIMODAL_REGISTRY.create_processor(arguments.create_model_config())
    counts = []
    for size in SIZES:
        items = processor.info.parse_mm_data({"image": Image.new("RGB", size)})
        laid_out = processor("<|vision_start|><|image_pad|><|vision_end|>", items)
        counts.append(laid_out["mm_placeholders"]["image"][0].length)
    return counts


@pytest.mark.parametrize(
    "options",
    [
        {},
        PIXELS,
        EDGES,
        {"images_kwargs": PIXELS},
        {"images_kwargs": EDGES},
        {"max_pixels": MOST},
        {"max_pixels": MOST, "images_kwargs": {"min_pixels": LEAST}},
        {"max_pixels": MOST, "size": {"shortest_edge": LEAST, "longest_edge": 2 * MOST}},
    ],
    ids=json.dumps,
)
def test_an_image_has_as_many_tokens_as_vllm_gives_it(model: Path, options: dict[str, Any]) -> None:
    report = inspected(model, options)
    estimates = [qwen_tokens(*size, report["pixels_per_token"], report["image_pixels"]) for size in SIZES]
    assert estimates == placeholders(model, options)


@pytest.mark.parametrize("options", [{"do_resize": False}, {"images_kwargs": {"do_resize": False}}], ids=json.dumps)
def test_nothing_is_said_of_images_that_are_not_resized(model: Path, options: dict[str, Any]) -> None:
    assert inspected(model, options)["image_pixels"] is None
