"""A Ray cluster of several nodes on this machine: real ones, each with processes and a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MEMORY_BYTES = 100 << 20  # of a node's object store


class Nodes:
    """The nodes of a cluster, by name."""

    def __init__(self, cluster: Any, folder: Path, kernel_library: Path | None) -> None:
        self._cluster, self._folder, self._library = cluster, folder, kernel_library
        self._nodes: dict[str, Any] = {}

    @property
    def address(self) -> str:
        return f"ray://{self._cluster.address}"

    def add(self, name: str, places: int = 1) -> None:
        """A node with so many places, and with the kernel built if one is."""
        kernels = self.folder(name) / "cache" / "kernel"
        kernels.mkdir(parents=True, exist_ok=True)
        if self._library is not None:
            for library in self._library.parent.glob("*.so"):
                shutil.copy(library, kernels)
        self._nodes[name] = self._cluster.add_node(
            num_cpus=places,
            node_name=name,
            object_store_memory=MEMORY_BYTES,
            include_dashboard=False,
            env_vars={"FSEARCH_NODE_DIR": str(self.folder(name))},
        )

    def kill(self, name: str) -> None:
        """kill -9 of all its processes."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def folder(self, name: str) -> Path:
        """Where fsearch keeps its files there."""
        return self._folder / name

    def copies(self, name: str) -> list[str]:
        """The hashes of what was copied there."""
        folder = self.folder(name) / "cache" / "copies"
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@contextmanager
def cluster_of(
    folder: Path, kernel_library: Path | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[Nodes]:
    """A cluster without a place until nodes are added. Its processes have this environment beside ours."""
    from ray.cluster_utils import Cluster

    before = dict(os.environ)
    os.environ.update(environment or {})
    os.environ |= {"PYTHONPATH": str(Path(__file__).parents[2]), "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY_BYTES},
    )
    try:
        yield Nodes(cluster, folder, kernel_library)
    finally:
        cluster.shutdown()
        os.environ.clear()
        os.environ.update(before)
