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

    def __init__(self, nbytes: int) -> None:
        self.memory = torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
        self.done = torch.cuda.Event()


class _Card:
    """A stream for copies, and the buffers that they go through, in turn.

    Raises:
        RuntimeError: the host gives no pinned memory.
    """

    def __init__(self, device: torch.device, piece_bytes: int) -> None:
        self.stream = torch.cuda.Stream(device)
        self.piece_bytes = piece_bytes
        # Engines run in inference mode, and what is made there could not be written to outside it.
        with torch.cuda.device(device), torch.inference_mode(False):
            self._slots = deque([_Slot(piece_bytes) for _ in range(SLOTS)])

    def next_slot(self) -> _Slot:
        """The one that was used longest ago."""
        self._slots.rotate(-1)
        return self._slots[-1]


class _Cards:
    """Those that were used so far, by device."""

    def __init__(self, piece_bytes: int) -> None:
        self._piece_bytes = piece_bytes
        self._cards: dict[torch.device, _Card | None] = {}

    def of(self, device: torch.device) -> _Card | None:
        """The card; None where copies have to be ordinary ones, which is found out, and logged, once."""
        if device not in self._cards:
            try:
                self._cards[device] = _Card(device, self._piece_bytes)
            except RuntimeError as error:
                self._cards[device] = None
                logger.warning(
                    "embeddings are copied the slow way, a step waits for each: no %d MiB of host memory can be "
                    "pinned for %s: %s. In a container, raise its limit of locked memory (ulimit -l)",
                    SLOTS * self._piece_bytes >> 20,
                    device,
                    str(error).splitlines()[0],
                )
        return self._cards[device]


class ToHost:
    """Makes host copies of tensors that a card has just been told to compute."""

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._cards = _Cards(piece_bytes)

    def copy(self, tensor: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Its values in ordinary host memory, contiguous and alone, and whether all of them are finite.

        From a card it is a copy; it waits for what computes the tensor on the current stream, and for no other stream.
        A host's own tensor is copied only if it is a part of a larger one.
        """
        tensor = tensor.detach()
        card = self._cards.of(tensor.device) if tensor.is_cuda else None
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

        Does not wait for what runs there. Its bytes have been read when this returns.
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
    """Whether no value is NaN or infinite."""
    return bool(_finite(tensor))


def _finite(tensor: torch.Tensor) -> torch.Tensor:
    """The answer on the tensor's device.

    By the extremes, which a NaN also is: `isfinite` takes temporary memory of several times the tensor, which a card
    that an engine has filled may lack, and on a CPU many times as long.
    """
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
