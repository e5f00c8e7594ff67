"""Steps of on_gpu.py that time both methods: figures beside their targets and beside what arithmetic alone would take.

Inputs are the domes of `cases`, weights are random.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import cases, dbmrnet_cases, one_class, stage_cases
from benchmarks.gpu_task import Skipped, Task, median_seconds, rate
from benchmarks.measure import Work
from benchmarks.waits import waits
from datasets.records import scan
from datasets.sample import Sample, iter_samples, make_sample
from models.extractors.dino_pointmae import DinoPointMAE
from models.token_store import batches, extract_batch
from utils.devices import pick_device

BATCH = 16
LONGEST = 15
"""Kernels that the step `training` lists."""

CFM_IMAGES_A_SECOND, CFM_CLASS_SECONDS = 100, 60
DBMRNET_IMAGES_A_SECOND, DBMRNET_CLASS_MINUTES = 100, 20
PEAK_GIB = 6


def samples(task: Task, count: int = BATCH) -> list[Sample]:
    """Samples in memory; in small sizes few, of few pixels."""
    if not task.small:
        return [cases.sample(seed) for seed in range(count)]
    rgb, xyz = cases.dome(pixels=1000)
    return [make_sample(rgb, xyz)] * 2


def precisions(task: Task) -> tuple[str, ...]:
    return ("bf16",) if task.small else ("bf16", "fp32")


def extractor(task: Task, precision: str) -> DinoPointMAE:
    """The paper's extractors, of one block each in small sizes."""
    try:
        frozen = cases.extractor(precision, pick_device(task.device))
    except ImportError as error:
        raise Skipped(f"a package is missing: {error}") from error
    if task.small:
        frozen.image.prune(1)
        frozen.cloud.prune(1)
        frozen.xyz_width = frozen.cloud.width
    return frozen


def seconds_an_image(task: Task, step: Callable[[], object], images: int) -> float:
    work = Work(step, images, pick_device(task.device).type)
    return median_seconds(work, 1 if task.small else 5) / images


def arithmetic(task: Task, step: Callable[[], object], images: int, precision: str) -> float | None:
    """Seconds an image of a step at the measured rate of matrix products; None where neither can be told."""
    fastest = rate(task, precision)
    return stage_cases.gigaflops(step) * 1e9 / images / fastest or None if fastest else None


def tell_step(
    task: Task, name: str, step: Callable[[], object], images: int, precision: str
) -> tuple[float, float | None]:
    """Report the milliseconds of a step; returns its seconds an image, and those of its arithmetic alone."""
    seconds, floor = seconds_an_image(task, step, images), arithmetic(task, step, images, precision)
    task.tell(name, 1000 * images * seconds, "ms", floor=None if floor is None else 1000 * images * floor)
    return seconds, floor


def tell_speed(
    task: Task, name: str, step: Callable[[], object], images: int, precision: str, least: float | None = None
) -> None:
    """Report images a second, with the floor of the arithmetic turned into images a second, too."""
    seconds, floor = seconds_an_image(task, step, images), arithmetic(task, step, images, precision)
    task.tell(name, 1 / seconds, "images/s", least=least, floor=1 / floor if floor else None)


def tell_peak(task: Task, name: str) -> None:
    """Report the most GPU memory that was taken since the last report; nothing on a CPU."""
    if pick_device(task.device).type == "cuda":
        task.tell(f"peak memory of {name}", torch.cuda.max_memory_allocated() / 2**30, "GiB", most=PEAK_GIB)
        torch.cuda.reset_peak_memory_stats()


def inference(task: Task) -> None:
    """CFM from samples in memory, and from files, to maps and scores; where the time goes."""
    device, items = pick_device(task.device), samples(task)
    size = len(items)
    for precision in precisions(task):
        frozen = extractor(task, precision)
        mappers = cases.detector(frozen, precision, device).eval()
        score = partial(cases.scores, frozen=frozen, mappers=mappers, device=device)
        least = CFM_IMAGES_A_SECOND if precision == "bf16" else None
        tell_speed(task, f"CFM, {size} at a time, {precision}", partial(score, items), size, precision, least)
        tell_peak(task, f"CFM, {size} at a time, {precision}")
        tell_speed(task, f"CFM, one at a time, {precision}", partial(score, items[:1]), 1, precision)
        with waits(device) as waited:
            score(items)
        task.note(f"waits of {size} images, {precision}", sorted(set(waited)))
        for name, step in stage_cases.stages(precision, device, items[0], frozen).items():
            tell_step(task, f"{name}, {precision}", step, 1, precision)


