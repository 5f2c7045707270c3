"""What the benchmark of work stealing asks of a running cluster; a small server plays `chiasm serve` and its engine."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.stealing_sides import IMAGE_KEY, Cluster
from bench.streams import Target
from bench.topologies.program import NotServing

SERVER = """
import http.server, json, os, signal, subprocess, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = f"http://127.0.0.1:{self.server.server_port}"
        status = {"counters": {"stolen": 3}, "workers": [{"role": "decoder", "url": ""}, {"role": "text", "url": url}]}
        metrics = 'chiasm_pause_seconds_bucket{le="0.01"} 4.0\\nchiasm_pause_seconds_bucket{le="+Inf"} 5.0\\n'
        answers = {"/v1/chiasm/status": ("text", json.dumps(status)), "/metrics": ("secret", metrics)}
        key, answer = answers[self.path]
        self.send_response(200 if self.headers["Authorization"] == f"Bearer {key}" else 401)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *arguments):
        pass

waiting = [sys.executable, "-c", "import sys; sys.stdin.read()", "-m", "vllm.entrypoints.openai.api_server"]
engine = subprocess.Popen(waiting, stdin=subprocess.PIPE, env=os.environ | {"VLLM_API_KEY": "secret"})
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"ready: http://127.0.0.1:{server.server_port}/v1   (model: model)", flush=True)
try:
    server.serve_forever()
except KeyboardInterrupt:
    engine.communicate()
"""


def play(script: str) -> Cluster:
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    return Cluster(subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = play(SERVER)
    yield cluster
    cluster.stop()


def test_it_tells_where_it_is_what_it_has_counted_and_how_long_pauses_took(cluster: Cluster) -> None:
    cluster.wait_ready()
    target = cluster.target(IMAGE_KEY)
    assert target == Target(target.url, IMAGE_KEY)
    assert cluster.counters() == {"stolen": 3}
    assert cluster.pauses() == {0.01: 4, float("inf"): 5}


def test_one_that_does_not_come_up_is_quoted() -> None:
    cluster = play("print('no such model')")
    with pytest.raises(NotServing, match="no such model"):
        cluster.wait_ready()
    cluster.stop()
