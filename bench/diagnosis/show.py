"""What a person reads of a diagnosis; 80 columns are enough."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.diagnosis.alternatives import alternatives
from bench.diagnosis.findings import Findings
from bench.diagnosis.kv import KvTable
from bench.diagnosis.metrics import Page
from bench.diagnosis.phases import Phases
from bench.diagnosis.sizes import Sent
from bench.diagnosis.together import AtOnce, Together
from bench.diagnosis.verdict import Advice, Verdict, ms, percent
from bench.load.slopes import Growth, Interval

UNKNOWN = "–"
PLAIN = {
    Growth.FLAT: "more pictures at once do not make it worse",
    Growth.LINEAR: "each picture adds as much as the one before, or less",
    Growth.SUPER_LINEAR: "the more pictures at once, the more each of them adds",
}


@dataclass(frozen=True)
class Report:
    """All that was found, and what it was judged by."""

    sent: Sent
    page: Page | None  # metrics, before anything was sent
    found: Findings
    phases: Phases
    kv: KvTable
    together: Together | None
    objective_ms: float
    verdict: Verdict


def show(report: Report, console: Console) -> None:
    """Print it."""
    for title, body in (
        ("1. What a picture costs the streams beside it", _slopes(report)),
        ("2. Where the time of a request goes", _shares(report)),
        ("3. What a request takes of the KV cache", _kv(report)),
        ("4. Several pictures at once", _together(report.together)),
        (f"5. Verdict: {report.verdict.advice}", _verdict(report)),
    ):
        console.print(f"\n[bold]{title}[/]")
        for part in body:
            console.print(part, markup=False)


def _slopes(report: Report) -> Iterator[str | Table]:
    found = report.found
    yield (
        f"A gap between two tokens of a stream (ITL) is {found.gap_ms:.3g} ms when it is left alone. Means of "
        f"{len(found.sweeps)} sweeps, in ms; text is a prompt of as many tokens as the picture makes:"
    )
    yield _rungs(found)
    yield "ms that a stream falls behind for each 1,000 tokens, with 95 % intervals:"
    yield _table(
        ("", "ms"),
        [
            ("image tokens: encode and prefill", str(found.picture)),
            ("text tokens: prefill", str(found.text)),
            ("the difference: encode", str(found.encode)),
            ("encode / image tokens", "not told" if found.share is None else percent(found.share)),
        ],
    )


def _rungs(found: Findings) -> Table:
    rows = []
    for seen in found.rungs:
        times = "" if seen.rung.pictures == 1 else f"{seen.rung.pictures} of "
        effects = [
            getattr(kind, name).value for name in ("behind", "longest", "ttft") for kind in (seen.picture, seen.text)
        ]
        size = f"{times}{seen.rung.size[0]}x{seen.rung.size[1]}"
        rows.append((size, f"{seen.rung.tokens:,}", *(f"{effect:.0f}" for effect in effects)))
    return _table(("image", "tokens", "behind", "(text)", "longest gap", "(text)", "TTFT", "(text)"), rows)


def _shares(report: Report) -> Iterator[str | Table]:
    found, shares = report.found, report.phases
    rung = found.judged.rung
    yield (
        f"A picture of {rung.size[0]} x {rung.size[1]} ({rung.tokens:,} tokens) and an answer of "
        f"{shares.answer_tokens} tokens, beside the streams: {shares.total_ms:.0f} ms."
    )

    def row(name: str, value: Interval, how: str) -> tuple[str, str, str, str]:
        return name, ms(value), f"{round(100 * value.value / shares.total_ms)}%", how

    decode = f"{shares.answer_tokens} gaps of {found.gap_ms:.3g} ms"
    yield _table(
        ("phase", "time", "part", "from"),
        [
            row("preparation", shares.preparation, "TTFT, picture - text, less the encode"),
            row("encode", shares.encode, "streams behind, picture - text"),
            row("prefill", shares.prefill, "slope of text's TTFT x tokens"),
            row("the rest", shares.rest, "TTFT of a text of no tokens"),
            ("decode", f"{shares.decode:.0f} ms", f"{round(100 * shares.decode / shares.total_ms)}%", decode),
        ],
    )
    if report.page is None:
        yield "There are no metrics of vLLM at /metrics, so this is by the client's clock alone."
    elif found.clock is None:
        yield "vLLM's metrics told of too few requests by themselves: others ended at the same time."
    else:
        clock = found.clock
        yield (
            f"vLLM's own clock, from first scheduled to first token: {ms(clock.picture)} with the picture, "
            f"{ms(clock.text)} with text; so {clock.picture.value - clock.text.value:.0f} ms are the picture's. "
            f"Before that they waited {clock.queued:.1f} ms in its queue."
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
    if table.cache is not None:
        blocks, size = table.cache.blocks, table.cache.block_tokens
        yield f"The cache has {blocks:,} blocks of {size} tokens, as vLLM's metrics say."
    elif report.page is None:
        yield "Without vLLM's metrics, the cache's size is not known, and none of this could be seen in it."
    if any(row.cached_tokens is None for row in table.rows) and table.cache is not None:
        yield "Where nothing was seen, others were on the server, or the request was too short to be seen."


def _together(found: Together | None) -> Iterator[str | Table]:
    if found is None:
        yield "Not measured: there was no time left for three rounds. Give it more: --minutes."
        return
    yield f"Means of {found.rounds} rounds, in ms:"
    yield _table(
        ("pictures at once", "behind", "longest gap", "TTFT"),
        [(str(row.pictures), *(f"{figure:.0f}" for figure in _figures(row))) for row in found.rows],
    )
    for name, grown in (("How far streams fall behind", found.behind), ("Their longest gap", found.longest)):
        plain = "not told" if grown.growth is None else f"{grown.growth}: {PLAIN[grown.growth]}"
        yield f"{name}, {plain}. In numbers: {grown.why}"


def _figures(row: AtOnce) -> tuple[float, float, float]:
    return row.behind_ms, row.longest_ms, row.ttft_ms


def _verdict(report: Report) -> Iterator[str]:
    found, verdict = report.found, report.verdict
    rung, now, after = found.judged.rung, found.judged.picture, found.judged.text
    yield verdict.why
    if not report.sent.told:
        yield (
            f"You did not say which pictures your clients send; this is for {rung.size[0]} x {rung.size[1]}. Say it: "
            "--sizes or --workload."
        )
    yield (
        f"\nThe arithmetic. One such picture holds up each stream for {ms(now.behind)} in all; a text of as many "
        f"tokens for {ms(after.behind)}. The second is the prefill, which stays on the card whether you split or "
        f"not; the difference, {ms(report.phases.encode)} by the lines through all sizes, is the encode, which a "
        "split removes."
    )
    yield (
        f"Longest gap of a stream beside it: now {ms(now.longest)}; after a split about {ms(after.longest)}, as it is "
        f"beside the text. It shows in a stream's P99 where such pictures come more often than one in "
        f"{100 * found.gap_ms / 1000:.2g} s (100 gaps). This supposes an equal card for decoding alone, and that "
        "embeddings arrive without holding it up. The picture's own first token does not come sooner: it is "
        "encoded all the same, and sent."
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
