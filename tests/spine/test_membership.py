"""Workers of another version of Chiasm than their cluster's."""

from typing import Any

import pytest

from chiasm import __version__
from chiasm.landing import Landing
from chiasm.membership import Membership
from chiasm.whole import WholeWorker
from decoder.worker import DecoderWorker
from encoder.worker import EncoderWorker

OTHERS: Any = object()  # what another version hands over has nothing that this one looks for


@pytest.mark.parametrize("worker", [EncoderWorker, DecoderWorker, WholeWorker])
def test_a_worker_that_is_of_another_version_says_just_that(worker: Any) -> None:
    membership = Membership(OTHERS, OTHERS, "token", OTHERS, "ipc:///nowhere", one_machine=True, version="0.0.9")
    said = f"Chiasm {__version__} is installed here, and the cluster is one of Chiasm 0.0.9"
    with pytest.raises(RuntimeError, match=said):
        worker("a name", membership, lambda: Landing("127.0.0.1"), None)
