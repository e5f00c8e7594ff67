"""Two runs compared, class by class and image by image: python examples/compare_runs.py results/first results/second

Both folders were a --quantitative_folder. For a page to look at: processing/aggregate_results.py --format html.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.tables.runs import METRICS, load_runs, metric_of

before, after = (load_runs(Path(folder))[0].results for folder in sys.argv[1:3])

for class_name in sorted(before.keys() & after.keys()):
    print(class_name)
    for heading, path in METRICS.items():
        first, second = (metric_of(run[class_name], path) for run in (before, after))
        if first is not None and second is not None:
            print(f"  {heading:10} {first:.3f} → {second:.3f}  {second - first:+.3f}")

    ranks = []  # from 0, the lowest score, to 1: scores of two methods do not compare, ranks do
    for run in (before, after):
        samples = sorted(run[class_name]["samples"], key=lambda sample: sample["image_score"])
        ranks.append({(s["defect"], s["stem"]): i / max(1, len(samples) - 1) for i, s in enumerate(samples)})
    moved = {image: ranks[1][image] - rank for image, rank in ranks[0].items() if image in ranks[1]}
    for (defect, stem), change in sorted(moved.items(), key=lambda item: -abs(item[1]))[:5]:
        print(f"  {defect}/{stem}: rank {change:+.2f}")
