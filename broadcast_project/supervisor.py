"""Keeps the processes of one machine running, each in a process group of its own."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

FIRST_PAUSE = 0.5  # seconds before a part that died is started again; doubles each time
LONGEST_PAUSE = 10.0  # seconds; a part that ran as long begins at the first pause again
STOP_TIMEOUT = 15.0  # seconds between SIGTERM and SIGKILL

Write = Callable[[str, str], None]


class Supervisor:
    """`write(part, line)` receives what the parts print and what happens to them."""

    def __init__(self, commands: Mapping[str, Sequence[str]], write: Write) -> None:
        self.commands = commands
        self.write = write
        self.stopping = asyncio.Event()
        self.killing = asyncio.Event()

    async def run(self) -> None:
        """Return when every part has ended, after SIGINT or SIGTERM; the second one kills."""
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        async with asyncio.TaskGroup() as tasks:
            for name, command in self.commands.items():
                tasks.create_task(self._keep(name, command))

    def stop(self) -> None:
        (self.killing if self.stopping.is_set() else self.stopping).set()

    async def _keep(self, name: str, command: Sequence[str]) -> None:
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(name, command)
            if self.stopping.is_set():
                break
            if time.monotonic() - started >= LONGEST_PAUSE:
                pause = FIRST_PAUSE
            self.write(name, f"{name} {_ending(code)}; starts again in {pause:g} s")
            await _until(self.stopping, seconds=pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _run_once(self, name: str, command: Sequence[str]) -> int:
        output, end = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=end,
                stderr=end,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                process_group=0,  # a terminal's Ctrl-C is for the supervisor alone
                preexec_fn=_end_with_parent,
            )
        finally:
            os.close(end)
        copying = asyncio.create_task(self._copy(name, output))
        exited = asyncio.create_task(process.wait())
        try:
            await _until(self.stopping, exited)
            if not exited.done():
                process.terminate()
                await _until(self.killing, exited, seconds=STOP_TIMEOUT)
            if not exited.done():
                self.write(name, f"{name} is killed: it did not stop when it was asked to")
        finally:
            # Whatever the part started and left behind would hold its ports and its queue.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        await copying
        return await exited

    async def _copy(self, name: str, output: int) -> None:
        async for line in _lines(output):
            self.write(name, line.decode(errors="replace"))


async def _until(
    event: asyncio.Event, *tasks: asyncio.Task[int], seconds: float | None = None
) -> None:
    """Wait for the event, a task or the time, whichever is first; cancel no task."""
    happens = asyncio.create_task(event.wait())
    await asyncio.wait({happens, *tasks}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    happens.cancel()


async def _lines(descriptor: int) -> AsyncIterator[bytes]:
    # A pipe of asyncio's own would make `wait()` last until grandchildren close it, too.
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(descriptor, "rb")
    )
    rest = b""
    while chunk := await stream.read(65_536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest
    transport.close()


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code >= 0 else f"was ended by {_signal(-code)}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        return f"signal {number}"


PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Runs in the child: even `kill -9` of the supervisor leaves nothing behind (Linux)."""
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
