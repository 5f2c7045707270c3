"""What of an engine's command line and environment Chiasm sets itself, and so refuses in `engine_args` and `env`; and
which flags engines must get alike, share one card or take several by, or bound their steps by.

Flags are compared as vLLM reads them: `_` is `-`, `--flag=value` and `--flag.key value` are `--flag`, and the beginning
of a flag, or its short form, stands for the whole of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence

_SPLIT = "the split depends on it. Leave it out"
_ADDRESS = "the cluster picks the engines' addresses. Leave it out; clients speak to gateway.host and gateway.port"
_GENERATES = "the gateway asks engines for chat completions, which a pooling engine does not give. Leave it out"
_PROFILED = "profiling decides. Set telemetry.timelines, to 0 for no profiling"
_TLS = "the gateway speaks plain HTTP to its engines. Leave it out, and end TLS before the gateway"

FLAGS: Mapping[str, str] = {
    "--model": "every worker serves one model. Set model",
    "--revision": "every worker serves one revision. Set revision",
    "--served-model-name": "the gateway and the engines must use one name. Set served_model_name",
    "--host": _ADDRESS,
    "--port": _ADDRESS,
    "--uds": _ADDRESS,
    "--root-path": _ADDRESS,
    "--headless": "the gateway needs the engine's HTTP server. Leave it out",
    "--grpc": "the gateway needs the engine's HTTP server. Leave it out",
    "--ssl-keyfile": _TLS,
    "--ssl-certfile": _TLS,
    "--ssl-ca-certs": _TLS,
    "--ssl-cert-reqs": _TLS,
    "--api-key": "engines answer to the cluster's own token. Set gateway.api_keys for clients",
    "--middleware": "it guards the engine with the cluster's token. Leave it out",
    "--worker-extension-cls": "the cluster asks its engines through it. Leave it out",
    "--ec-transfer-config": _SPLIT + "; the transport's settings are in wire",
    "--limit-mm-per-prompt": _SPLIT + "; gateway.max_items limits the images of a request",
    "--language-model-only": _SPLIT,  # it would take an encoder's vision tower away
    "--mm-encoder-only": _SPLIT,  # and this a decoder's language model
    "--runner": _GENERATES,
    "--convert": _GENERATES,  # which implies a pooling runner
    "--trust-request-mm-kwargs": "the gateway decides. Set gateway.allow_processor_options",
    "--no-trust-request-mm-kwargs": "the gateway decides. Set gateway.allow_processor_options",
    "--enable-logging-iteration-details": _PROFILED,
    "--no-enable-logging-iteration-details": _PROFILED,
    "--otlp-traces-endpoint": "one place takes the traces of the whole cluster. Set telemetry.otlp_endpoint",
    "--config": "flags in a file of vLLM's are not checked. Write them here",
}
"""Flag -> why it is refused, and what to do."""

ENVIRONMENT: Mapping[str, str] = {
    "CHIASM_RUNTIME": "it is the engine's own folder. Leave it out",
    "CHIASM_RECORDS": _PROFILED,
    "OTEL_SERVICE_NAME": "spans tell engines apart by it. Leave it out",
    "VLLM_RPC_BASE_PATH": "it is the engine's own folder. Leave it out",
    "VLLM_API_KEY": "engines answer to the cluster's own token. Set gateway.api_keys for clients",
    "VLLM_PLUGINS": "Chiasm's plugins must be in it. Set it where chiasm serve is started, and they are added",
    "VLLM_CPU_OMP_THREADS_BIND": "engines must share no core. Set cpus",
}
"""Variable -> why it is refused, and what to do."""

ALIKE = ("--mm-processor-kwargs", "--media-io-kwargs", "--dtype", "--hf-overrides")
"""Flags that change what an embedding is: encoders and decoders must get them alike."""

_DECODERS_SWITCHES = (
    "--disable-sliding-window",
    "--enable-auto-tool-choice",
    "--enable-force-include-usage",
    "--enable-lora",
    "--enable-per-request-metrics",
    "--enable-prompt-tokens-details",
    "--enable-return-routed-experts",
    "--enable-tower-connector-lora",
    "--enable-trace-replay",
    "--exclude-tools-when-tool-choice-none",
    "--interleave-mm-strings",
    "--return-sampling-mask",
    "--return-tokens-as-token-ids",
    "--skip-tokenizer-init",
    "--trust-remote-code",
    "--trust-request-chat-template",
    "--use-fp64-gumbel",
)

DECODERS_DECIDE = (
    *ALIKE,
    *_DECODERS_SWITCHES,
    *(switch.replace("--", "--no-", 1) for switch in _DECODERS_SWITCHES),
    # the model, and what is kept of it and of its context
    "--code-revision",
    "--config-format",
    "--default-mm-loras",
    "--hf-config-path",
    "--kv-cache-dtype",
    "--kv-cache-dtype-skip-layers",
    "--lora-dtype",
    "--lora-modules",
    "--lora-target-modules",
    "--mamba-cache-dtype",
    "--mamba-ssm-cache-dtype",
    "--max-model-len",
    "--model-class-overrides",
    "--quantization",
    "--quantization-config",
    # how a request becomes a prompt
    "--chat-template",
    "--chat-template-content-format",
    "--cohere-format",
    "--default-chat-template-kwargs",
    "--tokenizer",
    "--tokenizer-mode",
    "--tokenizer-revision",
    # how tokens are chosen
    "--diffusion-config",
    "--generation-config",
    "--logits-processors",
    "--override-generation-config",
    "--reasoning-config",
    "--structured-outputs-config",
    "--watermark-config",
    # how they become an answer
    "--aux-output-config",
    "--logprobs-mode",
    "--max-logprobs",
    "--reasoning-parser",
    "--reasoning-parser-plugin",
    "--response-role",
    "--tool-call-parser",
    "--tool-parser-plugin",
    "--tool-strict-level",
)
"""Flags that would let another engine answer otherwise than a decoder, or refuse what a decoder takes."""

_SHORT: Mapping[str, str] = {
    "-dc": "--diffusion-config",
    "-dp": "--data-parallel-size",
    "-dpb": "--data-parallel-backend",
    "-dpe": "--data-parallel-external-lb",
    "-dph": "--data-parallel-hybrid-lb",
    "-dpl": "--data-parallel-size-local",
    "-dpm": "--data-parallel-multi-port-external-lb",
    "-dpn": "--data-parallel-rank",
    "-dpr": "--data-parallel-start-rank",
    "-n": "--nnodes",
    "-pcp": "--prefill-context-parallel-size",
    "-pp": "--pipeline-parallel-size",
    "-q": "--quantization",
    "-sc": "--speculative-config",
    "-tp": "--tensor-parallel-size",
}

_BEGINS_ANOTHER = ("--watermark",)
"""Flags that are nobody's concern here, though one that is begins with them."""

