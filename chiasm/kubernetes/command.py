"""`chiasm render`: the manifests of a `cluster.yaml`."""

import re
import sys
from pathlib import Path
from typing import Any

import click
import yaml

from chiasm.config import ClusterConfig
from chiasm.config_file import ConfigError, load_config
from chiasm.kubernetes.cluster_file import CannotRender
from chiasm.kubernetes.reachable import led_nowhere
from chiasm.kubernetes.render import Files, differences, write
from chiasm.kubernetes.render import render as rendered
from chiasm.kubernetes.secrets import new_secrets

_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), required=True, help="The file to render.")
@click.option("--stealing", "stealing_file", type=click.Path(path_type=Path), help="Fields that differ with stealing.")
@click.option("--overlay", help="Name of the overlay; the name of the Ray cluster (kubernetes.name) if not given.")
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option("--diff", is_flag=True, help="Say how the files there would change, write none; exit 1 if any would.")
@click.option("--new-secrets", "secrets", is_flag=True, help="Print the Secrets instead, with new keys, for kubectl.")
def render(
    config_file: Path,
    stealing_file: Path | None,
    overlay: str | None,
    output: Path | None,
    diff: bool,
    secrets: bool,
) -> None:
    """Make Kubernetes manifests of a cluster.yaml, for `kubectl apply -k` and KubeRay. The same file makes the same.

    What KubeRay would refuse is refused here, by the same rule. Without -o the manifests are printed. --stealing takes
    a file with the fields of cluster.yaml that are different where idle encoders steal, and makes a component of them.

    \b
      chiasm render --config cluster.yaml -o k8s
      chiasm render --config cluster.yaml -o k8s --diff
      chiasm render --config cluster.yaml --new-secrets | kubectl apply -f -
      kubectl apply --server-side -k k8s/overlays/chiasm
    """
    if diff and output is None:
        raise click.UsageError("--diff compares with what is in a folder. Name it with -o.")
    if overlay is not None and not _FOLDER.fullmatch(overlay):
        allowed = "Write letters, digits, -, _ and ., and say with -o where that folder lies."
        raise click.BadParameter(f'"{overlay}" is the name of no folder. {allowed}', param_hint="--overlay")
    try:
        config = load_config(config_file)
        if secrets:
            click.echo(yaml.safe_dump_all(new_secrets(config.kubernetes.namespace), sort_keys=False), nl=False)
            return
        stealing = None if stealing_file is None else with_changes(config_file, stealing_file)
        files = rendered(config, overlay or config.kubernetes.name, stealing)
    except (ConfigError, CannotRender) as error:
        sys.exit(str(error))
    for warning in led_nowhere(config):
        click.echo(f"warning: {warning}", err=True)
    if output is None:
        _print(files)
    elif diff:
        sys.exit(_show(files, output))
    else:
        write(files, output)
        click.echo(f"{len(files)} files written below {output}")


def with_changes(config_file: Path, changes_file: Path) -> ClusterConfig:
    """The configuration with the fields of another file in place of its own; of a mapping, with its entries.

    Raises:
        ConfigError: either cannot be used, or both together cannot.
    """
    before = load_config(config_file).model_dump()
    changes: dict[str, Any] = {}
    for section, value in load_config(changes_file).model_dump(exclude_unset=True).items():
        if not isinstance(value, dict):
            changes[section] = value
            continue
        for key, each in value.items():
            old = before[section][key]
            changes[f"{section}.{key}"] = {**old, **each} if isinstance(old, dict) else each
    return load_config(config_file, changes)


def _print(files: Files) -> None:
    for path, text in files.items():
        click.echo(f"# {path}\n{text}---")


def _show(files: Files, output: Path) -> int:
    found = differences(files, output)
    for each in found:
        click.echo("\n".join(each.lines))
    return 1 if found else 0
