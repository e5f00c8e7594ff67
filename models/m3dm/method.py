"""M3DM as a method: its options, and how its runs are planned, loaded and described."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.extractors.options import add_extractor_options
from models.extractors.stored import described
from models.m3dm.settings import BANKS, DECISIONS, M3DMSettings
from models.method import Loaded, Method, NominalData, TrainedRun
from utils.argument_types import fraction

if TYPE_CHECKING:
    import torch

    from models.m3dm.plan import M3DMPlan


class M3DM(Method):
    """Remembers features of good images in three banks, and weighs what they say; see `models.m3dm.detector`."""

    name = title = "M3DM"
    citation = "Wang, Peng, Zhang, Yi, Wang, Wang: Multimodal Industrial Anomaly Detection via Hybrid Fusion, CVPR 2023"
    branches: Mapping[str, str] = {"2D only": "2d", "3D only": "3d"}
    reading = "extraction"

    def add_training_options(self, parser: argparse.ArgumentParser) -> None:
        """The extractor's, and one for each field of M3DMSettings."""
        add_extractor_options(parser)
        parser.add_argument(
            "--modalities",
            choices=tuple(BANKS),
            default=M3DMSettings.modalities,
            help="both: banks of RGB, of geometry and of both together; rgb or xyz: that one (default: %(default)s)",
        )
        parser.add_argument(
            "--fraction",
            type=fraction,
            default=M3DMSettings.fraction,
            help="share of all rows of features that each bank keeps, in (0, 1] (default: %(default)s, the paper's)",
        )
        parser.add_argument(
            "--uff",
            action="store_true",
            help="train the paper's network that fuses both modalities' features for the third bank, on this class; "
            "without it they stand side by side",
        )
        parser.add_argument(
            "--decision",
            choices=DECISIONS,
            help="how the banks' scores become one: zscore, their sum in deviations of nominal scores; svm, the "
            "release's linear one-class support vector machine (default: zscore; svm with --as_released)",
        )
        parser.add_argument(
            "--as_released",
            action="store_true",
            help="repeat two faults of the release: all banks in units of RGB's features, and the sizes of two banks "
            "counted from the third's",
        )

    def add_inference_options(self, parser: argparse.ArgumentParser) -> None:
        """The extractor's."""
        add_extractor_options(parser)

    def plan(self, data: NominalData, options: argparse.Namespace, device: "torch.device") -> "M3DMPlan":
        """See `models.m3dm.plan`."""
        from models.m3dm.plan import make_plan

        return make_plan(data, options, device)

    def load(
        self, run: TrainedRun, device: "torch.device", precision: str | None, options: Mapping[str, Any]
    ) -> Loaded:
        """Load banks with their extractor; options that contradict it are refused."""
        from models.m3dm.plan import load_banks_of

        return Loaded(*load_banks_of(run, device, precision, options))

    def branches_of(self, pipeline: Any) -> Mapping[str, str]:
        """None where there is one bank, which says all."""
        return self.branches if len(pipeline.banks) > 1 else {}

    def describe(self, loaded: Loaded, options: Mapping[str, Any]) -> dict[str, Any]:
        """Extractor, what was chosen, rows and weights of the banks, and what is known of the training."""
        pipeline: Any = loaded.pipeline
        training = loaded.settings["config"] if loaded.settings else {}
        extractor = pipeline.extractor.fingerprint()
        return {
            **described(extractor),
            **training["model"],
            "rows": {name: len(bank.bank.rows) for name, bank in pipeline.banks.items()},
            "weights": {"image": pipeline.decision.image.tolist(), "map": pipeline.decision.map.tolist()},
            "precision": extractor.get("precision", "fp32"),
            "shots": training["data"].get("shots"),
            "seed": training["seed"],
            "extractor_fingerprint": extractor,
        }