CARD_SHARE = "--gpu-memory-utilization"
KV_BYTES = "--kv-cache-memory-bytes"

TEAM_FLAG = "--tensor-parallel-size"
RANKS = (TEAM_FLAG, "--pipeline-parallel-size", "--prefill-context-parallel-size")
"""Flags whose product is the ranks of an engine, each of which takes a card."""

REPLICAS = "--data-parallel-size"
"""How many engines answer at one address, each with as many cards."""

REPLICAS_APART = (
    "--data-parallel-backend",
    "--data-parallel-external-lb",
    "--data-parallel-hybrid-lb",
    "--data-parallel-multi-port-external-lb",
    "--data-parallel-rank",
    "--data-parallel-size-local",
    "--data-parallel-start-rank",
)
"""Flags with which not all of these engines need be on their worker's cards."""

NODES, EXECUTOR = "--nnodes", "--distributed-executor-backend"

STEP_LIMITS = ("--max-num-batched-tokens", "--max-num-scheduled-tokens", "--long-prefill-token-threshold")
"""Flags that say how much an engine computes in one step."""

UNCALIBRATED: Mapping[str, str] = {
    "--no-enable-chunked-prefill": "each prompt is computed in one step",
    "--disable-chunked-mm-input": "each image is computed in one step",
    "--speculative-config": "a step computes drafts as well",
    "--spec-method": "a step computes drafts as well",
    "--spec-model": "a step computes drafts as well",
    REPLICAS: "several engines answer at one address",
    "--stream-interval": "tokens come several at a time",
}
"""Flag -> why the steps of an engine that has it are not measured and bounded."""


def refused_flags(args: Sequence[str]) -> list[str]:
    """What is wrong with these arguments, one message for each that Chiasm sets itself."""
    return [f"{flag} is set by Chiasm: {FLAGS[flag]}." for flag, _ in flags(args) if flag in FLAGS]


