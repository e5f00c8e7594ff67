"""DBMRNet as a method: its options, and how its runs are planned, loaded and described."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from models.dbmrnet.settings import CHOICES, FUSIONS, MASKED_SHARE, PRESETS, SCORES, WARMUP_EPOCHS, ModelSettings
from models.method import Loaded, Method, NominalData, Panels, TrainedRun
from utils.argument_types import fraction, positive, positive_int
from utils.errors import UserError

if TYPE_CHECKING:
    import torch

    from models.anomaly_map import AnomalyMap
    from models.dbmrnet.pipeline import DBMRNetPipeline
    from models.dbmrnet.plan import DBMRNetPlan
    from models.token_store import GridSample

NAMED = (
    ("preset", "sizes of the network: 20.2, 4.3 and 2.1 million parameters"),
    ("view", "see the square around the object, or the whole image"),
    ("sampler", "how points are drawn; geometry: more where normals change"),
    ("masked_centres", "xyi: z of a hidden centre is interpolated; xyz: it is given away"),
    ("alignment", "one_way: only point tokens are kept from distant image tokens"),
    ("cross_loss", "how the rebuilt cloud is held to the image"),
)
NUMBERS: tuple[tuple[str, Callable[[str], float], str], ...] = (
    ("mask_ratio", fraction, "share of tokens that is hidden, in (0, 1)"),
    ("passes", positive_int, "reconstructions of a test sample, each from other tokens, ≥ 2"),
    ("alignment_radius", float, "image tokens that encoder attention reaches across modalities; < 0: none"),
    ("local_layers", positive_int, "encoder blocks with that limit, the first ones; without it: all"),
    ("cross_weight", float, "factor of the cross-modal loss, ≥ 0"),
)


class DBMRNet(Method):
    """Rebuilds hidden parts of both modalities; see `models/dbmrnet/README.md`."""

    name = title = "DBMRNet"
    citation = (
        "DBMRNet, masked dual-branch reconstruction; its model code was not released, see models/dbmrnet/README.md"
    )
    epochs, batch_size = 300, 16
    branches: Mapping[str, str] = {"2D only": "2d", "3D only": "3d"}
    no_graph = "its maps are means over passes with masks that are drawn anew, of points that are picked one by one"

    def add_training_options(self, parser: argparse.ArgumentParser) -> None:
        """--learning_rate, --warmup_epochs, --masked_share, and one for each field of ModelSettings."""
        parser.add_argument(
            "--learning_rate", type=positive, help="peak of AdamW's, > 0 (default: 5e-4, 1e-3, 2e-3 by size of preset)"
        )
        parser.add_argument(
            "--warmup_epochs",
            type=positive_int,
            default=WARMUP_EPOCHS,
            help="in which the learning rate rises, at most a tenth of all; then a cosine (default: %(default)s)",
        )
        parser.add_argument(
            "--masked_share",
            type=fraction,
            default=MASKED_SHARE,
            help="share of each batch that the masked network learns from, in (0, 1]; --score local does without it "
            "(default: %(default)s)",
        )
        group = parser.add_argument_group(
            "network", "See models/dbmrnet/README.md. Inference reads them in the checkpoint."
        )
        for name, meaning in NAMED:
            text, default = f"{meaning} (default: %(default)s)", getattr(ModelSettings, name)
            group.add_argument(f"--{name}", choices=CHOICES[name], default=default, help=text)
        for name, kind, meaning in NUMBERS:
            text, default = f"{meaning} (default: %(default)s)", getattr(ModelSettings, name)
            group.add_argument(f"--{name}", type=kind, default=default, help=text)

    def add_inference_options(self, parser: argparse.ArgumentParser) -> None:
        """--preset, --checkpoint, --score, --fusion."""
        parser.add_argument("--preset", choices=tuple(PRESETS), help="that of the checkpoint; another one is refused")
        parser.add_argument(
            "--checkpoint",
            choices=("last", "best"),
            default="last",
            help="weights of the last epoch, or of that with the lowest validation loss (default: %(default)s)",
        )
        parser.add_argument(
            "--score",
            choices=SCORES,
            default=SCORES[0],
            help="local: errors of local descriptors, each modality rebuilt from the other; or compare with the masked "
            "reconstruction, the network's features of both, or add both (default: %(default)s)",
        )
        parser.add_argument(
            "--fusion",
            choices=FUSIONS,
            default=FUSIONS[0],
            help="how the maps of the two modalities become one (default: %(default)s)",
        )

    def plan(self, data: NominalData, options: argparse.Namespace, device: "torch.device") -> "DBMRNetPlan":
        """See `models.dbmrnet.plan`."""
        from models.dbmrnet.plan import make_plan

        return make_plan(data, options, device)

    def load(
        self, run: TrainedRun, device: "torch.device", precision: str | None, options: Mapping[str, Any]
    ) -> Loaded:
        """Load a checkpoint; another --preset than its own is refused."""
        from models.dbmrnet import training
        from models.dbmrnet.pipeline import DBMRNetPipeline

        detector, settings = training.load(run.name, run.part, precision)
        preset = options.get("preset")
        if preset not in (None, detector.settings.preset):
            raise UserError(
                f"--preset {preset}: the checkpoint was trained with {detector.settings.preset}. Leave the option out."
            )
        chosen = options.get("score", SCORES[0]), options.get("fusion", FUSIONS[0])
        return Loaded(DBMRNetPipeline(detector.to(device), *chosen), settings)

    def describe(self, loaded: Loaded, options: Mapping[str, Any]) -> dict[str, Any]:
        """Preset, score, fusion, which weights, and what is known of the training."""
        pipeline: Any = loaded.pipeline
        training = loaded.settings["config"] if loaded.settings else {}
        return {
            "preset": pipeline.detector.settings.preset,
            "precision": pipeline.detector.precision,
            **pipeline.settings,
            "checkpoint": options["checkpoint"],
            "shots": training["data"].get("shots"),
            "seed": training["seed"],
        }

    def look(
        self, pipeline: "DBMRNetPipeline", samples: "Sequence[GridSample]"
    ) -> "tuple[Sequence[AnomalyMap], Panels]":
        """The maps of a batch, and what was rebuilt of it."""
        return pipeline.look(samples)
