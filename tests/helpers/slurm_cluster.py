"""A Slurm of one node in a folder of its own: munged, slurmctld and slurmd."""

import contextlib
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
STEP_S = 0.2  # between two checks of a condition
LIMIT_S = 240  # for a job's first epoch or its end, on a busy machine
CONFIG = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=1,sched_interval=2
ReturnToService=2
KillWait=20
PropagatePrioProcess=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def absent() -> str:
    """Returns why no Slurm can be started here; empty if one can."""
    missing = [name for name in (*DAEMONS, "sbatch") if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurm-wlm munge"
    return "" if os.geteuid() == 0 else "slurmd runs as root only"


def wait_for(what: str, condition: Callable[[], object], limit_s: float) -> object:
    """Returns the first true answer of `condition`. Raises AssertionError after `limit_s`."""
    end = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < end, f"{what}: not within {limit_s} s"
        time.sleep(STEP_S)
    return answer


class Cluster:
    """Starts the daemons; jobs are submitted from the folder `kit`."""

    def __init__(self, folder: Path, kit: Path):
        self.folder, self.kit = folder, kit
        self._started: list[subprocess.Popen] = []
        settings = {"SLURM_CONF": str(folder / "slurm.conf"), "PYTHON": sys.executable}
        self._environment = os.environ | settings

    def start(self) -> None:
        """Starts the daemons. Raises AssertionError if the node is not idle in time."""
        host = socket.gethostname().split(".")[0]
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        config = CONFIG.format(host=host, ports=free_ports(2), folder=self.folder)
        (self.folder / "slurm.conf").write_text(config)
        places = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "log", "pid")]
        places += [f"--seed-file={self.folder}/munge.seed", f"--socket={self.folder}/munge.socket"]
        self._daemon("munged", "--foreground", "--force", *places)
        wait_for("munged", (self.folder / "munge.socket").exists, 20)
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", host)
        wait_for("an idle node", lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"), 60)

    def _daemon(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.out").open("wb") as log:
            daemon = subprocess.Popen(words, stdout=log, stderr=log, env=self._environment)
        self._started.append(daemon)

    def stop(self) -> None:
        """Cancels the jobs and stops the daemons, the first one last."""
        self.run("scancel", "--user", "root")
        with contextlib.suppress(AssertionError):
            wait_for("an empty queue", lambda: not self.run("squeue", "-h"), 30)
        for daemon in reversed(self._started):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def run(self, *words: object) -> str:
        """Returns the output of a Slurm command; empty while the controller does not answer."""
        command = list(map(str, words))
        result = subprocess.run(
            command, cwd=self.kit, env=self._environment, capture_output=True, text=True
        )
        return result.stdout

    def submit(self, *words: object) -> str:
        """Calls sbatch with these arguments; returns the job's number."""
        number = self.run("sbatch", "--parsable", "--cpus-per-task=1", *words).strip()
        assert number.isdigit(), f"sbatch {words}: no job"
        return number

    def field(self, job: str, name: str) -> str:
        """Returns a field of `scontrol show job`."""
        result = re.search(
            rf"\b{name}=(\S*)", self.run("scontrol", "--oneliner", "show", "job", job)
        )
        return result[1] if result else ""

    def ended(self, job: str) -> str:
        """Waits for the job's end; returns its state."""
        running = ("", "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED")

        def state() -> str:
            result = self.field(job, "JobState")
            return "" if result in running else result

        return wait_for(f"the end of job {job}", state, LIMIT_S)

    def log(self, name: str) -> str:
        """Returns the current contents of a log."""
        path = self.kit / "slurm/logs" / name
        return path.read_text() if path.exists() else ""


def free_ports(count: int) -> list[int]:
    """Returns ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
