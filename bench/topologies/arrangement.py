"""The arrangements that are compared, by name."""

from enum import StrEnum


class Arrangement(StrEnum):
    """On the same two sets of cores, the same bytes of KV cache, the same arguments of engines."""

    MONO = "mono"  # one vLLM server with both halves of the model on all cores, as it ships
    MONO_X2 = "mono-x2"  # two of them, on a set of cores each, behind least-loaded routing
    MONO_CALIBRATED = "mono-calibrated"  # as mono, its prefill chunk calibrated to the objective
    MONO_X2_CALIBRATED = "mono-x2-calibrated"  # as mono-x2, likewise
    VLLM_EPD = "vllm-epd"  # vLLM's own encoder disaggregation, with its file connector
    SPLIT = "split"  # Chiasm: an encoder and a decoder
    SPLIT_STEAL = "split+steal"  # Chiasm: and a text engine beside the encoder, which steals


CALIBRATED = (Arrangement.MONO_CALIBRATED, Arrangement.MONO_X2_CALIBRATED)
CLUSTERS = (Arrangement.SPLIT, Arrangement.SPLIT_STEAL)
