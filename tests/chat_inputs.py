"""Bodies of chat requests: good ones to begin from, and the list of bad ones, none of which may reach an engine."""

import base64
import io
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image


def png(color: str = "red", size: tuple[int, int] = (56, 28)) -> bytes:
    return encoded(color, size, "PNG")


def encoded(color: str, size: tuple[int, int], kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, kind)
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def chat_body(*urls: str, text: str = "what is this?", **extra: Any) -> dict[str, Any]:
    return {"model": "demo", **_chat(*urls, text=text, **extra)}


def _chat(*urls: str, text: str = "what is this?", **extra: Any) -> dict[str, Any]:
    content = [*map(image_part, urls), {"type": "text", "text": text}]
    return {"messages": [{"role": "user", "content": content if urls else text}], **extra}


def _with_part(part: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [part]}]}


def _with_url(url: Any) -> dict[str, Any]:
    return _with_part(image_part(url))


def _nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def _noise(kind: str) -> bytes:
    """An image that does not compress, so that a part of its file is a part of its pixels."""
    buffer = io.BytesIO()
    Image.effect_noise((120, 90), 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def _with_pieces(kind: str, place: int, piece: bytes, count: int = 60_000) -> bytes:
    """A small image into whose file a piece has been put very many times."""
    image = encoded("red", (8, 8), kind)
    return image[:place] + count * piece + image[place:]


def _chunk(name: bytes, data: bytes = b"") -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


SEGMENT = b"\xff\xe0\x00\x02"  # the shortest of a JPEG
SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + b"\x00"
CHUNK = _chunk(b"abCd")  # of a PNG
COMMENT = b"!\xfe\x01a\x00"  # of a GIF
EXIF = b"\xff\xe1\x00\x08Exif\0\0"
PHOTOSHOP = b"\xff\xed\x00\x10Photoshop 3.0\0"
FRAME = b"\xff\xc0\x01\x0a\x08\x00\x08\x00\x08\x03" + 86 * b"\x01\x11\x00" + b"\x00\x00"
PROFILE = _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 20)))
NAMELESS_TEXT = _chunk(b"zTXt", b"\0\0" + zlib.compress(bytes(1 << 20)))
TEXT_THAT_IS_NONE = _chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"\xff" * (1 << 20)))
GIF_HEADER = 13 + 3 * 4  # with its smallest palette


def _message(role: Any, content: Any = "hi", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content, **more}]}


def _claiming(side: int) -> bytes:
    """A small file that claims so many pixels: its data are missing, so whoever decoded it would call it truncated."""
    bomb = bytearray(png())
    bomb[16:24] = side.to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    return bytes(bomb)


IMAGE = data_url(png())


