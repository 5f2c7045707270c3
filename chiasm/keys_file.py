"""A file with the gateway's keys alone, so that the rest of `cluster.yaml` may lie where anybody reads it."""

from pathlib import Path
from typing import Any

import yaml

from chiasm.config_file import ConfigError

FIELDS = ("api_keys", "api_key_weights", "operator_keys")
KEYS_HELP = f"YAML file with {', '.join(FIELDS)} of the gateway, which then need not stand in --config."


def load_keys(path: Path | None) -> dict[str, Any]:
    """The fields of a file of keys, as overrides of a configuration; none without a file.

    Raises:
        ConfigError: unreadable, not YAML, or with other fields. No message shows a key.
    """
    if path is None:
        return {}
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}. Name a file that you may read.") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        # The error itself would quote the line, and with it a key.
        raise ConfigError(f"{path} is not YAML that can be read. Write lines such as `api_keys: [KEY]`.") from error
    if not isinstance(data, dict) or not data.keys() <= set(FIELDS):
        raise ConfigError(f"{path} takes {', '.join(FIELDS)}, and nothing else.")
    return {f"gateway.{field}": value for field, value in data.items()}
