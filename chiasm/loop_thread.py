"""An asyncio program in a thread of its own: the inside of every Chiasm actor, whose methods stay plain and quick."""

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")


class LoopThread:
    """Runs `program` until it ends or `stop` is called. Start it once.

    `vital`: its failure ends the process. Set at once where nobody would hear of it, else by who has seen it come up.
    """

    def __init__(self, name: str, program: Callable[[], Coroutine[Any, Any, None]], vital: bool = False) -> None:
        self._program = program
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._started = threading.Event()
        self.error: BaseException | None = None
        self.vital = vital
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        self._started.wait()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # handed to whoever calls: a thread has nobody to raise to
            logger.exception("%s ended", threading.current_thread().name)
            self.error = error
            if self.vital:
                os._exit(1)  # an actor whose program is gone is of no use; Ray makes a new one
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._started.set()
        await self._program()

    @property
    def running(self) -> bool:
        """Whether the program still runs."""
        return self._thread.is_alive()

    def call(self, make: Callable[[], Coroutine[Any, Any, T]], timeout_s: float) -> T:
        """Run a coroutine beside the program, from another thread, and return its result.

        Raises:
            TimeoutError: it took longer than `timeout_s`, and was cancelled.
            RuntimeError: the program has ended; the message says why.
        """
        if self._loop is None or not self.running:
            raise RuntimeError(f"{self._thread.name} has ended: {self.error}")
        future = asyncio.run_coroutine_threadsafe(make(), self._loop)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise
        except concurrent.futures.CancelledError:  # it ended meanwhile
            self._thread.join(timeout_s)
            raise RuntimeError(f"{self._thread.name} has ended: {self.error}") from None

    def stop(self, timeout_s: float) -> None:
        """Cancel the program, and wait until it has cleaned up after itself."""
        if self._loop is not None and self._task is not None and self.running:
            with contextlib.suppress(RuntimeError):  # it may end by itself at this very moment
                self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(timeout_s)