def refused_variables(env: Mapping[str, str]) -> list[str]:
    """What is wrong with this environment, one message for each variable that Chiasm sets itself."""
    return [f"{name} is set by Chiasm: {ENVIRONMENT[name]}." for name in env if name in ENVIRONMENT]


def own_step_limits(args: Sequence[str]) -> list[str]:
    """The flags of `STEP_LIMITS` among these arguments."""
    return [flag for flag, _ in flags(args) if flag in STEP_LIMITS]


def reason_against_calibration(args: Sequence[str]) -> str | None:
    """What in these arguments of a decoder keeps its steps from being measured and bounded; None if nothing does."""
    if limits := own_step_limits(args):
        return f"decoders.engine_args has {limits[0]}, which decides"
    found = next((flag for flag, _ in flags(args) if flag in UNCALIBRATED), None)
    return f"decoders.engine_args has {found}: {UNCALIBRATED[found]}" if found else None


def unlike(encoder_args: Sequence[str], decoder_args: Sequence[str]) -> list[str]:
    """One message for each flag of `ALIKE` that the two pools do not give the same value."""
    ours, theirs = (list(flags(args)) for args in (encoder_args, decoder_args))
    return [
        f"{flag} must be the same for encoders and decoders, or what one sends the other cannot use. "
        "Write it in both, with one value."
        for flag in ALIKE
        if [value for name, value in ours if name == flag] != [value for name, value in theirs if name == flag]
    ]


def decoders_flags(args: Sequence[str]) -> list[str]:
    """What is wrong with arguments that an engine gets after a decoder's, one message for each flag."""
    return [
        f"{flag} must be what decoders have. Set it in decoders.engine_args, which this engine gets as well."
        for flag, _ in flags(args)
        if flag in DECODERS_DECIDE
    ]


def unshared_card(encoder_args: Sequence[str], text_args: Sequence[str]) -> list[tuple[str, str]]:
    """What keeps an encoder's engine and a text engine from one GPU: whose arguments, and a message.

    Left alone, each would claim most of the card, and the text engine would size its KV cache by what the other happens
    to hold at that moment.
    """
    ours, theirs = _card_share(encoder_args), _card_share(text_args)
    found = [
        (
            field,
            f"scheduler.stealing puts two engines on each encoder's GPU, and {CARD_SHARE} must say how much of it this "
            f"one takes. Add it, e.g. {CARD_SHARE}={example}, or set scheduler.stealing to off.",
        )
        for field, share, example in (("engine_args", ours, 0.3), ("text_engine_args", theirs, 0.6))
        if share is None
    ]
    if ours is not None and theirs is not None and ours + theirs > 1:
        message = f"{CARD_SHARE} is {theirs} here and {ours} in engine_args, more than there is. Lower one of them."
        found.append(("text_engine_args", message))
    if KV_BYTES not in dict(flags(text_args)):
        message = f"{KV_BYTES} must say how large the text engine's KV cache is. Add it, e.g. {KV_BYTES}=4G."
        found.append(("text_engine_args", message))
    return found


def _card_share(args: Sequence[str]) -> float | None:
    _, share = dict(flags(args)).get(CARD_SHARE, ("", None))
    return share if isinstance(share, int | float) else None


def flags(args: Sequence[str]) -> Iterator[tuple[str, tuple[str, object]]]:
    """Each flag, by its whole name, and its value, the latter as JSON reads it, if it does."""
    for position, argument in enumerate(args):
        named, equals, text = argument.partition("=")
        flag, _, key = named.partition(".")
        flag = _SHORT.get(flag, flag)
        if not flag.startswith("--"):
            continue
        if not equals:
            text = next(iter(args[position + 1 : position + 2]), "")
        yield _whole(flag.replace("_", "-")), (key, _parsed(text))


def _whole(flag: str) -> str:
    """The flag known here that `flag` is or begins; any other is nobody's concern here, and stays."""
    ours = (CARD_SHARE, KV_BYTES, *RANKS, *REPLICAS_APART, NODES, EXECUTOR, *STEP_LIMITS)
    known = (*FLAGS, *DECODERS_DECIDE, *ours, *UNCALIBRATED, *_BEGINS_ANOTHER)
    if flag in known or len(flag) <= len("--x"):  # so short a beginning is ambiguous, and vLLM refuses it
        return flag
    return next((name for name in known if name.startswith(flag)), flag)


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
