"""The messages of a chat: their text measured, their images found, and what no engine should get refused. No I/O."""

from dataclasses import dataclass
from typing import Any

from chiasm.gateway.errors import invalid

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
SHOWING = ("user", "tool")
"""Roles whose messages may hold images. Chat templates drop them elsewhere, and the engine then misses their place."""

SPEAKING = ("assistant", "function")
"""Roles whose messages may have no content: they may call a tool instead."""


@dataclass(frozen=True)
class ImagePlace:
    """Where an image stands in a prompt, `messages[message].content[part]`, and how the client names it."""

    message: int
    part: int
    url: str

    @property
    def param(self) -> str:
        """The place as errors name it."""
        return f"messages[{self.message}].content[{self.part}].image_url"


@dataclass(frozen=True)
class Contents:
    """What the messages of a chat hold."""

    text_bytes: int
    images: tuple[ImagePlace, ...]


def read_messages(messages: Any, max_images: int) -> Contents:
    """Walk all messages.

    Raises:
        ApiError: 400; it names the message or the part that is wrong.
    """
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a list of at least one message.", "messages")
    text_bytes = 0
    images: list[ImagePlace] = []
    for m, message in enumerate(messages):
        role = _role(message, m)
        content = message.get("content")
        if isinstance(content, str):
            text_bytes += len(content.encode())
        elif isinstance(content, list) and (content or role in SPEAKING):
            for p, part in enumerate(content):
                text, url = _read_part(part, f"messages[{m}].content[{p}]", role)
                text_bytes += len(text.encode())
                if url is not None:
                    images.append(ImagePlace(m, p, url))
        elif content is not None or role not in SPEAKING:
            raise invalid(f"messages[{m}].content must be a text or a list of at least one part.", "messages")
    if len(images) > max_images:
        raise invalid(f"The request has {len(images)} images; {max_images} are allowed. Send fewer.", "messages")
    return Contents(text_bytes, tuple(images))


def _role(message: Any, m: int) -> str:
    role = message.get("role") if isinstance(message, dict) else None
    if not isinstance(role, str):
        raise invalid(f"messages[{m}] must be an object with a role.", "messages")
    if role not in ROLES:
        raise invalid(f"messages[{m}] has role {role[:100]!r}. Use one of {', '.join(ROLES)}.", f"messages[{m}].role")
    return role


def _read_part(part: Any, param: str, role: str) -> tuple[str, str | None]:
    """A part's text, and its image's URL if it is one."""
    if isinstance(part, str):
        return part, None
    if not isinstance(part, dict):
        raise invalid(f"{param} must be an object with a type.", param)
    if "uuid" in part:
        raise invalid(f"{param}.uuid is set by the server alone. Remove it.", param)
    match part.get("type"):
        case "text":
            text = part.get("text")
            if not isinstance(text, str):
                raise invalid(f"{param}.text must be a text.", param)
            return text, None
        case "image_url":
            if role not in SHOWING:
                raise invalid(
                    f"{param} is an image in a message of role {role}. Images belong in those of the user.", param
                )
            return "", _image_url(part.get("image_url"), param)
        case kind:
            raise invalid(f"{param} has type {str(kind)[:100]!r}. Send parts of type text or image_url.", param)


def _image_url(image: Any, param: str) -> str:
    url, detail = (image.get("url"), image.get("detail")) if isinstance(image, dict) else (image, None)
    if not isinstance(url, str):
        raise invalid(f"{param}.image_url.url must be a data URL.", param)
    if detail is not None and not isinstance(detail, str):
        raise invalid(f"{param}.image_url.detail must be a text, like auto. It changes nothing here.", param)
    return url
