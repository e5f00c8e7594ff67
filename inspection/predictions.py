"""Answers on disk: a map and a picture a sample, and one line a sample in a log that a stopped run goes on with."""

import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datasets.readers import read_rgb, read_stamp, read_xyz
from evaluation.thresholds import Thresholds
from inspection.answer import Answer, Logged
from inspection.overlay import draw
from inspection.pairs import Pair
from utils.errors import UserError
from utils.files import atomic_path, read_with, remove_leftovers, sha256_file, sha256_files
from utils.map_files import save_map
from utils.png import write_png
from utils.run_record import append_json_line, iter_json_lines

LOG = "predictions.jsonl"

_RESTORE = "Restore the file, or remove the sample."
_BLOCK = 1 << 20  # bytes that are read of a log at a time


class Predictor(Protocol):
    """What is asked of a detector; see `inspection.detector`. parts_at_once: how many threads may call `predict`."""

    @property
    def parts_at_once(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def thresholds(self) -> Thresholds | None: ...
    def predict(self, rgb: np.ndarray, xyz: np.ndarray, raw: bool | None = None) -> Answer: ...


@dataclass(frozen=True)
class Inspected:
    """A pair that was inspected ahead of its turn: hash of its files before they were read, image, answer, seconds."""

    sources: str
    rgb: np.ndarray
    answer: Answer
    seconds: float


class Predictions:
    """The answers of one detector in a folder: `maps/NAME.tiff`, `overlays/NAME.png`, and a line in `LOG`, last.

    Lines are only added; a sample's newest one counts. To be used with the folder locked.
    """

    def __init__(self, folder: Path, detector: Predictor, rate: float) -> None:
        """Read what is there, without the line and the temporary files that a killed run left unfinished.

        Args:
            folder: where answers go.
            rate: false-alarm rate that was asked for.

        Raises:
            UserError: the log is damaged.
        """
        self.folder, self.detector, self.rate = folder, detector, rate
        self.log = folder / LOG
        for part in ("maps", "overlays"):
            remove_leftovers(folder / part)
        _cut_unfinished_line(self.log)
        self._known = {found.sample: found for found in map(_outcome, iter_json_lines(self.log))}

    def look_ahead(self, pair: Pair) -> Inspected | None:
        """Inspect a pair whose turn, `take`, comes later; from any thread.

        Returns:
            None where its answer may be known already, or it fails: then it is left to `take`.
        """
        try:
            sources = _hash(pair)
            if any(found.key[0] == sources for found in list(self._known.values()) if found.rgb == str(pair.rgb)):
                return None
            begin = time.perf_counter()
            rgb, answer = inspect(pair, self.detector)
            return Inspected(sources, rgb, answer, time.perf_counter() - begin)
        except UserError:
            return None

    def take(self, pair: Pair, keep: bool = False, ahead: Inspected | None = None) -> tuple[Logged, bool]:
        """Answer a sample, unless the log has its answer and its files are there; a failure becomes a line too.

        Args:
            ahead: what `look_ahead` gave of the pair.
            keep: the answer to earlier files of that name and place stays; the new ones are called `NAME~2`, `NAME~3`
                and so on. A failure is no answer.

        Returns:
            What came out, and whether it is new. A failure is tried again, and told in a new line if it has changed.
        """
        self.check_name(pair)
        sources: str | None = None
        problem: UserError | None = None
        try:
            sources = ahead.sources if ahead else _hash(pair)
        except UserError as error:
            problem = error
        if keep:
            pair = replace(pair, name=self._own_name(pair.name, sources))
        before = self._known.get(pair.name)
        if problem is None:
            if before and before.key == self._key(sources) and self._has_files(pair.name):
                return before, False
            try:
                self.add(pair, sources, ahead)
            except UserError as error:
                problem = error
        if problem is not None:
            failed = Logged(pair.name, self._key(sources), str(pair.rgb), None, None, str(problem))
            if failed == before:
                return before, False
            for path in (self.map_path(pair.name), self.overlay_path(pair.name)):  # of other files of that name
                path.unlink(missing_ok=True)
            self._append(pair, sources, {"error": str(problem)})
        return self._known[pair.name], True

    def add(self, pair: Pair, sources: str | None = None, ahead: Inspected | None = None) -> Answer:
        """Answer a sample, and write map, picture and line.

        Args:
            pair: its files.
            sources: their hash, where it is known.
            ahead: see `take`.

        Raises:
            UserError: the files cannot be read or used, or have changed meanwhile.
        """
        sources = sources or _hash(pair)
        if ahead is None:
            begin = time.perf_counter()
            rgb, answer = inspect(pair, self.detector)
            seconds = time.perf_counter() - begin
        else:
            rgb, answer, seconds = ahead.rgb, ahead.answer, ahead.seconds
        if _hash(pair) != sources:
            raise UserError(f"{pair.rgb} or {pair.xyz.name}: changed while it was read. Let finished files stand.")
        map_path, overlay_path = self.map_path(pair.name), self.overlay_path(pair.name)
        thresholds = self.detector.thresholds
        save_map(map_path, answer.map)
        if thresholds is None:
            overlay_path.unlink(missing_ok=True)
        else:
            with atomic_path(overlay_path) as temporary:
                write_png(temporary, draw(rgb, answer, thresholds))
        entry = {
            "score": answer.score,
            "threshold": None if thresholds is None else thresholds.image,
            "anomalous": answer.anomalous,
            "map": map_path.relative_to(self.folder).as_posix(),
            "overlay": None if thresholds is None else overlay_path.relative_to(self.folder).as_posix(),
            "reasons": list(answer.reasons),
            "regions": [region.as_json() for region in answer.regions],
            "cleaned": answer.cleaned,
            "seconds": round(seconds, 4),
        }
        self._append(pair, sources, entry)
        return answer

    def check_name(self, pair: Pair) -> None:
        """Refuse a part whose name another part has here: its map and picture would be lost. Raises UserError.

        A part with the same files elsewhere, or with other files at the same place, is the same one.
        """
        before = self._known.get(pair.name)
        if before is None or not isinstance(before.rgb, str) or Path(before.rgb).absolute() == pair.rgb.absolute():
            return
        if pair.rgb.is_file() and pair.xyz.is_file() and before.key[0] == _hash(pair):
            return
        raise UserError(
            f"{self.folder}: holds the answer to {before.rgb} under the name {pair.name}, which {pair.rgb} has too. "
            "Choose another --output."
        )

    def map_path(self, name: str) -> Path:
        """Where the map of a sample goes."""
        return self.folder / "maps" / f"{name}.tiff"

    def overlay_path(self, name: str) -> Path:
        """Where the picture of a sample goes."""
        return self.folder / "overlays" / f"{name}.png"

    def _own_name(self, name: str, sources: str | None) -> str:
        """The first of NAME, NAME~2, … under which no other files have an answer."""
        found, number = name, 1
        while (before := self._known.get(found)) and before.error is None and before.key[0] != sources:
            number += 1
            found = f"{name}~{number}"
        return found

    def _append(self, pair: Pair, sources: str | None, what: dict[str, Any]) -> None:
        decisive = {"sources": sources, "detector": self.detector.fingerprint, "false_alarm_rate": self.rate}
        entry = {"sample": pair.name, "rgb": str(pair.rgb), "xyz": str(pair.xyz), **what, **decisive}
        append_json_line(self.log, entry)
        self._known[pair.name] = _outcome(entry)

    def _key(self, sources: str | None) -> tuple[str | None, str, float]:
        return sources, self.detector.fingerprint, self.rate

    def _has_files(self, name: str) -> bool:
        return self.map_path(name).is_file() and (self.detector.thresholds is None or self.overlay_path(name).is_file())


def inspect(pair: Pair, detector: Predictor) -> tuple[np.ndarray, Answer]:
    """The image of a pair as (h, w, 3) uint8, and what the detector says of the pair.

    Raises:
        UserError: a file cannot be read, or the two cannot be used; names the file.
    """
    rgb, xyz, raw = read_pair(pair)
    try:
        answer = detector.predict(rgb, xyz, raw)
    except UserError as error:
        raise UserError(f"{pair.xyz} with {pair.rgb.name}: {error}") from error
    if not math.isfinite(answer.score):
        raise UserError(f"{pair.xyz} with {pair.rgb.name}: the map is not finite. Expected coordinates in metres.")
    return rgb, answer


def read_pair(pair: Pair) -> tuple[np.ndarray, np.ndarray, bool | None]:
    """The arguments of `Detector.predict`: (h, w, 3) uint8, (h, w, 3) float32, and whether the cloud is raw.

    One that preprocessing has stamped is not, even if the part fills the frame, unless its background was kept; of
    others it is not known.

    Raises:
        UserError: a file cannot be read.
    """
    stamp = read_stamp(pair.xyz)
    settings = stamp["preprocessing"].get("settings") if stamp else None
    kept = isinstance(settings, dict) and settings.get("background") == "none"
    return read_rgb(pair.rgb), read_xyz(pair.xyz), None if stamp is None or kept else False


def _hash(pair: Pair) -> str:
    """Hash of both files. Raises UserError where one cannot be read."""
    return sha256_files([pair.rgb, pair.xyz], lambda path: read_with(path, sha256_file, _RESTORE))


def _outcome(entry: dict[str, Any]) -> Logged:
    """What a line says."""
    key = entry.get("sources"), entry.get("detector", ""), entry.get("false_alarm_rate", 0)
    said = {name: entry.get(name) for name in ("rgb", "score", "anomalous", "error")}
    return Logged(
        str(entry.get("sample")),
        key,
        **said,
        cleaned=entry.get("cleaned") is True,
        reasons=tuple(map(str, entry.get("reasons") or ())),
    )


def _cut_unfinished_line(path: Path) -> None:
    """Cut off what follows the last end of a line. Raises UserError where `path` is there and is no file."""
    if not path.exists():
        return
    if not path.is_file():
        raise UserError(f"{path}: expected a file of predictions, found something else. Choose another --output.")
    with path.open("rb") as stream:
        whole = end = stream.seek(0, os.SEEK_END)
        found = -1
        while found < 0 < whole:
            start = max(0, whole - _BLOCK)
            stream.seek(start)
            found = stream.read(whole - start).rfind(b"\n")
            whole = start + found + 1
    if whole < end:
        os.truncate(path, whole)
