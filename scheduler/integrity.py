"""What must hold between the books of the core's parts. Imports only its neighbours."""

from scheduler.counters import ended
from scheduler.directory import Directory
from scheduler.encodes import Encodes
from scheduler.roster import Roster
from scheduler.table import WorkerTable


def check_together(
    workers: WorkerTable, directory: Directory, encodes: Encodes, roster: Roster, counters: dict[str, int]
) -> None:
    """Raises AssertionError where two parts do not agree, though each by itself does. It scans everything."""
    submitted = ended(counters) + len(roster.live)
    assert counters["submitted"] == submitted, "a request has ended twice, or never"
    held = [request for worker in workers.all_decoders() for request in worker.running]
    assert roster.held == len(held), "requests that engines hold are miscounted"
    decoding = [one.id for one in roster.live.values() if one.decoder is not None and one.decoder.registered]
    assert sorted(held) == sorted(decoding), "a request holds a credit and does not decode, or the other way round"
    assert not any(uuid in directory for uuid in encodes), "an item is encoded that an encoder holds"
    for encoder in workers.encoders.values():
        entries = directory.entries_of(encoder.id)
        kept = sum(entry.nbytes for entry in entries if entry.ready)
        assert encoder.ready_bytes == kept, f"{encoder.id}: bytes kept for ready requests"
        for entry in entries:
            ready = sum(roster.live[user].kept for user in entry.users)
            assert entry.ready == ready, f"{entry.embedding.uuid} is kept for requests that are not ready"
    assert set(directory.workers()) <= workers.encoders.keys(), "an embedding is said to lie on a worker that is gone"
