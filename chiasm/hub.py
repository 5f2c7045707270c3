"""A model's `config.json`, from a folder or from the Hugging Face hub, and whether the hub can be asked for it at all.

Whoever asks vLLM or transformers for a model while the hub cannot be reached waits for all their retries, minutes, and
is then told that the name is wrong. So one request without retries goes first.
"""

import os
import re
from pathlib import Path
from typing import Any

CONFIGS = ("config.json", "params.json")  # the latter in Mistral's own format

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""A name of the hub's, by its form."""


class ModelUnreadable(ValueError):
    """A model's configuration cannot be had; the message says why, and what to do."""


def require_reachable(model: str, revision: str | None = None) -> None:
    """Return if it is a folder, or a copy of its configuration is in the hub's cache, or the hub answers, whatever it
    answers; also if it looks like no name of the hub's.

    Raises:
        ModelUnreadable: none of these. The hub has `HF_HUB_ETAG_TIMEOUT` seconds for its answer, 10 if unset.
    """
    from_modelscope = os.environ.get("VLLM_USE_MODELSCOPE", "").strip().lower() in ("1", "true")
    if Path(model).exists() or not HUB_ID.fullmatch(model) or from_modelscope:
        return
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    here = f"{model} is no folder here, and no copy of it is in the hub's cache"
    try:
        cached = [try_to_load_from_cache(model, name, revision=revision) for name in CONFIGS]
        address = hf_hub_url(model, CONFIGS[0], revision=revision)
    except HFValidationError as error:
        raise ModelUnreadable(f"{model} is no folder here, and the hub has no such names: {error}") from error
    if any(isinstance(found, str) for found in cached):
        return
    if is_offline_mode():
        raise ModelUnreadable(f"{here}. HF_HUB_OFFLINE forbids to ask the hub: name a folder, or unset it.")
    try:
        get_hf_file_metadata(address)
    except HfHubHTTPError as error:
        if error.response.status_code >= 500:  # else it has no such model or no such file, or wants a token
            raise _unreachable(here, constants.ENDPOINT, error) from error
    except Exception as error:  # of whatever HTTP library the hub's has chosen
        raise _unreachable(here, constants.ENDPOINT, error) from error


def _unreachable(here: str, endpoint: str, error: Exception) -> ModelUnreadable:
    cause = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelUnreadable(
        f"{here}; the hub ({endpoint}) cannot be reached: {cause}. Name a folder, or see to the network "
        "(HF_ENDPOINT names a mirror, HTTPS_PROXY a proxy)."
    )


def model_config(model: str, revision: str | None = None) -> dict[str, Any]:
    """The `config.json` of a folder or a hub id, every field of it present. No code that comes with a model is run.

    Raises:
        ModelUnreadable: it cannot be read, or the hub cannot be reached.
    """
    require_reachable(model, revision)
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        found: dict[str, Any] = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False).to_dict()
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise ModelUnreadable(f"the configuration of {model} cannot be read: {cause}") from error
    return found
