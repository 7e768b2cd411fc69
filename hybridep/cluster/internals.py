"""All that is used of Ray beyond its public interface, in one place. `CHECKED_WITH` says of which Ray it was seen to hold; docs/ray.md
says how that is raised. Ray itself is imported late: what it reads from the environment must be set before.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

CHECKED_WITH: Final = "2.60"
# Its name tells whom it was made for. 0 means on every system that Ray takes loopback for this machine's address, and listens there alone;
# else it replaces loopback by an address that others can reach.
LOOPBACK_SWITCH: Final = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
# For `ray.init`, beside that switch.
ON_LOOPBACK: Final[dict[str, Any]] = {"_node_ip_address": "127.0.0.1"}
# Whether a head lives, without what Ray's own client tries for long where none does.
_ALIVE: Final = "/ray.rpc.NodeInfoGcsService/CheckAlive"
POLL_SECONDS: Final = 0.2


class RayNode:
    """The processes of a Ray node, which end with this one, however this one ends. Ray's command line can neither keep a second node to
    loopback nor leave the Ray client server out.
    """

    def __init__(self, *, head: bool, port: int, gcs: str, address: str, cpus: int, gpus: int, object_store: int, folder: Path) -> None:
        """Of a head `port` counts, which may be 0, of another node the head's address `gcs`; `object_store` is in bytes."""
        from ray._private.node import Node
        from ray._private.parameter import RayParams

        parameters = RayParams(
            node_ip_address=address,
            gcs_server_port=port if head else None,
            gcs_address=None if head else gcs,
            num_cpus=cpus,
            num_gpus=gpus,
            object_store_memory=object_store,
            include_dashboard=False,
            include_log_monitor=False,  # type: ignore[arg-type]  # Ray's annotation is wrong
            no_monitor=True,
            temp_dir=str(folder),
        )
        self._node = Node(parameters, head=head, shutdown_at_exit=True, spawn_reaper=True)

    @property
    def port(self) -> int:
        """Of the cluster's head."""
        return int(self._node.address.rpartition(":")[2])

    def wait(self) -> str:
        """Wait until one of the processes ends by itself; its name."""
        while not (dead := self._node.dead_processes()):  # type: ignore[no-untyped-call]
            time.sleep(POLL_SECONDS)
        return str(dead[0][0])

    def end(self) -> None:
        self._node.kill_all_processes(check_alive=False, allow_graceful=True, wait=True)


def check_alive(head: str, token: str, seconds: float) -> None:
    """grpc.RpcError where no Ray head answers at host:port, with the status UNAUTHENTICATED where it refuses the token."""
    import grpc

    with grpc.insecure_channel(head, options=[("grpc.enable_http_proxy", 0)]) as channel:
        channel.unary_unary(_ALIVE)(b"", metadata=[("authorization", f"Bearer {token}")], timeout=seconds)


def forget(trial: "Trial", resources: dict[Any, Any]) -> None:
    """Take from an ended trial what Tune keeps of it: of each number that it was sent several averages and its course, a description of
    resources of its own (`resources` holds one for all), and an object in Ray's store. That is some kilobytes a trial.
    """
    metadata = trial.run_metadata
    for kept in (metadata.metric_analysis, metadata.metric_n_steps, metadata.last_result, trial.evaluated_params):
        kept.clear()
    metadata.last_result["done"] = True  # were it empty, Tune would ask the worker for one
    trial._default_result_or_future = None
    trial.placement_group_factory = resources.setdefault(trial.placement_group_factory, trial.placement_group_factory)
