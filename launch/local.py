#!/usr/bin/env python3
"""Runs one `dnabert2 pretrain` as several processes on this machine, and starts it again when one dies.

    python launch/local.py --processes 2 -- dnabert2 pretrain small --corpus corpus --output run

For trying out what a cluster does, and for machines with several GPUs or several CPU sockets whose processes
are to be kept apart; one process by itself uses all GPUs of a machine. Each process's lines begin with its
number. When one dies, the others stop within a minute (DNABERT2_PEER_TIMEOUT, in seconds), and all are
started again, at most --restarts times: the run goes on from its last checkpoint. SIGTERM and Ctrl-C are
passed on; the run then saves and stops. Needs nothing but Python.

Exit status: that of the run; 130 interrupted and saved; 2 the request is wrong, which no restart mends; 1 it
died more often than --restarts allows.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time

# Seconds that processes have, once one has ended badly, to say what they know and to end by themselves.
PATIENCE = 20
PR_SET_PDEATHSIG = 1  # of Linux's prctl


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, metavar="N", help="how many")
    parser.add_argument(
        "--restarts", type=int, default=3, metavar="R", help="at most so many times (default 3)"
    )
    parser.add_argument("--one-gpu-each", action="store_true", help="process i sees GPU i alone")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --: dnabert2 pretrain ...")
    arguments = parser.parse_args()
    stopping: list[int] = []
    running: list[subprocess.Popen] = []

    def stop(number: int, _) -> None:
        stopping.append(number)
        for process in running:
            process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, stop)
    for attempt in range(arguments.restarts + 1):
        status = run_once(arguments, running)
        if status in (0, 2, 130) or stopping:
            return status
        if attempt < arguments.restarts:
            print(f"local.py: restart {attempt + 1} of {arguments.restarts}", file=sys.stderr, flush=True)
    print(f"local.py: the run has died {arguments.restarts + 1} times", file=sys.stderr)
    return 1


def run_once(arguments: argparse.Namespace, running: list[subprocess.Popen]) -> int:
    """Starts all processes and waits for all; 0, or the exit status that tells most about what went wrong."""
    coordinator = f"localhost:{free_port()}"
    readers = []
    for index in range(arguments.processes):
        variables = {
            "DNABERT2_COORDINATOR": coordinator,
            "DNABERT2_NUM_PROCESSES": str(arguments.processes),
            "DNABERT2_PROCESS_ID": str(index),
            "PYTHONUNBUFFERED": "1",
        }
        if arguments.one_gpu_each:
            variables["CUDA_VISIBLE_DEVICES"] = str(index)
        process = subprocess.Popen(
            arguments.command,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # Ctrl-C on a terminal goes to this launcher alone, which passes it on.
            start_new_session=True,
            preexec_fn=end_with_the_launcher,
        )
        running.append(process)
        readers.append(threading.Thread(target=pass_on, args=(index, process)))
        readers[-1].start()
    statuses = wait(running)
    for reader in readers:
        reader.join()
    running.clear()
    for index, status in enumerate(statuses):
        if status < 0:
            name = signal.Signals(-status).name
            print(f"local.py: process {index} was ended by {name}", file=sys.stderr, flush=True)
    # One that had not come far enough to save anything ends by the signal itself.
    statuses = [130 if status == -signal.SIGTERM else status for status in statuses]
    return next((status for status in (2, 130) if status in statuses), int(any(statuses)))


def end_with_the_launcher() -> None:
    """Has Linux send this process SIGTERM when the launcher is gone, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def wait(running: list[subprocess.Popen]) -> list[int]:
    """Waits until all have ended; those that outlive one that failed for too long are killed."""
    deadline = None
    while any(process.poll() is None for process in running):
        time.sleep(0.05)
        if deadline is None and any(process.poll() for process in running):
            deadline = time.monotonic() + PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            for process in running:
                process.kill()
    return [process.wait() for process in running]


def pass_on(index: int, process: subprocess.Popen) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(f"[{index}] {line.decode(errors='replace')}")
        sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
