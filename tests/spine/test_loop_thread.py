"""The thread inside every actor."""

import asyncio
import subprocess
import sys

import pytest

from chiasm.loop_thread import LoopThread


def test_a_call_runs_beside_the_program() -> None:
    loop = LoopThread("test", asyncio.Event().wait)

    async def answer() -> int:
        return 42

    assert loop.call(answer, 5) == 42
    loop.stop(5)
    assert not loop.running
    assert loop.error is None


def test_a_stopped_program_cleans_up() -> None:
    cleaned = []

    async def program() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    LoopThread("test", program).stop(5)
    assert cleaned == [True]


def test_who_calls_a_failed_program_is_told_why() -> None:
    async def program() -> None:
        raise OSError("the port is taken")

    async def answer() -> int:
        return 42

    loop = LoopThread("test", program)
    loop.stop(5)  # that is, wait for its end
    with pytest.raises(RuntimeError, match="the port is taken"):
        loop.call(answer, 5)


def test_who_waits_for_a_program_that_fails_is_told_why() -> None:
    async def program() -> None:
        await asyncio.sleep(0.1)
        raise OSError("the port is taken")

    loop = LoopThread("test", program)
    with pytest.raises(RuntimeError, match="the port is taken"):
        loop.call(asyncio.Event().wait, 5)


def test_a_call_that_takes_too_long_is_given_up() -> None:
    loop = LoopThread("test", asyncio.Event().wait)
    with pytest.raises(TimeoutError):
        loop.call(asyncio.Event().wait, 0.01)
    loop.stop(5)


def test_an_actor_whose_vital_program_fails_ends() -> None:
    code = """
import asyncio, time
from chiasm.loop_thread import LoopThread
async def program():
    while not loop.vital: await asyncio.sleep(0.01)
    raise ValueError("broken")
loop = None
async def start():
    global loop
    while loop is None: await asyncio.sleep(0.01)
    await program()
loop = LoopThread("test", start)
loop.vital = True
time.sleep(30)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=25, check=False)
    assert run.returncode == 1
    assert "ValueError: broken" in run.stderr
