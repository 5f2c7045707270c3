"""What a person reads of a diagnosis; 80 columns are enough."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.diagnosis.alternatives import alternatives
from bench.diagnosis.findings import Beside, Bursts, Findings
from bench.diagnosis.kv import KvTable
from bench.diagnosis.metrics import Page, Traffic
from bench.diagnosis.sizes import Sent
from bench.diagnosis.verdict import Advice, Verdict, frequency, ms, named
from bench.load.slopes import Growth, Interval

UNKNOWN = "–"
EFFECTS = "behind", "longest", "ttft"
SEVERAL_TOKENS = 1.1  # in a piece
PLAIN = {
    Growth.FLAT: "more of them at once do not make it worse",
    Growth.LINEAR: "each adds as much as the one before, or less",
    Growth.SUPER_LINEAR: "the more of them at once, the more each adds",
}


@dataclass(frozen=True)
class Report:
    """All that was found, and what it was judged by."""

    sent: Sent
    page: Page | None  # metrics, before anything was sent
    traffic: Traffic | None
    found: Findings
    kv: KvTable
    objective_ms: float
    answer_tokens: int
    verdict: Verdict


def show(report: Report, console: Console) -> None:
    """Print it."""
    for title, body in (
        ("1. What a picture costs the streams beside it", _slopes(report.found)),
        ("2. Where the time of a request goes", _phases(report)),
        ("3. What a request takes of the KV cache", _kv(report)),
        ("4. Several at once", _bursts(report.found.bursts)),
        (f"5. Verdict: {report.verdict.advice}", _verdict(report)),
    ):
        console.print(f"\n[bold]{title}[/]")
        for part in body:
            console.print(part, markup=False)


def _slopes(found: Findings) -> Iterator[str | Table]:
    yield (
        f"Left alone, the gap between two pieces of a stream (ITL) is {found.gap_ms:.3g} ms. A stream is behind by "
        "what it waited beyond such gaps while a request came to its first token: all the work done for others, "
        "however it was cut into steps. Longest gap: of any stream meanwhile. "
        f"Means of {len(found.sweeps)} sweeps, in ms, and 95 % intervals of means in parentheses, here and below; text "
        "is a prompt of as many tokens as the picture makes:"
    )
    yield _pairs(found.rungs, "image", _image)
    yield (
        f"Beside nothing, for as long as the largest takes, the longest gap is {ms(found.alone)}: what others do is "
        "in that."
    )
    if found.piece_tokens > SEVERAL_TOKENS:
        yield (
            f"A piece carries {found.piece_tokens:.2g} tokens here (speculative decoding, or --stream-interval), so a "
            "gap may hold several steps, and ITL is that of pieces."
        )
    yield "ms that a stream falls behind for each 1,000 tokens, from none on:"
    yield _table(
        ("", "ms"),
        [
            ("image tokens: encode and prefill", str(found.picture)),
            ("text tokens: prefill", str(found.text)),
            ("the difference: encode", str(found.encode)),
        ],
    )


def _pairs(pairs: Sequence[Beside], first: str, name: Callable[[Beside], str]) -> Table:
    rows = []
    for each in pairs:
        effects = [getattr(kind, effect).value for effect in EFFECTS for kind in (each.picture, each.text)]
        rows.append((name(each), f"{each.carries.tokens:,}", *(f"{effect:.0f}" for effect in effects)))
    return _table((first, "tokens", "behind", "(text)", "longest", "(text)", "TTFT", "(text)"), rows)


def _image(each: Beside) -> str:
    times = "" if each.carries.pictures == 1 else f"{each.carries.pictures}*"
    return f"{times}{each.carries.size[0]}x{each.carries.size[1]}"


def _phases(report: Report) -> Iterator[str | Table]:
    phases, judged = report.found.phases, report.found.judged
    parts = phases.preparation, phases.encode, phases.prefill, phases.rest
    decode = phases.token * report.answer_tokens
    total = sum(part.value for part in parts) + decode
    yield (
        f"{named(judged).capitalize()} ({judged.carries.tokens:,} tokens), answered with "
        f"{report.answer_tokens} tokens, beside the streams: {total:.0f} ms."
    )

    def row(name: str, value: Interval, how: str) -> tuple[str, str, str, str]:
        return name, ms(value), f"{round(100 * value.value / total)}%", how

    yield _table(
        ("phase", "time", "part", "from"),
        [
            row("preparation", parts[0], "TTFT, picture - text, less encode"),
            row("encode", parts[1], "behind, picture - text"),
            row("prefill", parts[2], "behind, text"),
            row("the rest", parts[3], "TTFT of text, less prefill"),
            ("decode", f"{decode:.0f} ms", f"{round(100 * decode / total)}%", f"{phases.token:.3g} ms a token"),
        ],
    )
    yield (
        "Preparation makes pixels of bytes, in the API server's process, before the engine. Where it holds up that "
        "process, it also delays pieces of streams, and that is counted as encode here."
    )


def _kv(report: Report) -> Iterator[str | Table]:
    table = report.kv
    per_token = UNKNOWN if table.token_bytes is None else f"{table.token_bytes:,.0f} bytes a token"
    yield f"{per_token} ({table.source}). With the question and an answer of {table.answer_tokens} tokens:"
    rows = [
        (
            f"{row.seen.rung.size[0]}x{row.seen.rung.size[1]}",
            f"{row.seen.rung.tokens:,}",
            _size(row.picture_bytes),
            _size(row.request_bytes),
            UNKNOWN if row.at_once is None else f"{row.at_once:,}",
            UNKNOWN if row.cached_tokens is None else f"{row.cached_tokens:,} of {row.expected_tokens:,}",
        )
        for row in table.rows
    ]
    yield _table(("image", "tokens", "their KV", "request's KV", "fit at once", "seen, tokens"), rows)
    if table.cache is None:
        yield "Without vLLM's metrics, the cache's size is not known, and none of this could be seen in it."
        return
    yield f"The cache of one engine has room for {table.cache.tokens:,} tokens, as vLLM's metrics say."
    if not table.cache.even:
        yield (
            "Its layers are of several kinds, and not all of them keep every token. That room is for the longest "
            "prompts; shorter ones may take more of it a token, and what one took could not be seen."
        )
    elif any(row.cached_tokens is None for row in table.rows):
        yield "Where nothing was seen, others were on the server, or the request was too short to be seen."


def _bursts(found: Bursts | None) -> Iterator[str | Table]:
    if found is None:
        yield "Not measured: there was no time left for three rounds. Give it more: --minutes."
        return
    yield f"{found.rounds} rounds of requests with {found.rows[0].carries} each, or text, in ms:"
    yield _pairs(found.rows, "at once", lambda each: str(each.at_once))
    for name, grown in (("How far streams fall behind", found.behind), ("Their longest gap", found.longest)):
        plain = "not told" if grown.growth is None else f"{grown.growth}: {PLAIN[grown.growth]}"
        yield f"{name}, with pictures, {plain}. In numbers: {grown.why}"


def _verdict(report: Report) -> Iterator[str]:
    found, verdict, judged = report.found, report.verdict, report.found.judged
    now, after = judged.picture, judged.text
    yield verdict.why
    yield frequency(found, report.traffic, report.objective_ms)
    if not report.sent.told:
        yield (
            f"You did not say which pictures your clients send; this is for {judged.carries}. Say it: --sizes or "
            "--workload."
        )
    share = "" if judged.share is None else f", {percent(judged.share)} of the first"
    yield (
        f"\nThe arithmetic. {named(judged).capitalize()} holds up each stream for {ms(now.behind)} in "
        f"all; a text of as many tokens for {ms(after.behind)}. The second is the prefill, which stays on the card "
        f"whether you split or not; the difference, {ms(judged.encode)}{share}, is the encode, which a split removes."
    )
    yield (
        f"Longest gap of a stream beside it, on average: now {ms(now.longest)}; after a split {ms(after.longest)}, "
        f"as beside the text. The encode is {ms(judged.cut)} of it. All pictures here were new to the server; "
        "one that it has in a cache costs no encode. This supposes an equal card for decoding alone, and that "
        "embeddings arrive without holding it up. The picture's own first token does not come sooner: it is encoded "
        "all the same, and sent."
    )
    yield "\nWhat to try first:" if verdict.advice != Advice.STAY else "\nIf you want shorter gaps all the same:"
    for each in alternatives(found, report.sent, report.objective_ms):
        yield f"* {each}"
    if verdict.advice == Advice.OPEN:
        yield (
            f"\nTo decide it: four times the sweeps halve the intervals. {len(found.sweeps)} were measured; run it "
            "longer (--minutes, without --quick), at a time when others use the server less, with the --sizes you send."
        )
    if verdict.advice in (Advice.SPLIT, Advice.SPLIT_AND_CHUNK):
        yield (
            "\nA split is worth it if the pictures come often enough for the P99 above, and you have a card that "
            "encodes. Without one, a second whole server behind a balancer is what to compare with: chiasm bench serve."
        )


def percent(interval: Interval) -> str:
    """In words."""
    return f"{interval.value:.0%} ({interval.low:.0%} to {interval.high:.0%})"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    table = Table(*columns)
    for column in table.columns[1:]:
        column.justify = "right"
    if columns[-1] == "from":
        table.columns[-1].justify = "left"
    for row in rows:
        table.add_row(*row)
    return table


def _size(nbytes: int | None) -> str:
    if nbytes is None:
        return UNKNOWN
    return f"{nbytes / 1e9:.3g} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.3g} MB"
