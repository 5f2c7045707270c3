"""What vLLM is taught of images that travel as a number of tokens. vLLM is imported here, but no engine starts."""

import json
from pathlib import Path
from typing import Any

import pytest

from chiasm.families import IMAGE_NUM_TOKENS
from chiasm.models.tiny import Family, build_tiny_model

pytestmark = [pytest.mark.engine, pytest.mark.timeout(200), pytest.mark.filterwarnings("default")]


def parse(data: Any, missing_allowed: bool = True) -> Any:
    from chiasm.counted_images import CountedImageParser

    parser = CountedImageParser(100, allow_missing_mm_embeddings=missing_allowed)
    return parser.parse_mm_data({"image": data})["image"]


def counts(*each: int) -> dict[str, Any]:
    import torch

    return {IMAGE_NUM_TOKENS: torch.tensor(each).reshape(-1, 1)}


def test_each_image_has_room_for_its_count() -> None:
    items = parse(counts(4, 100))
    assert [items.get_feature_size(index) for index in range(len(items))] == [4, 100]
    assert items.get_passthrough_data()[IMAGE_NUM_TOKENS].tolist() == [[4], [100]]


@pytest.mark.parametrize("count", [0, -1, 101])
def test_a_count_that_no_prompt_can_hold_is_refused(count: int) -> None:
    with pytest.raises(Exception, match=rf"between 1 and 100, not \[5, {count}\]"):
        parse(counts(5, count))


def test_what_is_no_count_is_refused() -> None:
    import torch

    for wrong in (torch.tensor([[4.0]]), torch.tensor([4]), torch.tensor([[4, 4]]), [4], "4"):
        with pytest.raises(Exception, match="one integer for each image"):
            parse({IMAGE_NUM_TOKENS: wrong})
    for wrong in ({}, {"image_embeds": 1}, counts(4) | {"image_embeds": 1}):
        with pytest.raises(Exception, match="alone"):
            parse(wrong)


def test_an_engine_with_a_tower_wants_the_image_itself() -> None:
    with pytest.raises(Exception, match="send the image itself"):
        parse(counts(4), missing_allowed=False)


def inspected(model: Path) -> dict[str, Any]:
    from chiasm.preflight import inspect

    return inspect(["--model", str(model), "--max-model-len", "512"])


@pytest.mark.parametrize(
    ("family", "image_tokens"), [(Family.LLAVA_1_5, (16, 16)), (Family.INTERNVL, (4, 28))], ids=str
)
def test_preflight_learns_how_many_tokens_an_image_may_have(
    family: Family, image_tokens: tuple[int, int], tmp_path: Path
) -> None:
    report = inspected(build_tiny_model(tmp_path / family, family))
    assert report["metadata_fields"] == [IMAGE_NUM_TOKENS]
    assert report["image_tokens"] == image_tokens


def test_a_pixtral_tower_is_left_as_vllm_has_it(tmp_path: Path) -> None:
    """Its placeholders have rows, which a number does not tell."""
    model = build_tiny_model(tmp_path / "pixtral", Family.LLAVA_1_5)
    config = json.loads((model / "config.json").read_text())
    config["vision_config"] = {"model_type": "pixtral", "hidden_size": 64, "num_attention_heads": 2, "image_size": 56}
    (model / "config.json").write_text(json.dumps(config))
    report = inspected(model)
    assert (report["metadata_fields"], report["tower"]) == ([], "pixtral")
