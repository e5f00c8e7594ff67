"""AST as a method: its options, and how its runs are planned, loaded and described."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.ast.settings import BACKBONE, MODES, PAPER_BACKBONE, ASTSettings
from models.extractors.options import add_network_weights_option
from models.method import Loaded, Method, NominalData, TrainedRun
from utils.argument_types import positive_int

if TYPE_CHECKING:
    import torch

    from models.ast.plan import ASTPlan


class AST(Method):
    """A flow learns good images, and a network what the flow says of them; see `models.ast.detector`."""

    name = "AST"
    title = "AST, asymmetric student and teacher"
    citation = (
        "Rudolph, Wehrbein, Rosenhahn, Wandt: Asymmetric Student-Teacher Networks for Industrial Anomaly Detection, "
        "WACV 2023"
    )
    epochs, batch_size = 72, 8
    parts = ("_teacher", "_student")
    reading = "extraction"

    def add_training_options(self, parser: argparse.ArgumentParser) -> None:
        """--mode, --width, --backbone, --rgb_weights. The epochs are those of the teacher, and again of the student."""
        parser.add_argument(
            "--mode",
            choices=MODES,
            default=ASTSettings.mode,
            help="what is looked at; depth needs no pretrained weights (default: %(default)s)",
        )
        parser.add_argument(
            "--width",
            type=positive_int,
            default=ASTSettings.width,
            help="channels of the student; the time of training falls with their square: 256 is for CPUs (default: "
            "%(default)s, the paper's)",
        )
        parser.add_argument(
            "--backbone",
            metavar="NAME",
            default=BACKBONE,
            help="the network that looks at colours: efficientnet_lite0, _lite1 or _lite2 with the weights of pip's "
            "packages, or an EfficientNet of timm with weights from its hub or of --rgb_weights; the paper's is "
            f"{PAPER_BACKBONE} (default: %(default)s)",
        )
        self.add_inference_options(parser)

    def add_inference_options(self, parser: argparse.ArgumentParser) -> None:
        """--rgb_weights."""
        add_network_weights_option(parser)

    def plan(self, data: NominalData, options: argparse.Namespace, device: "torch.device") -> "ASTPlan":
        """See `models.ast.plan`."""
        from models.ast.plan import make_plan

        return make_plan(data, options, device)

    def load(
        self, run: TrainedRun, device: "torch.device", precision: str | None, options: Mapping[str, Any]
    ) -> Loaded:
        """Load both networks, with the one that looks at colours where there is one."""
        from models.ast.plan import load_pipeline

        return Loaded(*load_pipeline(run, device, precision, options))

    def describe(self, loaded: Loaded, options: Mapping[str, Any]) -> dict[str, Any]:
        """Mode, width, backbone, precision, and what is known of the training."""
        pipeline: Any = loaded.pipeline
        training = loaded.settings["config"] if loaded.settings else {}
        return {
            "mode": pipeline.chosen.mode,
            "width": pipeline.chosen.width,
            "backbone": pipeline.chosen.backbone,
            "precision": pipeline.networks.precision,
            "shots": training["data"].get("shots"),
            "seed": training["seed"],
        }
