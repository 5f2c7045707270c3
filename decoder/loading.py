"""From a landed file to a tensor: what a decoder's worker process does with an item. Must not import vLLM."""

import mmap
import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Load:
    """One landed item that the worker puts into vLLM's encoder cache."""

    path: str
    shape: tuple[int, int]
    dtype: str


def map_tensor(load: Load) -> torch.Tensor:
    """The landed item as a tensor over the file's own pages; its memory lives as long as the tensor."""
    descriptor = os.open(load.path, os.O_RDONLY)
    try:
        # Private, so that torch gets the writable memory it wants without being able to change the file.
        pages = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE)
    finally:
        os.close(descriptor)
    return torch.frombuffer(pages, dtype=getattr(torch, load.dtype)).view(load.shape)
