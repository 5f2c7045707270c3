"""Images of every kind that clients send: taken as an engine would take them, and counted as it would."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from gateway_fakes import ENTRY, FACTS, Cluster, chat_body, data_url, image_part, png, replies
from PIL import Image

from chiasm.image_tokens import qwen_tokens
from chiasm.messages import Cancel, Submit

pytestmark = pytest.mark.slow

SIZE = (120, 90)
TOKENS = 12  # 3 rows of 4 cells of 28 x 28 pixels


def picture(mode: str, size: tuple[int, int] = SIZE) -> Image.Image:
    noise = Image.effect_noise(size, 60)
    return noise.quantize(8) if mode == "P" else noise.convert(mode)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def sixteen_bits() -> Image.Image:
    return Image.frombytes("I;16", SIZE, bytes(range(256)) * (SIZE[0] * SIZE[1] * 2 // 256) + bytes(96))


MORE = [picture("RGB"), picture("RGB")]
KINDS: dict[str, bytes] = {
    "PNG": saved(picture("RGB"), "PNG"),
    "PNG with alpha": saved(picture("RGBA"), "PNG"),
    "PNG in grey": saved(picture("L"), "PNG"),
    "PNG in grey with alpha": saved(picture("LA"), "PNG"),
    "PNG in black and white": saved(picture("1"), "PNG"),
    "PNG with a palette": saved(picture("P"), "PNG"),
    "PNG with one transparent colour": saved(picture("P"), "PNG", transparency=0),
    "PNG with transparent colours": saved(picture("P"), "PNG", transparency=bytes(range(8))),
    "PNG of 16 bits": saved(sixteen_bits(), "PNG"),
    "PNG that is animated": saved(picture("RGB"), "PNG", save_all=True, append_images=MORE),
    "JPEG": saved(picture("RGB"), "JPEG"),
    "JPEG in grey": saved(picture("L"), "JPEG"),
    "JPEG in CMYK": saved(picture("CMYK"), "JPEG"),
    "JPEG that is progressive": saved(picture("RGB"), "JPEG", progressive=True),
    "JPEG with data behind it": saved(picture("RGB"), "JPEG") + b"a film: \xff\xda" * 200,
    "JPEG with a comment": saved(picture("RGB"), "JPEG", comment=b"\xff\xda" * 200),
    "JPEG of several pictures": saved(picture("RGB"), "MPO", save_all=True, append_images=MORE),
    "JPEG turned upside down": saved(picture("RGB"), "JPEG", exif=turned(3)),
    "JPEG turned by a quarter": saved(picture("RGB", (90, 120)), "JPEG", exif=turned(6)),
    "PNG turned by a quarter": saved(picture("RGB", (90, 120)), "PNG", exif=turned(8)),
    "WebP": saved(picture("RGB"), "WEBP"),
    "WebP without loss": saved(picture("RGB"), "WEBP", lossless=True),
    "WebP with alpha": saved(picture("RGBA"), "WEBP"),
    "WebP that is animated": saved(picture("RGB"), "WEBP", save_all=True, append_images=MORE),
    "GIF": saved(picture("P"), "GIF"),
    "GIF with transparency": saved(picture("P"), "GIF", transparency=0),
    "GIF that is animated": saved(picture("P"), "GIF", save_all=True, append_images=MORE),
}


async def test_images_of_every_kind_are_taken_and_pass_as_they_are(cluster: Cluster) -> None:
    for kind, data in KINDS.items():
        url = data_url(data)
        status, answer, _ = await cluster.chat(chat_body(url))
        assert status == 200, (kind, answer)
        assert cluster.scheduler.of(Submit)[-1].items[0].tokens == TOKENS, kind
        [part] = cluster.encoders[0].calls[-1].body["messages"][0]["content"]
        assert part["image_url"] == {"url": url}, kind


@pytest.mark.parametrize("image", [data_url(png()), {"url": data_url(png()), "detail": "low"}])
async def test_clients_may_name_an_image_as_openais_do(cluster: Cluster, image: Any) -> None:
    part = {"type": "image_url", "image_url": image}
    body = {"messages": [{"role": "user", "content": ["what is it?", part]}]}
    assert (await cluster.chat(body))[0] == 200


async def test_images_may_come_from_a_tool(cluster: Cluster) -> None:
    messages = [
        {"role": "user", "content": "take a photograph"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "type": "function", "function": {}}]},
        {"role": "tool", "tool_call_id": "1", "content": [image_part(data_url(png()))]},
    ]
    assert (await cluster.chat({"messages": messages}))[0] == 200


@pytest.mark.parametrize(
    ("width", "height", "tokens"),
    # As transformers' own smart_resize has it, for least and most pixels of 3,136 and 802,816.
    [
        (100, 80, 12),
        (56, 28, 6),
        (1, 1, 4),
        (5, 5, 4),
        (42, 70, 4),
        (448, 448, 256),
        (4000, 3000, 972),
        (1999, 10, 29),
        (1, 9, 6),
    ],
)
def test_tokens_are_counted_as_qwens_processor_resizes(width: int, height: int, tokens: int) -> None:
    bounds = (3136, 802_816)
    assert qwen_tokens(width, height, 784, bounds) == qwen_tokens(height, width, 784, bounds) == tokens


async def test_images_that_turn_out_too_long_never_reach_a_decoder(cluster: Cluster) -> None:
    long = ENTRY | {"shape": [FACTS.max_model_len, 64]}
    cluster.encoders[0].behaviours = [replies(200, {"ec_transfer_params": {"key": long}})]
    status, answer, _ = await cluster.chat(chat_body(data_url(png())))
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert "4096" in answer["error"]["message"]
    assert cluster.decoders[0].calls == []
    assert len(cluster.scheduler.of(Cancel)) == 1


async def test_options_that_change_the_size_are_not_second_guessed(make_cluster: Callable[..., Any]) -> None:
    cluster = await make_cluster(allow_processor_options=True)
    images = [data_url(png(size=(448, 448)))] * 16  # of 256 tokens each
    assert (await cluster.chat(chat_body(*images)))[0] == 400
    assert (await cluster.chat(chat_body(*images, mm_processor_kwargs={"max_pixels": 100_000})))[0] == 200
