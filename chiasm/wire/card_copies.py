"""Tensors from a card into host memory, and from host memory onto a card, through a few pinned buffers.

Copies run on a stream of their own, in pieces, so that one piece crosses the bus while the processor moves another, and
the pinned memory is bounded whatever an item's size: `SLOTS` pieces for each object and card. Where there is no CUDA,
or no memory can be pinned, they are ordinary copies. Imports torch; one thread uses each object.
"""

import logging
from collections import deque

import torch

logger = logging.getLogger(__name__)

PIECE_BYTES = 4 << 20
SLOTS = 3  # one fills, one empties, one is ready


class _Slot:
    """A pinned buffer, and when the copy that last used it is done."""

    def __init__(self, memory: torch.Tensor) -> None:
        self.memory = memory
        self.done = torch.cuda.Event()


class _Card:
    """A stream for copies, and the buffers that they go through, in turn."""

    def __init__(self, device: torch.device, buffers: list[torch.Tensor]) -> None:
        self.stream = torch.cuda.Stream(device)
        self.piece_bytes = buffers[0].numel()
        with torch.cuda.device(device):
            self._slots = deque([_Slot(buffer) for buffer in buffers])

    def next_slot(self) -> _Slot:
        """The one that was used longest ago."""
        self._slots.rotate(-1)
        return self._slots[-1]


class _Cards:
    """Those that were used so far, by device."""

    def __init__(self, piece_bytes: int) -> None:
        self.piece_bytes = piece_bytes
        self._cards: dict[torch.device, _Card | None] = {}

    def of(self, device: torch.device) -> _Card | None:
        """The card; None where copies have to be ordinary ones, which is found out, and logged, once."""
        if device not in self._cards:
            # Engines run in inference mode, and what is made there could not be written to outside it.
            with torch.cuda.device(device), torch.inference_mode(False):
                buffers = _pinned_buffers(device, self.piece_bytes)
            self._cards[device] = None if buffers is None else _Card(device, buffers)
        return self._cards[device]


def _pinned_buffers(device: torch.device, nbytes: int) -> list[torch.Tensor] | None:
    """`SLOTS` of them; None, which is logged, where the driver has none to give."""
    try:
        return [_pin(nbytes) for _ in range(SLOTS)]
    except RuntimeError as error:
        logger.warning(
            "embeddings of %s are copied the slow way, and a step waits for each: the driver gave no pinned memory "
            "(%d MiB): %s",
            device,
            SLOTS * nbytes >> 20,
            str(error).splitlines()[0],
        )
        return None


def _pin(nbytes: int) -> torch.Tensor:
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)


class ToHost:
    """Makes host copies of tensors that a card has just been told to compute."""

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._cards = _Cards(piece_bytes)

    def copy(self, tensor: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Its values in ordinary host memory, contiguous and alone, and whether all of them are finite.

        From a card it is a copy, which is done when this returns: it waits for what computes the tensor on the current
        stream, and for no other stream. One piece or less goes without the buffers, which only cost it time. A host's
        own tensor is copied only if it is a part of a larger one.
        """
        tensor = tensor.detach()
        in_pieces = tensor.is_cuda and tensor.nbytes > self._cards.piece_bytes
        card = self._cards.of(tensor.device) if in_pieces else None
        if card is None:
            host = _own(tensor.to("cpu").contiguous())
            return host, is_finite(host)
        card.stream.wait_stream(torch.cuda.current_stream(tensor.device))
        with torch.cuda.stream(card.stream):
            source = tensor.contiguous()
            finite = _finite(source)
            host = torch.empty(source.shape, dtype=source.dtype)
            _through_slots(card, _bytes_of(source), _bytes_of(host))
            # By now the card has read all of the tensor, so its memory may become another's as soon as we return.
            return host, bool(finite)


class ToDevice:
    """Puts tensors from host memory onto a device. `cuda` without a number is the card that is current at a copy."""

    def __init__(self, device: torch.device, piece_bytes: int = PIECE_BYTES) -> None:
        self._device = device
        self._cards = _Cards(piece_bytes)

    def copy(self, host: torch.Tensor) -> torch.Tensor:
        """The contiguous tensor on the device, to be used on the current stream at once.

        Its bytes have been read when this returns, which does not wait for what runs there, unless torch has to ask the
        driver for memory. That memory is the copying stream's: torch shares free memory among no streams, and an engine
        that sized its caches by what its own steps took has not seen it.

        Raises:
            torch.OutOfMemoryError: the card has no room left for it.
        """
        if self._device.type != "cuda":
            return host.to(self._device)
        number = torch.cuda.current_device() if self._device.index is None else self._device.index
        device = torch.device("cuda", number)
        card = self._cards.of(device)
        if card is None:
            return host.to(device)
        using = torch.cuda.current_stream(device)
        with torch.cuda.stream(card.stream):
            # Memory of the copying stream: that of the current one may still be read there by what was queued before.
            tensor = torch.empty(host.shape, dtype=host.dtype, device=device)
            source, target = _bytes_of(host.contiguous()), _bytes_of(tensor)
            for start in range(0, source.numel(), card.piece_bytes):
                piece = source[start : start + card.piece_bytes]
                slot = card.next_slot()
                slot.done.synchronize()
                slot.memory[: piece.numel()].copy_(piece)
                target[start : start + piece.numel()].copy_(slot.memory[: piece.numel()], non_blocking=True)
                slot.done.record(card.stream)
        using.wait_stream(card.stream)
        tensor.record_stream(using)  # freed, it goes back to the copying stream, and only when `using` is past it
        return tensor


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether no value is NaN or infinite; so with whole numbers, and where there are no values."""
    return bool(_finite(tensor))


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """The answer on the tensor's device.

    By the extremes, which a NaN also is: `isfinite` takes temporary memory of several times the tensor, which a card
    that an engine has filled may lack, and on a CPU many times as long.
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.numel() == 0 or not tensor.is_floating_point():
        return torch.ones((), dtype=torch.bool, device=tensor.device)
    if tensor.itemsize == 1:  # torch finds no extremes of float8, whose values bfloat16 has all
        tensor = tensor.to(torch.bfloat16)
    return torch.stack(torch.aminmax(tensor)).isfinite().all()


def _through_slots(card: _Card, source: torch.Tensor, target: torch.Tensor) -> None:
    """Copy bytes of the card into host memory, on the current stream; returns when they are there."""
    crossing: deque[tuple[_Slot, torch.Tensor]] = deque()

    def land() -> None:
        slot, part = crossing.popleft()
        slot.done.synchronize()
        part.copy_(slot.memory[: part.numel()])

    for start in range(0, source.numel(), card.piece_bytes):
        piece = source[start : start + card.piece_bytes]
        if len(crossing) == SLOTS:
            land()
        slot = card.next_slot()
        slot.memory[: piece.numel()].copy_(piece, non_blocking=True)
        slot.done.record(card.stream)
        crossing.append((slot, target[start : start + piece.numel()]))
    while crossing:
        land()


def _bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(-1).view(torch.uint8)


def _own(host: torch.Tensor) -> torch.Tensor:
    if host.untyped_storage().nbytes() > host.nbytes:
        return host.clone()  # a slice of a batch would keep the whole batch in memory
    return host
