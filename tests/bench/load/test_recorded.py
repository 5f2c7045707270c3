"""Recorded requests: both shapes of a line, and errors that name the file and the line."""

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bench.load.recorded import Recorded
from bench.load.workloads import BadWorkload, Workload


def png(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(file, "PNG")
    return file.getvalue()


RED = base64.b64encode(png("red")).decode()


def written(folder: Path, *lines: Any) -> Path:
    path = folder / "traffic.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def only(folder: Path, line: Any, **options: Any) -> tuple[str, Any]:
    return Recorded(written(folder, line), **options).bodies(1, random.Random(0))[0]


def asked(question: str) -> dict[str, Any]:
    return {"conversation": [[{"role": "user", "content": question}, {"role": "assistant", "content": "A cat."}]]}


def test_a_chat_body_is_sent_as_it_was_recorded(tmp_path: Path) -> None:
    parts = [{"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}, {"type": "text", "text": "What?"}]
    body = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": parts}], "top_p": 0.5}
    sent = {"model": "theirs", "stream": False, "stream_options": {}}
    assert only(tmp_path, body | sent) == ("1img", body)


def test_a_chat_body_without_images_is_text(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
    assert only(tmp_path, body) == ("text", body)


@pytest.mark.parametrize(
    "image",
    [
        {"bytes": RED, "path": None},
        {"path": "red.png"},
        "red.png",
        f"data:image/png;base64,{RED}",
    ],
)
def test_a_row_asks_the_first_question_about_its_images(tmp_path: Path, image: Any) -> None:
    (tmp_path / "red.png").write_bytes(png("red"))
    kind, body = only(tmp_path, asked("What is this?") | {"images": [image, image]}, output_tokens=9)
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED}"}}
    assert kind == "2img"
    assert body["messages"] == [{"role": "user", "content": [part, part, {"type": "text", "text": "What is this?"}]}]
    assert (body["max_tokens"], body["ignore_eos"]) == (9, True)


def test_images_on_the_web_stay_there(tmp_path: Path) -> None:
    _, body = only(tmp_path, asked("What?") | {"images": [{"url": "https://a.example/b.png"}]})
    assert body["messages"][0]["content"][0]["image_url"]["url"] == "https://a.example/b.png"


@pytest.mark.parametrize(
    "row",
    [
        asked("Why?"),
        {
            "conversation": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
            "images": None,
        },
        {"turns": [[{"content": "Why?"}]], "images": []},
    ],
)
def test_shapes_of_a_conversation(tmp_path: Path, row: dict[str, Any]) -> None:
    kind, body = only(tmp_path, row)
    assert (kind, body["messages"]) == ("text", [{"role": "user", "content": "Why?"}])
    assert body["max_tokens"] == 128


def test_all_come_before_any_comes_again(tmp_path: Path) -> None:
    recorded = Recorded(written(tmp_path, *(asked(letter) for letter in "abcde")))
    workload: Workload = recorded
    assert workload.name == "traffic.jsonl"
    assert len(recorded) == 5
    said = [body["messages"][0]["content"] for _, body in recorded.bodies(12, random.Random(1))]
    assert sorted(said[:5]) == sorted(said[5:10]) == list("abcde")
    assert len(set(said[10:])) == 2
    assert said[:5] != said[5:10]
    assert recorded.bodies(12, random.Random(1)) == recorded.bodies(12, random.Random(1))
    assert [body["messages"][0]["content"] for _, body in recorded.in_order()] == list("abcde")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not JSON: .*Write one object a line"),
        ("[]", 'is no request. It needs "messages"'),
        ({"prompt": "Hi"}, 'is no request. It needs "messages"'),
        ({"messages": []}, '"messages" must be a list of objects'),
        ({"messages": ["Hi"]}, '"messages" must be a list of objects'),
        ({"conversation": [[{"role": "assistant", "content": "Hi"}]]}, "no message of a user with text"),
        ({"conversation": None}, "no message of a user with text"),
        (asked("What?") | {"images": "red.png"}, '"images" must be a list'),
        (asked("What?") | {"images": [RED, 5]}, r"image 2: give an address, a file, or an object"),
        (asked("What?") | {"images": [{"bytes": "?"}]}, r'image 1: "bytes" is not base64'),
        (asked("What?") | {"images": [{"bytes": "SGk="}]}, r"image 1 is no PNG, JPEG, WebP or GIF file"),
        (asked("What?") | {"images": ["gone.png"]}, r"cannot read .*gone\.png: No such file"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, words: str) -> None:
    path = written(tmp_path, asked("fine"), "", line)
    with pytest.raises(BadWorkload, match=f"{path}, line 3.*{words}"):
        Recorded(path)


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadWorkload, match=r"cannot read .*gone\.jsonl: No such file or directory\. Name a JSONL file"):
        Recorded(tmp_path / "gone.jsonl")
    with pytest.raises(BadWorkload, match="has no requests"):
        Recorded(written(tmp_path, ""))
    (tmp_path / "rows.parquet").write_bytes(b"PAR1\xff\xfe\n")
    with pytest.raises(BadWorkload, match=r"is not UTF-8 text.*Parquet must be converted"):
        Recorded(tmp_path / "rows.parquet")
