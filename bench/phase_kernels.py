"""Which kernels a piece of work spends its time in, and what those between the matrix products move.

Three kinds: matrix products, attention, and the rest: norms, rotations, activations, copies. In a model that runs
operation by operation each of the rest reads its inputs from memory and writes its outputs there.
"""

import math
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.phase_timing import Call, wait_for
from chiasm.telemetry.signature.roofline import Division

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
LOOK_UPS = ("embedding", "index", "index_select", "gather")  # that read only as much of a table as they return
OVERWRITES = ("copy_", "fill_", "zero_")  # whose destination, the first argument, is not read
CALLS = 2  # that are timed kernel by kernel


def divide(call: Call, device: str, seconds: float, count_bytes: bool) -> Division:
    """How the `seconds` that a call takes divide among kinds of kernels.

    The bytes of the rest are counted operation by operation, so not of compiled code, whose operations are fused.

    Raises:
        RuntimeError: torch's profiler saw nothing that ran.
    """
    products, attention = _kernel_seconds(call, device)
    moved = _BytesOfTheRest()
    if count_bytes:
        with moved:
            call()
    return Division(
        product_seconds=products,
        attention_seconds=attention,
        rest_seconds=max(0.0, seconds - products - attention),
        rest_kernels=moved.kernels if count_bytes else None,
        rest_bytes=moved.nbytes if count_bytes else None,
    )


def _kernel_seconds(call: Call, device: str) -> tuple[float, float]:
    """Of one call, in matrix products and in attention."""
    cuda = device == "cuda"
    call()
    wait_for(device)
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as seen:
        for _ in range(CALLS):
            call()
        wait_for(device)
    seconds = {"products": 0.0, "attention": 0.0, "rest": 0.0}
    for event in seen.events():
        if event.device_type == DeviceType.CPU:  # the operation, which knows of the kernels that it launched
            own = event.self_device_time_total if cuda else event.self_cpu_time_total
            seconds[_kind(event.name.removeprefix("aten::"))] += own / 1e6 / CALLS
    if not any(seconds.values()):
        raise RuntimeError("torch's profiler saw no kernels")
    return seconds["products"], seconds["attention"]


def _kind(operation: str) -> str:
    if operation in PRODUCTS:
        return "products"
    if "fused" in operation:  # a compiler's kernel, which is named after all that went into it
        return "rest"
    return "attention" if "attention" in operation or "varlen_attn" in operation else "rest"


class _BytesOfTheRest(TorchDispatchMode):
    """Counts the operations of the rest that move something while it is entered, and their inputs and outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        operation = func.overloadpacket.__name__
        if _kind(operation) == "rest" and "empty" not in operation:
            inputs, outputs = _tensors((args, kwargs)), _tensors(out)
            if func._schema.is_mutable or not _places(outputs) <= _places(inputs):  # else it is another view
                self.kernels += 1
                self.nbytes += _nbytes(outputs) + _nbytes_read(func, args, kwargs or {}, _nbytes(outputs))
        return out


def _nbytes_read(func: Any, args: Any, kwargs: dict[str, Any], written: int) -> int:
    operation = func.overloadpacket.__name__
    destinations = {argument.name for argument in func._schema.arguments if argument.is_out}
    inputs = _tensors((args[operation in OVERWRITES :], [kwargs[name] for name in kwargs.keys() - destinations]))
    if operation in LOOK_UPS:
        table, *places = inputs
        return min(_nbytes([table]), written) + _nbytes(places)
    return _nbytes(inputs)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _places(tensors: list[torch.Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def _nbytes(tensors: list[torch.Tensor]) -> int:
    """In memory: what is expanded along a dimension lies there once."""
    return sum(
        tensor.itemsize
        * math.prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or not size)
        for tensor in tensors
    )
