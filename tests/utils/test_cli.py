"""utils/cli.py: the options that several command lines have."""

import argparse
import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from utils import cli
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    path.relative_to(ROOT).as_posix()
    for path in sorted([*ROOT.glob("*.py"), *(ROOT / "processing").glob("*.py")])
    if "__main__" in path.read_text(encoding="utf-8")
]


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser()


def test_training_options(parser: argparse.ArgumentParser) -> None:
    cli.add_training_options(parser, "./checkpoints/mine")
    assert vars(parser.parse_args([])) == {
        **{"checkpoint_savepath": Path("checkpoints/mine"), "shots": None, "hold_out": 0.2, "seed": 0},
        **{"draw_shots": False, "resume": False, "overwrite": False, "wandb_mode": "disabled"},
    }
    words = "--checkpoint_savepath a/b --shots 3 --draw_shots --hold_out 0 --seed 7 --resume --overwrite"
    words += " --wandb_mode offline"
    assert vars(parser.parse_args(words.split())) == {
        **{"checkpoint_savepath": Path("a/b"), "shots": 3, "hold_out": 0.0, "seed": 7},
        **{"draw_shots": True, "resume": True, "overwrite": True, "wandb_mode": "offline"},
    }


@pytest.mark.parametrize(
    ("option", "value"), [("shots", "0"), ("hold_out", "1"), ("hold_out", "-0.1"), ("seed", "x"), ("wandb_mode", "on")]
)
def test_training_options_refuse_other_values(
    parser: argparse.ArgumentParser, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.add_training_options(parser, "checkpoints")
    with pytest.raises(SystemExit):
        parser.parse_args([f"--{option}", value])
    assert f"argument --{option}: " in capsys.readouterr().err


@pytest.mark.parametrize("value", ["-1", str(1 << 63), "9" * 20])
def test_seeds_that_no_generator_takes_are_refused(
    parser: argparse.ArgumentParser, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.add_training_options(parser, "checkpoints")
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args([f"--seed={value}"])
    assert stopped.value.code == 2
    assert f"--seed: expected a whole number from 0 to {2**63 - 1}, got {value}" in capsys.readouterr().err


def test_checkpoint_option_names_the_file_in_its_help(parser: argparse.ArgumentParser) -> None:
    cli.add_checkpoint_option(parser, "checkpoints/mine", "MINE_CLASS_{epochs}ep_{batch}bs.safetensors")
    assert parser.parse_args([]).checkpoint_folder == Path("checkpoints/mine")
    assert parser.parse_args(["--checkpoint_folder", "other"]).checkpoint_folder == Path("other")
    text = " ".join(parser.format_help().split())
    assert "CLASS/MINE_CLASS_{epochs}ep_{batch}bs.safetensors (default: checkpoints/mine)" in text


def test_methods_have_result_folders_of_their_own(parser: argparse.ArgumentParser) -> None:
    cli.add_result_options(parser, 0.01, "mine")
    args = parser.parse_args([])
    assert args.quantitative_folder == Path("results/quantitatives_mine")
    assert args.qualitative_folder == Path("results/qualitatives_mine")


@pytest.mark.parametrize("value", ["0", "1", "nan", "-0.01", "1 %"])
def test_false_alarm_rate_lies_between_0_and_1(parser: argparse.ArgumentParser, value: str) -> None:
    cli.add_rate_option(parser, 0.01)
    assert parser.parse_args([]).false_alarm_rate == 0.01
    assert parser.parse_args(["--false_alarm_rate", "0.05"]).false_alarm_rate == 0.05
    with pytest.raises(SystemExit):
        parser.parse_args(["--false_alarm_rate", value])


def test_maps_are_saved_on_the_grid_unless_asked_otherwise(parser: argparse.ArgumentParser) -> None:
    cli.add_result_options(parser, 0.01, "mine")
    assert parser.parse_args([]).map_size == "grid"
    assert parser.parse_args(["--map_size", "native"]).map_size == "native"
    with pytest.raises(SystemExit):
        parser.parse_args(["--map_size", "800"])


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("a.tiff: expected this, found that"), 2, "error: a.tiff: expected this, found that"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device. Files that are finished stay"),
        (PermissionError(13, "Permission denied", "out/a.json"), 2, "error: out/a.json: Permission denied. Files that"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException, status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> int:
        raise error

    assert cli.run(main) == status
    output = capsys.readouterr()
    assert output.err.startswith(message)
    assert output.err.count("\n") == 1
    assert not output.out


FULL_GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15 GiB of which 1 is free."
FULL_MACHINE = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError(FULL_GPU), "CUDA out of memory. Tried to allocate 2.00 GiB: "),
        (RuntimeError(FULL_MACHINE), f"{FULL_MACHINE}: "),
        (MemoryError(), "out of memory: "),
    ],
)
def test_full_memory_says_what_to_lower(error: BaseException, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise error

    assert cli.run(main) == 2
    written = capsys.readouterr().err
    assert written.startswith(
        f"error: {said}the memory is full. Take --precision bf16 or, in training, a smaller --batch_size"
    )
    assert "--resume goes on" in written


def test_other_faults_of_torch_keep_their_traceback() -> None:
    def main() -> int:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        cli.run(main)


@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_device_names(name: str, parser: argparse.ArgumentParser) -> None:
    cli.add_run_options(parser, epochs=1, batch_size=1)
    assert parser.parse_args(["--device", name]).device == name


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0 ", "cpu:0"])
def test_other_device_names_are_refused(name: str, parser: argparse.ArgumentParser) -> None:
    cli.add_run_options(parser, epochs=1, batch_size=1)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--device", name])


def test_python_ends_without_a_search_for_garbage() -> None:
    before = gc.get_freeze_count()
    assert cli.run(lambda: 0) == 0
    assert gc.get_freeze_count() > before


def test_faults_of_the_program_keep_their_traceback() -> None:
    def main() -> int:
        raise KeyError("a fault")

    with pytest.raises(KeyError):
        cli.run(main)


# Slow: a process for each command.
@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_consoles_without_utf_8_get_help(command: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, command, "--help"], cwd=ROOT, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().startswith(f"usage: {Path(command).name}")


def test_characters_that_a_console_does_not_know_are_replaced() -> None:
    code = "from utils import cli; cli.run(lambda: print('at least ≥ 1, name \\udcff'))"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
    assert (done.stdout, done.stderr) == (b"at least ? 1, name ?\n", b"")
