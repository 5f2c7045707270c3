"""An engine over real HTTP whose steps take known times, on a clock of its own.

Its time stands still until the one who measures has read the clock: so what is measured is exact, and takes no time.
"""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from chiasm.engine import EngineSpec
from chiasm.nouns import Role

TOKEN = "cluster-token"
KV_TOKENS = 100_000
WORD_TOKENS = list(range(300, 340))


@dataclass(eq=False)
class Asked:
    """One request in the engine."""

    prompt: list[int]
    wanted: int  # tokens
    streamed: bool
    computed: int = 0  # of the prompt
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    @property
    def decoding(self) -> bool:
        return self.computed == len(self.prompt)


class SteppingEngine:
    """A step takes `base_s`, and `stream_s` for each stream and `prompt_s` for each token of a prompt in it."""

    def __init__(
        self, base_s: float, stream_s: float, prompt_s: float, step_tokens: int = 2048, args: tuple[str, ...] = ()
    ) -> None:
        self.spec = EngineSpec("decoder-0", Role.DECODER, "m", "served", TOKEN, args=args)
        self.stage = "ready"
        self.stages: list[str] = []
        self.url = ""
        self.asked: list[Asked] = []
        self.silent = False  # from now on
        self.broken: str | None = None  # a route that answers with an error
        self.disturbed: Counter[int] = Counter()  # prompt tokens -> how many such steps take a minute
        self._costs = base_s, stream_s, prompt_s
        self._step_tokens = step_tokens
        self._now = 1.0
        self._running: list[Asked] = []
        self._came = asyncio.Event()
        self._looked = asyncio.Event()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "stage" and "stages" in self.__dict__:
            self.stages.append(value)
        super().__setattr__(name, value)

    @property
    def running(self) -> int:
        return len(self._running)

    def clock(self) -> float:
        self._looked.set()
        return self._now

    def get(self, path: str) -> str:
        assert path == "/v1/chiasm/report"
        if self.broken == path:
            raise OSError("HTTP Error 500")
        return json.dumps([{"weights": {}, "connector": {}, "limits": {"step_tokens": self._step_tokens}}])

    def kv_cache_tokens(self) -> int:
        return KV_TOKENS

    async def start(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/tokenize", self._tokenize), web.post("/v1/completions", self._complete)])
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._stepping = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._stepping.cancel()
        await asyncio.gather(self._stepping, return_exceptions=True)
        await self._runner.cleanup()

    async def _run(self) -> None:
        while True:
            await self._came.wait()
            self._looked.clear()
            self._step()
            if self._running[0].decoding:  # the first is who is watched
                await self._looked.wait()
            await asyncio.sleep(0)  # whoever has something to say, says it between two steps
            if not self._running:
                self._came.clear()

    def _step(self) -> None:
        base_s, stream_s, prompt_s = self._costs
        decoding = [asked for asked in self._running if asked.decoding]
        room = self._step_tokens - len(decoding)
        prompt = 0
        for asked in self._running:
            chunk = min(len(asked.prompt) - asked.computed, room - prompt)
            asked.computed += chunk
            prompt += chunk
        self._now += base_s + stream_s * len(decoding) + prompt_s * prompt
        if self.disturbed[prompt] > 0:
            self.disturbed[prompt] -= 1
            self._now += 60.0
        for asked in self._running:
            if asked.decoding:
                asked.tokens.put_nowait(1)

    async def _tokenize(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"tokens": WORD_TOKENS, "count": len(WORD_TOKENS), "max_model_len": 4096})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        body = await request.json()
        assert (body["model"], body["ignore_eos"]) == ("served", True)
        asked = Asked(body["prompt"], body["max_tokens"], body["stream"])
        self.asked.append(asked)
        if self.silent:
            await asyncio.Event().wait()
        self._running.append(asked)
        self._came.set()
        try:
            if not asked.streamed:
                await asked.tokens.get()
                return web.json_response({"choices": [{"text": "x"}]})
            answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await answer.prepare(request)
            for _ in range(asked.wanted):
                await asked.tokens.get()
                await answer.write(b'data: {"id": "1", "choices": [{"text": "x"}]}\n\n')
                if self.broken == "stream":
                    await answer.write(b'data: {"error": {"message": "out of memory"}}\n\n')
            await answer.write(b"data: [DONE]\n\n")
            return answer
        finally:
            self._running.remove(asked)
            self._looked.set()

    def _check(self, request: web.Request) -> None:
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
        if self.broken == request.path:
            raise web.HTTPNotFound
