"""Whether a pool's workers can come to pods of theirs, as far as labels and cards tell.

What Ray says of a node is otherwise than on hosts of one's own: nobody starts Ray there with labels that choose among
several, and a pod has the cards that it asks for, or none.
"""

from collections.abc import Iterator

from chiasm.config import ClusterConfig
from chiasm.kubernetes.names import POOL_LABEL, pools
from chiasm.kubernetes.placement import groups_with
from chiasm.labels import is_label_value, named_values
from chiasm.pools import PoolConfig
from chiasm.silicon.cards import UnknownCard, cards_called
from chiasm.silicon.fleet import ACCELERATOR_LABEL

CARD_LABELS = ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator")
"""Labels of Kubernetes nodes that name a card, which nobody asks for who does not want it: NVIDIA's and GKE's."""


def unreachable(name: str, pool: PoolConfig, nodes: dict[str, str]) -> Iterator[str]:
    """Why the workers of the pool with that name would wait for ever, or never take one of its fallbacks; `nodes` are
    labels of the nodes of its pods."""
    for key, wanted in pool.labels.items():
        if not key.startswith("ray.io/") and key != POOL_LABEL and not is_label_value(wanted):
            yield (
                f"{name}.labels: {wanted} for {key} chooses among nodes, and the pods of a pool are made alike. Write "
                f"the value that they are to have. Kubernetes' nodes are chosen by kubernetes.nodes.{name}."
            )
    for field, labels in (("labels", pool.labels), *(("fallbacks", labels) for labels in pool.fallbacks)):
        if ACCELERATOR_LABEL in labels:
            yield from _misspelt(f"{name}.{field}", labels[ACCELERATOR_LABEL])
    if not pool.gpus and (told := _names_a_card(name, pool, nodes)):
        yield f"{name}.gpus: {told}, and 0 gives its pods no card. Set it to 1 or more, or leave the label out."


def led_nowhere(config: ClusterConfig) -> Iterator[str]:
    """Fallbacks that lead to no pods which are made; an operator may have others."""
    for name, pool in pools(config).items():
        for labels in pool.fallbacks:
            if not groups_with(config, labels, pool.gpus):
                named = ", ".join(f"{key} {wanted}" for key, wanted in labels.items())
                cards = " and GPUs enough" if pool.gpus else ""
                yield (
                    f"{name}.fallbacks: no group that is made of this file has pods with {named}{cards}. Choose by "
                    "another label, or add such a group in an overlay of yours."
                )


def _misspelt(field: str, wanted: str) -> Iterator[str]:
    for value in named_values(wanted)[1]:
        try:
            names = sorted({card.ray for card in cards_called(value)})
        except UnknownCard:
            continue
        if value not in names:
            yield f"{field}: Ray calls no card {value}. Its name for that one is {' or '.join(names)}."


def _names_a_card(name: str, pool: PoolConfig, nodes: dict[str, str]) -> str | None:
    if key := next((key for key in CARD_LABELS if key in nodes), None):
        return f"kubernetes.nodes.{name} wants nodes with {key} {nodes[key]}"
    wanted = pool.labels.get(ACCELERATOR_LABEL)
    if wanted and named_values(wanted)[0]:
        return f"{name}.labels wants {ACCELERATOR_LABEL} {wanted}"
    return None
