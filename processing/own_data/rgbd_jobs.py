"""What to convert: which of people's own files belong together, and how each sample is to be converted."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from processing.background.clean_files import same_content
from processing.manifest import VERSION, Preprocessing, read_manifest, stamped_share
from processing.own_data.camera_files import Intrinsics, depth_unit, find_intrinsics, read_camera_file
from processing.own_data.file_patterns import FIELDS, Pattern, check_fields, spelled
from utils.errors import UserError

GEOMETRY = ("depth", "xyz")
"""Kinds of file that hold a sample's geometry; it has one of them."""


@dataclass(frozen=True)
class Conversion(Preprocessing):
    """How files are converted.

    Attributes:
        background: "plane", "depth-range", "mask" or "none".
        depth_range: of "depth-range": nearest and farthest z in metres.
        unit: metres per stored unit, or None where the camera's file says it.
        invalid: a stored value that means "not measured", besides 0 and NaN; "maximum" = the largest of the type.
        size: (height, width) of clouds that bring their colours, where the user says it.
        camera: of one sample with a depth image; None in the manifest, since cameras may differ.
    """

    family: str = "rgbd"
    background: str = "plane"
    depth_range: tuple[float, float] | None = None
    unit: float | None = None
    invalid: float | str | None = None
    size: tuple[int, int] | None = None
    camera: Intrinsics | None = None

    def as_json(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"background": self.background, "unit": self.unit, "invalid": self.invalid}
        if self.depth_range is not None:
            settings["depth_range"] = list(self.depth_range)
        if self.size is not None:
            settings["size"] = list(self.size)
        if self.background == "plane":
            settings |= asdict(self.settings)
        if (camera := self.camera) is not None:
            settings["camera"] = [camera.fx, camera.fy, camera.cx, camera.cy, camera.depth_scale]
            settings["camera"] += [camera.division] if camera.division else []
        return {"family": self.family, "version": VERSION, "seed": self.seed, "settings": settings}


@dataclass(frozen=True)
class Inputs:
    """Where the files are.

    Attributes:
        patterns: of "depth" or "xyz", and where given of "rgb", "gt", "foreground" and "intrinsics".
        given: fields that the first pattern does not have.
        camera: where its four numbers were given instead of a file.
        train_share: of the good samples, in (0, 1), where the files do not say what is for training.
    """

    patterns: Mapping[str, Pattern]
    given: Mapping[str, str]
    camera: Intrinsics | None = None
    train_share: float | None = None

    @property
    def first(self) -> str:
        """The kind of file whose names say what samples there are: the RGB, or the cloud that brings its colours."""
        return "rgb" if "rgb" in self.patterns else "xyz"

    def folders(self) -> list[Path]:
        """The folders of the samples' files."""
        return [pattern.base for kind, pattern in self.patterns.items() if kind not in ("foreground", "intrinsics")]


@dataclass(frozen=True)
class Job:
    """One sample to convert.

    Attributes:
        sources: its files by kind, of "rgb" and "xyz" the one that there is where there is a problem.
        target: root of the converted dataset.
        folder: where the sample goes, relative to `target`: class/split/defect.
        stem: file name without suffix.
        done: what to do, with the sample's own camera and unit.
        problem: why it cannot be converted, or None.
    """

    sources: Mapping[str, Path]
    target: Path
    folder: str
    stem: str
    done: Conversion
    problem: str | None = None

    @property
    def name(self) -> str:
        """The cloud's path relative to the target, the key of the manifest."""
        return f"{self.folder}/xyz/{self.stem}.tiff"

    @property
    def geometry(self) -> Path:
        """The depth image or the cloud."""
        return next(self.sources[kind] for kind in GEOMETRY if kind in self.sources)

    @property
    def rgb(self) -> Path:
        """Where the RGB image goes: a copy, or what the cloud brings."""
        folder = self.target / self.folder / "rgb"
        return self.copies().get("rgb", folder / f"{self.stem}.png")

    def copies(self) -> dict[str, Path]:
        """Kind of each file that is copied -> where it goes."""
        folder = self.target / self.folder
        kinds = [kind for kind in ("rgb", "gt") if kind in self.sources]
        return {kind: folder / kind / f"{self.stem}{self.sources[kind].suffix.lower()}" for kind in kinds}

    def finished_share(self) -> float | None:
        """Share of valid points if the target already holds this sample, converted in the same way; else None."""
        copies = self.copies().items()
        if self.problem is not None or not all(same_content(self.sources[kind], path) for kind, path in copies):
            return None
        if not self.rgb.is_file():
            return None
        return stamped_share(self.target / self.name, self.done, self.compared())

    def compared(self) -> list[Path]:
        """The files that the cloud is made of; what the camera's says of this sample stands in the settings."""
        return [self.geometry, *(path for kind, path in self.sources.items() if kind == "foreground")]


