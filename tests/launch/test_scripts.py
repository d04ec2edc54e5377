"""The scripts for clusters: their syntax, and what they do with the commands of a cluster that is absent."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

_LAUNCH = Path(__file__).resolve().parents[2] / "launch"
_SCRIPTS = sorted([*_LAUNCH.glob("*.sh"), *_LAUNCH.glob("*.sbatch")])

# A cloud of one slice: `state` says what there is, `calls` what was asked, `outcomes` what the runs give.
_GCLOUD = """#!/bin/bash
cd "$CLOUD"
echo "$*" >> calls
case "$*" in
  *queued-resources\\ describe*) cat state 2>/dev/null ;;
  *queued-resources\\ create*) echo ACTIVE > state ;;
  *queued-resources\\ delete*) rm state ;;
  *tpu-vm\\ ssh*pretrain*)
    outcome=$(head -n 1 outcomes); sed -i 1d outcomes
    [[ $outcome == lost ]] && { echo FAILED > state; exit 255; }
    echo "dnabert2 pretrain: status $outcome"; [[ $outcome == 0 ]] || exit 1 ;;
esac
"""


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.name)
def test_syntax(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK) or script.suffix == ".sbatch"


@pytest.mark.parametrize("script", _SCRIPTS, ids=lambda path: path.name)
def test_shellcheck(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck")
    subprocess.run(["shellcheck", "--shell", "bash", script], check=True)


def fill_in(*words: str, **variables: str) -> dict:
    """What kubernetes.sh would apply."""
    done = subprocess.run(
        [_LAUNCH / "kubernetes.sh", *words],
        env=os.environ | {"DRY_RUN": "1"} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return yaml.safe_load(done.stdout)


def test_the_jobset_runs_one_process_per_pod():
    words = ("small", "--corpus", "/data/a b", "--output", '/data/"quoted"\\&')
    jobset = fill_in("registry/dnabert2:1", "shared", *words, NODES="4")
    (job,) = jobset["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    assert (spec["parallelism"], spec["completions"], spec["completionMode"]) == (4, 4, "Indexed")
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert [*container["command"], *container["args"]] == ["dnabert2", "pretrain", *words]
    assert container["image"] == "registry/dnabert2:1"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "shared"
    variables = {variable["name"]: variable for variable in container["env"]}
    assert variables["DNABERT2_NUM_PROCESSES"]["value"] == "4"
    # A pod's host name: JobSet, replicated job, number of the job, number of the pod; JobSet as the domain.
    name = jobset["metadata"]["name"]
    host, port = variables["DNABERT2_COORDINATOR"]["value"].split(":")
    assert host == f"{name}-{job['name']}-0-0.{name}"
    assert container["ports"] == [{"containerPort": int(port)}]
    assert "job-completion-index" in variables["DNABERT2_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    # A wrong request is not tried again, and everything else is.
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2])
    assert rule["onExitCodes"]["containerName"] == container["name"]
    (policy,) = jobset["spec"]["failurePolicy"]["rules"]
    assert (policy["action"], policy["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0


@pytest.mark.parametrize(
    ("outcomes", "status", "created"), [(("lost", "1", "0"), 0, 2), (("2",), 2, 1), (("1",) * 4, 1, 1)]
)
def test_a_tpu_slice_is_asked_for_again_when_it_is_lost(tmp_path, outcomes, status, created):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcloud").write_text(_GCLOUD)
    (tmp_path / "bin" / "gcloud").chmod(0o755)
    (tmp_path / "outcomes").write_text("\n".join(outcomes) + "\n")
    variables = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CLOUD": str(tmp_path),
        "NAME": "slice",
        "PROJECT": "p",
        "ZONE": "z",
        "TYPE": "v5p-128",
        "VERSION": "v",
        "SPOT": "1",
        "MOUNT": "10.0.0.2:/share /mnt/share",
        "PACKAGE": "/mnt/share/dnabert2_jax.whl[tpu]",
        "POLL_SECONDS": "0",
        "MAX_RESTARTS": "3",
    }
    words = ("small", "--corpus", "/mnt/share/a b", "--output", "/mnt/share/run")
    done = subprocess.run(
        [_LAUNCH / "tpu_pod.sh", *words], env=os.environ | variables, capture_output=True, text=True
    )
    calls = (tmp_path / "calls").read_text()
    assert done.returncode == status, done.stderr + calls
    assert calls.count("queued-resources create") == created
    assert calls.count("dnabert2 pretrain small --corpus /mnt/share/a\\ b --output /mnt/share/run") == len(
        outcomes
    )
    assert "--accelerator-type v5p-128" in calls
    assert "--spot" in calls
    # What costs money goes when there is nothing more to do with it.
    assert (tmp_path / "state").exists() == (status == 1)
