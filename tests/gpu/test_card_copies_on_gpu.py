"""Embeddings from a card's memory over the real transport into a card's memory, and the copies at both ends."""

import queue
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch

from chiasm.config import WireConfig
from chiasm.wire.card_copies import SLOTS, ToDevice, ToHost
from chiasm.wire.fetcher import EmbeddingFetcher, FetchResult
from chiasm.wire.protocol import layout_hash
from chiasm.wire.server import EmbeddingServer
from chiasm.wire.store import EmbeddingStore
from decoder.landing import ItemState, Landing
from decoder.loading import Load, map_tensor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
]

PIECE = 64 << 10  # so that a tensor takes many pieces
TOKENS, WIDTH = 1296, 2048  # a picture of 1008 x 1008 for Qwen2.5-VL-3B
BUSY_CYCLES = 200_000_000  # a tenth of a second of a stream's time
PATIENCE_S = 30


@pytest.fixture
def device() -> Iterator[torch.device]:
    yield torch.device("cuda")
    torch.cuda.synchronize()


def embedding(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(TOKENS, WIDTH, device=device).to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_bytes_come_over_as_they_were(device: torch.device, tmp_path: Path, dtype: torch.dtype) -> None:
    sent = embedding(device, dtype)
    host, finite = ToHost(PIECE).copy(sent)
    assert finite
    name = str(dtype).removeprefix("torch.")
    layout = layout_hash("revision", name, WIDTH)
    store = EmbeddingStore(64 << 20, lease_s=60, on_evict=lambda key: None)
    store.publish("a", host.view(torch.uint8).numpy().data, (TOKENS, WIDTH), name, layout)
    landing = Landing(tmp_path / "landed", 64 << 20)
    landing.reserve("request", {"a": host.nbytes})
    landing.item("a").state = ItemState.FETCHING
    results: queue.SimpleQueue[FetchResult] = queue.SimpleQueue()
    server = EmbeddingServer(store, f"ipc://{tmp_path}/s", WireConfig())
    with closing(server), closing(EmbeddingFetcher(WireConfig(), None, "auto", landing.open_buffer)) as fetcher:
        endpoint = server.start()
        fetcher.fetch("a", endpoint, (TOKENS, WIDTH), name, layout, results.put)
        result = results.get(timeout=PATIENCE_S)
    assert result.ok, result.detail
    landed = map_tensor(Load(str(landing.item("a").path), (TOKENS, WIDTH), name))
    received = ToDevice(device, PIECE).copy(landed)
    assert received.device.type == "cuda"
    assert received.dtype == dtype
    assert torch.equal(received.view(torch.uint8), sent.view(torch.uint8))


def test_a_copy_to_the_host_waits_for_what_computes_the_tensor(device: torch.device) -> None:
    copies = ToHost(PIECE)
    copies.copy(embedding(device))  # all is set up
    expected = embedding(device)
    tensor = torch.zeros_like(expected)
    torch.cuda.synchronize()
    torch.cuda._sleep(BUSY_CYCLES)
    tensor.copy_(expected)  # runs on the current stream, long after this line has returned
    host, _ = copies.copy(tensor)
    assert torch.equal(host, expected.cpu())


def test_a_copy_to_the_host_does_not_wait_for_what_was_queued_on_another_stream(device: torch.device) -> None:
    copies = ToHost(PIECE)
    tensor = embedding(device)
    copies.copy(tensor)
    torch.cuda.synchronize()
    other = torch.cuda.Stream()
    done = torch.cuda.Event()
    with torch.cuda.stream(other):
        torch.cuda._sleep(5 * BUSY_CYCLES)
        done.record()
    host, _ = copies.copy(tensor)
    assert not done.query()
    assert torch.equal(host, tensor.cpu())


def test_a_tensor_that_is_freed_at_once_is_copied_whole(device: torch.device) -> None:
    copies = ToHost(PIECE)
    for _ in range(20):
        tensor = embedding(device)
        expected = tensor.cpu()
        host, _ = copies.copy(tensor * 1)  # nobody else holds the product
        torch.full_like(tensor, -1.0)  # takes the memory that the product had
        assert torch.equal(host, expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_told(device: torch.device, bad: float) -> None:
    tensor = embedding(device)
    tensor[TOKENS // 2, 7] = bad
    host, finite = ToHost(PIECE).copy(tensor)
    assert not finite
    assert torch.equal(host.view(torch.uint8), tensor.cpu().view(torch.uint8))


def test_a_slice_of_a_batch_is_copied_alone(device: torch.device) -> None:
    batch = embedding(device)
    host, _ = ToHost(PIECE).copy(batch[100:200])
    assert torch.equal(host, batch[100:200].cpu())
    assert host.untyped_storage().nbytes() == host.nbytes
    across, _ = ToHost(PIECE).copy(batch[:, 10:20])
    assert torch.equal(across, batch[:, 10:20].cpu())


def test_pinned_memory_is_used_again_and_bounded(device: torch.device) -> None:
    to_host, to_device = ToHost(PIECE), ToDevice(device, PIECE)
    torch.cuda.init()
    before = pinned_bytes()
    for _ in range(10):
        tensor = embedding(device)  # 81 pieces
        host, _ = to_host.copy(tensor)
        assert not host.is_pinned()
        back = to_device.copy(host)
        assert torch.equal(back, tensor)  # each time others: a buffer used too early would show old bytes
    assert pinned_bytes() - before <= 2 * SLOTS * PIECE


def test_a_tensor_of_one_piece_needs_no_pinned_memory(device: torch.device) -> None:
    tensor = embedding(device)
    torch.cuda.synchronize()
    before = pinned_bytes()
    host, finite = ToHost(tensor.nbytes).copy(tensor)
    assert finite
    assert torch.equal(host, tensor.cpu())
    assert pinned_bytes() == before


def pinned_bytes() -> int:
    return int(torch.cuda.host_memory_stats()["allocated_bytes.current"])


def test_what_lands_on_the_card_is_there_for_the_current_stream(device: torch.device) -> None:
    copies = ToDevice(device)  # two pieces, fewer than there are buffers: the host waits for none
    first, second = (embedding(torch.device("cpu")) for _ in range(2))
    card = copies._cards.of(torch.device("cuda", torch.cuda.current_device()))
    assert card is not None
    slept, read = torch.cuda.Event(), torch.cuda.Event()
    with torch.cuda.stream(torch.cuda.Stream()):
        landed = copies.copy(first)
        # A kernel's first launch loads it, and new memory comes from the driver: either may wait for the whole card,
        # and would then hide that the reader does not wait by itself.
        seen = torch.mul(landed, 1)
        del landed
        torch.cuda.synchronize()
        with torch.cuda.stream(card.stream):
            torch.cuda._sleep(5 * BUSY_CYCLES)  # the copy comes after this, and whoever reads must come after the copy
            slept.record()
        landed = copies.copy(second)
        torch.mul(landed, 1, out=seen)
        read.record()
        assert not slept.query()  # all is queued, and nothing of it has made the host wait
    read.synchronize()
    assert slept.query()
    assert torch.equal(seen.cpu(), second)


def test_memory_that_is_freed_is_read_to_the_end_before_another_gets_it(device: torch.device) -> None:
    torch.cuda.empty_cache()  # so that the memory of the one would be the first choice for the other
    copies = ToDevice(device)
    first, second = (embedding(torch.device("cpu")) for _ in range(2))
    landed = copies.copy(first)
    seen = torch.empty_like(landed)
    torch.cuda.synchronize()
    read = torch.cuda.Event()
    torch.cuda._sleep(5 * BUSY_CYCLES)
    seen.copy_(landed)  # on the current stream, long after this line has returned
    read.record()
    del landed
    other = copies.copy(second)
    assert not read.query()
    assert torch.equal(seen.cpu(), first)
    assert torch.equal(other.cpu(), second)


def test_landing_on_the_card_does_not_wait_for_the_step_that_runs(device: torch.device) -> None:
    copies = ToDevice(device, PIECE)
    host = embedding(torch.device("cpu"))
    copies.copy(host)
    torch.cuda.synchronize()
    done = torch.cuda.Event()
    torch.cuda._sleep(10 * BUSY_CYCLES)
    done.record()
    tensor = copies.copy(host)
    assert not done.query()  # the step still runs, and the host goes on
    assert torch.equal(tensor.cpu(), host)


def test_buffers_made_in_inference_mode_serve_outside_it(device: torch.device) -> None:
    to_host, to_device = ToHost(PIECE), ToDevice(device, PIECE)
    tensor = embedding(device)
    with torch.inference_mode():
        to_device.copy(to_host.copy(tensor)[0])
    host, finite = to_host.copy(tensor)
    assert finite
    assert torch.equal(to_device.copy(host), tensor)


def test_where_nothing_can_be_pinned_copies_are_ordinary_ones(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(nbytes: int) -> torch.Tensor:
        raise RuntimeError("CUDA error: OS call failed or operation not supported on this OS")

    monkeypatch.setattr("chiasm.wire.card_copies._pin", refuse)
    tensor = embedding(device)
    host, finite = ToHost(PIECE).copy(tensor)
    assert finite
    assert torch.equal(host, tensor.cpu())
    assert torch.equal(ToDevice(device, PIECE).copy(host), tensor)


def test_the_check_takes_next_to_no_memory_of_the_card(device: torch.device) -> None:
    copies = ToHost(PIECE)
    tensor = embedding(device)
    copies.copy(tensor)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    copies.copy(tensor)
    assert torch.cuda.max_memory_allocated() - before < tensor.nbytes / 10
