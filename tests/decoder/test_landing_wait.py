"""When a decoder's engine waits for embeddings that are about to land. vLLM is imported here, but no engine starts."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from chiasm.nouns import WorkerId
from chiasm.wire.landing import FetchResult
from chiasm.wire.protocol import RefusalCode
from chiasm.wire.settings import RUNTIME_VARIABLE, ConnectorSettings

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]

WIDTH = 4


def request(name: str, *keys: str) -> Any:
    """A request of vLLM's with one-token items, of which none is in its KV cache."""
    position = SimpleNamespace(offset=0, length=1, get_num_embeds=lambda: 1)
    items = {key: {"endpoint": "ipc:///nowhere", "shape": [1, WIDTH], "dtype": "float32"} for key in keys}
    return SimpleNamespace(
        request_id=name,
        mm_features=[SimpleNamespace(identifier=key, mm_position=position) for key in keys],
        ec_transfer_params={"request": name, "items": items},
    )


class Network:
    """What is fetched lands while the engine waits, one item a wait: `waits` says how long each might have lasted."""

    def __init__(self, arrived: threading.Event) -> None:
        self.waits: list[float | None] = []
        self.lost: set[str] = set()
        self._arrived = arrived
        self._under_way: list[tuple[str, Callable[[FetchResult], None]]] = []

    def fetch(self, key: str, _endpoint: str, _shape: Any, _dtype: str, _layout: str, done: Any) -> None:
        self._under_way.append((key, done))

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        if self._under_way:
            key, done = self._under_way.pop(0)
            code = RefusalCode.MISSING if key in self.lost else None
            done(FetchResult(key, ok=code is None, nbytes=4 * WIDTH, seconds=0.001, code=code))
        return self._arrived.is_set()

    def __getattr__(self, name: str) -> Any:  # set, clear, is_set
        return getattr(self._arrived, name)

    def close(self) -> None:
        """Nothing is left open."""


@pytest.fixture
def fetches(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from decoder.connector import _Fetches

    monkeypatch.setenv(RUNTIME_VARIABLE, str(tmp_path))
    fetches = _Fetches(ConnectorSettings(worker=WorkerId("w"), model_revision="r"), "float32", covered_counts=True)
    fetches._fetcher.close()
    network = Network(fetches._arrived)
    monkeypatch.setattr(fetches, "_fetcher", network)
    monkeypatch.setattr(fetches, "_arrived", network)
    fetches.network = network
    return fetches


def test_an_engine_that_runs_nothing_waits_for_all_that_a_request_needs(fetches: Any) -> None:
    assert fetches.ensure(request("r", "a", "b"), 0)
    assert len(fetches.network.waits) == 2
    assert all(0 < wait <= 0.02 for wait in fetches.network.waits)


def test_what_runs_is_not_kept_waiting(fetches: Any) -> None:
    fetches.take_loads({"another": 1})
    assert not fetches.ensure(request("r", "a"), 0)
    assert fetches.network.waits == []


def test_who_has_finished_runs_no_more(fetches: Any) -> None:
    fetches.take_loads({"another": 1})
    fetches.finish(SimpleNamespace(request_id="another"))
    assert fetches.ensure(request("r", "a"), 0)


def test_a_step_waits_for_one_request_alone(fetches: Any) -> None:
    """However many there are that nobody answers: the engine must get to hear of new ones, and of those that left."""
    assert fetches.ensure(request("r", "a"), 0)
    assert not fetches.ensure(request("s", "b"), 0)
    assert len(fetches.network.waits) == 1
    fetches.take_loads({})  # rests, whereby that one lands
    assert fetches.ensure(request("s", "b"), 0)
    assert fetches.ensure(request("t", "c"), 0)


def test_whom_the_last_step_passed_over_still_runs(fetches: Any) -> None:
    """In a pipeline of several ranks a stream has a step in flight, and is left out of the one in between."""
    fetches.take_loads({"another": 1})
    fetches.take_loads({})
    assert not fetches.ensure(request("r", "a"), 0)
    fetches.finish(SimpleNamespace(request_id="another"))
    assert fetches.ensure(request("r", "a"), 0)


def test_what_is_lost_is_not_waited_for(fetches: Any) -> None:
    fetches.network.lost = {"a"}
    assert not fetches.ensure(request("r", "a"), 0)
    assert len(fetches.network.waits) == 1
    assert fetches.take_failed() == {"r"}


def test_nothing_more_is_waited_for_once_something_is_lost(fetches: Any) -> None:
    fetches.network.lost = {"a", "b"}
    assert not fetches.ensure(request("r", "a", "b"), 0)
    assert len(fetches.network.waits) == 1
