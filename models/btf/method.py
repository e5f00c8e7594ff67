"""BTF as a method: its options, and how its runs are planned, loaded and described."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.btf.settings import FEATURES, PAPER_BACKBONE, WITH_NETWORK, BTFSettings
from models.extractors.options import add_network_weights_option
from models.method import Loaded, Method, NominalData, TrainedRun
from utils.argument_types import fraction

if TYPE_CHECKING:
    import torch

    from models.btf.plan import BTFPlan


class BTF(Method):
    """Remembers features of good images, and looks for what is far from all of them; see `models.btf.detector`."""

    name = "BTF"
    title = "BTF (3D-ADS)"
    citation = (
        "Horwitz, Hoshen: Back to the Feature: Classical 3D Features are (Almost) All You Need for 3D Anomaly "
        "Detection, CVPR Workshops 2023"
    )
    reading = "extraction"
    no_graph = "its features are histograms of neighbours in space, and its bank holds many times what a graph should"

    def add_training_options(self, parser: argparse.ArgumentParser) -> None:
        """--features, --backbone, --fraction, --rgb_weights."""
        parser.add_argument(
            "--features",
            choices=FEATURES,
            default=BTFSettings.features,
            help="what images are described by: rgb and depth, a pretrained network; raw, hog, sift and fpfh of the "
            "cloud, no weights needed; btf, rgb and fpfh (default: %(default)s)",
        )
        parser.add_argument(
            "--backbone",
            metavar="NAME",
            help=f"the network of {', '.join(WITH_NETWORK)}: a model of timm with weights from its hub or of "
            "--rgb_weights, or efficientnet_lite0, _lite1 or _lite2 with the weights of pip's packages (default: "
            f"{PAPER_BACKBONE}, the paper's)",
        )
        parser.add_argument(
            "--fraction",
            type=fraction,
            default=BTFSettings.fraction,
            help="share of all rows of features that is kept, in (0, 1] (default: %(default)s, the paper's)",
        )
        self.add_inference_options(parser)

    def add_inference_options(self, parser: argparse.ArgumentParser) -> None:
        """--rgb_weights."""
        add_network_weights_option(parser)

    def plan(self, data: NominalData, options: argparse.Namespace, device: "torch.device") -> "BTFPlan":
        """See `models.btf.plan`."""
        from models.btf.plan import make_plan

        return make_plan(data, options, device)

    def load(
        self, run: TrainedRun, device: "torch.device", precision: str | None, options: Mapping[str, Any]
    ) -> Loaded:
        """Load a bank, with its network where the features need one."""
        from models.btf.plan import check_precision, load_bank_of

        check_precision(precision)
        made, settings = load_bank_of(run, options)
        return Loaded(made.to(device), settings)

    def describe(self, loaded: Loaded, options: Mapping[str, Any]) -> dict[str, Any]:
        """Features, backbone, share and number of rows, and what is known of the training."""
        pipeline: Any = loaded.pipeline
        training = loaded.settings["config"] if loaded.settings else {}
        return {
            "features": pipeline.chosen.features,
            "backbone": pipeline.chosen.backbone,
            "fraction": pipeline.chosen.fraction,
            "shots": training["data"].get("shots"),
            "seed": training["seed"],
            "bank": {"rows": len(pipeline.bank.rows)},
        }
