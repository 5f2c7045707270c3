"""What could not be so on Kubernetes is refused by `chiasm config --check` as by `chiasm render`, in the same words."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chiasm.cli import main
from chiasm.config_file import load_config
from chiasm.kubernetes.grammar import is_image
from chiasm.kubernetes.render import render

CARDS = "ray.io/accelerator-type"
SECTION = "kubernetes: {monitoring: false}\n"

BY_GRAMMAR = {
    "nodes: {encoders: {nvidia.com/gpu.product: NVIDIA GeForce RTX 4090}}": (
        'kubernetes.nodes.encoders: "NVIDIA GeForce RTX 4090" for nvidia.com/gpu.product is no value of a label'
    ),
    "nodes: {head: {'a b': c}}": 'kubernetes.nodes.head: "a b" is no name of a label',
    "nodes: {head: {My.Corp/pool: c}}": 'kubernetes.nodes.head: "My.Corp/pool" is no name of a label',
    "tolerations: {encoders: ['a=-:NoSchedule']}": 'kubernetes.tolerations.encoders: "a=-:NoSchedule" is no taint',
    "namespace: Prod_NS": 'kubernetes.namespace: "Prod_NS" is the name of no namespace',
    "image: ''": 'kubernetes.image: "" names no image. Write it like registry.example/chiasm:0.1.0-gpu.',
    "image: 'chiasm: gpu'": 'kubernetes.image: "chiasm: gpu" names no image',
    "cpu_image: Chiasm": 'kubernetes.cpu_image: "Chiasm" names no image',
    "model_claim: Models PVC": 'kubernetes.model_claim: "Models PVC" is the name of no PersistentVolumeClaim',
    "name: Chiasm_Prod": "kubernetes.name: KubeRay's rule name-form: RayCluster Chiasm_Prod",
    f"name: {'m' * 39}": f"kubernetes.name: KubeRay's rule name-length: RayJob {'m' * 39}-launcher has 48 characters",
}

BY_REASONS = {
    "encoders: {labels: {zone: 'in(a,b)'}}": "encoders.labels: in(a,b) for zone chooses among nodes",
    "encoders: {labels: {zone: '!a'}}": "encoders.labels: !a for zone chooses among nodes",
    f"encoders: {{gpus: 1, labels: {{{CARDS}: RTX-4090}}}}": (
        "encoders.labels: Ray calls no card RTX-4090. Its name for that one is GeForce-RTX-4090."
    ),
    f"encoders: {{gpus: 1, labels: {{{CARDS}: '!in(L4,nvidia-a100-80gb)'}}}}": (
        "encoders.labels: Ray calls no card nvidia-a100-80gb. Its name for that one is A100."
    ),
    f"encoders: {{gpus: 1, labels: {{zone: a}}, fallbacks: [{{}}, {{{CARDS}: RTX-4090}}]}}": (
        "encoders.fallbacks: Ray calls no card RTX-4090. Its name for that one is GeForce-RTX-4090."
    ),
    f"decoders: {{labels: {{{CARDS}: H100}}}}": f"decoders.gpus: decoders.labels wants {CARDS} H100, and 0 gives",
    "roles: auto": "roles: auto decides when a cluster starts",
    "gateway: {port: 80}": "gateway.port: it is 8000 on Kubernetes",
}


def run(command: str, path: Path) -> Result:
    option = {"config": "--check", "render": "--config", "serve": "--config"}[command]
    return CliRunner().invoke(main, [command, option, str(path)])


@pytest.mark.parametrize("command", ["config", "render", "serve"])
@pytest.mark.parametrize("field", BY_GRAMMAR)
def test_what_is_written_wrongly_is_refused_at_its_place_by_all(command: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"kubernetes:\n  {field}\n")
    result = run(command, path)
    assert result.exit_code == 1
    assert f"{path}:2:" in result.output
    assert BY_GRAMMAR[field] in result.output


def test_a_blank_in_a_label_is_told_its_usual_spelling(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("kubernetes: {nodes: {encoders: {nvidia.com/gpu.product: NVIDIA GeForce RTX 4090}}}")
    assert "Do you mean NVIDIA-GeForce-RTX-4090?" in run("config", path).output


@pytest.mark.parametrize("text", BY_REASONS)
def test_what_no_manifests_can_be_made_of_is_refused_by_check_where_manifests_are_meant(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"{SECTION}{text}\n")
    checked, rendered = run("config", path), run("render", path)
    assert (checked.exit_code, rendered.exit_code) == (1, 1)
    assert BY_REASONS[text] in checked.output
    assert checked.output == rendered.output


@pytest.mark.parametrize("text", BY_REASONS)
def test_on_hosts_of_ones_own_that_is_fine(text: str, tmp_path: Path) -> None:
    """There Ray takes the operators, a node may be given any label, and a worker that asks for no card sees all."""
    path = tmp_path / "cluster.yaml"
    path.write_text(f"{text}\n")
    assert run("config", path).exit_code == 0, run("config", path).output
    assert BY_REASONS[text] in run("render", path).output


@pytest.mark.parametrize(
    "nodes", ["nvidia.com/gpu.product: NVIDIA-L40S", "cloud.google.com/gke-accelerator: nvidia-l4"]
)
def test_nodes_with_a_card_are_for_pods_with_one(nodes: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(f"kubernetes: {{nodes: {{encoders: {{{nodes}}}}}}}\n")
    result = run("config", path)
    assert result.exit_code == 1
    assert f"encoders.gpus: kubernetes.nodes.encoders wants nodes with {nodes.replace(': ', ' ')}" in result.output
    assert "Set it to 1 or more, or leave the label out." in result.output
    path.write_text(f"kubernetes: {{nodes: {{encoders: {{{nodes}}}}}}}\nencoders: {{gpus: 1}}\n")
    assert run("config", path).exit_code == 0


@pytest.mark.parametrize("command", ["config", "render"])
@pytest.mark.parametrize(
    ("decoders", "fallback", "named"),
    [
        ("{}", "{ray.io/node-group: spare}", "ray.io/node-group spare"),
        ("{}", "{card: 'in(l4,l40s)', zone: a}", "card in(l4,l40s), zone a"),
        ("{gpus: 1}", "{chiasm-pool: decoder}", None),
        ("{}", "{chiasm-pool: decoder}", "chiasm-pool decoder"),  # which has no card
        ("{}", f"{{{CARDS}: L4}}", None),  # which only Ray will know
    ],
)
def test_a_fallback_to_pods_that_are_not_made_is_warned_of_and_may_be(
    command: str, decoders: str, fallback: str, named: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "cluster.yaml"
    pools = f"decoders: {decoders}\nencoders: {{gpus: 1, labels: {{zone: a}}, fallbacks: [{fallback}, {{}}]}}\n"
    path.write_text(SECTION + pools)
    result = run(command, path)
    assert result.exit_code == 0
    assert result.stderr == (
        f"warning: encoders.fallbacks: no group that is made of this file has pods with {named} and GPUs enough. "
        "Choose by another label, or add such a group in an overlay of yours.\n"
        if named
        else ""
    )


@pytest.mark.parametrize(
    "text",
    [
        f"encoders: {{gpus: 1, labels: {{{CARDS}: 'in(L4,GeForce-RTX-4090)'}}}}",
        f"encoders: {{labels: {{{CARDS}: '!H100'}}}}",  # any node but those
        f"encoders: {{gpus: 1, labels: {{{CARDS}: card-of-ours}}}}",
        "encoders: {labels: {zone: ''}, fallbacks: [{zone: '!in(a,b)'}, {}]}",
        "kubernetes: {nodes: {head: {nvidia.com/gpu.product: NVIDIA-L40S}}}",
        f"kubernetes: {{name: {'m' * 38}}}",
    ],
)
def test_what_can_be_so_is_rendered(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    render(load_config(path), "x")


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("chiasm:cpu", True),
        ("REGISTRY/chiasm:0.1.0-cpu", True),
        ("registry.example:5000/a/b__c/d.e:v1@sha256:" + "0" * 64, True),
        ("[::1]:5000/chiasm", True),
        ("chiasm@sha256:" + "0" * 64, True),
        ("my_team/chiasm", True),
        (" chiasm", False),
        ("chiasm:", False),
        ("registry.example/Chiasm", False),
        ("https://registry.example/chiasm", False),
        ("chiasm:a:b", False),
        ("/chiasm", False),
    ],
)
def test_what_names_an_image(image: str, named: bool) -> None:
    assert is_image(image) == named


@pytest.mark.parametrize("overlay", ["../../x", "a/b", "", ".."])
def test_an_overlay_stays_below_the_folder(overlay: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(SECTION)
    out = tmp_path / "deep" / "er"
    result = CliRunner().invoke(main, ["render", "--config", str(path), "--overlay", overlay, "-o", str(out)])
    assert result.exit_code == 2
    assert "is the name of no folder" in result.output
    assert sorted(tmp_path.iterdir()) == [path]


def test_nothing_is_rendered_of_no_file() -> None:
    result = CliRunner().invoke(main, ["render"])
    assert result.exit_code == 2
    assert "Missing option '--config'" in result.output


def test_the_section_may_be_there_with_nothing_in_it(tmp_path: Path) -> None:
    """As in what `chiasm config --template` prints."""
    path = tmp_path / "cluster.yaml"
    path.write_text("kubernetes:\ngateway: {port: 80}\n")
    assert run("config", path).exit_code == 0
