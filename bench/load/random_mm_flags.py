"""The flags that `vllm bench serve` has for its `random-mm` dataset, by the same names, for commands of ours."""

import ast
import functools
import json
from collections.abc import Callable
from typing import Any

import click

from bench.load.random_mm import BUCKETS, LIMITS, Bucket, RandomMM
from bench.load.workloads import BadWorkload

DEFAULT = RandomMM()


def _ratios(_context: click.Context, _option: click.Parameter, value: str) -> tuple[float, float]:
    """A number for input and output, or JSON with one for each."""
    try:
        said = json.loads(value)
        return (float(said["input"]), float(said["output"])) if isinstance(said, dict) else (float(said), float(said))
    except (ValueError, TypeError, KeyError) as error:
        raise click.BadParameter(f'{value!r} is neither a number nor {{"input": 0.3, "output": 0.5}}.') from error


def _limits(_context: click.Context, _option: click.Parameter, value: str) -> dict[str, int]:
    """JSON: modality -> how many of it a request may have."""
    try:
        return {str(modality): int(limit) for modality, limit in json.loads(value).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise click.BadParameter(f'{value!r} is not JSON like {{"image": 3}}.') from error


def _buckets(_context: click.Context, _option: click.Parameter, value: str) -> dict[Bucket, float]:
    """A Python dictionary whose keys are (height, width, frames); in JSON, they are strings of these."""
    try:
        return {_bucket(key): float(share) for key, share in ast.literal_eval(value).items()}
    except (ValueError, TypeError, AttributeError, SyntaxError) as error:
        example = "{(256, 256, 1): 0.5, (720, 1280, 1): 0.5}"
        raise click.BadParameter(f"{value!r} is not like {example}.") from error


def _bucket(key: Any) -> Bucket:
    height, width, frames = ast.literal_eval(key) if isinstance(key, str) else key
    return int(height), int(width), int(frames)


def random_mm_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command` the flags of random-mm, and one argument made of them: `random_mm`, a RandomMM."""

    @click.option(
        "--random-mm-base-items-per-request",
        "base_items",
        default=DEFAULT.base_items,
        show_default=True,
        help="Images of a request, in the middle of their range.",
    )
    @click.option(
        "--random-mm-num-mm-items-range-ratio",
        "items_range_ratio",
        default=DEFAULT.items_range_ratio,
        show_default=True,
        help="Their number lies evenly between (1 - this) and (1 + this) times the middle.",
    )
    @click.option(
        "--random-mm-limit-mm-per-prompt",
        "limits",
        callback=_limits,
        default=json.dumps(LIMITS),
        show_default=True,
        help="No request has more images than this allows.",
    )
    @click.option(
        "--random-mm-bucket-config",
        "buckets",
        callback=_buckets,
        default=str(BUCKETS),
        show_default=True,
        help="(height, width, frames) of an image -> how often it is drawn. Frames must be 1.",
    )
    @click.option(
        "--random-input-len",
        "input_tokens",
        default=DEFAULT.input_tokens,
        show_default=True,
        help="Tokens of text in a prompt.",
    )
    @click.option(
        "--random-output-len",
        "output_tokens",
        default=DEFAULT.output_tokens,
        show_default=True,
        help="Tokens of an answer.",
    )
    @click.option(
        "--random-range-ratio",
        "ratios",
        callback=_ratios,
        default="0.0",
        show_default=True,
        help="Lengths lie evenly between (1 - this) and (1 + this) times theirs; JSON tells input from output.",
    )
    @functools.wraps(command)
    def with_flags(ratios: tuple[float, float], **given: Any) -> None:
        drawn = {name: given.pop(name) for name in FIELDS}
        try:
            random_mm = RandomMM(**drawn, input_range_ratio=ratios[0], output_range_ratio=ratios[1])
        except BadWorkload as error:
            raise click.UsageError(str(error)) from error
        command(random_mm=random_mm, **given)

    return with_flags


FIELDS = ("base_items", "items_range_ratio", "limits", "buckets", "input_tokens", "output_tokens")
