"""Whether a model can be had from the hub, of which a local server takes the place."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from chiasm.cli import main
from chiasm.hub import ModelUnreadable, model_config, require_reachable
from chiasm.models.builtin import model_folder
from chiasm.preflight import PreflightFailed, check_model


class Hub:
    """Answers whatever it is asked with `status`, and remembers the paths."""

    def __init__(self) -> None:
        self.status = 404
        self.asked: list[str] = []
        hub = self

        class Answer(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.asked.append(self.path)
                self.send_response(hub.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """It may be asked, and nothing of it is in the cache."""
    from huggingface_hub import close_session

    standing_in = Hub()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    at(standing_in.url, monkeypatch)
    thread = Thread(target=standing_in.server.serve_forever)
    thread.start()
    yield standing_in
    close_session()
    standing_in.server.shutdown()
    thread.join()
    standing_in.server.server_close()


def at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.mark.parametrize("status", [200, 401, 404, 429])
def test_a_hub_that_answers_is_reached_whatever_it_answers(hub: Hub, status: int) -> None:
    hub.status = status
    require_reachable("org/model", "v1")
    assert hub.asked == ["/org/model/resolve/v1/config.json"]


def test_a_hub_that_is_down_is_told_after_one_request(hub: Hub) -> None:
    hub.status = 503
    with pytest.raises(ModelUnreadable, match=rf"org/model is no folder here.*{hub.url}\) cannot be reached: .*503"):
        require_reachable("org/model")
    assert len(hub.asked) == 1


def test_a_hub_that_is_nowhere_is_told_with_the_cure(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    at(nobody(), monkeypatch)
    with pytest.raises(ModelUnreadable, match=r"cannot be reached: .*refused.* Name a folder, or see to the network"):
        require_reachable("org/model")
    with pytest.raises(PreflightFailed, match="cannot be reached"):
        check_model("org/model", None, None, [])


def test_what_is_here_is_not_asked_for(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "models--org--model" / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    refs = tmp_path / "models--org--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("c0ffee")
    require_reachable("org/model")
    require_reachable(str(tmp_path))
    require_reachable("s3://bucket/model")
    monkeypatch.setenv("VLLM_USE_MODELSCOPE", "True")
    require_reachable("org/another")
    assert hub.asked == []


def test_without_leave_to_ask_there_must_be_a_copy(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelUnreadable, match="HF_HUB_OFFLINE forbids"):
        require_reachable("org/model")
    assert hub.asked == []


def test_what_the_hub_would_call_nothing_is_told(hub: Hub) -> None:
    with pytest.raises(ModelUnreadable, match="the hub has no such names"):
        require_reachable("org/mo--del")
    assert hub.asked == []


def test_a_configuration_that_is_none_is_told_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "of nobody"}')
    with pytest.raises(ModelUnreadable, match=f"the configuration of {tmp_path} cannot be read"):
        model_config(str(tmp_path))


def test_the_built_in_model_is_checked_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(*arguments: object) -> None:
        asked.extend(arguments)
        raise PreflightFailed("enough")

    monkeypatch.setattr("chiasm.cli.check_model", refuse)
    assert CliRunner().invoke(main, ["check", "pupil"]).exit_code == 1
    assert asked[:3] == [str(model_folder()), "pupil", None]


def test_the_footprint_of_a_model_that_cannot_be_had_is_no_traceback(tmp_path: Path) -> None:
    """A process of its own, for the hub's address is read when the hub's library is imported."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    run = subprocess.run(
        [sys.executable, "-m", "chiasm.footprint", "org/model"],
        env={**clean, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path), "HF_ENDPOINT": nobody()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    assert "cannot be reached" in run.stderr
    assert "Traceback" not in run.stderr
