"""One page that holds a whole run: plots, tables, what was measured, how and on what. It needs no other file. Pure."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.itl.plan import BYSTANDER_TOKENS, Plan
from bench.sheets import Sheet

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 78rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; font-variant-numeric: tabular-nums; font-size: 0.85rem; }
th, td { border-bottom: 1px solid #ddd; padding: 0.2rem 0.6rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child, td.text { text-align: left; }
div.wide { overflow-x: auto; }
svg { max-width: 100%; height: auto; }
code { background: #f4f4f4; padding: 0.1rem 0.3rem; }
"""


def described(plan: Plan, sides: Sequence[str], model: str) -> list[str]:
    """What was measured and how, in words: paragraphs."""
    drives = "; ".join(
        f"{drive.name}: {drive.streams} bystanders, a slot each {drive.slot_s:g} s, carriers' answers of "
        f"{drive.answer_tokens} tokens"
        for drive in plan.drives
    )
    return [
        f"Model: {model}. Sides: {', '.join(sides)}. All requests are greedy and have answers of a fixed length. Times "
        "are the client's: of each event of a stream that carries tokens, as in vllm bench serve, whose definitions "
        "of TTFT, ITL and TPOT these are.",
        f"Bystanders are text streams, always as many: as one has had its {BYSTANDER_TOKENS} tokens, its successor "
        "comes. Beside them come carriers, by the clock, at the beginning of each slot: with pictures that nobody has "
        "seen (live), with the same pictures as before, so that their embeddings are there (encoded), or with as many "
        "tokens of text. Every prompt begins with other text, so that no prefix cache has any of it. What a load adds "
        "to a prompt is counted by the server.",
        "Slots are half as long again as the largest carriers took to be answered, on the slowest side, before the "
        f"first block. {drives}.",
        "Mean ITL: of all gaps of bystanders that ended in the slot; it depends on how often carriers come. Added to "
        "ITLs, or stall: how long each bystander stood still, beyond its usual gaps, until the slot's last carrier had "
        "its first token. Usual is the mean of gaps directly before the slot and at its end, when nothing of carriers "
        "is there. It is what "
        "carriers add to the sum of its inter-token latencies, however often they come, and so slopes are quoted of "
        "it. A slot in which carriers were through too late to tell usual gaps has no such figure.",
        f"There are {plan.blocks} blocks; in each, every side is measured once with all carriers in an order that is "
        "drawn anew, and the sides come in turn, in the other direction in every block. Slopes are least squares in "
        "each block; their intervals (95 %) are Student's over blocks, those of ratios Fieller's, those of tails the "
        "jackknife's. Both slopes of a ratio are over the same loads in each block. Medians are over blocks, "
        "percentiles over all samples together: p90 from 10 samples on, p95 from 20, p99 from 1,000; of fewer, the "
        "longest.",
        "Carriers that come alone answer briefly: their TPOT shows only what their own context costs. In bursts, the "
        "first are still answered while the others are encoded and prefilled, and it shows what that costs them: "
        "those slopes are over the tokens of the whole burst.",
        "The tail while pictures are computed is of the gaps from when they were due until the last had a first "
        "token, on whichever side took longer. It has the bursts that ran over, too; what failed is left out.",
        "A slot whose carriers were not answered when the next came was overloaded, and is left out of all else, with "
        "the next. How many were is told.",
    ]


def described_towers(plans: Mapping[str, Plan]) -> list[str]:
    """The same of `--towers`, by what rows are called."""
    bursts = {name: plan.drives[0] for name, plan in plans.items()}
    sizes = (f"{name}: {one.slots[0].carriers}, with {one.slots[0].load} pixels each" for name, one in bursts.items())
    some = next(iter(plans.values()))
    return [
        f"{some.drives[0].streams} text streams run beside bursts of requests with pictures that nobody has seen, and "
        f"beside as many texts of as many tokens, one at a time ({'; '.join(sizes)}). The language model is the same "
        "in all rows; the vision tower or the picture differs, and with it what a picture costs to encode, by FLOPs of "
        "the encode over FLOPs of prefilling its tokens. Both sides have a prefill chunk for the same objective, and "
        f"the same two cores. There are {some.blocks} blocks, in which both sides are measured in turn.",
        "A stall is the mean of as many of a stream's longest gaps during a burst as that has requests, and of that "
        "the mean over streams, by block. Predicted, in each block: (encode + chunk of mono) / chunk of split. Encode: "
        "the median time to first token of as many pictures, each alone at the monolithic engine, less the median of "
        "as much text. Chunk: the longest gap beside a text, in the mean over texts and streams. An encode is a part "
        "of one step, and whoever is beside waits for it and for the chunk; bystanders of the split wait for the chunk "
        "alone. Intervals (95 %) are Student's, of logarithms.",
    ]


def page(
    title: str,
    command: str,
    commit: str,
    told: Sequence[str],
    svg: str,
    sheets: Sequence[Sheet],
    about: Mapping[str, Any],
) -> str:
    """The HTML. `told` are paragraphs of what was measured and how, `about` the machine and the versions."""
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<p><code>{escape(command)}</code>, commit <code>{escape(commit)}</code></p>",
            _table(sheets[0]),
            svg,
            "<h2>What was measured</h2>",
            *(f"<p>{escape(paragraph)}</p>" for paragraph in told),
            "<h2>Figures</h2>",
            *(_table(sheet) for sheet in sheets[1:]),
            "<h2>On what</h2>",
            _table(Sheet("Machine and versions", ["", ""], [[name, str(value)] for name, value in about.items()])),
            "</body></html>",
        ]
    )


def _table(sheet: Sheet) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in sheet.columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in sheet.rows)
    return (
        f'<h3>{escape(sheet.title)}</h3><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(text: str) -> str:
    kind = "" if text[:1].isdigit() or text in ("", "–") else ' class="text"'
    return f"<td{kind}>{escape(text)}</td>"
