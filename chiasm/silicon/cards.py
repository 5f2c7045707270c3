"""What cards can do by their makers' word, and the names they go by. Facts with their source; no prices.

TFLOP/s are of dense matrix products in bfloat16 that accumulate in float32, as vLLM's do: a sheet that counts
structured sparsity is halved, and of GeForce cards the rate with float32 accumulation counts. GB/s are of the card's
memory, GB its size as it is sold. These are peaks, which no program reaches (docs/profiling.md says how near some
come), good for comparing cards. The makers' documents were read as the pages named beside them quote them. Cards for
which no figure could be traced to its maker are not here, as are those that do not multiply bfloat16.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

_A100_SHEET = (
    "NVIDIA A100 datasheet (nvidia-a100-datasheet-us-nvidia-1758950-r4), by glennklockwood.com/garden/processors/A100"
)
_L40_SHEET = "NVIDIA L40 and L40S datasheets, by mullet.se (product 355414)"
_TABLE = "by the table of github.com/winston-zhang-orz/gpu-specs"


class UnknownCard(ValueError):
    """No card of that name is in the table; the message has what is."""


@dataclass(frozen=True)
class Card:
    """One product."""

    name: str  # NVML's
    ray: str  # Ray's: the value of the node label ray.io/accelerator-type, which several products may share
    tflops: float
    gb_per_s: float
    gb: float
    source: str
    others: tuple[str, ...] = ()  # GKE's name (node label cloud.google.com/gke-accelerator), and what people say

    @property
    def balance(self) -> float:
        """FLOPs for each byte above which a perfect program is bound by compute here, below which by bandwidth."""
        return 1000 * self.tflops / self.gb_per_s


CARDS = (
    Card(
        "NVIDIA L4",
        "L4",
        tflops=121,
        gb_per_s=300,
        gb=24,
        source=f"NVIDIA L4 datasheet (242 with sparsity), {_TABLE}",
    ),
    Card("NVIDIA A10", "A10", tflops=125, gb_per_s=600, gb=24, source=f"NVIDIA A10 datasheet, {_TABLE}"),
    Card(
        "NVIDIA A40",
        "A40",
        tflops=149.7,
        gb_per_s=696,
        gb=48,
        source="NVIDIA A40 datasheet, by ecer.com (NVIDIA A40, product details)",
    ),
    Card(
        "NVIDIA GeForce RTX 4090",
        "GeForce-RTX-4090",
        tflops=165.2,
        gb_per_s=1008,
        gb=24,
        source="NVIDIA Ada GPU architecture whitepaper, appendix A, by waredb.com/processor/nvidia-geforce-rtx-4090",
    ),
    Card("NVIDIA L40", "L40", tflops=181.05, gb_per_s=864, gb=48, source=_L40_SHEET),
    Card(
        "NVIDIA GeForce RTX 5090",
        "GeForce-RTX-5090",
        tflops=209.5,
        gb_per_s=1792,
        gb=32,
        source="NVIDIA RTX Blackwell GPU architecture whitepaper, appendix A, by codesota.com/hardware/rtx-5090",
    ),
    Card("NVIDIA L40S", "L40S", tflops=362.05, gb_per_s=864, gb=48, source=_L40_SHEET),
    Card(
        "NVIDIA A100-PCIE-40GB",
        "A100",
        tflops=312,
        gb_per_s=1555,
        gb=40,
        source=f"NVIDIA A100 datasheet, {_TABLE}",
        others=("a100-pcie",),
    ),
    Card(
        "NVIDIA A100-SXM4-40GB",
        "A100",
        tflops=312,
        gb_per_s=1555,
        gb=40,
        source=_A100_SHEET,
        others=("nvidia-tesla-a100", "a100-40gb"),
    ),
    Card(
        "NVIDIA A100 80GB PCIe",
        "A100",
        tflops=312,
        gb_per_s=1935,
        gb=80,
        source=f"NVIDIA A100 datasheet, {_TABLE}",
        others=("a100-80gb",),
    ),
    Card(
        "NVIDIA A100-SXM4-80GB",
        "A100",
        tflops=312,
        gb_per_s=2039,
        gb=80,
        source=_A100_SHEET,
        others=("nvidia-a100-80gb", "a100-80gb"),
    ),
    Card(
        "NVIDIA H100 PCIe",
        "H100",
        tflops=756.5,
        gb_per_s=2000,
        gb=80,
        source="NVIDIA H100 datasheet (1,513 with sparsity), by Lightning's fabric/utilities/throughput.py; bandwidth: "
        "NVIDIA product brief PB-11133-001 (over 2,000), by manuals.plus",
    ),
    Card(
        "NVIDIA H100 80GB HBM3",
        "H100",
        tflops=989.5,
        gb_per_s=3350,
        gb=80,
        source="NVIDIA H100 datasheet (1,979 with sparsity), by Lightning's fabric/utilities/throughput.py and "
        "github.com/astroC86/gpu-datasheet",
        others=("nvidia-h100-80gb", "nvidia-h100-mega-80gb", "h100-sxm"),
    ),
    Card(
        "NVIDIA H200",
        "H200",
        tflops=989.5,
        gb_per_s=4800,
        gb=141,
        source="NVIDIA H200 datasheet (1,979 with sparsity), by github.com/astroC86/gpu-datasheet",
        others=("nvidia-h200-141gb",),
    ),
    Card(
        "NVIDIA B200",
        "B200",
        tflops=2250,
        gb_per_s=8000,
        gb=180,
        source="NVIDIA Blackwell architecture brief (HGX B200 at 1,000 W), by "
        "glennklockwood.com/garden/processors/B200; memory as sold, by server-parts.eu",
    ),
)


def cards_called(name: str) -> tuple[Card, ...]:
    """Those that `name` may mean, the one with the least bandwidth first.

    As NVML, GPU feature discovery (nvidia.com/gpu.product), Ray or GKE spell it, or short: "L40S", "rtx-4090".

    Raises:
        UnknownCard: the table has none.
    """
    known = _by_name()
    if found := known.get(_plain(name)):
        return tuple(sorted(found, key=lambda card: (card.gb_per_s, card.gb)))
    near = difflib.get_close_matches(_plain(name), known, 1)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UnknownCard(
        f'nothing is known of a card "{name}". {hint}There are: {", ".join(card.name for card in CARDS)}. '
        "For another, set count, gpus and labels of both pools yourself."
    )


def _by_name() -> Mapping[str, list[Card]]:
    known: dict[str, list[Card]] = {}
    for card in CARDS:
        for name in {_plain(each) for each in (card.name, card.ray, *card.others)}:
            known.setdefault(name, []).append(card)
    return known


def _plain(name: str) -> str:
    """Without what the spellings differ in: capitals, what separates words, and the maker's name and line."""
    words = name.lower().replace("_", "-").replace(" ", "-")
    for prefix in ("nvidia-", "tesla-", "geforce-"):
        words = words.removeprefix(prefix)
    return words
