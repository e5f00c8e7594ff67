"""Which pairs of a folder that fills up are complete."""

from pathlib import Path

from inspection.pairs import Pair, find_pairs

Stamp = tuple[int, ...]
"""What changes when a pair's files do: size, time and inode of both."""


class Watch:
    """Looks at a folder again and again. A pair is handed out once, and again whenever one of its files has changed.

    A file may still be written when it is first seen, so a pair has to look the same twice.
    """

    def __init__(self, folder: Path, ignored: Path) -> None:
        """folder, ignored: see `find_pairs`."""
        self._folder, self._ignored = folder, ignored
        self._seen: dict[str, Stamp] = {}
        self._given: dict[str, Stamp] = {}

    def look(self) -> list[Pair]:
        """The pairs that have not changed since the last look and were not handed out like this, by name."""
        found = [(pair, _stamp(pair)) for pair in find_pairs(self._folder, self._ignored)[0]]
        now = {pair.name: stamp for pair, stamp in found if stamp is not None}
        ready = [pair for pair, stamp in found if stamp is not None and self._is_ready(pair.name, stamp)]
        self._given = {name: stamp for name, stamp in self._given.items() if name in now}
        self._given.update((pair.name, now[pair.name]) for pair in ready)
        self._seen = now
        return ready

    def _is_ready(self, name: str, stamp: Stamp) -> bool:
        return self._seen.get(name) == stamp and self._given.get(name) != stamp


def _stamp(pair: Pair) -> Stamp | None:
    """None where a file is gone by now."""
    try:
        states = [path.stat() for path in (pair.rgb, pair.xyz)]
    except OSError:
        return None
    return tuple(value for state in states for value in (state.st_size, state.st_mtime_ns, state.st_ino))
