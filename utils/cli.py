"""What the command lines share: error handling, and the options that several of them have."""

import argparse
import gc
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from utils import process_settings
from utils.argument_types import device_name, positive_int, rate, seed, share
from utils.errors import UserError


def run(main: Callable[[], int]) -> int:
    """Call a script's `main` in a process set up for it, see `process_settings.apply`; torch is not loaded yet.

    A UserError is printed without a traceback and turned into exit status 2, Ctrl-C into 130. So is the system's
    refusal to read or write a file: no space, no permission, a folder that was removed; and a full memory, of a GPU or
    of the machine. Characters that the console does not know are printed as question marks.
    """
    process_settings.apply()
    if isinstance(sys.stdout, io.TextIOWrapper):  # errors never fail: Python replaces there by itself
        sys.stdout.reconfigure(errors="replace")
    try:
        return main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}. Files that are finished stay as they are.", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0].partition(". GPU ")[0]
        print(f"error: {reason or 'out of memory'}: {LESS_MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    finally:
        gc.freeze()  # or Python, as it ends, looks for garbage in all that was imported, for up to a second


LESS_MEMORY = (
    "the memory is full. Take --precision bf16 or, in training, a smaller --batch_size, --shots, or what else --help "
    "lists that makes the model or its data smaller (--pixel_fraction, --preset, --features); a run with other "
    "settings begins anew. With the same ones --resume goes on from the last saved epoch, once other programs have "
    "left the memory, or on another --device. Files that are finished stay as they are."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a GPU or of the machine was full: torch has an exception for GPUs only."""
    named = "OutOfMemoryError" in {kind.__name__ for kind in type(error).__mro__}
    return named or isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


class Method(Protocol):
    """What command lines ask of a method; the whole of it is `models.method.Method`."""

    name: str
    title: str
    epochs: int
    batch_size: int
    parts: Sequence[str]
    suffix: str

    @property
    def checkpoints(self) -> str: ...
    @property
    def results(self) -> str: ...
    def add_training_options(self, parser: argparse.ArgumentParser) -> None: ...
    def add_inference_options(self, parser: argparse.ArgumentParser) -> None: ...


AnyMethod = TypeVar("AnyMethod", bound=Method)


def pick_method(
    argv: Sequence[str] | None, methods: Mapping[str, AnyMethod], description: str
) -> tuple[AnyMethod, list[str]]:
    """The method of --method, and the other words; the help of a command line without it says which there are."""
    words = sys.argv[1:] if argv is None else list(argv)
    text = f"{description} Each method has options of its own: --method NAME --help."
    parser = argparse.ArgumentParser(description=text, add_help=False, allow_abbrev=False)
    parser.add_argument("--method", choices=tuple(methods), required=True, help="which method")
    if not any(word.split("=")[0] == "--method" for word in words) and {"-h", "--help"}.intersection(words):
        parser.print_help()
        raise SystemExit(0)
    options, rest = parser.parse_known_args(words)
    return methods[options.method], rest


def training_parser(method: Method) -> argparse.ArgumentParser:
    """The options of a method's training."""
    parser = argparse.ArgumentParser(description=f"Train {method.title} on one class.")
    add_dataset_options(parser)
    add_training_options(parser, method.checkpoints)
    add_run_options(parser, method.epochs, method.batch_size)
    method.add_training_options(parser)
    return parser


def inference_parser(method: Method, default_rate: float) -> argparse.ArgumentParser:
    """The options of a method's evaluation. default_rate: see `add_rate_option`."""
    parser = argparse.ArgumentParser(description=f"Evaluate {method.title} on one class.")
    add_dataset_options(parser)
    weights = f"{method.name}{method.parts[0]}_CLASS_{{epochs}}ep_{{batch}}bs{method.suffix}"
    add_checkpoint_option(parser, method.checkpoints, weights)
    add_run_options(parser, method.epochs, method.batch_size)
    add_result_options(parser, default_rate, method.results)
    method.add_inference_options(parser)
    return parser


def add_dataset_options(parser: argparse.ArgumentParser) -> None:
    """--dataset_path, --class_name, --skip_bad."""
    parser.add_argument(
        "--dataset_path",
        type=Path,
        default=Path("./datasets/mvtec3d"),
        help="root of the preprocessed dataset, one folder a class (default: %(default)s)",
    )
    parser.add_argument("--class_name", required=True, help="name of a class folder of the dataset")
    parser.add_argument(
        "--skip_bad",
        action="store_true",
        help="leave out samples that cannot be used and list them at the end, instead of stopping at the first",
    )


def add_run_options(parser: argparse.ArgumentParser, epochs: int, batch_size: int) -> None:
    """--epochs_no and --batch_size (both part of file names), --device, --precision."""
    parser.add_argument(
        "--epochs_no",
        type=positive_int,
        default=epochs,
        help="training epochs, ≥ 1; part of the names of checkpoints and results (default: %(default)s)",
    )
    parser.add_argument(
        "--batch_size",
        type=positive_int,
        default=batch_size,
        help="training images a step, ≥ 1; part of the names of checkpoints and results (default: %(default)s)",
    )
    _add_device_options(parser)


def _add_device_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        type=device_name,
        metavar="{auto,cpu,cuda,cuda:N}",
        default="auto",
        help="where to compute; auto takes a GPU when there is one, cuda:N the GPU of that number, from 0 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16"),
        help="type of the matrix products: fp32 is exact, bf16 faster where the hardware has it "
        "(default: that of the checkpoint, else fp32)",
    )


