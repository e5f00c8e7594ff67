"""Tables from the result files of many classes: per class with the mean, per defect, and beside published figures.

    python processing/aggregate_results.py --quantitative_folder results/quantitatives_mvtec
    python processing/aggregate_results.py --quantitative_folder A B C --format html --output comparison.html

Classes are taken from the result files. Results with different settings are never averaged: each run has its own table,
and one table compares their means. Runs that differ in nothing but their seed have a table of mean ± deviation besides.
Each method has its own folder; several folders show methods beside each other.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.tables.formats import to_csv, to_latex, to_markdown
from evaluation.tables.published import comparison_tables, load_published
from evaluation.tables.runs import load_folders
from evaluation.tables.seeds import seed_tables
from evaluation.tables.tables import class_table, defect_table, interval_table, means_table
from utils.cli import run
from utils.errors import UserError
from utils.files import atomic_path


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Command line of this script."""
    parser = argparse.ArgumentParser(description="Aggregate the result files of many classes into tables.")
    parser.add_argument(
        "--quantitative_folder",
        type=Path,
        nargs="+",
        required=True,
        help="one or more folders of CLASS_EPep_BSbs.json files; the runs of all of them are compared",
    )
    parser.add_argument(
        "--format",
        choices=("markdown", "latex", "csv", "html"),
        default="markdown",
        help="csv holds one figure a line in full precision; html is a page to look at and choose in, it needs "
        "--output (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, help="also write the tables, or write the page, to this file")
    parser.add_argument(
        "--dataset",
        choices=("auto", "none", *load_published()),
        default="auto",
        help="benchmark whose published figures to show; auto: the one that knows all classes (default: %(default)s)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print the tables and, on request, write them to a file."""
    arguments = parse_arguments(argv)
    if arguments.format == "html" and arguments.output is None:
        raise UserError("--format html: expected --output with the file to write, for example --output comparison.html")
    runs = load_folders(arguments.quantitative_folder)
    if arguments.format == "html":
        from report.comparison import write_comparison

        page = write_comparison(arguments.output, runs, arguments.dataset)
        print(f"{to_markdown(means_table(runs))}\npage: {page}")
        return 0
    tables = [t for r in runs for t in (class_table(r), defect_table(r), interval_table(r)) if t is not None]
    if len(runs) > 1:
        tables += [*seed_tables(runs), means_table(runs)]
    tables += comparison_tables(runs, arguments.dataset)
    if arguments.format == "csv":
        text = to_csv(tables)
    else:
        text = "\n".join(map(to_latex if arguments.format == "latex" else to_markdown, tables))
    print(text, end="")
    if arguments.output:
        with atomic_path(arguments.output) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(run(main))