def bad_chats(context: int, overflowing: Sequence[str]) -> dict[str, tuple[Any, str]]:
    """By name, a body that must be refused with 400, and what is said of it.

    `context` is how many tokens the model's has, and `overflowing` are (URLs of) images with as many together.
    """
    bad: dict[str, tuple[Any, str]] = {
        "no messages": ({}, "messages"),
        "empty messages": ({"messages": []}, "at least one"),
        "message is text": ({"messages": ["hi"]}, "role"),
        "message without role": ({"messages": [{"content": "hi"}]}, "role"),
        "content is a number": ({"messages": [{"role": "user", "content": 3}]}, "content"),
        "a role of its own": (_message("wizard"), "Use one of system, developer, user"),
        "role is a number": (_message(3), "role"),
        "no content": ({"messages": [{"role": "user"}]}, "content"),
        "null content": (_message("user", None), "content"),
        "empty content": (_message("user", []), "at least one part"),
        "content is an object": (_message("user", {"type": "text", "text": "hi"}), "content"),
        "image from the system": (_message("system", [image_part(IMAGE)]), "those of the user"),
        "image from the assistant": (_message("assistant", [image_part(IMAGE)]), "those of the user"),
        "detail is a number": (_with_part({"type": "image_url", "image_url": {"url": IMAGE, "detail": 3}}), "detail"),
        "images beyond the context": (_chat(*overflowing), f"{context} tokens"),
        "a list": ([1], "JSON object"),
        "part without type": (_with_part({"text": "hi"}), "type"),
        "part is a number": (_with_part(3), "type"),
        "text is a number": (_with_part({"type": "text", "text": 3}), "text"),
        "untyped image": (_with_part({"image_url": IMAGE}), "type"),
        "image_embeds": (_with_part({"type": "image_embeds", "image_embeds": {}}), "image_url"),
        "audio_embeds": (_with_part({"type": "audio_embeds", "audio_embeds": "x"}), "image_url"),
        "video_url": (_with_part({"type": "video_url", "video_url": {"url": "x"}}), "image_url"),
        "prompt_embeds part": (_with_part({"type": "prompt_embeds", "data": "x"}), "image_url"),
        "part's own uuid": (_with_part(image_part(IMAGE) | {"uuid": "mine"}), "uuid"),
        "text part's uuid": (_with_part({"type": "text", "text": "a", "uuid": None}), "uuid"),
        "ec_transfer_params": (_chat(ec_transfer_params={"a": 1}), "ec_transfer_params"),
        "kv_transfer_params": (_chat(kv_transfer_params=None), "kv_transfer_params"),
        "nested ec_transfer_params": (_chat(vllm_xargs={"ec_transfer_params": [1]}), "ec_transfer_params"),
        "deeply nested ec_transfer_params": (_chat(x=[{"y": [{"ec_transfer_params": 1}]}]), "ec_transfer_params"),
        "prompt_embeds": (_chat(prompt_embeds="x"), "prompt_embeds"),
        "too deep": (_chat(x=_nested(200)), "nested"),
        "stream is a text": (_chat(stream="yes"), "stream"),
        "n is zero": (_chat(n=0), "n does not fit"),
        "n is huge": (_chat(n=10**30), "n does not fit"),
        "n is true": (_chat(n=True), "n does not fit"),
        "model is a number": (_chat() | {"model": 3}, "model"),
        "max_tokens is a text": (_chat(max_tokens="9"), "max_tokens"),
        "max_tokens is negative": (_chat(max_tokens=-5), "max_tokens"),
        "max_tokens is zero": (_chat(max_tokens=0), f"between 1 and {context}"),
        "max_tokens is beyond the context": (_chat(max_tokens=context + 1), f"context is {context} tokens"),
        "max_tokens is beyond everything": (_chat(max_tokens=10**30), f"context is {context} tokens"),
        "max_completion_tokens is negative": (_chat(max_completion_tokens=-1), "max_completion_tokens"),
        "max_completion_tokens is beyond the context": (
            _chat(max_completion_tokens=context + 1),
            "max_completion_tokens",
        ),
        "min_tokens is negative": (_chat(min_tokens=-1), "min_tokens"),
        "temperature is a text": (_chat(temperature="hot"), "temperature does not fit: Expected"),
        "temperature is negative": (_chat(temperature=-0.1), "temperature"),
        "temperature is high": (_chat(temperature=2.1), "temperature"),
        "top_p is zero": (_chat(top_p=0), "top_p"),
        "top_k is a text": (_chat(top_k="5"), "top_k"),
        "seed is huge": (_chat(seed=2**63), "seed"),
        "stop is a number": (_chat(stop=[1]), "stop[0]"),
        "logit_bias is a list": (_chat(logit_bias=[1]), "logit_bias"),
        "penalty out of range": (_chat(presence_penalty=3), "presence_penalty"),
        "tools are a text": (_chat(tools="f"), "tools"),
        "response_format is a text": (_chat(response_format="json"), "response_format"),
        "stream_options are a list": (_chat(stream=True, stream_options=[1]), "stream_options"),
        "include_usage is a text": (_chat(stream=True, stream_options={"include_usage": "y"}), "include_usage"),
        "stream_options without a stream": (_chat(stream_options={"include_usage": True}), "Set stream to true"),
        "options are a text": (_chat(mm_processor_kwargs="x"), "mm_processor_kwargs"),
        "media options are a list": (_chat(media_io_kwargs=[1]), "media_io_kwargs"),
        "web address": (_with_url("https://example.org/cat.png"), "data URL"),
        "web address in capitals": (_with_url("HTTP://example.org/cat.png"), "data URL"),
        "file address": (_with_url("file:///etc/passwd"), "data URL"),
        "no URL": (_with_part({"type": "image_url", "image_url": {}}), "data URL"),
        "URL is a number": (_with_url(3), "data URL"),
        "text in a data URL": (_with_url("data:text/plain;base64,aGk="), "data URL"),
        "data URL with parameters": (_with_url(IMAGE.replace("png;", "png;charset=x;")), "data URL"),
        "bad base64": (_with_url("data:image/png;base64,a!b="), "base64"),
        "unpadded base64": (_with_url("data:image/png;base64,aGk"), "base64"),
        "base64 with a line break": (_with_url(IMAGE[:40] + "\n" + IMAGE[40:]), "base64"),
        "no image": (_with_url(data_url(b"hello world")), "readable image"),
        "empty image": (_with_url(data_url(b"")), "readable image"),
        "a ribbon": (_with_url(data_url(png(size=(402, 2)))), "200 times"),
        "a JPEG of very many scans": (_with_url(data_url(_with_pieces("JPEG", -2, SCAN, 101))), "scans"),
        "a JPEG of very many segments": (_with_url(data_url(_with_pieces("JPEG", 2, SEGMENT))), "pieces"),
        "a JPEG of very many segments at its end": (_with_url(data_url(_with_pieces("JPEG", -2, SEGMENT))), "pieces"),
        "a PNG of very many chunks": (_with_url(data_url(_with_pieces("PNG", 33, CHUNK))), "pieces"),
        "a PNG of very many chunks at its end": (_with_url(data_url(_with_pieces("PNG", -12, CHUNK))), "pieces"),
        "a GIF of very many comments": (_with_url(data_url(_with_pieces("GIF", GIF_HEADER, COMMENT))), "pieces"),
        "a PNG of many profiles": (_with_url(data_url(_with_pieces("PNG", 33, PROFILE, 101))), "pieces"),
        "a PNG of many nameless texts": (_with_url(data_url(_with_pieces("PNG", 33, NAMELESS_TEXT, 101))), "pieces"),
        "a PNG of many broken texts": (_with_url(data_url(_with_pieces("PNG", 33, TEXT_THAT_IS_NONE, 101))), "pieces"),
        "a JPEG of many Exif segments": (_with_url(data_url(_with_pieces("JPEG", 2, EXIF, 101))), "pieces"),
        "a JPEG of many Photoshop segments": (_with_url(data_url(_with_pieces("JPEG", 2, PHOTOSHOP, 101))), "pieces"),
        "a JPEG of many long frame headers": (_with_url(data_url(_with_pieces("JPEG", 2, FRAME, 101))), "pieces"),
        "20,000 x 20,000 pixels in a small file": (_with_url(data_url(_claiming(20_000))), "pixels allowed"),
        "60,000 x 60,000 pixels in a small file": (_with_url(data_url(_claiming(60_000))), "pixels allowed"),
        "no pixels": (_with_url(data_url(_claiming(0))), "Send "),
    }
    for kind in ("ICO", "BMP", "TIFF"):
        bad[f"a {kind}"] = (_with_url(data_url(encoded("red", (16, 16), kind))), "formats PNG, JPEG, WEBP, GIF.")
    for kind in ("PNG", "JPEG", "WEBP", "GIF"):
        whole = _noise(kind)
        for part, length in (("half", len(whole) // 2), ("almost all", len(whole) - 20)):
            bad[f"{part} of a {kind}"] = (_with_url(data_url(whole[:length])), "Send")
    return bad
