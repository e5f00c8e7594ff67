"""What can be measured: the rows of each kind, `module.function` below `benchmarks` with its arguments."""

from dataclasses import dataclass

from benchmarks.measure import Case


@dataclass(frozen=True)
class Kind:
    """One value of --what: the unit of its seconds, what is timed, its rows, and what writes their files."""

    unit: str
    timed: str
    cases: dict[str, Case]
    prepare: str = ""


STAGES = (
    "matrix product",
    "ViT-B/8",
    "sampling and operators",
    "neighbours",
    "mini-PointNet",
    "point blocks",
    "mappers and maps",
    "gradients of a training step",
)

CELLS = {
    kind: {
        f"cnn_normals {name}": Case(f"cell_cases.{function}", (precision,), 5, "plain")
        for function, suffix in functions.items()
        for precision in ("fp32", "bf16")
        for name in (f"{precision}{suffix}",)
    }
    for kind, functions in {
        "extraction": {"extraction": ""},
        "inference": {"inference": "", "inference_with_reading": " with reading"},
        "training": {"training": "", "extraction": ", extraction"},
    }.items()
}
"""What `--extractor cnn_normals` adds to a kind."""

KINDS = {
    "extraction": Kind(
        "image",
        "sample in memory → tokens and operators (plain: dense features); reading and resizing excluded",
        {
            "plain": Case("cases.plain_extraction", (), 2, "plain"),
            "fp32": Case("cases.extraction", ("fp32",), 5, "plain"),
            "bf16": Case("cases.extraction", ("bf16",), 5, "plain"),
        },
    ),
    "inference": Kind(
        "image",
        "sample in memory → maps and score; `with reading`: 800×800 PNG and TIFF → maps and score",
        {
            "plain": Case("cases.plain_inference", (), 2, "plain"),
            "fp32": Case("cases.inference", ("fp32",), 5, "plain"),
            "bf16": Case("cases.inference", ("bf16",), 5, "plain"),
            "fp32 with reading": Case("cases.inference_with_reading", ("fp32",), 3, "plain"),
            "bf16 with reading": Case("cases.inference_with_reading", ("bf16",), 3, "plain"),
        },
        "cases.write_files",
    ),
    "training": Kind(
        "image",
        "an optimiser step on tokens in memory (plain: on features extracted anew, as the original scripts do); "
        "reading and resizing excluded",
        {
            "plain": Case("cases.plain_training", (), 2, "plain"),
            "fp32": Case("cases.training", ("fp32",), 3, "plain"),
            "bf16": Case("cases.training", ("bf16",), 3, "plain"),
            "fp32, 0.1 of the pixels": Case("cases.training", ("fp32", 0.1), 5, "plain"),
            "bf16, 0.1 of the pixels": Case("cases.training", ("bf16", 0.1), 5, "plain"),
            "extraction fp32": Case("cases.extraction", ("fp32",), 3),
            "extraction bf16": Case("cases.extraction", ("bf16",), 3),
        },
    ),
    "dbmrnet": Kind(
        "sample",
        "train: an optimiser step on prepared samples in memory; infer: sample in memory → fused map and score, "
        "preparation included; reading and resizing excluded",
        {
            f"{word} {preset}, {precision}": Case(
                f"dbmrnet_cases.{function}", (preset, precision), 5, f"{word} {preset}, fp32"
            )
            for preset in ("small", "mid", "full")
            for word, function in (("train", "training"), ("infer", "inference"))
            for precision in ("fp32", "bf16")
        },
    ),
    "stages": Kind(
        "image",
        "one stage, its inputs in memory; `matrix product`: ten bare ones",
        {
            f"{name}, {precision}": Case("stage_cases.stage", (name, precision), 9)
            for precision in ("fp32", "bf16")
            for name in STAGES
        },
    ),
    "preprocessing": Kind(
        "scan",
        "raw cloud in memory → mask of the object, on one core; `command`: the whole command line on a raw tree at "
        "400 px, from its start, with reading and writing",
        {
            "Open3D, 400 px": Case("preprocessing_cases.open3d_in_memory", (400,), 1, "Open3D, 400 px"),
            "400 px": Case("preprocessing_cases.in_memory", (400,), 3, "Open3D, 400 px"),
            "Open3D, 800 px": Case("preprocessing_cases.open3d_in_memory", (800,), 1, "Open3D, 800 px", False, True),
            "800 px": Case("preprocessing_cases.in_memory", (800,), 3, "Open3D, 800 px"),
            "command, 1 worker": Case("preprocessing_cases.command_line", (1,), 3, "command, 1 worker"),
            "command, 2 workers": Case("preprocessing_cases.command_line", (2,), 3, "command, 1 worker"),
        },
        "preprocessing_cases.prepare",
    ),
    "metrics": Kind(
        "class",
        "maps of 110 test images, 224×224, in memory → all figures of the result file",
        {"evaluate": Case("metrics_cases.evaluation", (110, 224), 3)},
    ),
    "memory": Kind(
        "pick of a coreset, or image",
        "rows in memory → a coreset (8780 of 87 808, 280 wide), or nearest rows of an image (784 in 17 483, 1569 wide)",
        {
            "coreset, plain": Case("memory_cases.plain_coreset", (), 3, "coreset, plain"),
            "coreset": Case("memory_cases.coreset", (), 1, "coreset, plain", False),
            "nearest, differences": Case(
                "memory_cases.distances", ("donot_use_mm_for_euclid_dist",), 1, "nearest, differences", False
            ),
            "nearest, cdist": Case("memory_cases.distances", ("use_mm_for_euclid_dist",), 5, "nearest, differences"),
            "nearest": Case("memory_cases.neighbours", (), 5, "nearest, differences"),
        },
    ),
    "export": Kind(
        "part",
        "image and cloud in memory → map and decision; `run`: the same by torch, of the checkpoint; checks of the "
        "input and regions excluded",
        {
            "run": Case("export_files.run", (), 9, "run"),
            **{
                f"{name} {precision}": Case("export_cases.runtime", (name, precision), 9, "run")
                for name in ("onnxruntime", "openvino")
                for precision in ("fp32", "int8")
            },
        },
        "export_files.prepare",
    ),
    "demo": Kind(
        "run",
        "00_demo.sh, once, all of it",
        {"demo": Case("demo_case.demo", (), 1, "", False)},
    ),
}
