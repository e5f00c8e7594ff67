"""Crossmodal Feature Mapping as a method: its options, and how its runs are planned, loaded and described."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.extractors.options import add_extractor_options
from models.extractors.stored import described, given
from models.method import Loaded, Method, NominalData, TrainedRun
from utils.argument_types import fraction

if TYPE_CHECKING:
    import torch
    from torch import nn

    from models.cfm.plan import CFMPlan

AGGREGATIONS = ("product", "sum", "max", "2d", "3d")


class CFM(Method):
    """Maps features of either modality to those of the other; see `models.cfm.training` for its files."""

    name = "CFM"
    title = "Crossmodal Feature Mapping"
    citation = (
        "Costanzino, Zama Ramirez, Lisanti, Di Stefano: Multimodal Industrial Anomaly Detection by Crossmodal Feature "
        "Mapping, CVPR 2024"
    )
    epochs = 50
    parts = ("_2Dto3D", "_3Dto2D", "_extractor")
    suffix = ".pth"
    reading = "extraction"
    results = "mvtec"

    def add_training_options(self, parser: argparse.ArgumentParser) -> None:
        """The extractor's, --mapper, --pixel_fraction, --augment, --token_cache."""
        add_extractor_options(parser)
        parser.add_argument(
            "--mapper",
            choices=("mlp", "mlp_big", "mlp_wide"),
            help="mlp: one inner layer, the paper's for MVTec 3D-AD; mlp_big: five, its authors' for Eyecandies; "
            "mlp_wide: one that is three times as wide (default: mlp; mlp_wide with cnn_normals)",
        )
        parser.add_argument(
            "--pixel_fraction",
            type=fraction,
            help="share of each image's foreground pixels that a step sees, drawn anew at each step, in (0, 1]; 0.1 "
            "trains several times faster (default: 1; with cnn_normals as much as lets every class take as long)",
        )
        parser.add_argument(
            "--augment",
            choices=("none", "mirror", "turn"),
            help="see each training image in a mirror too, or both of these turned by quarters about the optical axis, "
            "which takes parts that are nominal either way (default: none; with cnn_normals turn for fewer than 30 "
            "images, mirror for fewer than 100)",
        )
        parser.add_argument(
            "--token_cache",
            type=Path,
            metavar="DIR",
            help="keep extracted tokens in this folder, from run to run (default: in memory, for this run)",
        )

    def add_inference_options(self, parser: argparse.ArgumentParser) -> None:
        """The extractor's, --aggregation."""
        add_extractor_options(parser)
        parser.add_argument(
            "--aggregation",
            choices=AGGREGATIONS,
            default=AGGREGATIONS[0],
            help="how the maps of the two modalities become one (default: %(default)s, the paper's)",
        )

    def plan(self, data: NominalData, options: argparse.Namespace, device: "torch.device") -> "CFMPlan":
        """See `models.cfm.plan`."""
        from models.cfm.plan import make_plan

        return make_plan(data, options, device)

    def load(
        self, run: TrainedRun, device: "torch.device", precision: str | None, options: Mapping[str, Any]
    ) -> Loaded:
        """Load a checkpoint, ours or the original authors', with its extractor; see `load_pipeline`."""
        from models.cfm.pipeline import load_pipeline

        files = options.get("rgb_weights"), options.get("xyz_weights")
        aggregation = options.get("aggregation", AGGREGATIONS[0])
        pipeline, settings = load_pipeline(run.name, device, precision, *files, aggregation, given(options))
        fingerprint = pipeline.extractor.fingerprint()
        note = "" if settings else f"no settings beside the checkpoint, taken as the original authors': {fingerprint}"
        return Loaded(pipeline, settings, note)

    def graph(self, loaded: Loaded, shape: tuple[int, int]) -> "nn.Module":
        """Of the extractor `cnn_normals` only: no other looks at cells of one grid."""
        from models.cfm.graph import make_graph

        return make_graph(loaded.pipeline, shape)

    def describe(self, loaded: Loaded, options: Mapping[str, Any]) -> dict[str, Any]:
        """Extractor, aggregation, mapper, and what is known of the training."""
        pipeline: Any = loaded.pipeline
        training = loaded.settings["config"] if loaded.settings else {}
        extractor = pipeline.extractor.fingerprint()
        return {
            **described(extractor),
            "precision": pipeline.detector.precision,
            "aggregation": pipeline.aggregation,
            "mapper": pipeline.detector.variant,
            "shots": training.get("data", {}).get("shots"),
            "seed": training.get("seed"),
            "extractor_fingerprint": extractor,
        }
