"""The built-in model in the libraries that are to load it unchanged, and the trainer's forward against theirs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tokenizers import Tokenizer

from bench.pupil import card_table
from chiasm.demo import CASES
from chiasm.models.builtin import model_folder, picture_file
from chiasm.models.training.drawing import draw
from chiasm.models.training.scenes import SceneMaker

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]  # no engine, but torch and transformers take seconds

MAX_BYTES = 20_000_000
TOLERANCE = 5e-4  # of a logit: the same sums in another order


@pytest.fixture(scope="module")
def library() -> tuple[Any, Any]:
    """Processor and model, as anybody would load them."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    folder = model_folder()
    return AutoProcessor.from_pretrained(folder), AutoModelForImageTextToText.from_pretrained(folder).eval()


def inputs_of(processor: Any, images: list[Image.Image], question: str) -> Any:
    content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=[text], images=images or None, return_tensors="pt")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.question)
def test_transformers_gives_the_answers_of_the_demo(library: tuple[Any, Any], case: Any) -> None:
    import torch

    processor, model = library
    inputs = inputs_of(processor, [Image.open(picture_file(name)) for name in case.pictures], case.question)
    with torch.no_grad():
        answer = model.generate(**inputs, max_new_tokens=32)[0, inputs["input_ids"].shape[1] :]
    assert processor.decode(answer, skip_special_tokens=True) == case.truth


def test_the_trainer_computes_what_the_library_computes(library: tuple[Any, Any]) -> None:
    """A picture of odd size: equal tokens, patches as equal as resizing allows, from equal patches equal logits."""
    import torch

    from chiasm.models.training.network import Pupil
    from chiasm.models.training.questions import Question
    from chiasm.models.training.rows import Conversation, Scribe
    from chiasm.models.training.shape import CHANNELS, MERGE, PATCH, Shape
    from chiasm.models.training.sight import pictures
    from chiasm.models.training.vocabulary import Words

    processor, model = library
    scene = SceneMaker("forward").scene(317, 201)
    question = "What colour is the background?"
    inputs = inputs_of(processor, [draw(scene)], question)
    page = pictures([scene])
    assert inputs["image_grid_thw"].tolist() == [[1, MERGE * page.rows, MERGE * page.columns]]

    frames = inputs["pixel_values"].unflatten(1, (CHANNELS, 2, PATCH**2))  # a still picture is two equal ones
    patches = frames[:, :, 0].flatten(1)[None]
    # Two libraries resize the picture, and round differently.
    assert torch.allclose(patches, page.patches, atol=2 / 255 + 1e-6)

    pupil = Pupil(Shape())
    theirs_by_name = model.state_dict()
    names = zip(pupil.state_dict(), pupil.checkpoint(), strict=True)
    state = {ours: theirs_by_name[theirs] for ours, theirs in names}
    state["visual.filters"] = 2 * state["visual.filters"][:, :, 0].flatten(1)  # one of two equal frames
    pupil.load_state_dict(state)

    tokenizer = Tokenizer.from_file(str(model_folder() / "tokenizer.json"))
    rows = Scribe(tokenizer).rows(
        [Conversation(((page.rows, page.columns),), [Question("background", question, "red")])]
    )
    length = inputs["input_ids"].shape[1]
    assert rows.ids[0, :length].tolist() == inputs["input_ids"][0].tolist()
    language = pupil.language_model
    with torch.no_grad():
        embeddings, _ = pupil.visual(patches, MERGE * page.rows, MERGE * page.columns)
        x = language.embed_tokens(rows.ids)
        x = x.masked_scatter((rows.ids == Words(tokenizer).image)[..., None], embeddings)
        hidden, _ = language(x, rows.positions, rows.mask)
        ours = language.lm_head(hidden[0, length - 1])
        theirs = model(**inputs).logits[0, -1]
    assert torch.allclose(ours, theirs, atol=TOLERANCE)


def test_transformers_may_be_imported_before_torch() -> None:
    load = f"from transformers import AutoProcessor; AutoProcessor.from_pretrained({str(model_folder())!r})"
    done = subprocess.run([sys.executable, "-c", load], check=False, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_weights_are_small_and_plain() -> None:
    folder = model_folder()
    assert (folder / "model.safetensors").stat().st_size <= MAX_BYTES
    assert not [path for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pkl", ".py")]


def test_the_card_has_the_figures_of_the_examination() -> None:
    report = json.loads((Path(__file__).parent.parent / "bench" / "results" / "pupil.json").read_text())
    assert card_table(report["series"]) in (model_folder().parent / "README.md").read_text()
