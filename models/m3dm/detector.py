"""M3DM (Wang et al., "Multimodal Industrial Anomaly Detection via Hybrid Fusion", CVPR 2023), after its release.

What differs from the release: cells without a point of the object are left out; a map is smoothed by a Gaussian in
float32; the coreset is chosen by float32 values on a projection that torch draws; the network that fuses is trained on
patches that lie at the same place (the release brings RGB patches to the finer grid in another order than geometry's
for training), of one class; the decision over the banks is made on cells, before they are enlarged, which is the same,
since it is linear. Where tokens share one grid, an object's view is placed on the frame as for other methods, and cells
beside the object take the mean of those around.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from models.extractors import Extractor
from models.m3dm.banks import ScaledBank, rows_of
from models.m3dm.cells import BESIDE, Cells, cells_of, reach_out
from models.m3dm.decision import weigh
from models.m3dm.settings import M3DMSettings
from models.m3dm.uff import UFF
from models.memory.maps import BankMap, spread
from models.token_store import GridSample, extract_batch
from models.view_maps import place
from utils.view import ViewSettings

LAYERS = ("rgb", "xyz")
"""Banks whose own maps are shown; in a bank's place that there is not, they are 0."""


@dataclass(frozen=True)
class M3DMMap(BankMap):
    """Distances from RGB's and from geometry's bank, and the weighted sum of all, with what each says alone."""

    smoothed_2d: Tensor
    smoothed_3d: Tensor
    score_2d: Tensor
    score_3d: Tensor

    def branch(self, aggregation: str) -> "M3DMMap":
        """What one bank says: `2d` that of RGB, `3d` that of geometry."""
        smoothed, score = {
            "2d": (self.smoothed_2d, self.score_2d),
            "3d": (self.smoothed_3d, self.score_3d),
        }[aggregation]
        return replace(self, smoothed=smoothed, score=score)


@dataclass(frozen=True)
class Decision:
    """Weights of the banks' image scores and of their maps, (B,) both, in the order of `M3DMSettings.banks`."""

    image: Tensor
    map: Tensor


@dataclass(frozen=True)
class M3DM:
    """Banks on one device, and what describes samples to them: a pipeline. uff: None without a network."""

    chosen: M3DMSettings
    extractor: Extractor
    uff: UFF | None
    banks: Mapping[str, ScaledBank]
    decision: Decision

    @property
    def view(self) -> ViewSettings | None:
        """What of a sample the extractor looks at; samples are to be made with it."""
        return self.extractor.view

    @property
    def settings(self) -> dict[str, Any]:
        """What thresholds for the maps depend on besides the weights."""
        return {} if self.view is None else {"beside": BESIDE}

    def maps(self, samples: Sequence[GridSample]) -> list[M3DMMap]:
        """The map of each sample of a batch, on the CPU.

        Raises:
            UserError: a feature is not finite.
        """
        tokens = extract_batch(samples, self.extractor, self.decision.map.device)
        return [self.map_of(cells_of(of), sample).cpu() for of, sample in zip(tokens, samples, strict=True)]

    def map_of(self, cells: Cells, sample: GridSample) -> M3DMMap:
        """The map of a sample from its cells."""
        found = {name: bank.score(rows_of(name, cells, self.uff)) for name, bank in self.banks.items()}
        plain, smoothed = self._on_frame(cells, {name: distances for name, (distances, _) in found.items()}, sample)
        nothing = smoothed.new_zeros(())
        alone = [found[name][1] if name in found else nothing for name in LAYERS]
        score = (self.decision.image * torch.stack([score for _, score in found.values()])).sum()
        return M3DMMap(plain[0], plain[1], smoothed[2], score, smoothed[0], smoothed[1], *alone)

    def _on_frame(self, cells: Cells, distances: Mapping[str, Tensor], sample: GridSample) -> tuple[Tensor, Tensor]:
        """Maps of LAYERS and of the weighted sum on the frame, enlarged, and smoothed too: (3, 224, 224) both.

        All steps are linear, so banks on the same grid are summed before.
        """
        grids: dict[int, Tensor] = {}
        for weight, (name, values) in zip(self.decision.map, distances.items(), strict=True):
            grid = cells.grid_of(name)
            maps = grids.setdefault(grid.side, values.new_zeros(3, grid.side, grid.side))
            filled = grid.fill(values)
            if self.view is not None:
                filled = reach_out(filled, grid)
            maps[2] += weight * filled
            if name in LAYERS:
                maps[LAYERS.index(name)] += filled
        on_frame = []
        for maps in grids.values():
            if self.view is None or sample.view is None:
                on_frame.append(spread(maps))
            else:
                on_frame.append(place(maps, sample.view.valid, sample.view.window))
        plain, smoothed = zip(*on_frame, strict=True)
        return torch.stack(plain).sum(dim=0), torch.stack(smoothed).sum(dim=0)


def decide(
    nominal: Sequence[Cells], banks: Mapping[str, ScaledBank], uff: UFF | None, chosen: M3DMSettings
) -> Decision:
    """The weights of the banks, from the images that they were made of.

    Args:
        nominal: of each training image, on the device of the banks.
    """
    device = next(iter(banks.values())).scale.device
    if len(banks) == 1:
        return Decision(torch.ones(1, device=device), torch.ones(1, device=device))
    of_images, of_cells = [], []
    for cells in nominal:
        here = cells.to(device)
        found = {name: bank.score(rows_of(name, here, uff)) for name, bank in banks.items()}
        at_cells = [values[here.inside] if name == "rgb" else values for name, (values, _) in found.items()]
        of_images.append(torch.stack([score for _, score in found.values()]).cpu())
        of_cells.append(torch.stack(at_cells, dim=1).cpu())
    weights = [weigh(scores, chosen.banks, chosen.decision) for scores in (torch.stack(of_images), torch.cat(of_cells))]
    return Decision(weights[0].to(device), weights[1].to(device))
