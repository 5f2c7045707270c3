"""No body, however odd, may cost a 5xx, and none but a valid one may reach an engine."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from gateway_fakes import Cluster, a_cluster, data_url, image_part, png
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chiasm.messages import Submit

pytestmark = pytest.mark.slow

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_JSON = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
_PARTS = (
    st.just(image_part(data_url(png())))
    | st.builds(image_part, _JSON | st.just("data:image/png;base64,AAAA"))
    | st.builds(lambda text: {"type": "text", "text": text}, _JSON)
    | st.dictionaries(st.sampled_from(["type", "text", "image_url", "uuid"]), _JSON)
    | _JSON
)
_MESSAGES = st.lists(
    st.fixed_dictionaries({"role": _JSON | st.just("user"), "content": st.lists(_PARTS, max_size=3) | _JSON}) | _JSON,
    max_size=3,
)
_FIELDS = {
    name: _JSON | st.integers(0, 9)
    for name in (
        "model",
        "prompt",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "stream",
        "tools",
        "mm_processor_kwargs",
        "ec_transfer_params",
    )
}
_BODIES = st.fixed_dictionaries({"messages": _MESSAGES}, optional=_FIELDS) | _JSON


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_arbitrary_bodies_cost_nothing_but_themselves(runner: asyncio.Runner) -> None:
    stack = AsyncExitStack()
    cluster: Cluster = runner.run(stack.enter_async_context(a_cluster()))
    engines = [*cluster.encoders, *cluster.decoders]

    async def post(path: str, body: Any) -> None:
        for engine in engines:
            engine.calls.clear()
        cluster.scheduler.sent.clear()
        async with cluster.client.post(path, data=msgspec.json.encode(body)) as answer:
            content = await answer.read()
        reached = any(engine.calls for engine in engines) or bool(cluster.scheduler.of(Submit))
        assert answer.status in (200, 400, 404), content
        assert reached == (answer.status == 200)
        if answer.status != 200:
            assert set(msgspec.json.decode(content)["error"]) == {"message", "type", "param", "code"}

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(path=st.sampled_from(["/v1/chat/completions", "/v1/completions"]), body=_BODIES)
    def run(path: str, body: Any) -> None:
        runner.run(post(path, body))

    try:
        run()
    finally:
        runner.run(stack.aclose())
