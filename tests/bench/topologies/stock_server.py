"""Plays a vLLM server: `python stock_server.py --port N ...`. A chat is answered with what the server was started with.

A completion is a stream of tokens, one every two milliseconds, however much runs beside it.
"""

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STEP_S = 0.002
KEY = os.environ.get("VLLM_API_KEY")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        cache = 'vllm:cache_config_info{kv_cache_size_tokens="14563"} 1.0\n'
        models = json.dumps({"data": [{"id": "model", "max_model_len": 2048}]})
        self.answer({"/health": "", "/metrics": cache, "/v1/models": models}[self.path])

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/v1/") and self.headers["Authorization"] != f"Bearer {KEY}":
            self.answer('{"error": {"message": "Unauthorized"}}', 401)
        elif self.path == "/tokenize":
            self.answer(json.dumps({"tokens": list(range(90))}))
        elif self.path == "/v1/completions" and body["stream"]:
            self.stream(body["max_tokens"])
        elif self.path == "/v1/completions":
            self.answer("{}")
        else:
            self.answer(json.dumps(self.told(body)))

    def told(self, body: dict[str, Any]) -> dict[str, Any]:
        """What this process is; and, where it plays an encoder, what it would say of each image."""
        parts = body["messages"][-1]["content"]
        keys = [part["uuid"] for part in parts if "uuid" in part] if "ec_producer" in " ".join(sys.argv) else []
        report = {
            key: {"item_indices": [at], "metadata": {"image_grid_thw": [[1, 4, 4]]}} for at, key in enumerate(keys)
        }
        cores = sorted(os.sched_getaffinity(0))
        return {
            "argv": sys.argv[1:],
            "env": dict(os.environ),
            "cores": cores,
            "content": parts,
            "ec_transfer_params": report,
        }

    def stream(self, tokens: int) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            for _ in range(tokens):
                time.sleep(STEP_S)
                self.wfile.write(b'data: {"choices": [{"text": "x"}]}\n\n')
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            pass
        self.close_connection = True

    def answer(self, text: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_arguments: Any) -> None:
        pass


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int)
parser.add_argument("--fail", action="store_true")
arguments, _ = parser.parse_known_args()
if arguments.fail:
    sys.exit("RuntimeError: no such flag")
ThreadingHTTPServer(("127.0.0.1", arguments.port), Handler).serve_forever()
