"""How processes are told of each other: by variables, by a cluster, or not at all."""

import jax
import pytest

from dnabert2_jax.errors import UserError
from dnabert2_jax.parallel.processes import Launch, read_launch, start_processes

_SECOND_OF_FOUR = {
    "DNABERT2_COORDINATOR": "node1:8476",
    "DNABERT2_NUM_PROCESSES": "4",
    "DNABERT2_PROCESS_ID": "1",
}


def test_a_launcher_says_who_one_is():
    assert read_launch(_SECOND_OF_FOUR) == Launch("node1:8476", 4, 1)
    assert read_launch({"PATH": "/bin"}) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DNABERT2_PROCESS_ID": ""}, "DNABERT2_PROCESS_ID is not set, but others of"),
        ({"DNABERT2_PROCESS_ID": "4"}, "DNABERT2_PROCESS_ID is 4, but there are 4 processes"),
        ({"DNABERT2_PROCESS_ID": "-1"}, "DNABERT2_PROCESS_ID is '-1'; it must be a whole number"),
        ({"DNABERT2_NUM_PROCESSES": "four"}, "DNABERT2_NUM_PROCESSES is 'four'"),
        ({"DNABERT2_COORDINATOR": "node1"}, "DNABERT2_COORDINATOR is 'node1'; give it as HOST:PORT"),
        ({"DNABERT2_COORDINATOR": "node1:http"}, "give it as HOST:PORT"),
        ({"DNABERT2_START_TIMEOUT": "soon"}, "DNABERT2_START_TIMEOUT is 'soon'"),
        ({"DNABERT2_PEER_TIMEOUT": "1.5"}, "DNABERT2_PEER_TIMEOUT is '1.5'"),
    ],
)
def test_variables_that_make_no_sense_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        start_processes(_SECOND_OF_FOUR | changes)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        # One task needs nobody: it keeps all the devices, of which JAX would give it one.
        {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"},
        _SECOND_OF_FOUR | {"DNABERT2_NUM_PROCESSES": "1", "DNABERT2_PROCESS_ID": "0"},
        # A notebook's pod.
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
    ],
)
def test_a_machine_by_itself_joins_nobody(environment):
    start_processes(environment)
    assert not jax.distributed.is_initialized()


def test_a_pod_of_an_indexed_job_that_knows_of_no_others_is_refused():
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "1"}
    with pytest.raises(UserError, match="this is pod 1 of an indexed Job, but its peers are not known"):
        start_processes(pod)
