"""Download of one large file of known size and hash: resumed after a break, checked, renamed when complete."""

import re
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from filelock import FileLock
from tqdm import tqdm

from utils.errors import UserError
from utils.files import sha256_file

TIMEOUT = 30.0  # seconds without an answer
BLOCK = 1 << 18  # bytes read at a time


def download(url: str, target: Path, size: int, sha256: str) -> None:
    """Fetch `url` into `target`, which appears only when it is complete and correct.

    What has arrived lies in `target` + `.part`; a later call asks the server for the rest (HTTP Range). A broken
    connection is taken up again as long as each attempt brings the file further. Runs that want the same file at the
    same time wait for the first of them.

    Args:
        url: where the file is.
        target: where it goes; its folder is created.
        size: in bytes.
        sha256: hexadecimal.

    Raises:
        OSError: the server cannot be reached, refuses, or breaks off; what has arrived is kept.
        UserError: the server has another file than the expected one; what has arrived is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with FileLock(f"{part}.lock"):
        if target.exists():
            return
        while (had := _size(part)) < size:
            reason = _receive_rest(url, part, size)
            if _size(part) < size and _size(part) <= had:
                raise OSError(reason)
        found = sha256_file(part)
        if found != sha256:
            part.unlink()
            raise UserError(
                f"{url}: expected a file with sha256 {sha256}, received one with {found}; it was removed. "
                "Run the same command again; if the message stays, the file at this address has changed."
            )
        part.replace(target)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive_rest(url: str, part: Path, size: int) -> str:
    """Append to `part` what it lacks, as far as the connection lasts; return why it ended."""
    have = _size(part)
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
            resumed = response.status == 206 and _first_byte(response.headers["Content-Range"]) == have
            start = have if resumed else 0
            length = response.headers["Content-Length"]
            if length is not None and start + int(length) != size:
                part.unlink(missing_ok=True)
                raise UserError(f"{url}: expected a file of {size:,} bytes, the server has {start + int(length):,}.")
            bar = tqdm(total=size, initial=start, unit="B", unit_scale=True, desc=part.stem)
            with part.open("ab" if resumed else "wb") as stream, bar:
                while block := response.read(BLOCK):
                    stream.write(block)
                    bar.update(len(block))
    except HTTPError as error:
        raise OSError(f"the server answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        return str(error) or type(error).__name__
    return "the server ended the transfer early"


def _first_byte(content_range: str | None) -> int:
    """First position in a Content-Range header such as `bytes 100-199/200`; -1 when it states none."""
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match.group(1)) if match else -1
