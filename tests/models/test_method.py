"""models/method.py: what of its data decides a run."""

import hashlib
from types import SimpleNamespace
from typing import Any

from models.method import data_sha256


def test_every_file_and_their_order_count() -> None:
    hashes = {"train": {"000": "aa", "001": "bb"}, "validation": {"000": "cc"}}
    data: Any = SimpleNamespace(hashes=hashes.__getitem__)
    assert data_sha256(data, "train") == hashlib.sha256(b"aa bb").hexdigest()
    assert data_sha256(data, "validation") == hashlib.sha256(b"cc").hexdigest()
    hashes["train"] = {"001": "bb", "000": "aa"}
    assert data_sha256(data, "train") == hashlib.sha256(b"bb aa").hexdigest()
