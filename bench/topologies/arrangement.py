"""The arrangements that are compared, by name."""

from enum import StrEnum


class Arrangement(StrEnum):
    """On the same two sets of cores, the same bytes of KV cache, the same requests at once, the same arguments.

    Equal for all is the principle, so none is as it ships: engines run eagerly (`--enforce-eager`), which on a CPU vLLM
    does not unless told, and each has an OpenMP thread on every one of its cores, where vLLM would leave one out for
    its other processes.
    """

    MONO = "mono"  # one vLLM server with both halves of the model on all cores, with vLLM's own prefill chunk
    MONO_X2 = "mono-x2"  # two of them, on a set of cores each, behind least-loaded routing
    MONO_CALIBRATED = "mono-calibrated"  # as mono, its prefill chunk calibrated to the objective
    MONO_X2_CALIBRATED = "mono-x2-calibrated"  # as mono-x2, likewise
    VLLM_EPD = "vllm-epd"  # vLLM's own encoder disaggregation, with its file connector
    SPLIT = "split"  # Chiasm: an encoder and a decoder
    SPLIT_STEAL = "split+steal"  # Chiasm: and a text engine beside the encoder, which steals


CALIBRATED = (Arrangement.MONO_CALIBRATED, Arrangement.MONO_X2_CALIBRATED)
CLUSTERS = (Arrangement.SPLIT, Arrangement.SPLIT_STEAL)
