"""The README's Python example runs as it stands."""

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from datasets.records import scan
from tests.trained import Trained

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("defect", ["good", "hole"])
def test_python_example(defect: str, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 1
    folder = tmp_path / "checkpoints/checkpoints_CFM_mvtec/bolt"
    folder.mkdir(parents=True)
    for path in trained.cfm.iterdir():
        (folder / path.name.replace("_cap_", "_bolt_")).write_bytes(path.read_bytes())
    settings = folder / "CFM_bolt_8ep_4bs.json"
    settings.write_text(settings.read_text().replace("_cap_8ep", "_bolt_8ep"))
    split = "validation" if defect == "good" else "test"
    record = next(r for r in scan(trained.raw, "cap", split) if r.defect == defect)
    shutil.copy(record.rgb, tmp_path / "part.png")
    shutil.copy(record.xyz, tmp_path / "part.tiff")
    monkeypatch.chdir(tmp_path)
    values: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(examples[0], "README.md", "exec"), values)
    answer = values["answer"]
    assert answer.map.shape == values["rgb"].size[::-1] == (210, 240)
    assert answer.anomalous == (defect == "hole")
    assert f"{answer.score}" in printed.getvalue()
    assert len(printed.getvalue().splitlines()) == 1 + len(answer.regions)
