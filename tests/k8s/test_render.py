"""`chiasm render`: what it makes, what it says has changed, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from chiasm.config import ClusterConfig
from chiasm.config_file import ConfigError, load_config
from chiasm.kubernetes.command import render, with_changes
from chiasm.kubernetes.render import render as rendered
from chiasm.kubernetes.settings import in_bytes, toleration
from chiasm.kubernetes.variants import Unlike, component, operations


def run(*arguments: object) -> Result:
    return CliRunner().invoke(render, [str(each) for each in arguments])


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text("encoders: {count: 2}\nkubernetes: {name: mine, monitoring: false}\n")
    return path


def test_the_same_file_makes_the_same_bytes(cluster: Path) -> None:
    assert rendered(load_config(cluster), "mine") == rendered(load_config(cluster), "mine")


def test_files_are_written_and_then_nothing_differs(cluster: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("--config", cluster, "-o", out, "--diff").exit_code == 1
    assert not out.exists()
    assert run("--config", cluster, "-o", out).exit_code == 0
    same = run("--config", cluster, "-o", out, "--diff")
    assert (same.exit_code, same.output) == (0, "")
    cluster.write_text(cluster.read_text().replace("count: 2", "count: 3"))
    other = run("--config", cluster, "-o", out, "--diff")
    assert other.exit_code == 1
    assert "-    replicas: 2\n" in other.output
    assert "+    replicas: 3\n" in other.output
    assert "raycluster.yaml" in other.output
    assert "redis.yaml" not in other.output


def test_without_a_folder_all_is_printed_as_one_yaml(cluster: Path) -> None:
    result = run("--config", cluster)
    kinds = [each["kind"] for each in yaml.safe_load_all(result.output) if each]
    assert kinds.count("RayCluster") == 1
    assert "RayJob" in kinds


def test_an_overlay_has_its_own_name(cluster: Path, tmp_path: Path) -> None:
    assert run("--config", cluster, "--overlay", "blue", "-o", tmp_path).exit_code == 0
    assert (tmp_path / "overlays/blue/raycluster.yaml").exists()


def test_diff_wants_a_folder(cluster: Path) -> None:
    result = run("--config", cluster, "--diff")
    assert result.exit_code == 2
    assert "Name it with -o" in result.output


REFUSED = {
    "kubernetes: {name: Mine}": "KubeRay's rule name-form: RayCluster Mine",
    f"kubernetes: {{name: {'m' * 54}}}": "KubeRay's rule name-length: RayCluster",
    f"kubernetes: {{name: {'m' * 45}}}": f"KubeRay's rule name-length: RayJob {'m' * 45}-launcher",
    "encoders: {labels: {My.Corp/pool: a}}": "KubeRay's rule label-key: group encoder",
    "model: /data/qwen": "model: /data/qwen is a folder of this machine, and pods have none of those",
    "model: ./qwen": "name its claim in kubernetes.model_claim",
    "model: /models/qwen": "name its claim in kubernetes.model_claim",
    "{model: /data/qwen, kubernetes: {model_claim: models}}": "write where it is in the pods: /models/...",
    "model: /opt/qwen": "If their image has it, or a volume of an overlay of yours, set kubernetes.model_in_pods",
    "model: weights/qwen/7b": "model: weights/qwen/7b is a folder of this machine, and pods have none of those",
    "roles: auto": "roles: auto decides when a cluster starts, and pods are asked for before",
    "encoders: {gpus: 0.5}": "encoders.gpus: a pod has whole GPUs; not 0.5",
    "encoders: {cpus: ['0-3']}": "encoders.cpus: which cores a pod gets, Kubernetes decides",
    "decoders: {labels: {ray.io/node-group: h100}}": "decoders.labels: the worker group is called decoder",
    "encoders: {labels: {chiasm-pool: 'in(encoder,decoder)'}}": "encoders.labels: the worker group is called encoder",
    "decoders: {labels: {ray.io/region: here}}": "decoders.labels: Ray sets ray.io/region itself",
    "decoders: {env: {HF_TOKEN: secret}}": "decoders.env: HF_TOKEN looks like a secret",
    "gateway: {api_keys: [secret]}": "gateway.api_keys: a ConfigMap is no place for keys",
    "gateway: {operator_keys: [secret]}": "gateway.operator_keys: a ConfigMap is no place for keys",
    "gateway: {port: 80}": "gateway.port: it is 8000 on Kubernetes",
    "scheduler: {port: 7000}": "scheduler.port: it is 7555 on Kubernetes",
    "wire: {port: 7000}": "wire.port: it is 7600 on Kubernetes",
    "kubernetes: {memory: {encoders: 4Gi}}": "kubernetes.memory.encoders: of 4Gi, 3328 MiB may be in /dev/shm",
    "{decoders: {labels: {a: b}, fallbacks: [{}]}, wholes: {count: 1}, kubernetes: {memory: {wholes: 6Gi}}}": (
        "kubernetes.memory.wholes: of 6Gi, 3328 MiB may be in /dev/shm"
    ),
    "kubernetes: {memory: {encoder: 4Gi}}": "kubernetes.memory: there is no part encoder",
    "kubernetes: {tolerations: {encoders: [spot]}}": 'kubernetes.tolerations.encoders: "spot" is no taint',
    "kubernetes: {memory: {encoders: 16GB}}": "kubernetes.memory",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_could_not_be_so_is_refused_with_its_reason(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text + "\n")
    result = run("--config", path, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert REFUSED[text] in str(result.output)
    assert "secret\n" not in result.output
    assert not (tmp_path / "out").exists()


def made(config: ClusterConfig, file: str) -> Any:
    return yaml.safe_load(rendered(config, "x")[f"overlays/x/{file}.yaml"])


def test_pods_read_a_configuration_that_finds_them(cluster: Path) -> None:
    text = made(load_config(cluster), "config")["data"]["cluster.yaml"]
    inside = ClusterConfig.model_validate(yaml.safe_load(text))
    assert inside.gateway.host == "0.0.0.0"
    assert inside.wire.port == 7600
    assert inside.encoders.count == 2
    assert inside.encoders.labels == {"chiasm-pool": "encoder"}
    assert inside.decoders.resources == {"chiasm-worker": 1.0}
    assert "kubernetes" not in text


def test_labels_of_ones_own_are_those_of_the_group() -> None:
    config = ClusterConfig.model_validate({"encoders": {"labels": {"card": "l40s", "ray.io/node-group": "encoder"}}})
    groups = {each["groupName"]: each for each in made(config, "raycluster")["spec"]["workerGroupSpecs"]}
    # The other one Ray gives the node by itself; the last tells it from nodes of other groups with cards like these.
    assert groups["encoder"]["labels"] == {"card": "l40s", "chiasm-pool": "encoder"}
    assert groups["decoder"]["labels"] == {"chiasm-pool": "decoder"}


def test_whole_workers_have_a_group_if_there_are_any() -> None:
    def groups(count: int) -> list[str]:
        config = ClusterConfig.model_validate({"wholes": {"count": count}})
        return [each["groupName"] for each in made(config, "raycluster")["spec"]["workerGroupSpecs"]]

    assert groups(0) == ["gateway", "encoder", "decoder"]
    assert groups(1) == ["gateway", "encoder", "decoder", "whole"]


@pytest.mark.parametrize(
    ("model", "section"),
    [
        ("/models/qwen", {"model_claim": "models"}),
        ("/models", {"model_claim": "models"}),
        ("/opt/qwen", {"model_in_pods": True}),
        ("Qwen/Qwen2.5-VL-7B-Instruct", {}),
        ("s3://bucket/qwen/7b", {}),
    ],
)
def test_a_model_may_be_in_the_claim_in_pods_or_elsewhere_for_all(model: str, section: dict[str, Any]) -> None:
    config = ClusterConfig.model_validate({"model": model, "kubernetes": section})
    assert yaml.safe_load(made(config, "config")["data"]["cluster.yaml"])["model"] == model


@pytest.mark.parametrize(
    ("fallbacks", "sizes"),
    [
        ([], {"encoder": "3328Mi", "decoder": "6400Mi", "whole": "2304Mi"}),
        ([{"chiasm-pool": "whole"}], {"encoder": "3328Mi", "decoder": "6400Mi", "whole": "6400Mi"}),
        ([{}], {"encoder": "6400Mi", "decoder": "6400Mi", "whole": "6400Mi"}),
    ],
)
def test_embeddings_have_room_wherever_a_decoder_may_be(fallbacks: list[Any], sizes: dict[str, str]) -> None:
    config = ClusterConfig.model_validate(
        {
            "decoders": {"labels": {"card": "a100"}, "fallbacks": fallbacks},
            "wholes": {"count": 1},
            "wire": {"landing_bytes": 4 << 30},
        }
    )
    found = {
        each["groupName"]: volume["emptyDir"]["sizeLimit"]
        for each in made(config, "raycluster")["spec"]["workerGroupSpecs"]
        for volume in each["template"]["spec"]["volumes"]
        if volume["name"] == "shm"
    }
    assert found == {"gateway": "256Mi", **sizes}


def test_a_claim_takes_the_place_of_copies() -> None:
    config = ClusterConfig.model_validate({"kubernetes": {"model_claim": "models"}})
    volumes = made(config, "raycluster")["spec"]["workerGroupSpecs"][1]["template"]["spec"]["volumes"]
    assert {"name": "models", "persistentVolumeClaim": {"claimName": "models"}} in volumes


def test_ray_lets_the_launcher_drain_before_it_kills_it() -> None:
    config = ClusterConfig.model_validate({"gateway": {"drain_s": 59.5}})
    [group] = [
        each for each in made(config, "raycluster")["spec"]["workerGroupSpecs"] if each["groupName"] == "gateway"
    ]
    env = {each["name"]: each.get("value") for each in group["template"]["spec"]["containers"][0]["env"]}
    assert env["RAY_JOB_STOP_WAIT_TIME_S"] == "240"  # Ray reads a whole number


def test_pods_are_not_killed_before_their_answers_are_over() -> None:
    config = ClusterConfig.model_validate({"gateway": {"drain_s": 59.5}})
    spec = made(config, "raycluster")["spec"]
    periods = {
        each["groupName"]: each["template"]["spec"].get("terminationGracePeriodSeconds")
        for each in spec["workerGroupSpecs"]
    }
    assert periods == {"gateway": 240, "encoder": 120, "decoder": 120}


def test_drains_leave_one_pod_of_each_pool() -> None:
    config = ClusterConfig.model_validate({"encoders": {"count": 8}, "decoders": {"count": 1}})
    budgets = yaml.safe_load_all(rendered(config, "x")["overlays/x/disruption.yaml"])
    assert {each["metadata"]["name"]: each["spec"]["minAvailable"] for each in budgets} == {
        "chiasm-gateway": 1,
        "chiasm-encoder": 7,
        "chiasm-decoder": 1,
    }


def test_new_secrets_are_new_and_kept_nowhere(cluster: Path) -> None:
    one, other = (run("--config", cluster, "--new-secrets").output for _ in range(2))
    keys = [
        yaml.safe_load(each["stringData"]["keys.yaml"])
        for text in (one, other)
        for each in yaml.safe_load_all(text)
        if each["metadata"]["name"] == "chiasm-keys"
    ]
    assert all(len(key) >= 43 for each in keys for key in (*each["api_keys"], *each["operator_keys"]))
    assert keys[0] != keys[1]
    assert not set(keys[0]["api_keys"]) & set(keys[0]["operator_keys"])


def test_changes_take_the_place_of_fields_and_of_entries(tmp_path: Path) -> None:
    base, changes = tmp_path / "cluster.yaml", tmp_path / "stealing.yaml"
    base.write_text("encoders: {count: 2}\nkubernetes: {memory: {head: 8Gi, encoders: 16Gi}}\n")
    changes.write_text("scheduler: {stealing: share}\nkubernetes: {memory: {encoders: 32Gi}}\n")
    config = with_changes(base, changes)
    assert config.scheduler.stealing == "share"
    assert config.encoders.count == 2
    assert config.kubernetes.memory == {"head": "8Gi", "encoders": "32Gi"}
    changes.write_text("scheduler: {steeling: share}\n")
    with pytest.raises(ConfigError, match=r"stealing\.yaml:1:13: .*steeling"):
        with_changes(base, changes)


def test_patches_test_what_they_replace() -> None:
    old = {"same": 1, "list": [1, 2], "gone": 0, "a/b~c": 1}
    new = {"same": 1, "list": [1, 3], "a/b~c": 2, "come": 4}
    assert operations(old, new) == [
        {"op": "test", "path": "/list/1", "value": 2},
        {"op": "replace", "path": "/list/1", "value": 3},
        {"op": "test", "path": "/gone", "value": 0},
        {"op": "remove", "path": "/gone"},
        {"op": "test", "path": "/a~1b~0c", "value": 1},
        {"op": "replace", "path": "/a~1b~0c", "value": 2},
        {"op": "add", "path": "/come", "value": 4},
    ]


def test_a_component_adds_no_objects() -> None:
    thing = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "one"}}
    with pytest.raises(Unlike):
        component([thing], [thing, {**thing, "metadata": {"name": "two"}}])


def test_quantities_and_taints() -> None:
    assert in_bytes("16Gi") == 16 << 30
    with pytest.raises(ValueError, match="16GB is no amount"):
        in_bytes("16GB")
    assert toleration("spot=true:NoSchedule") == {
        "key": "spot",
        "operator": "Equal",
        "value": "true",
        "effect": "NoSchedule",
    }
    assert toleration("nvidia.com/gpu:NoExecute")["operator"] == "Exists"
