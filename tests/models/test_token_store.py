"""Tokens on disk: what is made again and what is not."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.token_store import (
    CachedTokens,
    batches,
    cache_tokens,
    extract_tokens,
    fit_extractor,
    load_tokens,
    save_tokens,
)
from models.tokens import Tokens
from utils.errors import UserError

MakeTokens = Callable[[int], Tokens]
CPU = torch.device("cpu")


@dataclass
class FakeSample:
    """Carries its seed in the image."""

    rgb: Tensor
    xyz: Tensor
    valid: Tensor
    view: None = None


class FakeExtractor:
    """Makes the tokens of the seed; counts the samples it has seen."""

    view = None

    def __init__(self, make: MakeTokens, setting: str = "a") -> None:
        self.make, self.setting, self.seen = make, setting, 0

    def fingerprint(self) -> dict[str, Any]:
        return {"setting": self.setting}

    def extract(self, rgb: Tensor, xyz: Tensor, valid: Tensor) -> list[Tokens]:
        self.seen += len(rgb)
        return [self.make(int(image.flatten()[0])) for image in rgb]

    def fit(self, nominal: Iterable[Tokens]) -> None:
        self.fitted = [int(tokens.foreground.sum()) for tokens in nominal]

    def standardise(self, tokens: Tokens) -> Tokens:
        return replace(tokens, size=tokens.size + len(self.fitted))


def samples(seeds: list[int]) -> Iterator[tuple[int, FakeSample]]:
    for seed in seeds:
        yield (
            seed,
            FakeSample(torch.full((3, 2, 2), float(seed)), torch.zeros(3, 2, 2), torch.ones(2, 2, dtype=torch.bool)),
        )


def assert_same(found: Tokens, expected: Tokens) -> None:
    assert torch.equal(found.foreground, expected.foreground)
    assert found.size == expected.size
    for one, other in ((found.rgb, expected.rgb), (found.xyz, expected.xyz)):
        assert torch.equal(one.tokens, other.tokens)
        for field in fields(one.lift):
            values = getattr(one.lift, field.name), getattr(other.lift, field.name)
            assert torch.equal(*map(torch.as_tensor, values)), field.name


def test_file_round_trip_is_exact(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    save_tokens(tmp_path / "x.safetensors", make_random_tokens(1))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    assert_same(load_tokens(tmp_path / "x.safetensors"), make_random_tokens(1))


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match=r"x\.safetensors: damaged"):
        load_tokens(tmp_path / "x.safetensors")


def test_extraction_keeps_the_order_and_takes_each_sample_once(make_random_tokens: MakeTokens) -> None:
    extractor = FakeExtractor(make_random_tokens)
    found = list(extract_tokens((sample for _, sample in samples([3, 1, 2, 5, 4])), extractor, 2, CPU))
    assert extractor.seen == 5
    for tokens, seed in zip(found, [3, 1, 2, 5, 4], strict=True):
        assert_same(tokens, make_random_tokens(seed))
    assert list(batches("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]


def test_an_extractor_is_fitted_to_what_it_saw_once(make_random_tokens: MakeTokens) -> None:
    extractor = FakeExtractor(make_random_tokens)
    found = fit_extractor(extractor, (sample for _, sample in samples([3, 1, 2])), 2, CPU)
    assert extractor.seen == 3
    raw = [make_random_tokens(seed) for seed in (3, 1, 2)]
    assert extractor.fitted == [int(tokens.foreground.sum()) for tokens in raw]
    for tokens, own in zip(found, raw, strict=True):
        assert_same(tokens, replace(own, size=own.size + 3))


def test_cached_tokens_are_standardised_when_they_are_read(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    save_tokens(tmp_path / "x.safetensors", make_random_tokens(1))
    (found,) = CachedTokens([tmp_path / "x.safetensors"], lambda tokens: replace(tokens, size=7))
    assert_same(found, replace(make_random_tokens(1), size=7))


def test_cache_serves_what_has_not_changed(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    digests = {3: "three", 1: "one", 2: "two"}
    first = FakeExtractor(make_random_tokens)
    found = cache_tokens(digests, samples, first, 2, CPU, tmp_path)
    assert first.seen == 3
    assert [int(tokens.foreground.sum()) for tokens in found] == [
        int(make_random_tokens(seed).foreground.sum()) for seed in digests
    ]
    second = FakeExtractor(make_random_tokens)
    assert_same(cache_tokens(digests, samples, second, 2, CPU, tmp_path)[2], make_random_tokens(2))
    assert second.seen == 0


def test_cache_is_invalid_when_a_file_or_a_setting_changes(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    cache_tokens({1: "one", 2: "two"}, samples, FakeExtractor(make_random_tokens), 2, CPU, tmp_path)
    changed_file, changed_setting = FakeExtractor(make_random_tokens), FakeExtractor(make_random_tokens, "b")
    cache_tokens({1: "one", 2: "TWO"}, samples, changed_file, 2, CPU, tmp_path)
    cache_tokens({1: "one", 2: "two"}, samples, changed_setting, 2, CPU, tmp_path)
    assert (changed_file.seen, changed_setting.seen) == (1, 2)


def test_samples_that_are_left_out_are_left_out_of_the_cache(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    def without_2(seeds: list[int]) -> Iterator[tuple[int, FakeSample]]:
        return samples([seed for seed in seeds if seed != 2])

    digests = {1: "one", 2: "two", 3: "three"}
    found = cache_tokens(digests, without_2, FakeExtractor(make_random_tokens), 2, CPU, tmp_path)
    assert len(found) == 2
    assert_same(found[1], make_random_tokens(3))


def test_runs_that_share_a_cache_extract_once(make_random_tokens: MakeTokens, tmp_path: Path) -> None:
    """Each of four runs at once asks for two images more than the one before it."""
    extractors = [FakeExtractor(make_random_tokens) for _ in range(4)]

    def run(number: int) -> list[Tokens]:
        digests = {seed: f"hash {seed}" for seed in range(2 * number + 2)}
        return list(cache_tokens(digests, samples, extractors[number], 2, CPU, tmp_path))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, range(4)))
    assert sum(extractor.seen for extractor in extractors) == 8
    assert [len(tokens) for tokens in found] == [2, 4, 6, 8]
    assert all(torch.equal(a.rgb.tokens, b.rgb.tokens) for a, b in zip(found[0], found[3], strict=False))
