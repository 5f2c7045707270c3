"""`chiasm explain`: why a request was treated as it was, in sentences made of the scheduler's notes."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

SENTENCES = {
    "admitted": "{items:.0f} images, at most {tokens:.0f} tokens of which {output_tokens:.0f} generated; "
    "{ahead:.0f} requests waited already; the weight of its API key is {weight:g}",
    "only whole": "not split: an encoder or a decoder is missing, and a whole worker lives",
    "wholes failed": "goes split: every whole worker has failed at it",
    "goes whole": "a whole worker would have it done in {whole_s:.2f} s; split it would take {split_s:.2f} s, of which "
    "{encode_s:.2f} s until its images are encoded",
    "goes split": "split it would be done in {split_s:.2f} s, its images encoded in {encode_s:.2f} s; a whole worker "
    "would take {whole_s:.2f} s",
    "spares streams": "split it would be done in {split_s:.2f} s; a whole worker would take {whole_s:.2f} s, but its "
    "streams could stall for {stall_s:.2f} s, and scheduler.itl_slo_ms allows {limit_s:.2f} s",
    "encode cached": "not encoded: {worker} still holds {detail}",
    "encode shared": "joins an encode of {detail} that is under way",
    "no encoder": "{detail} waits: no encoder is registered",
    "encode placed": "{worker} would have encoded {detail} first, in {finish:.2f} s: it owes {owed:.0f} tokens, "
    "this is {tokens:.0f}, at {tokens_per_s:.0f} tokens/s",
    "encode posted": "{worker} takes {detail}",
    "encoded": "{worker} holds {detail}: {tokens:.0f} tokens",
    "encode failed": "attempt {attempt:.0f} failed: {detail}",
    "embedding lost": "{worker} no longer holds {detail}",
    "decode posted": "{worker} would be done first, in {finish:.2f} s: {running:.0f} requests owe up to "
    "{owed:.0f} tokens, this up to {tokens:.0f}, at {tokens_per_s:.0f} tokens/s; it takes {kv_tokens:.0f} of "
    "{room:.0f} free KV tokens",
    "decoder lost": "{worker} was lost",
    "stolen": "{worker}, whose card no image needs, would have it done up to {gain_s:.2f} s sooner: it would "
    "wait up to {wait_s:.2f} s for a decoder; each of up to {tokens:.0f} tokens takes {itl_s:.4f} s here, "
    "{victims_itl_s:.4f} s there, and images cost {pauses_s:.2f} s of pauses",
    "only thieves": "{worker}, whose card no image needs, takes it, as no decoder lives: a token takes {itl_s:.4f} s",
    "asked back": "{worker} is held for {stall_s:.2f} s, as an image goes first; a decoder could take it in "
    "{turn_s:.2f} s, and be as far again {again_s:.2f} s later",
    "returned": "{worker} gave it back with {done:.0f} tokens done; a decoder goes on with it, before all that waits",
    "decode failed": "attempt {attempt:.0f} failed: {detail}",
    "ended": "{detail}",
}
"""What a note means, by its name. `finish` is what owed tokens and these take at that rate."""

FORECASTS = (
    "Forecasts take every answer to become as long as its max_tokens allows (gateway.default_output_tokens where it is "
    "unset), and engines to be as fast as they were then, or are assumed to be before their first answers (chiasm "
    "status). Most things happen sooner."
)


def reasons_table(request: str, reasons: Sequence[Mapping[str, Any]]) -> Table:
    """The notes about a request, one a row, with the seconds since it was admitted."""
    table = Table(
        title=f"request {request}", title_justify="left", box=box.SIMPLE, caption=FORECASTS, caption_justify="left"
    )
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("decision", no_wrap=True)
    table.add_column("because")
    for reason in reasons:
        table.add_row(f"{reason['at_s'] - reasons[0]['at_s']:.3f}", reason["what"], sentence(reason))
    return table


def sentence(reason: Mapping[str, Any]) -> str:
    """One note in words; one of a newer scheduler, which has no sentence here, by its numbers."""
    numbers: dict[str, float] = reason["numbers"]
    if "tokens_per_s" in numbers:
        numbers = numbers | {"finish": (numbers["owed"] + numbers["tokens"]) / numbers["tokens_per_s"]}
    template = SENTENCES.get(reason["what"])
    if template is None:
        return " ".join([reason["worker"], reason["detail"], *(f"{name} {n:g}" for name, n in numbers.items())]).strip()
    text = template.format(worker=reason["worker"], detail=reason["detail"], **numbers)
    others = ", ".join(f"{worker} in {finish:.2f} s" for worker, finish in reason["others"])
    return f"{text}. Considered as well: {others}" if others else text
