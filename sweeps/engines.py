"""Who works on the jobs of a sweep: processes of this machine, tasks of a Ray cluster, or an array job of SLURM.

All take jobs by the same locks and leave the same files, so that one engine can go on with what another began.
"""

import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.jobs import Job
from sweeps.work import Place, Running, work, work_to_the_end
from utils.errors import UserError
from utils.parallel import available_cores
from utils.run_record import PROJECT_ROOT

POLL = 0.005  # seconds between two looks at the processes of this machine
LOSSES = 20  # of a job's worker or node, after which Ray gives it up


@dataclass(frozen=True)
class Shares:
    """What a job gets. jobs: how many at once; None: as many as there are cores, or shares of GPUs.

    Attributes:
        gpus: share of a GPU, in (0, 1], or a number of them; None: one, where there are any.
    """

    jobs: int | None = None
    gpus: float | None = None


def find_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES takes; torch is not loaded."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(i) for i, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]


def threads(count: int) -> dict[str, str]:
    """Variables that give a process this many threads, unless the user has set their number."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return {} if names[0] in os.environ else dict.fromkeys(names, str(max(1, count)))


def local_slots(shares: Shares, gpus: Sequence[str]) -> list[dict[str, str]]:
    """For each job that runs at once the variables of its processes: its share of the cores, and its GPU by turn.

    Raises:
        UserError: a job is to have more than one of these GPUs.
    """
    share = shares.gpus or 1.0
    if gpus and share > 1:
        raise UserError(f"--gpus_per_job {share:g}: with --engine local a job takes one GPU at most. Use 1.")
    count = shares.jobs or (len(gpus) * int(1 / share + 1e-9) if gpus else available_cores())
    chosen: list[dict[str, str]] = [threads(available_cores() // count) for _ in range(count)]
    if gpus:
        for i, variables in enumerate(chosen):
            variables["CUDA_VISIBLE_DEVICES"] = gpus[i % len(gpus)]
    return chosen


def run_local(place: Place, jobs: Sequence[Job], shares: Shares) -> Iterator[Job]:
    """Work on jobs in processes of this machine; yields each when it is left, whatever became of it."""
    free = local_slots(shares, find_gpus())
    waiting, busy = deque(jobs), list[tuple[Job, Generator[Running, None, None], Running, dict[str, str]]]()
    try:
        while waiting or busy:
            while waiting and free:
                job, slot = waiting.popleft(), free.pop()
                going = work(place, job, slot)
                if (running := next(going, None)) is None:
                    free.append(slot)
                    yield job
                else:
                    busy.append((job, going, running, slot))
            still = []
            for job, going, running, slot in busy:
                now = next(going, None) if running.ended(wait=False) else running
                if now is None:
                    free.append(slot)
                    yield job
                else:
                    still.append((job, going, now, slot))
            busy = still
            if busy:
                time.sleep(POLL)
    finally:
        for _, going, _, _ in busy:
            going.close()


def run_ray(place: Place, jobs: Sequence[Job], shares: Shares, address: str | None) -> Iterator[Job]:
    """Work on jobs in tasks of a Ray cluster; yields each when it is left, whatever became of it.

    A task whose worker or node is lost is given to another one. The project, its environment and the folder of the
    sweep must lie at the same paths on all nodes. Without an address, a Ray of this machine is started, whose
    dashboard, which asks nobody who he is, listens to this machine only.

    Raises:
        UserError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--engine ray: Ray is not installed. Run .venv/bin/pip install -r requirements-ray.txt, or use --engine "
            "local."
        ) from error
    sys.path[:] = dict.fromkeys([str(PROJECT_ROOT), *sys.path])  # the workers take it over
    begun, address = not ray.is_initialized(), address or os.environ.get("RAY_ADDRESS")
    if begun:
        own: dict[str, Any] = {} if address else {"num_cpus": shares.jobs, "dashboard_host": "127.0.0.1"}
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise UserError(f"--address {address}: no Ray cluster could be reached there ({error!s:.200}).") from error
    try:
        gpus = (shares.gpus or 1.0) if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=LOSSES)(work_to_the_end)
        limit = shares.jobs or len(jobs)
        waiting, going = deque(jobs), dict[Any, Job]()
        while waiting or going:
            while waiting and len(going) < limit:
                job = waiting.popleft()
                going[task.remote(place, job, threads(1))] = job
            done, _ = ray.wait(list(going), num_returns=1)
            for reference in done:
                job = going.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as error:
                    print(f"job {job.id}: {str(error).strip().splitlines()[-1]:.300}", file=sys.stderr)
                yield job
    finally:
        if begun:
            ray.shutdown()


def slurm_script(grid: Path, words: Sequence[str], jobs: Sequence[Job], shares: Shares) -> str:
    """An array job of SLURM that works on these jobs, one an index; any shell runs it, with SLURM_ARRAY_TASK_ID set.

    Args:
        words: options that tell which jobs are which: of the grid and of its folder.
    """
    at_once = f"%{shares.jobs}" if shares.jobs else ""
    asked = [f"#SBATCH --gres=gpu:{max(1, round(shares.gpus))}"] if shares.gpus else []
    return "\n".join(
        [
            "#!/usr/bin/env bash",
            f"#SBATCH --job-name={grid.stem}",
            f"#SBATCH --array=0-{len(jobs) - 1}{at_once}",
            "#SBATCH --cpus-per-task=1",
            *asked,
            f"# {len(jobs)} jobs. Add what your cluster asks for: partition, account, time, memory. Then: sbatch FILE",
            f"jobs=({' '.join(job.id for job in jobs)})",
            'export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"',
            f"cd {shlex.quote(str(Path.cwd()))}",
            f"exec {shlex.join([sys.executable, str(PROJECT_ROOT / 'sweep.py'), 'job', *words])} "
            '--id "${jobs[$SLURM_ARRAY_TASK_ID]}"',
            "",
        ]
    )
