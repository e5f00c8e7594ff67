"""What predict.py does with parts: one pair, a folder of them, or a folder that fills up."""

import argparse
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from tqdm import tqdm

from inspection import words
from inspection.answer import Logged
from inspection.pairs import Pair, find_pairs, single_pair
from inspection.predictions import LOG, Inspected, Predictions
from inspection.watch import Watch
from utils.errors import UserError
from utils.files import locked


def answer_parts(args: argparse.Namespace) -> int:
    """Load the detector, answer, and say where the answers are.

    Args:
        args: options of predict.py.

    Returns:
        0, or 1 where something could not be answered.

    Raises:
        UserError: a folder or a checkpoint that cannot be used.
    """
    check_folders(args)
    detector = _load(args)
    mode = predict_one if args.rgb else predict_folder if args.input else predict_new
    with locked(args.output):
        status = mode(args, Predictions(args.output, detector, args.false_alarm_rate))
    if detector.thresholds is None:
        print(f"no decisions: {detector.note} (see python calibrate.py --help)")
    else:
        print(detector.thresholds.statement())
        if not detector.thresholds.inputs:
            print("the input of parts is not checked: these thresholds are older (see python calibrate.py --help)")
    print(f"written: {args.output / LOG}, with maps/ and overlays/ beside it")
    return status


def _load(args: argparse.Namespace) -> Any:
    """The detector of --checkpoint, a trained run or an exported file."""
    options = {name: getattr(args, name) for name in ("device", "false_alarm_rate")}
    others = {name: getattr(args, name) for name in ("precision", "rgb_weights", "xyz_weights")}
    if args.checkpoint.suffix == ".onnx":
        from inspection.onnx_detector import load_onnx

        for name, value in others.items():
            if value is not None:
                raise UserError(f"--{name}: {args.checkpoint} holds its own weights in their precision. Leave it out.")
        return load_onnx(args.checkpoint, **options, several=args.rgb is None)
    from inspection.detector import load_detector

    return load_detector(args.checkpoint, **options, **others)


def check_folders(args: argparse.Namespace) -> None:
    """Refuse folders that cannot be used, before anything is loaded. Raises UserError."""
    if args.input and not args.input.is_dir():
        raise UserError(f"{args.input}: no such folder. Expected the parts, images and clouds.")
    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"{args.output}: expected a folder for the answers, found a file. Choose another --output.")
    folder = args.input or args.watch
    if folder and args.output.resolve() in (folder.resolve(), *folder.resolve().parents):
        raise UserError(f"{args.output}: holds the parts, {folder}. Choose an --output of its own.")


def pairs_ahead(pairs: Sequence[Pair], predictions: Predictions) -> Iterator[tuple[Pair, Inspected | None]]:
    """The pairs in their order, each inspected ahead if the detector may look at several at once, in threads.

    While one is drawn and written, the next ones are read and inspected; never more than a few wait in memory.
    """
    workers = predictions.detector.parts_at_once
    if workers == 1:
        yield from ((pair, None) for pair in pairs)
        return
    pool = ThreadPoolExecutor(workers)
    pending: deque[tuple[Pair, Future[Inspected | None]]] = deque()
    waiting = iter(pairs)
    try:
        while True:
            while len(pending) <= workers and (pair := next(waiting, None)) is not None:
                pending.append((pair, pool.submit(predictions.look_ahead, pair)))
            if not pending:
                return
            first, future = pending.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def predict_one(args: argparse.Namespace, predictions: Predictions) -> int:
    """Answer the pair of --rgb and --xyz, in words."""
    pair = single_pair(args.rgb, args.xyz)
    predictions.check_name(pair)
    answer = predictions.add(pair)
    print(f"{pair.name}: {words.answer(answer, predictions.detector.thresholds)}")
    return 0


def predict_folder(args: argparse.Namespace, predictions: Predictions) -> int:
    """Answer what lies in --input. Returns 1 where something could not be answered."""
    pairs, problems = find_pairs(args.input, args.output)
    if not pairs:
        raise UserError(
            problems[0] if problems else f"{args.input}: holds no image and cloud. See python predict.py -h."
        )
    bar = tqdm(pairs_ahead(pairs, predictions), args.input.name, len(pairs), unit="part")
    outcomes = {pair.name: predictions.take(pair, ahead=ahead) for pair, ahead in bar}
    print(words.summary(outcomes.values(), len(problems)))
    failed = [outcome.error for outcome, _ in outcomes.values() if outcome.error is not None] + problems
    for error in failed:
        print(f"failed: {error}", file=sys.stderr)
    return 1 if failed else 0


def predict_new(args: argparse.Namespace, predictions: Predictions) -> int:
    """Answer what lies in --watch and what comes, a line a part, until Ctrl-C or SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    watch = Watch(args.watch, args.output)
    outcomes: dict[str, tuple[Logged, bool]] = {}
    try:
        missing = "" if args.watch.is_dir() else ", which is not there yet"
        print(f"watching {args.watch}{missing}; Ctrl-C ends", flush=True)
        while True:
            begin = time.monotonic()
            for pair, ahead in pairs_ahead(watch.look(), predictions):
                found, new = predictions.take(pair, keep=True, ahead=ahead)
                outcomes[found.sample] = found, new
                print(f"{found.sample}: {words.outcome(found, new)}", flush=True)
            time.sleep(max(0.0, begin + args.interval - time.monotonic()))  # looks are as far apart, whatever came
    except KeyboardInterrupt:
        problems = find_pairs(args.watch, args.output)[1]
        print(words.summary(outcomes.values(), len(problems)))
        for problem in problems:
            print(f"not answered: {problem}", file=sys.stderr)
    return 0
