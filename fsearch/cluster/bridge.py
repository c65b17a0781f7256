"""Between a daemon and a Ray cluster: keeps an actor in every place of every node, and carries what they say.

    python -m fsearch.cluster.bridge --fd N --parent PID --address A --device D --threads T

`fd` is a Unix stream socket to the daemon. In come {"run": place, "job", "log"}, the same with "ahead",
{"forget": place}, {"stop": place} and {"kill": place}. Out go {"failed": why} before the end, {"places": how
many to expect} once, and for a place {"place": name, "node": name} with what its agent says
(`fsearch.cluster.agent`), or with {"gone": why, "node_lost": bool}.

A process of its own because Ray's client has threads and signal handlers of its own, and may end its process
when the cluster is gone: the daemon outlives it, as it outlives a zygote. It decides nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from fsearch.cluster.copies import Pieces, shared
from fsearch.system import messages, process

LOOK_FOR_NODES_EVERY_S = 2.0
ORDERS = {"run", "ahead", "forget", "stop", "kill"}
HEAR_S = 20.0
KNOCK_S = 10.0
PACE_S = 0.05
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Bridge:
    """The connection of one daemon."""

    def __init__(self, channel: socket.socket, device: str, threads: int) -> None:
        import ray

        self._ray = ray
        self._channel = channel
        self._channel.setblocking(False)
        self._unsaid: asyncio.Queue[bytes] = asyncio.Queue()
        self._device, self._threads = device, threads
        self._decoder = messages.Decoder()
        self._actors: dict[str, Any] = {}
        self._tending: dict[str, list[asyncio.Task[None]]] = {}  # by Ray's id of the node
        self._names: dict[str, str] = {}  # of nodes, by id
        self._copies: dict[str, Pieces] = {}
        self._copying = asyncio.Lock()
        self._passing: set[asyncio.Task[None]] = set()

    async def forever(self) -> None:
        """Until the daemon hangs up."""
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._channel, self._receive, ended)
        works = (self._look_for_nodes(), self._write(), ended.wait())
        tasks = [asyncio.create_task(work) for work in works]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _look_for_nodes(self) -> None:
        """Keep as many actors on every living node as it has GPUs, or processors for the threads of one."""
        expected = None
        while True:
            nodes = await asyncio.to_thread(self._ray.nodes)
            for node in nodes:
                if node["Alive"] and node["NodeID"] not in self._tending:
                    self._begin(node)
            if expected is None:
                expected = sum(len(tasks) for tasks in self._tending.values())
                self._say({"places": expected})
            await asyncio.sleep(LOOK_FOR_NODES_EVERY_S)

    def _begin(self, node: dict[str, Any]) -> None:
        identity, resources = node["NodeID"], node["Resources"]
        on_gpus = self._device != "cpu"
        many = int(resources.get("GPU", 0.0) if on_gpus else resources.get("CPU", 0.0) // self._threads)
        name = self._names[identity] = _name(node, self._names.values())
        self._tending[identity] = [
            asyncio.create_task(self._tend(identity, name, f"{name}/{number}", 1.0 / many))
            for number in range(many)
        ]

    async def _tend(self, identity: str, node: str, place: str, share: float) -> None:
        """Keep an actor in a place until its node is lost."""
        pause_s = FIRST_PAUSE_S
        about = {"place": place, "node": node}
        while True:
            actor = self._actors[place] = self._new_actor(identity, share)
            why = await self._carry(actor, about)
            del self._actors[place]
            lost = await self._is_lost(identity)
            what = f"node {node} was lost" if lost else f"the actor in place {place} died"
            self._say({**about, "gone": f"{what}: {why}", "node_lost": lost})
            if lost:
                self._names.pop(identity, None)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)

    async def _carry(self, actor: Any, about: dict[str, str]) -> str:
        """Carry what an actor says to the daemon until it is dead. Gives what Ray says of that."""
        heard = 0
        while True:
            try:
                for number, said in await actor.hear.remote(heard, HEAR_S):
                    heard = number
                    self._say({**about, **said})
            except self._ray.exceptions.ActorUnavailableError:
                await asyncio.sleep(FIRST_PAUSE_S)  # it may be back, or Ray finds out that it is dead
            except self._ray.exceptions.RayError as error:
                return " ".join(str(error).split())[:300]

    async def _is_lost(self, identity: str) -> bool:
        nodes = await asyncio.to_thread(self._ray.nodes)
        return not any(node["NodeID"] == identity and node["Alive"] for node in nodes)

    def _new_actor(self, identity: str, share: float) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from fsearch.cluster.agent import Agent

        wanted = {"num_gpus": 1} if self._device != "cpu" else {"num_cpus": self._threads}
        here = NodeAffinitySchedulingStrategy(identity, soft=False)
        actor = self._ray.remote(Agent).options(scheduling_strategy=here, max_concurrency=3, **wanted)
        omp = os.environ.get("OMP_NUM_THREADS")
        options = {"device": "cpu" if self._device == "cpu" else "cuda", "threads": self._threads}
        return actor.remote({**options, "share": share, "omp": omp})

    def _receive(self, ended: asyncio.Event) -> None:
        try:
            data = self._channel.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            ended.set()
        for order in self._decoder.feed(data):
            passing = asyncio.ensure_future(self._pass_on(order))
            self._passing.add(passing)
            passing.add_done_callback(self._passing.discard)

    async def _pass_on(self, order: dict[str, Any]) -> None:
        (what,) = ORDERS & set(order)
        actor = self._actors.get(order[what])
        if actor is None:
            return  # it is gone, and that is said
        if what not in ("run", "ahead"):
            told: dict[str, Any] = {what: True}
        else:
            job = order["job"]
            wanted = {job["data"]["sha256"]: job["data"]["path"]}
            if job["model_file"] is not None:
                wanted[job["model"]["checkpoint"]] = job["model_file"]["path"]
            try:
                copies = {sha256: await self._shared(sha256, Path(path)) for sha256, path in wanted.items()}
            except OSError as error:
                if what == "run":
                    ended = {"lost": f"what it needs could not be read: {error}"}
                    self._say({"place": order[what], "node": "", "ended": ended, "measured": {}, "log": ""})
                return
            told = {what: job, "log": order["log"], "copies": copies}
        actor.tell.remote(told)

    async def _shared(self, sha256: str, path: Path) -> Pieces:
        async with self._copying:
            if sha256 not in self._copies:
                self._copies[sha256] = await asyncio.to_thread(shared, path, self._ray.put)
            return self._copies[sha256]

    def _say(self, message: dict[str, Any]) -> None:
        self._unsaid.put_nowait(messages.encode(message))

    async def _write(self) -> None:
        """Write to the daemon what is to be said, together: it looks at everything each time it is woken."""
        while True:
            frames = [await self._unsaid.get()]
            while not self._unsaid.empty():
                frames.append(self._unsaid.get_nowait())
            await asyncio.get_running_loop().sock_sendall(self._channel, b"".join(frames))
            await asyncio.sleep(PACE_S)


def _name(node: dict[str, Any], taken: Any) -> str:
    """What the node's owner called it, else its host; told apart where two are called the same."""
    named, host = node.get("NodeName"), node["NodeManagerHostname"]
    name = str(host if named in (None, "", node["NodeManagerAddress"]) else named)
    return f"{name}-{node['NodeID'][:6]}" if name in taken else name


def _knock(address: str) -> None:
    """See that somebody listens at HOST:PORT: Ray itself would try for minutes. Raises OSError."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def main() -> int:
    """The body of the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    process.die_with_parent(arguments.parent)
    channel = socket.socket(fileno=arguments.fd)
    try:
        import ray
    except ImportError as error:
        sentence = f"Ray cannot be imported ({error}); install fsearch[ray]"
        channel.sendall(messages.encode({"failed": sentence}))
        return 1
    try:
        _knock(arguments.address)
        ray.init(address=arguments.address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:
        why = " ".join(str(error).split())[:500]
        sentence = f"no Ray cluster can be reached at {arguments.address}: {why}"
        channel.sendall(messages.encode({"failed": sentence}))
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    device = arguments.device
    if device == "auto":
        device = "cuda" if ray.cluster_resources().get("GPU") else "cpu"
    asyncio.run(Bridge(channel, device, arguments.threads).forever())
    return 0


if __name__ == "__main__":
    sys.exit(main())
