"""What a running Ray cluster has, and what of it is free."""

import logging
import os
from dataclasses import dataclass
from typing import Any

from hybridep.cluster.access import Address, ray_environment
from hybridep.cluster.node import first_line
from hybridep.config import InvalidInput


@dataclass(frozen=True)
class NodeCapacity:
    """What a node of a Ray cluster offers to trials."""

    cpus: float
    gpus: float
    address: str = ""


def capacities() -> list[NodeCapacity]:
    """What the living nodes of the cluster offer that this process is connected to."""
    import ray

    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [(node["Resources"], node["NodeManagerAddress"]) for node in found if node["Alive"]]
    return [NodeCapacity(resources.get("CPU", 0), resources.get("GPU", 0), address) for resources, address in alive]


def cluster_status(head: Address, option: str) -> tuple[list[NodeCapacity], NodeCapacity]:
    """What a cluster has and what of it is free; InvalidInput where it cannot be asked. This machine must be one of its nodes."""
    os.environ.update(ray_environment(head.host))
    import ray

    try:
        ray.init(address=str(head), logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise InvalidInput(f"{option} {head}: {first_line(error)}") from None
    try:
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        return capacities(), NodeCapacity(free.get("CPU", 0), free.get("GPU", 0))
    finally:
        ray.shutdown()
