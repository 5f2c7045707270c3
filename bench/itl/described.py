"""What was measured and how, in words, for whoever has only the page. Pure."""

from collections.abc import Sequence

from bench.itl.plan import Plan


def described(plan: Plan, sides: Sequence[str], model: str) -> list[str]:
    """Paragraphs."""
    first = plan.drives[0]
    beside = ", ".join(str(streams) for streams in plan.streams)
    return [
        f"Model: {model}. Sides: {', '.join(sides)}. All requests are greedy and have answers of a fixed length. Times "
        "are the client's: of each event of a stream that carries tokens, as in vllm bench serve, whose definitions of "
        "TTFT, ITL and TPOT these are.",
        f"Bystanders are text streams, {beside} at a time; each is answered for about {plan.bystander_s:g} s, and one "
        "comes as another goes. They come by the clock. Beside them come carriers, also by the clock, one every "
        f"{first.slot_s:g} s beside {first.streams} bystanders: with pictures that nobody has seen (live), with the "
        "same pictures as before, so that their embeddings are there (encoded), or with as many tokens of text. Every "
        "prompt begins with other text, so that no prefix cache has any of it. What a load adds to a prompt is counted "
        "by the server.",
        "The time until the next carrier belongs to the one before. Mean ITL: of all gaps of bystanders that ended in "
        "it. Stall: how long each bystander stood still in it beyond its usual gaps, which are the median where a "
        "carrier without a load came. It does not depend on how often carriers come.",
        f"There are {plan.blocks} blocks; in each, every side is measured once with all carriers in an order that is "
        "drawn anew, and the sides come in turn, in the other direction in every block. Slopes are least squares in "
        "each block; their intervals (95 %) are Student's over blocks, those of ratios Fieller's. Medians are over "
        "blocks, percentiles over all samples together: p99 from 1,000 samples on, below that p95.",
        "Carriers answer briefly, so that they are no bystanders for long: alone, their TPOT shows only what their own "
        "context costs. In bursts, several at once, the first are still answered while the others are encoded and "
        "prefilled, and it shows what that costs them; those slopes are over two sizes.",
        "A point at which a carrier had no token before the next came was overloaded, and is left out with the next.",
    ]


def described_towers(plan: Plan) -> list[str]:
    """The same of `--towers`."""
    drive = plan.drives[0]
    slot = drive.slots[0]
    return [
        f"{drive.streams} text streams run beside bursts of {slot.carriers} requests with pictures that nobody has "
        f"seen ({slot.load} pixels each), and beside bursts of as many with as much text. The language model is the "
        "same in all rows; the vision tower differs, and with it what a picture costs to encode, by FLOPs of "
        "the encode over FLOPs of prefilling its tokens. Both sides have a prefill chunk for the same objective, and "
        f"the same two cores. There are {plan.blocks} blocks, in which both sides are measured in turn.",
        "Predicted: (encode + chunk of mono) / chunk of split. Encode: the median time to first token of a picture "
        "alone at the monolithic engine, less that of as much text alone. Chunk: the tail of bystanders' inter-token "
        "latency during bursts of text, which is a step with the largest chunk of a prompt in it. An encode is a part "
        "of one step, and whoever is beside waits for it and for the chunk; bystanders of the split wait for the chunk "
        "alone.",
    ]
