"""benchmarks/false_alarms.py: what it counts, on a trained detector."""

from scipy.stats import betabinom

from benchmarks.false_alarms import expected, rows_of, table
from datasets.records import scan
from datasets.sample import load_sample
from evaluation.thresholds import load_scores
from inspection.detector import load_detector
from tests.trained import Trained


def test_scenes_above_the_threshold_are_counted(trained: Trained) -> None:
    rows = rows_of(trained.cfm, "cap", "CFM", trained.scenes, trained.scenes)
    scores = load_scores(next(trained.cfm.glob("CFM_thresholds_*.json")))
    pipeline = load_detector(trained.cfm).pipeline
    records = scan(trained.scenes, "cap", "test")
    samples = [load_sample(record, view=pipeline.view) for record in records if not record.is_good]
    maxima = [float(found.smoothed.max()) for found in pipeline.maps(samples)]
    assert [row["rate"] for row in rows] == [0.01, 0.05]
    for row in rows:
        limits = scores.thresholds(row["rate"])
        assert (row["images"], row["rank"], row["fresh"], row["defects"]) == (6, 6, 8, 4)
        assert row["caught"] == sum(maximum > limits.image for maximum in maxima)
        assert 0 <= row["alarms"] <= row["fresh"]
        low, high = expected(row)
        law = betabinom(8, 1, 6)
        assert law.cdf(low) >= 0.025
        assert law.cdf(high) >= 0.975 > law.cdf(high - 1)
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 2 + 2
    share = f"{rows[0]['alarms']} ({rows[0]['alarms'] / 8:.1%})"
    assert lines[2].startswith(f"| CFM | cap | 1% | 8 | {share} |")
