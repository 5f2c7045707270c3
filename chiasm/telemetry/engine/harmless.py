"""What keeps a fault of our measuring from being one of the engine. Imports nothing of Chiasm, and no vLLM.

vLLM measures in the task that hands out all answers: an exception there ends it, and with it every request for good.
"""

import logging
from types import TracebackType

logger = logging.getLogger(__name__)


class Harmless:
    """A context that no exception leaves; the first is logged, with what was to be `measured`."""

    def __init__(self, measured: str) -> None:
        self._measured = measured
        self._told = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        if not self._told:
            self._told = True
            logger.error(
                "Some %s could not be measured. Requests go on, and further failures are not logged. Is this the "
                "version of vLLM that Chiasm is made for?",
                self._measured,
                exc_info=error,
            )
        return True
