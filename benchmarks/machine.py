"""The machine that figures were measured on, in words and as JSON values."""

import os
from pathlib import Path
from typing import Any

from utils.run_record import provenance

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Features of a CPU that decide how fast matrices are multiplied, in float32 and in bfloat16."""


def describe() -> dict[str, Any]:
    """Versions, commit and machine; of the machine also the CPU's FLAGS and the limit on threads, if one is set."""
    record = provenance()
    record["machine"] |= {"cpu_flags": cpu_flags(), "omp_num_threads": os.environ.get("OMP_NUM_THREADS")}
    return record


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Those of FLAGS that the CPU has, in their order; none where Linux's file is missing."""
    if not cpuinfo.exists():
        return []
    lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    words = next((line.split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in FLAGS if flag in words]


def in_words(record: dict[str, Any]) -> str:
    """One line from `describe`."""
    found = record["machine"]
    threads = f", OMP_NUM_THREADS={found['omp_num_threads']}" if found["omp_num_threads"] else ""
    flags = ", ".join(found["cpu_flags"]) or "no known flags"
    return (
        f"{found['cpu']} ({flags}), {found['cores']} cores{threads}, {found['memory_gib']} GiB; "
        f"GPU: {found['gpu'] or 'none'}; torch {record['versions']['torch']}"
    )
