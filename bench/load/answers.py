"""One request as its client saw it, and the times that are told of it.

`ttft_s`, `e2el_s`, `itls_s` and `tpot_s` are defined as by `vllm bench serve` (vllm/benchmarks/serve.py and
lib/endpoint_request_func.py of vLLM 0.32), so that figures of both can be laid side by side. There every event with
`choices` is a chunk, also the first one, which names a role and carries no token: a server that sends it together with
the first token adds a gap of nothing to each answer. What we judge by (`tokens_s`, `waited_s`, `gaps_s`) leaves it out.
"""

from itertools import pairwise

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """Times without another unit in their name are seconds of the monotonic clock since the drive began.

    What follows from chunks is there for every answer that is `ok`; of one that failed before its first chunk, there is
    no `ttft_s`, no `e2el_s` and no `waited_s` (IndexError).
    """

    number: int  # its place in the plan
    kind: str  # what the plan calls it
    due_s: float  # when the plan wanted it sent
    sent_s: float  # when it was
    chunks_s: tuple[float, ...]  # when each event with `choices` arrived, also one that only names a role
    ended_s: float  # when the stream had ended, or had failed
    prompt_tokens: int | None  # as the server counts them, image tokens included; None: it did not tell
    output_tokens: int  # as the server counts them, else the number of chunks with a token
    error: str | None = None  # why it failed; then figures leave it out and count it as failed
    phases_ms: dict[str, float] = {}  # until the first token, as a Chiasm gateway tells them; elsewhere empty
    leading: int = 0  # chunks before the first token: 1 if the first one names a role and nothing else

    @property
    def ok(self) -> bool:
        """Whether it was answered to its end."""
        return self.error is None

    @property
    def late_s(self) -> float:
        """How long after it was due it was sent: by a limit of requests at a time, the load generator's own fault, or
        the machine's below it.
        """
        return self.sent_s - self.due_s

    @property
    def tokens_s(self) -> tuple[float, ...]:
        """When each chunk with a token arrived."""
        return self.chunks_s[self.leading :] or self.chunks_s

    @property
    def waited_s(self) -> float:
        """From when it was due to its first token: what a user waits, however late the load generator was."""
        return self.tokens_s[0] - self.due_s

    @property
    def gaps_s(self) -> list[float]:
        """From each chunk with a token to the next."""
        return [later - earlier for earlier, later in pairwise(self.tokens_s)]

    @property
    def ttft_s(self) -> float:
        """Time to first token: first chunk - sent. Setting up a connection counts."""
        return self.chunks_s[0] - self.sent_s

    @property
    def e2el_s(self) -> float:
        """End-to-end latency: last chunk - sent. What comes after it, as the usage does, carries no token."""
        return self.chunks_s[-1] - self.sent_s

    @property
    def itls_s(self) -> list[float]:
        """Inter-token latencies: from each chunk to the next, however many tokens are in one."""
        return [later - earlier for earlier, later in pairwise(self.chunks_s)]

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first: (e2el - ttft) / (output tokens - 1). None where there is no second."""
        return (self.e2el_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None
