"""Where the endpoint listens: probed before anything is prepared, and written so that clients find it."""

import re
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from chiasm.client import EndpointError, get_json, post_json
from chiasm.config import ClusterConfig, GatewayConfig
from chiasm.gateway.actor import Gateway
from chiasm.listening import base_url, require_free_port
from chiasm.membership import Membership
from chiasm.preflight import ModelFacts
from chiasm.wire.keys import ClusterKeys

FACTS = ModelFacts("m", "m", "A", "r", 784, (1, 4096), None, 4096, ("image_grid_thw",))


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("10.1.2.3", "http://10.1.2.3:8000"),
        ("2001:db8::1", "http://[2001:db8::1]:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_a_url_leads_to_what_listens(host: str, url: str) -> None:
    assert base_url(host, 8000) == url


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost", pytest.param("::1", marks=ipv6)])
def test_a_taken_port_is_noticed_in_every_family(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server(("::1" if ":" in host else "127.0.0.1", 0), family=family) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SystemExit, match=rf"cannot listen at .*{port}: .*in use.*--port"):
            require_free_port(GatewayConfig(host=host, port=port))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "0.0.0.0", pytest.param("::1", marks=ipv6), pytest.param("::", marks=ipv6)]
)
def test_a_free_port_is_left_free(host: str) -> None:
    require_free_port(GatewayConfig(host=host, port=0))


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])  # the latter is nobody's
def test_a_host_that_is_none_of_this_machines_is_named(host: str) -> None:
    with pytest.raises(SystemExit, match=rf"{re.escape(host)}:8000: .*\. See gateway\.host\.$"):
        require_free_port(GatewayConfig(host=host))


@contextmanager
def a_gateway(folder: Path, host: str) -> Iterator[Gateway]:
    config = ClusterConfig(gateway=GatewayConfig(host=host, port=0, drain_s=1.0))
    scheduler = f"ipc://{folder}/scheduler"  # where nobody is: models are listed all the same
    gateway = Gateway(Membership(config, FACTS, "token", ClusterKeys.generate(), scheduler, one_machine=True))
    try:
        yield gateway
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("127.0.0.1", r"127\.0\.0\.1"),
        ("localhost", r"127\.0\.0\.1|\[::1\]"),
        ("0.0.0.0", r"127\.0\.0\.1"),
        pytest.param("::1", r"\[::1\]", marks=ipv6),
        pytest.param("::", r"\[::1\]", marks=ipv6),
    ],
)
def test_a_gateway_answers_where_it_says(tmp_path: Path, host: str, where: str) -> None:
    with a_gateway(tmp_path, host) as gateway:
        url = gateway.url()
        assert re.fullmatch(rf"http://({where}):\d+", url)
        assert get_json(url, "/v1/models")["data"][0]["id"] == "m"


def test_a_gateway_that_stops_ends_what_waits_by_name(tmp_path: Path) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Why?"}]}
    with a_gateway(tmp_path, "127.0.0.1") as gateway, ThreadPoolExecutor(1) as pool:
        url = gateway.url()
        asking = pool.submit(post_json, url, "/v1/chat/completions", body)
        while "chiasm_requests_in_flight 1.0" not in urllib.request.urlopen(f"{url}/metrics").read().decode():
            assert not asking.done()
        gateway.stop()
        with pytest.raises(EndpointError, match="503: This server is being stopped"):
            asking.result()