def add_training_options(parser: argparse.ArgumentParser, checkpoints: str) -> None:
    """--checkpoint_savepath, --shots, --draw_shots, --seed, --resume, --wandb_mode: of every method's training script.

    Args:
        checkpoints: the method's own folder, the default of --checkpoint_savepath.
    """
    parser.add_argument(
        "--checkpoint_savepath",
        type=Path,
        default=Path(checkpoints),
        help="folder of the checkpoints; the class gets a folder in it (default: %(default)s)",
    )
    parser.add_argument("--shots", type=positive_int, help="train on the first N images only (default: all)")
    parser.add_argument(
        "--draw_shots", action="store_true", help="the N images of --shots are drawn by --seed, not the first ones"
    )
    parser.add_argument(
        "--hold_out",
        type=share,
        default=0.2,
        help="without a validation split, this share of the training images is kept back to find thresholds, in [0, 1) "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, help="of initialisation and order, 0 to 2^63 - 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run that was stopped; the result is the same"
    )
    parser.add_argument("--overwrite", action="store_true", help="train again where a finished run is, which is lost")
    parser.add_argument(
        "--wandb_mode",
        choices=("disabled", "offline", "online"),
        default="disabled",
        help="also log to Weights & Biases (default: %(default)s)",
    )


def add_checkpoint_option(parser: argparse.ArgumentParser, checkpoints: str, file_name: str) -> None:
    """--checkpoint_folder: of every method's inference script.

    Args:
        checkpoints: the method's own folder, the default.
        file_name: of its weights, for the help.
    """
    parser.add_argument(
        "--checkpoint_folder",
        type=Path,
        default=Path(checkpoints),
        help=f"folder that holds CLASS/{file_name} (default: %(default)s)",
    )


def add_detector_options(parser: argparse.ArgumentParser) -> None:
    """--checkpoint, --device, --precision: of `inspection.detector.load_detector`."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a checkpoint folder, of any name, that holds one run, or any file of a run in it",
    )
    _add_device_options(parser)


def add_rate_option(parser: argparse.ArgumentParser, default: float) -> None:
    """--false_alarm_rate: of everything that decides. default: see `evaluation.thresholds.DEFAULT_RATE`."""
    parser.add_argument(
        "--false_alarm_rate",
        type=rate,
        default=default,
        help="share of good parts that may be called anomalous, in (0, 1); sets the thresholds (default: %(default)s)",
    )


def add_result_options(parser: argparse.ArgumentParser, default_rate: float, name: str) -> None:
    """--quantitative_folder, --qualitative_folder, --produce_qualitatives, --visualize_plot, --save_maps, --map_size,
    --false_alarm_rate.

    Args:
        default_rate: see `add_rate_option`.
        name: end of the default folders' names. Methods need folders of their own: their files have the same names.
    """
    parser.add_argument(
        "--quantitative_folder",
        type=Path,
        default=Path(f"./results/quantitatives_{name}"),
        help="where metrics go, one .md and one .json a class (default: %(default)s)",
    )
    parser.add_argument(
        "--qualitative_folder",
        type=Path,
        default=Path(f"./results/qualitatives_{name}"),
        help="where pictures go (default: %(default)s)",
    )
    parser.add_argument(
        "--produce_qualitatives", action="store_true", help="write a figure of each test image and a contact sheet"
    )
    parser.add_argument(
        "--visualize_plot", action="store_true", help="also show the figures in windows, when there is a display"
    )
    parser.add_argument(
        "--save_maps",
        type=Path,
        metavar="DIR",
        help="also save the anomaly maps behind AUPRO, float32, as DIR/CLASS/test/DEFECT/STEM.tiff",
    )
    parser.add_argument(
        "--map_size",
        choices=("grid", "native"),
        default="grid",
        help="of the saved maps: grid = 224×224, of the square that the image is padded to; native = the size of the "
        "RGB file (default: %(default)s)",
    )
    add_rate_option(parser, default_rate)
