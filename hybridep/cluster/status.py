"""What a running Ray cluster has, and what of it is free."""

import logging
import os
from dataclasses import dataclass
from typing import Any

from hybridep.cluster.access import Address, ray_environment
from hybridep.cluster.node import first_line
from hybridep.config import InvalidInput


@dataclass(frozen=True)
class ClusterNode:
    """A node of a cluster, as its head knows it."""

    address: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class ClusterStatus:
    nodes: tuple[ClusterNode, ...]
    free_cpus: float
    free_gpus: float


def cluster_status(head: Address, option: str) -> ClusterStatus:
    """What a cluster has and what of it is free; InvalidInput where it cannot be asked. This machine must be one of its nodes."""
    os.environ.update(ray_environment(head.host))
    import ray

    try:
        ray.init(address=str(head), logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InvalidInput(f"{option} {head}: {first_line(error)}") from None
    try:
        nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    finally:
        ray.shutdown()
    found = [ClusterNode(node["NodeManagerAddress"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)) for node in nodes]
    return ClusterStatus(tuple(found), free.get("CPU", 0), free.get("GPU", 0))
