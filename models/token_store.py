"""Tokens of a set of samples, extracted once: kept in memory, or on disk from run to run."""

import json
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from models.cells import CellOperator
from models.lifting import LiftingOperator
from models.tokens import ModalityTokens, Tokens
from utils.devices import send
from utils.errors import UserError
from utils.files import atomic_path, locked, sha256_text
from utils.view import ViewSettings, Window

FORMAT = 3
"""Part of every key: to be raised when the meaning of stored tokens changes."""


T = TypeVar("T")
R = TypeVar("R", bound=Hashable)


class CachedTokens(Sequence[Tokens]):
    """Tokens read from their files each time they are asked for.

    Attributes:
        paths: of the files.
        then: what to do to them.
    """

    def __init__(self, paths: Sequence[Path], then: Callable[[Tokens], Tokens] | None = None) -> None:
        self.paths, self.then = paths, then

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        tokens = load_tokens(self.paths[index])
        return self.then(tokens) if self.then else tokens


class Grid(Protocol):
    """(3, H, W) image and cloud, (H, W) mask, True = valid: what an extractor looks at."""

    @property
    def rgb(self) -> Tensor: ...
    @property
    def xyz(self) -> Tensor: ...
    @property
    def valid(self) -> Tensor: ...


class GridView(Grid, Protocol):
    """A part of a sample, and where it lies in the frame."""

    @property
    def window(self) -> Window: ...


class GridSample(Grid, Protocol):
    """What a method needs of a sample: all of it, and perhaps a view."""

    @property
    def view(self) -> GridView | None: ...


class TokenExtractor(Protocol):
    """What making tokens needs of an extractor; the whole of it is `models.extractors.Extractor`."""

    def extract(self, rgb: Tensor, xyz: Tensor, valid: Tensor) -> list[Tokens]: ...
    def fit(self, nominal: Iterable[Tokens]) -> None: ...
    def standardise(self, tokens: Tokens) -> Tokens: ...
    def fingerprint(self) -> dict[str, Any]: ...
    @property
    def view(self) -> ViewSettings | None: ...


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut a stream into lists of `size`; the last may be shorter."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def seen_by(view: ViewSettings | None, samples: Sequence[GridSample]) -> Sequence[Grid]:
    """What an extractor with this view looks at: the samples, or their views.

    Raises:
        ValueError: the samples were made without the view.
    """
    if view is None:
        return samples
    views = [sample.view for sample in samples if sample.view is not None]
    if len(views) < len(samples):
        raise ValueError(f"the extractor looks at a view of samples: make them with view={view}")
    return views


def extract_batch(batch: Sequence[GridSample], extractor: TokenExtractor, device: torch.device) -> list[Tokens]:
    """Tokens of a batch of samples, or of their views where the extractor looks at those, made on `device`."""
    return [extractor.standardise(tokens) for tokens in _extract(batch, extractor, device)]


def _extract(batch: Sequence[GridSample], extractor: TokenExtractor, device: torch.device) -> list[Tokens]:
    seen = seen_by(extractor.view, batch)
    rgb, xyz, valid = (send(torch.stack([getattr(s, name) for s in seen]), device) for name in ("rgb", "xyz", "valid"))
    return extractor.extract(rgb, xyz, valid)


def extract_tokens(
    samples: Iterable[GridSample], extractor: TokenExtractor, batch_size: int, device: torch.device
) -> Iterator[Tokens]:
    """Tokens of each sample, in order, extracted `batch_size` samples at a time, on `device`; not standardised."""
    for batch in batches(samples, batch_size):
        yield from _extract(batch, extractor, device)


def fit_extractor(
    extractor: TokenExtractor, samples: Iterable[GridSample], batch_size: int, device: torch.device
) -> list[Tokens]:
    """Fit an extractor to nominal samples, each looked at once. Returns their tokens, standardised."""
    found = list(extract_tokens(samples, extractor, batch_size, device))
    extractor.fit(found)
    for i, tokens in enumerate(found):  # in place, which takes half the memory
        found[i] = extractor.standardise(tokens)
    return found


def cache_tokens(
    digests: Mapping[R, str],
    load: Callable[[list[R]], Iterable[tuple[R, GridSample]]],
    extractor: TokenExtractor,
    batch_size: int,
    device: torch.device,
    folder: Path,
) -> CachedTokens:
    """Tokens of samples on disk, not standardised; only those that are missing are extracted.

    A file's name is a hash of the extractor's fingerprint and the sample's files, so changed settings, weights or
    files are never served old tokens; runs on other images of the class share them. Runs that begin with the same
    sample wait for one another: what one of them extracts, the others read.

    Args:
        digests: for each record of a sample a hash of its files, in the order of the result.
        load: the samples of these records with their records; those it leaves out are left out of the result.
        extractor, batch_size, device: see `extract_tokens`.
        folder: of the cache.
    """
    settings = json.dumps([FORMAT, extractor.fingerprint()], sort_keys=True)
    paths = {
        record: Path(folder) / f"{sha256_text(f'{settings} {digest}')}.safetensors"
        for record, digest in digests.items()
    }
    pending: deque[R] = deque()

    def samples() -> Iterator[GridSample]:
        for record, sample in load(missing):
            pending.append(record)
            yield sample

    with locked(Path(folder), next(iter(paths.values())).stem, wait=True):
        if missing := [record for record, path in paths.items() if not path.exists()]:
            for tokens in extract_tokens(samples(), extractor, batch_size, device):
                save_tokens(paths[pending.popleft()], tokens)
    return CachedTokens([path for path in paths.values() if path.exists()])


def save_tokens(path: Path, tokens: Tokens) -> None:
    """Write tokens and operators to one safetensors file, atomically."""
    tensors = {"rgb": tokens.rgb.tokens, "xyz": tokens.xyz.tokens, "foreground": tokens.foreground.int()}
    for name, part in (("rgb", tokens.rgb), ("xyz", tokens.xyz)):
        if part.rarity is not None:
            tensors[f"{name}.rarity"] = part.rarity
        if isinstance(part.lift, LiftingOperator):  # that of cells follows from their number
            lift, parts = part.lift, f"{name}_lift"
            tensors |= {f"{parts}.offsets": lift.offsets, f"{parts}.indices": lift.indices.to(torch.int16)}
            tensors |= {f"{parts}.values": lift.values}
    tensors["size"] = torch.tensor(tokens.size)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def load_tokens(path: Path) -> Tokens:
    """Read what `save_tokens` wrote, on the CPU.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        # Copied to where torch puts tensors of its own: sums are rounded differently at unaligned addresses.
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: damaged token cache ({error}). Delete the file; it is made again.") from error

    def modality(name: str) -> ModalityTokens:
        count, rarity = len(tensors[name]), tensors.get(f"{name}.rarity")
        if f"{name}_lift.offsets" not in tensors:
            return ModalityTokens(tensors[name], CellOperator(0, count, count), rarity)
        offsets, indices = tensors[f"{name}_lift.offsets"], tensors[f"{name}_lift.indices"].int()
        return ModalityTokens(
            tensors[name], LiftingOperator(offsets, indices, tensors[f"{name}_lift.values"], count), rarity
        )

    return Tokens(modality("rgb"), modality("xyz"), tensors["foreground"].long(), int(tensors["size"]))
