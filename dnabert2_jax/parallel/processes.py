"""Several processes as one job: how they find each other, and how they part.

In: the variables of a launcher or of a cluster. Out: JAX's multi-controller runtime, whose devices are those
of all processes; or nothing, on a single machine.
"""

import atexit
import hashlib
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import jax
import numpy as np
from jax._src.clusters import ClusterEnv
from jax.experimental import multihost_utils

from dnabert2_jax.errors import UserError
from dnabert2_jax.parallel.last_words import LastWords
from dnabert2_jax.parallel.peers import Peers, leave_peers, suspect_peers

COORDINATOR = "DNABERT2_COORDINATOR"
NUM_PROCESSES = "DNABERT2_NUM_PROCESSES"
PROCESS_ID = "DNABERT2_PROCESS_ID"
START_TIMEOUT = "DNABERT2_START_TIMEOUT"
PEER_TIMEOUT = "DNABERT2_PEER_TIMEOUT"

# How many tasks a job step of Slurm or Open MPI has.
_NUMBERS_OF_TASKS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_KUBERNETES_INDEX = "JOB_COMPLETION_INDEX"


@dataclass(frozen=True)
class Launch:
    """What a launcher or a cluster says about this process.

    Attributes:
      coordinator: host:port at which process 0 receives the others.
      count: of processes.
      index: of this one, from 0 on.
      devices: the machine's devices that are this process's, by their numbers there; None means all.
    """

    coordinator: str
    count: int
    index: int
    devices: tuple[int, ...] | None = None


def read_launch(environment: Mapping[str, str]) -> Launch | None:
    """What the variables DNABERT2_COORDINATOR, _NUM_PROCESSES and _PROCESS_ID say; None without them.

    Raises:
      UserError: some are missing, or make no sense.
    """
    names = (COORDINATOR, NUM_PROCESSES, PROCESS_ID)
    missing = [name for name in names if not environment.get(name)]
    if len(missing) == len(names):
        return None
    if missing:
        raise UserError(
            f"{missing[0]} is not set, but others of {', '.join(names)} are; set all three or none"
        )
    coordinator = environment[COORDINATOR]
    count, index = (_whole_number(environment, name) for name in names[1:])
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"{COORDINATOR} is {coordinator!r}; give it as HOST:PORT")
    if index >= count:
        raise UserError(f"{PROCESS_ID} is {index}, but there are {count} processes, counted from 0")
    return Launch(coordinator, count, index)


def start_processes(environment: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes of this job, if there are any; before anything touches a device.

    They are told of by the variables DNABERT2_COORDINATOR, DNABERT2_NUM_PROCESSES and DNABERT2_PROCESS_ID,
    or found by JAX's own detection: Slurm, Cloud TPU, Kubernetes, Open MPI. From then on a process that dies
    ends the others too, within DNABERT2_PEER_TIMEOUT seconds (60) and with a message that names it. How long
    to wait for all to come is DNABERT2_START_TIMEOUT seconds (600); one that waits in vain is ended with a
    message and status 1.

    Raises:
      UserError: the variables contradict each other.
    """
    patience = _whole_number(environment, START_TIMEOUT, 600)
    timeout = _whole_number(environment, PEER_TIMEOUT, 60)
    launch = read_launch(environment) or _detect(environment, patience)
    if launch is None or launch.count == 1 or jax.distributed.is_initialized():
        return
    words = LastWords(lambda: _nobody_came(launch, patience))
    jax.distributed.initialize(
        launch.coordinator,
        launch.count,
        launch.index,
        launch.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=patience,
        # A second line of defence: our own heartbeats come first, and name the process that is gone.
        heartbeat_timeout_seconds=2 * timeout + 30,
    )
    words.withdraw()
    peers = Peers(timeout)
    peers.start()
    atexit.register(peers.stop)


def is_first() -> bool:
    """Whether this is process 0, which alone writes what there is one of; true on a single machine."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Waits until every process has come to the same place, which `what` names."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def as_first_says(value: bool) -> bool:
    """The value that process 0 has, at every process, all of which ask at the same place."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.bool_(value)))


def require_same(what: str, value: str) -> None:
    """Makes sure that every process has the same value; all ask at the same place.

    Raises:
      UserError: they differ in `what`.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(value.encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)
    others = np.flatnonzero((digests != digests[0]).any(axis=1))
    if others.size:
        raise UserError(
            f"process {others[0]} has another {what} than process 0; give every process the same command, "
            "and the same files under the same names"
        )


def leave_processes(status: int) -> None:
    """Ends this process, where it is one of several, at once and with this exit status; the others follow."""
    sys.stdout.flush()
    sys.stderr.flush()
    leave_peers(status)


@contextmanager
def lost_peers_first() -> Iterator[None]:
    """Lets an error wait until it is known whether another process is to blame for it.

    When a process dies, the others' next exchange with it fails, in whatever way the hardware has. Then the
    message that a person needs is the one that names the dead process, which ends this one too.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception:
        suspect_peers()
        raise


def _detect(environment: Mapping[str, str], patience: int) -> Launch | None:
    # Where a job step has one task, that needs nobody and keeps all the devices, which JAX would divide.
    if "1" in (environment.get(name) for name in _NUMBERS_OF_TASKS):
        return None
    pod = "KUBERNETES_SERVICE_HOST" in environment and "TPU_WORKER_HOSTNAMES" not in environment
    if pod and _KUBERNETES_INDEX not in environment:
        # On its own, such as a notebook's.
        return None
    coordinator, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, patience
    )
    if coordinator is None or count is None or index is None:
        if pod:
            raise UserError(
                f"this is pod {environment[_KUBERNETES_INDEX]} of an indexed Job, but its peers are not "
                f"known; set {COORDINATOR}, {NUM_PROCESSES} and {PROCESS_ID}, or install jax[k8s]"
            )
        return None
    return Launch(coordinator, count, index, None if devices is None else tuple(devices))


def _nobody_came(launch: Launch, patience: int) -> str:
    me = f"process {launch.index} of {launch.count} on {socket.gethostname()}"
    if launch.index == 0:
        return (
            f"{me}: the others did not all come to {launch.coordinator} within {patience} s; see their logs"
        )
    if not _answers(launch.coordinator):
        return f"{me}: process 0 cannot be reached at {launch.coordinator}; see its log, and {COORDINATOR}"
    return f"{me}: process 0 is there, but not all of the others came within {patience} s; see their logs"


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def _whole_number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}; it must be a whole number")
    return int(text)
