"""What a server and its model's configuration say before anything is measured."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from stalling_server import StallingServer, running

from bench.diagnosis import asking
from bench.diagnosis.asking import Asker, NoConfiguration, Server, Stopped, configuration, look
from bench.load.asking import Endpoint, Unreachable, new_session
from chiasm.footprint import footprint
from chiasm.models.builtin import model_folder

SOMEWHERE = Endpoint("http://127.0.0.1:9", "model")


class Listing(StallingServer):
    """Answers one thing to whoever asks for its models."""

    listed: Any = None
    status = 200

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response(self.listed, status=self.status)


@contextmanager
def listing(listed: Any, status: int = 200) -> Iterator[str]:
    server = Listing(encode=1, prefill=1)
    server.listed, server.status = listed, status
    with running(server):
        yield server.url


def test_the_first_model_and_a_folder_that_is_here_are_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with listing({"data": [{"id": "one", "max_model_len": 4096, "root": str(tmp_path)}, {"id": "two"}]}) as url:
        assert look(f"{url}/v1/", "key", None) == Server(Endpoint(url, "one", "key"), 4096, str(tmp_path), ("two",))
        assert look(url, None, "two") == Server(Endpoint(url, "two"), None, None, ("one",))
    with listing({"data": [{"id": "one", "root": "hub/name"}]}) as url:
        assert look(url, None, None) == Server(Endpoint(url, "one"), None, None)
    with listing({"data": [{"id": "one", "owned_by": "chiasm"}]}) as url:
        assert look(url, None, None).is_chiasm


@pytest.mark.parametrize(
    ("listed", "status", "said"),
    [
        ({"data": []}, 200, "lists no model"),
        ([], 200, "lists no model"),
        ({"error": {"message": "who are you"}}, 401, "--api-key"),
        ({"error": {"message": "loading"}}, 503, "loading"),
    ],
)
def test_a_server_that_lists_no_model_is_refused_in_words(listed: Any, status: int, said: str) -> None:
    with listing(listed, status) as url, pytest.raises(Unreachable, match=said):
        look(url, None, None)


def test_a_server_that_names_no_models_in_time_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "MODELS_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(Unreachable, match="timed out"):
        look(f"http://127.0.0.1:{silent.getsockname()[1]}", None, None)


async def test_what_takes_much_longer_than_at_first_stops_it() -> None:
    async with new_session(1.0) as client:
        asker = Asker(client, SOMEWHERE, None)
        asker.steady("a gap", 0.01)
        asker.steady("another", 0.2)
        asker.steady("a gap", 0.05)
        asker.steady("a gap", 0.5, slack_s=1.0)  # fifty times, but not by a second
        with pytest.raises(Stopped, match="a gap took 51 ms, which at first took 10"):
            asker.steady("a gap", 0.051)


def test_a_configuration_is_read_from_where_it_is_named_or_served() -> None:
    folder = str(model_folder())
    named = configuration(Server(SOMEWHERE, None, None), folder)
    assert named is not None
    assert footprint(named).kv > 0
    assert configuration(Server(SOMEWHERE, None, folder), None) == named
    assert configuration(Server(SOMEWHERE, None, None), None) is None


def test_only_one_that_was_named_must_be_readable(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(NoConfiguration, match="Name its folder"):
        configuration(Server(SOMEWHERE, None, None), str(tmp_path))
    assert configuration(Server(SOMEWHERE, None, str(tmp_path)), None) is None


def test_code_that_comes_with_a_model_is_neither_run_nor_asked_about(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "odd", "auto_map": {"AutoConfig": "odd.OddConfig"}}')
    (tmp_path / "odd.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass OddConfig: pass\n")
    with pytest.raises(NoConfiguration):
        configuration(Server(SOMEWHERE, None, None), str(tmp_path))
    assert not (tmp_path / "ran").exists()