@dataclass(frozen=True)
class _Sample:
    """A file of the first kind and the fields that identify it, as the layout spells them and as `written` there."""

    path: Path
    fields: Mapping[str, str]
    written: Mapping[str, str]

    def values(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.fields[name] for name in names)


_Files = Mapping[tuple[str, ...], list[Path]]


def read_inputs(
    texts: Mapping[str, str | None],
    given: Mapping[str, str | None],
    camera: Intrinsics | None,
    train_share: float | None = None,
) -> Inputs:
    """Patterns and fields as the user gives them.

    Args:
        texts: pattern by kind, None where there is none.
        given: value by field, None where the user says nothing.
        camera, train_share: see `Inputs`.

    Raises:
        UserError: a pattern is none, or a field is given twice or not at all.
    """
    patterns = {kind: Pattern(f"--{kind}", text) for kind, text in texts.items() if text is not None}
    for kind, pattern in patterns.items():
        if "stem" not in pattern.fields and kind not in ("foreground", "intrinsics"):
            raise UserError(
                f"--{kind} {pattern.text!r}: expected the field {{stem}}, the part of the name that tells samples "
                "apart. Put it in."
            )
    fields = {"split": "train", "defect": "good"} | {field: text for field, text in given.items() if text is not None}
    inputs = Inputs(patterns, fields, camera, train_share)
    options = {"class": "--class_name", "split": "--split", "defect": "--defect"}
    for field, option in options.items():
        in_pattern = field in patterns[inputs.first].fields
        if in_pattern and given[field] is not None:
            raise UserError(f"{option}: --{inputs.first} has {{{field}}} already. Leave one of the two out.")
        if not in_pattern and field not in fields:
            raise UserError(f"{option} is missing. Give it, or put {{{field}}} into --{inputs.first}.")
    says = ["--split"] if given["split"] is not None else []
    says += [pattern.option for pattern in patterns.values() if "split" in pattern.fields]
    if train_share is not None and says:
        raise UserError(f"--train_share: expected where nothing says the split, but {says[0]} does. Leave one out.")
    return inputs


def find_jobs(inputs: Inputs, target: Path, done: Conversion, problems: list[str]) -> list[Job]:
    """A job for each RGB image, or cloud that brings its colours, by class, split, defect and stem.

    Those that cannot be named go to `problems`.

    Raises:
        UserError: a pattern finds nothing, no name will do, or one reason why nothing can be converted.
    """
    samples = _samples(inputs, problems)
    if not samples:
        raise UserError(problems[0])
    partners = {kind: _by_fields(pattern) for kind, pattern in inputs.patterns.items() if kind != inputs.first}
    contents: dict[Path, dict[str, Any]] = {}
    jobs = []
    for sample in samples:
        sources, problem, own = {inputs.first: sample.path}, None, done
        try:
            sources |= _sources(inputs, partners, sample)
            own = _with_camera(inputs, sources, sample.fields["stem"], done, contents)
        except UserError as error:
            problem = str(error)
        folder, stem = "/".join(sample.values(("class", "split", "defect"))), sample.fields["stem"]
        jobs.append(Job(sources, target, folder, stem, own, problem))
    reasons = {job.problem for job in jobs}
    if len(reasons) == 1 and None not in reasons:
        raise UserError(str(reasons.pop()))
    problems += _lonely(inputs, partners, samples)
    return _unshared(jobs)


def of_earlier_calls(target: Path, jobs: Sequence[Job]) -> dict[str, float | None]:
    """What the target's manifest lists of other folders than those of the jobs; None = not finished."""
    manifest, folders = read_manifest(target), {job.folder for job in jobs}
    listed = manifest["files"] if manifest else {}
    return {name: share for name, share in listed.items() if name.rsplit("/", 2)[0] not in folders}


def _samples(inputs: Inputs, problems: list[str]) -> list[_Sample]:
    """The files of the first kind, by class, split, defect and stem; names that will not do go to `problems`."""
    samples: dict[str, _Sample] = {}
    for found, path in inputs.patterns[inputs.first].find():
        written = {**inputs.given, **found}
        if inputs.train_share is not None and spelled("defect", written["defect"]) != "good":
            written["split"] = "test"
        sample = _Sample(path, {field: spelled(field, written[field]) for field in FIELDS}, written)
        name = "/".join(sample.values(FIELDS)).casefold()
        try:
            check_fields(sample.fields)
            if name in samples:
                raise UserError(
                    f"same class, split, defect and stem as {samples[name].path} (upper and lower case count as one). "
                    "Rename one, or let the pattern fit one only."
                )
        except UserError as error:
            problems.append(f"{path}: {error}")
            continue
        samples[name] = sample
    named = list(samples.values())
    if inputs.train_share is not None:
        named = _share_out(named, inputs.train_share)
    return sorted(named, key=lambda sample: sample.values(FIELDS))


