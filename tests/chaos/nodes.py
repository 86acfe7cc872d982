"""The Ray nodes of a run, each a program of its own: starting them, and bringing back what is gone."""

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

START_S = 60.0
ASK_S = 45.0


@dataclass(frozen=True, slots=True)
class Ground:
    """What the nodes of a run share."""

    folder: Path
    """Where they, and all that they start, work."""
    log: Path
    order: dict[str, Any]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Said:
    """The processes of a node, by pid; None is dead."""

    address: str
    gcs: int | None
    raylet: int | None


class NodeLost(Exception):
    """The program of a node ended, or does not answer. The message is the end of its log."""


class Node:
    """`node.py` as a child."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.said = Said("", None, None)

    @classmethod
    async def start(cls, ground: Ground, **role: Any) -> Self:
        """Raises `NodeLost` when it does not come up."""
        with ground.log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(Path(__file__).with_name("node.py")), json.dumps({**ground.order, **role})),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=ground.environment,
                cwd=ground.folder,
                # The terminal's Ctrl-C is for the run, which ends its nodes when it is done with them.
                start_new_session=True,
            )
        node = cls(process, ground.log)
        try:
            await node._hear(START_S)
        except BaseException:
            await node.stop()
            raise
        return node

    async def ask(self, word: str) -> Said:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        return await self._hear(ASK_S)

    async def _hear(self, within_s: float) -> Said:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(within_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            self.said = Said(self.said.address, None, None)
            raise NodeLost(f"a node is lost:\n{self._log.read_text(errors='replace')[-2000:]}")
        self.said = Said(**json.loads(line))
        return self.said

    async def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Nodes:
    """The head and its workers."""

    def __init__(self, ground: Ground, head: Node, workers: int) -> None:
        self._ground = ground
        self._head = head
        self._wanted = workers
        self._workers: list[Node] = []

    @classmethod
    async def start(cls, ground: Ground, *, workers: int, dashboard_port: int) -> Self:
        nodes = cls(ground, await Node.start(ground, dashboard_port=dashboard_port), workers)
        try:
            await nodes.mend()
        except BaseException:
            await nodes.stop()
            raise
        return nodes

    @property
    def driver_address(self) -> str:
        """For `ray.init`: given 127.0.0.1 itself, Ray would look for the cluster at this machine's outer address."""
        return "[::ffff:127.0.0.1]:" + self._head.said.address.rpartition(":")[2]

    @property
    def gcs(self) -> int | None:
        return self._head.said.gcs

    @property
    def raylets(self) -> list[int]:
        """Of the workers."""
        return [node.said.raylet for node in self._workers if node.said.raylet is not None]

    async def mend(self) -> None:
        """Start a GCS that is gone, and a new worker for each whose raylet is gone. Raises `NodeLost`."""
        await self._head.ask("gcs")
        for node in list(self._workers):
            if not await _is_up(node):
                self._workers.remove(node)
                await node.stop()
        while len(self._workers) < self._wanted:
            self._workers.append(await Node.start(self._ground, address=self._head.said.address))

    async def stop(self) -> None:
        async with asyncio.TaskGroup() as group:
            for node in (*self._workers, self._head):
                group.create_task(node.stop())


async def _is_up(node: Node) -> bool:
    try:
        return (await node.ask("look")).raylet is not None
    except NodeLost:
        return False
