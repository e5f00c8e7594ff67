"""Result files with formats, protocols, intervals and seeds, in every format of the tables."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from evaluation.tables.published import MARKS, load_published
from evaluation.tables.runs import METRICS, load_folders, load_runs
from evaluation.tables.seeds import seed_tables
from processing.aggregate_results import main
from tests.report.comparison_files import write
from utils.errors import UserError


def cells(text: str, row: str) -> list[list[str]]:
    """Every Markdown row with this name, split into cells."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [line[1:] for line in lines if line[0] == row]


def write_seeds(root: Path) -> list[str]:
    """Three seeds of one class: I-AUROC 0.80, 0.82 and 0.87, mean 0.83, deviation sqrt(0.0026 / 2) = 0.036056."""
    for seed, value in enumerate((0.80, 0.82, 0.87)):
        write(root / str(seed), "gear", value, seed=seed)
    return [str(root / str(seed)) for seed in range(3)]


def test_seeds_of_a_run_have_mean_deviation_and_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--quantitative_folder", *write_seeds(tmp_path)]
    texts = {}
    for form in ("markdown", "latex", "csv"):
        assert main([*command, "--format", form]) == 0
        texts[form] = capsys.readouterr().out
    title = "Mean ± deviation over seeds: CFM 50ep_4bs"
    section = texts["markdown"].split(f"### {title}")[1].split("###")[0]
    assert cells(section, "class") == [[*METRICS, "seeds"]]
    ours = cells(section, "gear")[0]
    assert [ours[0], ours[1], ours[-1]] == ["0.830 ± 0.036", "0.820 ± 0.036", "3"]
    assert cells(section, "mean")[0] == ours
    assert "seeds: 0, 1, 2." in section
    assert r"gear & 0.830 $\pm$ 0.036 & 0.820 $\pm$ 0.036" in texts["latex"].split(title)[1]
    found = [row for row in csv.DictReader(io.StringIO(texts["csv"])) if row["table"] == title]
    by_cell = {(row["row"], row["column"]): row["value"] for row in found}
    assert float(by_cell["gear", "I-AUROC"]) == pytest.approx(0.83)
    assert float(by_cell["gear", "I-AUROC deviation"]) == pytest.approx(0.0013**0.5)
    assert float(by_cell["gear", "seeds"]) == 3
    page = tmp_path / "page.html"
    main([*command, "--format", "html", "--output", str(page)])
    found_data = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page.read_text(), re.DOTALL)
    data = next(text for text in found_data if '"grouped"' in text)
    (entry,) = json.loads(data)["grouped"]
    assert (entry["seeds"], entry["means"]["mean"][0]) == (["0", "1", "2"], pytest.approx(0.83))
    assert entry["means"]["deviation"][0] == pytest.approx(0.0013**0.5)


def change(path: Path, **parts: Any) -> None:
    """Set entries of a result file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def test_intervals_have_a_table_where_files_hold_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "gear", 0.9)
    main(["--quantitative_folder", str(tmp_path)])
    assert "interval" not in capsys.readouterr().out, "an old file"
    change(path, i_auroc_interval=[0.81, 0.96])
    main(["--quantitative_folder", str(tmp_path)])
    section = capsys.readouterr().out.split("### I-AUROC and its interval over images")[1].split("###")[0]
    assert cells(section, "gear") == [["0.900", "0.810", "0.960"]]
    assert cells(section, "gear / hole") == [["0.900", "-", "-"]]


def test_other_protocols_are_runs_of_their_own_and_no_seeds_of_each_other(tmp_path: Path) -> None:
    for seed, name in enumerate(("cap", "gear")):
        change(write(tmp_path, name, 0.9, seed=seed), format=1, protocol={"version": 1 + seed})
    runs = load_runs(tmp_path)
    assert [run.name for run in runs] == [f"50ep_4bs, seed {s}, protocol version {1 + s}" for s in (0, 1)]
    assert seed_tables(runs) == []


@pytest.mark.parametrize("parts", [{"format": 2}, {"format": "x"}, {"i_auroc_interval": [1]}, {"protocol": 3}])
def test_unknown_formats_are_refused(parts: dict[str, Any], tmp_path: Path) -> None:
    change(write(tmp_path, "gear", 0.9), **parts)
    with pytest.raises(UserError, match=r"gear_50ep_4bs\.json: cannot be read .* Run the evaluation of this"):
        load_runs(tmp_path)


def test_every_published_figure_has_a_mark() -> None:
    for published in load_published().values():
        of_metrics = [methods for methods in published.values() if isinstance(methods, dict)]
        marks = {name: figures["mark"] for methods in of_metrics for name, figures in methods.items()}
        assert set(marks.values()) <= set(MARKS)
        assert (marks["DBMRNet"], marks["CFM"]) == ("read", "secondary")


def test_first_and_drawn_shots_are_no_seeds_of_one_another(tmp_path: Path) -> None:
    for seed, drawn in enumerate((False, True)):
        write(tmp_path / str(seed), "gear", 0.8, seed=seed, shots=5, training={"shots_drawn": drawn})
    assert seed_tables(load_folders([tmp_path / "0", tmp_path / "1"])) == []
    write(tmp_path / "2", "gear", 0.9, seed=2, shots=5, training={"shots_drawn": True})
    [table] = seed_tables(load_folders([tmp_path / str(seed) for seed in range(3)]))
    assert table.rows[0][1][0] == pytest.approx(0.85)
