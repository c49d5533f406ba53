"""A signal ends the work between two steps, a second one at once, and a long step soon."""

import os
import signal
import subprocess
import sys
import time

import pytest

from runtime.paths import ROOT
from runtime.signals import check_stop

WORK = """
import sys, time
from multiprocessing import Pool
from runtime import signals
from runtime.signals import Stopped, check_stop, exit_on_signal, report_progress_on_stop

def work():
    print("begun", flush=True)
    for _ in range(6000):
        with report_progress_on_stop("2 of 3 parts"):
            check_stop()
        time.sleep(0.01)

def deaf():
    print("begun", flush=True)
    time.sleep(60)

def broken():
    print("begun", flush=True)
    while True:
        try:
            check_stop()
        except Stopped:
            raise RuntimeError("the compiler was ended") from None

def endless():
    signals.GRACE_S = 1
    with report_progress_on_stop("2 of 3 parts"):
        deaf()

def ended():
    print("begun", flush=True)
    sys.stdin.readline()  # that the signal has been sent
    print("all done")

def pool():  # as Jittor has one, which it leaves to the end of the process
    with Pool(2) as workers:
        print(workers.map(abs, [-1, -2]), flush=True)

def compiling():
    signals.GRACE_S = 1
    with Pool(2) as workers:
        print("begun", flush=True)
        workers.map(time.sleep, [60, 60])

with exit_on_signal("program"):
    globals()[sys.argv[1]]()
"""
AFTER = "program: stopped by {} after 2 of 3 parts; the same command goes on from there\n"
PLAIN = "program: stopped by {}; the same command goes on from what is finished\n"


def start(work, first="begun\n"):
    """Starts a process that does one of the functions of WORK, and waits for its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORK, work],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if (line := process.stdout.readline()) != first:
        process.kill()
        pytest.fail(f"it began with {line!r}; then {process.communicate()}")
    return process


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGINT", 130)])
def test_a_signal_ends_the_work_between_two_steps(name, status):
    process = start("work")
    process.send_signal(signal.Signals[name])
    assert process.communicate() == ("", AFTER.format(name))
    assert process.returncode == status


def test_a_second_signal_ends_it_at_once():
    process = start("deaf")
    process.send_signal(signal.SIGUSR1)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30) == ("", PLAIN.format("SIGUSR1"))
    assert process.returncode == 75


def test_an_error_after_a_signal_counts_as_a_stop():
    process = start("broken")
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == ("", PLAIN.format("SIGTERM"))
    assert process.returncode == 75


def test_work_that_ends_without_another_step_is_finished():
    process = start("ended")
    process.send_signal(signal.SIGTERM)
    assert process.communicate("sent\n") == ("all done\n", "")
    assert process.returncode == 0


def test_a_pool_of_processes_ends_as_usual():
    process = start("pool", "[1, 2]\n")
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 0


def test_a_signal_to_all_processes_ends_a_wait_for_those_that_compile():
    process = start("compiling")
    time.sleep(0.5)  # until they are at work
    os.killpg(process.pid, signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", PLAIN.format("SIGTERM"))
    assert process.returncode == 75


def test_a_step_that_does_not_end_is_ended_and_what_is_done_is_named():
    process = start("endless")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30) == ("", AFTER.format("SIGTERM"))
    assert process.returncode == 75


def test_without_a_signal_nothing_is_raised():
    check_stop()
