"""Where the files of samples are, as patterns: scans/{split}/{defect}/{stem}_color.png."""

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from datasets.records import SPLITS
from utils.errors import UserError

FIELDS = ("class", "split", "defect", "stem")
"""What a pattern may hold in braces, and what identifies a sample."""

MAX_NAME = 200  # bytes of a field's value: file systems take 255, and suffixes come behind it

_SPLITS = {**{name: name for name in SPLITS}, "val": "validation", "valid": "validation"}


class Pattern:
    """Paths with fields. A field stands for any part of one folder or file name, `*` for a part that is no field.

    A leading ~ is the home folder: shells leave it as it is in quotes.

    Attributes:
        option: of the command line, for messages.
        text: as given.
        fields: those that it has, in the order of `FIELDS`.
        base: the folder above the first name that has a field or `*`.
    """

    def __init__(self, option: str, text: str) -> None:
        """Raises UserError for a field that there is not, a lone brace, or the home folder of nobody."""
        self.option, self.text = option, text
        try:
            parts = Path(text).expanduser().parts
        except RuntimeError as error:
            raise UserError(
                f"{option} {text!r}: expected a home folder at ~, found none. Write the folder's full path."
            ) from error
        free = [index for index, part in enumerate(parts) if re.search(r"[{}*]", part)]
        first = min(free, default=len(parts) - 1)
        self.base = Path(*parts[:first])
        self._parts = parts[first:]
        whole = "/".join(self._parts)
        names = re.findall(r"\{([^{}]*)\}", whole)
        unknown = [name for name in names if name not in FIELDS]
        if unknown or re.search(r"[{}]", re.sub(r"\{[^{}]*\}", "", whole)) or not parts:
            raise UserError(
                f"{option} {text!r}: expected a path with the fields {{{'}, {'.join(FIELDS)}}}, "
                f"found {'{' + unknown[0] + '}' if unknown else 'none or a lone brace'}. Correct the pattern."
            )
        self.fields = tuple(name for name in FIELDS if name in names)
        self._whole = re.compile(_regex(whole))

    def find(self) -> list[tuple[dict[str, str], Path]]:
        """The files that fit, sorted, each with its fields as they stand in the path. Hidden names do not fit.

        Raises:
            UserError: there is none.
        """
        paths = [self.base]
        for part in self._parts:
            if not re.search(r"[{*]", part):
                paths = [path / part for path in paths]
                continue
            fits = re.compile(_regex(part))
            paths = [
                child
                for path in paths
                if path.is_dir()
                for child in sorted(path.iterdir())
                if fits.fullmatch(child.name) and not child.name.startswith(".")
            ]
        found = []
        for path in paths:
            match = self._whole.fullmatch("/".join(path.parts[len(self.base.parts) :]))
            if match and path.is_file():
                found.append((match.groupdict(), path))
        if not found:
            raise UserError(f"{self.option} {self.text!r}: no file fits. {_what_is_there(self.base)}")
        return found

    def filled(self, fields: Mapping[str, str]) -> str:
        """The pattern with fields put in, for messages."""
        return re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], self.text)


def spelled(field: str, value: str) -> str:
    """A field's value as the layout of MVTec 3D-AD spells it: val → validation, GOOD and ok → good."""
    if field == "split":
        return _SPLITS.get(value.lower(), value)
    return "good" if field == "defect" and value.lower() in ("good", "ok") else value


def check_fields(fields: Mapping[str, str]) -> None:
    """Refuse values, spelled as the layout does, that cannot name the folders and files of a sample.

    Raises:
        UserError: a hidden name, a slash, a character that cannot be printed, a name too long for file systems, an
            unknown split, a defect in training.
    """
    for field, value in fields.items():
        if not value or value.startswith(".") or not value.isprintable() or re.search(r"[/\\]", value):
            raise UserError(
                f"{field} {value!r}: expected a plain name, without slashes, control characters or a dot at its "
                "beginning. Rename it."
            )
        if (size := len(value.encode())) > MAX_NAME:
            raise UserError(f"{field} {value[:40]!r}…: expected at most {MAX_NAME} bytes, found {size}. Shorten it.")
    if fields["split"] not in SPLITS:
        raise UserError(
            f"split {fields['split']!r}: expected train, validation (also val, valid) or test. Rename the folder, or "
            "write its name into the pattern and give --split."
        )
    if fields["split"] != "test" and fields["defect"] != "good":
        raise UserError(
            f"{fields['split']} holds the defect {fields['defect']!r}: expected good samples only. Move them to test."
        )


def _regex(text: str) -> str:
    """Regular expression of a pattern; a field that comes again must have the same value."""
    expression, seen = "", set()
    for token in re.split(r"(\{\w+\}|\*)", text):
        if token == "*":
            expression += "[^/]*"
        elif token.startswith("{"):
            expression += f"(?P={token[1:-1]})" if token in seen else f"(?P<{token[1:-1]}>[^/]+?)"
            seen.add(token)
        else:
            expression += re.escape(token)
    return expression


def _what_is_there(base: Path) -> str:
    """Where was searched, and the first files there."""
    while not base.is_dir() and base != base.parent:
        base = base.parent
    files = (path for path in base.rglob("*") if path.is_file() and not path.name.startswith("."))
    first = ", ".join(path.relative_to(base).as_posix() for path in islice(files, 5))
    return f"Searched from the folder {base.resolve()}, which holds {first or 'no file'}. Correct the pattern."