def reading(task: Task) -> None:
    """CFM from 800×800 files to maps and scores, as cfm_inference.py reads them: ahead, in threads."""
    device, size = pick_device(task.device), len(samples(task))
    cases.write_files(task.setting)
    records = scan(task.setting.folder / "domes", "dome", "test")
    frozen = extractor(task, "bf16")
    mappers = cases.detector(frozen, "bf16", device).eval()

    def read() -> None:
        for _ in iter_samples(records):
            pass

    def step() -> None:
        for batch in batches(iter_samples(records), size):
            cases.scores([item for _, item in batch], frozen, mappers, device)

    task.tell("reading alone", 1 / seconds_an_image(task, read, len(records)), "images/s")
    task.tell(f"CFM with reading, {size} at a time, bf16", 1 / seconds_an_image(task, step, len(records)), "images/s")


def training(task: Task) -> None:
    """A step of CFM on tokens in memory, and a class from it; what it waits for, and its longest kernels."""
    device, items = pick_device(task.device), samples(task, cases.TRAINING_BATCH)
    size = len(items)
    for precision in precisions(task):
        frozen = extractor(task, precision)
        extraction = seconds_an_image(task, partial(extract_batch, items, frozen, device), size)
        tokens, mappers = extract_batch(items, frozen, device), cases.detector(frozen, precision, device)
        tell_peak(task, f"extraction, {precision}")
        for share in (1.0, 0.1):
            step, case = cases.training_step(mappers, tokens, share), f"{precision}, {share:g} of the pixels"
            seconds, floor = tell_step(task, f"CFM, a step of {size}, {case}", step, size, precision)
            once, steps = one_class.IMAGES * extraction, one_class.IMAGES * one_class.EPOCHS["training"]
            most = CFM_CLASS_SECONDS if precision == "bf16" and share == 1 else None
            least_time = steps * floor if floor else None
            task.tell(f"CFM, a class, {case}", once + steps * seconds, "s, extrapolated", most=most, floor=least_time)
            with waits(device) as waited:
                step()
            task.check(not waited, f"waits of a step, {case}", waited)
        tell_peak(task, f"CFM, training, {precision}")
        if precision == "bf16":
            task.note("longest kernels", longest(cases.training_step(mappers, tokens, 1.0), device))


def longest(step: Callable[[], object], device: torch.device) -> list[str]:
    """The kernels of a step that take most time, with their milliseconds and calls."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]) as profiler:
        step()
        if on_gpu:
            torch.cuda.synchronize()
    events = profiler.key_averages()
    times = {e.key: (e.self_device_time_total if on_gpu else e.self_cpu_time_total, e.count) for e in events}
    ranked = sorted(times.items(), key=lambda item: -item[1][0])[:LONGEST]
    return [f"{time / 1000:.3f} ms, {count} calls: {name[:90]}" for name, (time, count) in ranked]


def dbmrnet(task: Task) -> None:
    """DBMRNet's presets: a training step, inference, a class from them, and what they wait for."""
    device, items = pick_device(task.device), samples(task)
    for preset in ("small",) if task.small else ("full", "mid", "small"):
        for precision in precisions(task) if preset == "full" else ("bf16",):
            one_preset(task, preset, precision, items, device)


def one_preset(task: Task, preset: str, precision: str, items: list[Sample], device: torch.device) -> None:
    """All figures of a preset; targets are those of `full` in bf16."""
    size, case, aimed = len(items), f"DBMRNet {preset}, {precision}", (preset, precision) == ("full", "bf16")
    detector = dbmrnet_cases.untrained(preset, precision, items, device)
    infer = partial(dbmrnet_cases.scores, detector, items)
    least = DBMRNET_IMAGES_A_SECOND if aimed else None
    tell_speed(task, f"{case}, inference, {size} at a time", infer, size, precision, least)
    preparation = seconds_an_image(task, partial(detector.prepare, items), size)
    task.tell(f"{case}, preparation", 1000 * preparation, "ms an image")
    with waits(device) as waited:
        infer()
    task.note(f"{case}: waits of an inference of {size}", sorted(set(waited)))
    tell_peak(task, f"{case}, inference")
    _, step = dbmrnet_cases.training_step(preset, precision, items, device)
    seconds, floor = tell_step(task, f"{case}, a step of {size}", step, size, precision)
    minutes = one_class.IMAGES * one_class.EPOCHS["dbmrnet"] / 60
    most = DBMRNET_CLASS_MINUTES if aimed else None
    least_time = minutes * floor if floor else None
    task.tell(f"{case}, a class", minutes * seconds, "min, extrapolated", most=most, floor=least_time)
    with waits(device) as waited:
        step()
    task.check(len(waited) <= 1, f"{case}: waits of a step", waited)
    tell_peak(task, f"{case}, training")
