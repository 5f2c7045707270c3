"""pupil's tokenizer, trained on everything that is ever said to it, and its chat template."""

import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from chiasm.models.training.questions import Asker
from chiasm.models.training.scenes import SceneMaker
from chiasm.models.training.talk import split_talk

SIZE = 768
SPECIAL_TOKENS = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
)
SAMPLE_SCENES = 600

# Digits and capitals stand alone: to read a text is then to name its characters one by one.
SPLIT = r"[0-9]|[A-Z](?![a-z])| ?[A-Za-z][a-z]*|[^A-Za-z0-9 ]+| "

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    # Pictures first, wherever the client put them: so it was taught.
    "{% for part in message.content %}{% if part.type != 'text' %}"
    "<|vision_start|>{% if 'video' in part.type %}<|video_pad|>{% else %}<|image_pad|>{% endif %}<|vision_end|>"
    "{% endif %}{% endfor %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE with `SIZE` tokens: the same at every call."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_everything_said(), trainer)
    return tokenizer


def _everything_said() -> Iterator[str]:
    maker = SceneMaker("vocabulary")
    asker = Asker(random.Random(0))
    for _ in range(SAMPLE_SCENES):
        for question in asker.some(maker.scene(*maker.size()), 8):
            yield question.text
            yield question.answer
    for question in split_talk()[0]:
        yield question.text
        yield question.answer
    yield from ("system\n", "user\n", "assistant\n") * 50


class Words:
    """A tokenizer with the pieces that a chat is made of."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        def id_of(token: str) -> int:
            found = tokenizer.token_to_id(token)
            assert found is not None, token
            return int(found)

        self._tokenizer = tokenizer
        self.pad = id_of("<|endoftext|>")
        self.start, self.end = id_of("<|im_start|>"), id_of("<|im_end|>")
        self.vision_start, self.vision_end = id_of("<|vision_start|>"), id_of("<|vision_end|>")
        self.image, self.video = id_of("<|image_pad|>"), id_of("<|video_pad|>")
        self.newline = self.encode("\n")

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that has no special tokens in it."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def begin(self, role: str) -> list[int]:
        """How a message begins."""
        return [self.start, *self.encode(f"{role}\n")]

    def message(self, role: str, text: str) -> list[int]:
        """A whole message."""
        return [*self.begin(role), *self.encode(text), self.end, *self.newline]