def _share_out(samples: Sequence[_Sample], train_share: float) -> list[_Sample]:
    """The samples: of each class's good ones the given share for training, the others, evenly spaced, for testing."""
    shared = []
    for name in dict.fromkeys(sample.fields["class"] for sample in samples):
        mine = [sample for sample in samples if sample.fields["class"] == name]
        good = sorted((one for one in mine if one.fields["defect"] == "good"), key=lambda one: one.fields["stem"])
        tested = round((1 - train_share) * len(good))
        tested = min(max(tested, 1), len(good) - 1) if len(good) > 1 else 0  # each part gets one at least
        chosen = {(2 * index + 1) * len(good) // (2 * tested) for index in range(tested)}
        shared += [one for one in mine if one.fields["defect"] != "good"]
        for index, one in enumerate(good):
            split = {"split": "test" if index in chosen else "train"}
            shared.append(replace(one, fields={**one.fields, **split}, written={**one.written, **split}))
    return shared


def _needs_mask(sample: _Sample) -> bool:
    return sample.fields["split"] == "test" and sample.fields["defect"] != "good"


def _by_fields(pattern: Pattern) -> dict[tuple[str, ...], list[Path]]:
    """Files of a pattern by the values of its fields, spelled as the layout does."""
    files: dict[tuple[str, ...], list[Path]] = {}
    for fields, path in pattern.find():
        files.setdefault(tuple(spelled(field, fields[field]) for field in pattern.fields), []).append(path)
    return files


def _sources(inputs: Inputs, partners: Mapping[str, _Files], sample: _Sample) -> dict[str, Path]:
    """The other files of a sample, by kind. Raises UserError where one is missing or found twice."""
    sources = {}
    for kind, files in partners.items():
        if kind == "gt" and sample.fields["split"] != "test":
            continue
        pattern = inputs.patterns[kind]
        found = files.get(sample.values(pattern.fields), [])
        if len(found) == 1:
            sources[kind] = found[0]
        elif found:
            raise UserError(
                f"{sample.path}: expected one file for {pattern.option}, found {found[0]} and {found[1]}. Remove one, "
                "or let the pattern fit one only."
            )
        elif kind != "gt" or _needs_mask(sample):
            raise UserError(
                f"{sample.path}: partner missing, expected {pattern.filled(sample.written)} ({pattern.option}). "
                "Restore that file or remove this one."
            )
    return sources


def _with_camera(
    inputs: Inputs, sources: Mapping[str, Path], stem: str, done: Conversion, contents: dict[Path, dict[str, Any]]
) -> Conversion:
    """`done` with the camera and the unit of a sample; `contents` keeps the camera files that were read."""
    camera, where = inputs.camera, "--camera"
    if (path := sources.get("intrinsics")) is not None:
        if path not in contents:
            contents[path] = read_camera_file(path)
        camera, where = find_intrinsics(contents[path], path, stem), str(path)
    if camera is None:
        return done
    return replace(done, camera=replace(camera, depth_scale=depth_unit(done.unit, camera, where)))


def _lonely(inputs: Inputs, partners: Mapping[str, _Files], samples: Sequence[_Sample]) -> list[str]:
    """A message for each depth image or cloud that belongs to no RGB image."""
    messages = []
    for kind in (kind for kind in GEOMETRY if kind in partners):
        known = {sample.values(inputs.patterns[kind].fields) for sample in samples}
        messages += [
            f"{files[0]}: partner missing, no image of --rgb has its fields. Restore the image or remove this file."
            for fields, files in partners[kind].items()
            if fields not in known
        ]
    return messages


def _unshared(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, with a problem where several have the same depth image, cloud or mask."""
    kinds = (*GEOMETRY, "gt")
    used = Counter(path for job in jobs for kind, path in job.sources.items() if kind in kinds)
    checked = []
    for job in jobs:
        shared = [path for kind, path in job.sources.items() if kind in kinds and used[path] > 1]
        if shared and job.problem is None:
            problem = (
                f"{shared[0]}: belongs to {used[shared[0]]} RGB images, expected one. Give its pattern all the fields "
                "that --rgb has."
            )
            job = replace(job, problem=problem)
        checked.append(job)
    return checked
