"""Steps of on_gpu.py: the machine's own rates, and routines on points and operators, each against its equal."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine as machines
from benchmarks.gpu_task import Skipped, Task, median_seconds, rate
from benchmarks.measure import Work
from models import point_ops
from models.lifting import LiftingOperator
from utils.devices import DTYPES, pick_device


def machine(task: Task) -> None:
    """Versions and card; what it multiplies and copies in a second."""
    device = pick_device(task.device)
    task.note("versions", machines.describe())
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        task.note("card", [properties.name, f"{properties.total_memory / 2**30:.1f} GiB", f"CUDA {torch.version.cuda}"])
    size, copied = (1024, 1 << 24) if task.small else (8192, 1 << 30)
    for precision, dtype in DTYPES.items():
        left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        seconds = per_call(task, partial(torch.matmul, left, right), 5)
        task.tell(f"matrix products, {precision}", 2 * size**3 / seconds / 1e12, "10¹² operations/s")
    source = torch.randn(copied // 4, device=device)
    target = torch.empty_like(source)
    task.tell("copies", 2 * copied / per_call(task, partial(target.copy_, source), 5) / 1e12, "TB/s, read and written")


def per_call(task: Task, call: Callable[[], object], times: int) -> float:
    """Median seconds of a call, several of which are timed together."""
    device = pick_device(task.device).type
    return median_seconds(Work(lambda: [call() for _ in range(times)], 1, device), 3) / times


def cloud(n_points: int, seed: int) -> Tensor:
    """Random points in metres at camera distance."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_points, 3, generator=generator) * 0.1 + torch.tensor([0.0, 0.0, 0.5])


def triton_kernels(device: torch.device) -> point_ops.Kernels | None:
    """Triton's kernels, None where there is no GPU. Raises AssertionError where there is one and they do not run."""
    if device.type == "cpu":
        return None
    kernels = point_ops._kernels(device)
    assert kernels.most, "Triton cannot compile here, see the warning"
    return kernels


def sampling(task: Task) -> None:
    """Farthest points: Triton, torch and fpsample take the same ones."""
    device = pick_device(task.device)
    kernels = triton_kernels(device)
    if not point_ops._has_fpsample():
        raise Skipped("fpsample is missing, which the picks are compared with")
    routines = {"torch": point_ops.sample_by_torch} | ({"Triton": kernels.sample} if kernels else {})
    sizes, groups = ((1, 300, 3000), 64) if task.small else ((1, 300, 18743, 50176), 1024)
    for n_points, n_clouds in product(sizes, (1, 2 if task.small else 16)):
        clouds = [cloud(n_points, seed) for seed in range(n_clouds)]
        expected = point_ops.farthest_point_sampling(clouds, groups)
        coordinates, distances = (part.to(device) for part in point_ops.pad_clouds(clouds))
        case = f"N = {n_points}, B = {n_clouds}"
        for name, sample in routines.items():
            same = torch.equal(sample(coordinates, distances, groups).cpu(), expected)
            task.check(same, f"{name} takes the points that fpsample takes, {case}", same)
            if name == "Triton" or n_points == sizes[-2]:
                seconds = per_call(task, partial(sample, coordinates, distances, groups), 1)
                task.tell(f"sampling by {name}, {case}", 1000 * seconds, "ms")
    if kernels is None:
        task.note("Triton", "left out: there is no GPU; tests try its kernels in the interpreter")


def neighbours(task: Task) -> None:
    """Nearest neighbours at the sizes of both methods: the routine of the device against the CPU's."""
    device = pick_device(task.device)
    kernels, scale = triton_kernels(device), 20 if task.small else 1
    for n_queries, n_points, k in ((1024, 18743, 128), (18743, 1024, 3), (18743, 8192, 1), (8192, 8192, 8)):
        queries, points = cloud(n_queries // scale, 0), cloud(n_points // scale, 1)
        expected, _ = point_ops.nearest_neighbours(queries, points, k)
        there, among, case = queries.to(device), points.to(device), f"{len(queries)} of {len(points)}, k = {k}"
        routines: dict[str, Any] = {"blocks": point_ops.nearest_by_blocks}
        if kernels and k <= kernels.most:
            routines["Triton"] = kernels.few_nearest
        for name, nearest in routines.items():
            squared, indices = nearest(there, among, k)
            again = (points[indices.cpu()] - queries[:, None]).double().square().sum(dim=2)
            deviation = max(float((found - expected).abs().max()) for found in (squared.cpu(), again))
            task.check(deviation < 1e-8, f"{name}: largest deviation in m², {case}", deviation)
            seconds = per_call(task, partial(nearest, there, among, k), 3)
            fastest = rate(task, "fp32")
            floor = None if fastest is None else 1000 * 8 * len(queries) * len(points) / fastest
            task.tell(f"neighbours by {name}, {case}", 1000 * seconds, "ms", floor=floor)


def products(task: Task) -> None:
    """Sparse operators: `embedding_bag` in both directions against sums in float64."""
    device = pick_device(task.device)
    rows, tokens, width = (500, 100, 32) if task.small else (20_000, 1024, 960)
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 9, (rows,), generator=generator)
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
    indices = torch.randint(tokens, (int(counts.sum()),), generator=generator).int()
    operator = LiftingOperator(offsets, indices, torch.rand(len(indices), generator=generator), tokens)
    owners = torch.arange(rows).repeat_interleave(counts)
    dense = torch.zeros(rows, tokens, dtype=torch.float64)
    dense.index_put_((owners, indices.long()), operator.values.double(), accumulate=True)
    there = operator.to(device)
    for precision, dtype in DTYPES.items():
        for way, lift, matrix in (("L·T", there, dense), ("Lᵀ·G", there.transposed, dense.T)):
            features = torch.randn(matrix.shape[1], width, generator=generator).to(dtype)
            expected = matrix @ features.double()
            found = lift.multiply(features.to(device)).cpu().double()
            deviation = float((found - expected).norm() / expected.norm())
            tolerance = 1e-5 if precision == "fp32" else 2e-2
            task.check(deviation < tolerance, f"{way}, {precision}: deviation from float64", deviation)
            resident = features.to(device)
            task.tell(f"{way}, {precision}", 1000 * per_call(task, partial(lift.multiply, resident), 5), "ms")
