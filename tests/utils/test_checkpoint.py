"""utils/checkpoint.py: states as files of torch.save and of safetensors, and the settings beside them."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from utils.checkpoint import CheckpointName, load_settings, load_state, on_cpu, save_checkpoint, save_state
from utils.errors import UserError
from utils.files import sha256_file

PROJECT_ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = (".pth", ".safetensors")


@pytest.fixture
def state() -> dict[str, Tensor]:
    """Odd sizes and several types, so that not every tensor of a file begins at an aligned address."""
    generator = torch.Generator().manual_seed(0)
    return {
        "flag": torch.tensor([True, False, True]),
        "steps": torch.tensor(7),
        "half": torch.randn(3, 5, generator=generator).bfloat16(),
        "weight": torch.randn(7, 3, generator=generator),
        "transposed": torch.randn(4, 6, generator=generator).T,
    }


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_state_is_read_back(state: dict[str, Tensor], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"new/state{suffix}"
    save_state(path, state)
    found = load_state(path)
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_safetensors_are_copied_to_where_torch_puts_its_own(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, state)
    assert all(tensor.data_ptr() % 64 == 0 for tensor in load_state(path).values())
    assert path.read_bytes()[8:9] == b"{"  # its header is JSON: no pickle


def test_plain_values_are_for_torch_save(tmp_path: Path) -> None:
    values = {"epoch": 3, "losses": [0.5, 0.25], "inner": {"weight": torch.ones(2)}}
    save_state(tmp_path / "resume.pth", values)
    found = load_state(tmp_path / "resume.pth")
    assert (found["epoch"], found["losses"], found["inner"]["weight"].tolist()) == (3, [0.5, 0.25], [1.0, 1.0])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_and_missing_files_are_named(state: dict[str, Tensor], suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"A_bagel_50ep_4bs{suffix}"
    with pytest.raises(UserError, match=rf"A_bagel_50ep_4bs{suffix}: no such file\. Found there: no {suffix} file\."):
        load_state(path)
    save_state(path, state)
    save_state(tmp_path / f"B{suffix}", state)
    (tmp_path / f"other{'.pth' if suffix != '.pth' else '.safetensors'}").touch()
    with pytest.raises(UserError, match=rf"Found there: A_bagel_50ep_4bs{suffix}, B{suffix}\. Check --class_name"):
        load_state(tmp_path / f"C{suffix}")
    with pytest.raises(UserError, match=r"The folder .*absent does not exist: train first"):
        load_state(tmp_path / f"absent/C{suffix}")
    for content in (path.read_bytes()[:-9], b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=rf"(?s)A_bagel_50ep_4bs{suffix}: not a checkpoint .* Write or copy it again\."
        ):
            load_state(path)


def test_file_that_unpacks_to_more_than_its_size_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    torch.save({"weight": torch.zeros(1000, 1000)}, path)
    with zipfile.ZipFile(path) as plain, zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for member in plain.namelist():
            packed.writestr(member, plain.read(member))
    with pytest.raises(UserError, match=r"bomb\.pth: not a checkpoint .*bytes packed into"):
        load_state(tmp_path / "bomb.pth")


def test_number_that_is_repeated_beyond_the_file_is_refused(tmp_path: Path) -> None:
    for content in (torch.zeros(1).expand(15000, 30000), [torch.zeros(1).expand(9999)]):
        torch.save({"epoch": 1, "inner": {"weight": content}}, tmp_path / "state.pth")
        with pytest.raises(UserError, match=r"state\.pth: not a checkpoint .*a tensor of shape .* in \d+ bytes"):
            load_state(tmp_path / "state.pth")
    torch.save({"weight": torch.zeros(500).expand(4, 500)[:, :2]}, tmp_path / "state.pth")
    assert load_state(tmp_path / "state.pth")["weight"].shape == (4, 2)


class Evil:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_checkpoints_from_strangers_cannot_execute_code(suffix: str, legacy: bool, tmp_path: Path) -> None:
    path, proof = tmp_path / f"state{suffix}", tmp_path / "executed"
    content = {"weight": torch.ones(2), "epoch": Evil(proof)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=rf"state{suffix}: not a checkpoint that can be read safely") as refused:
        load_state(path)
    assert "weights_only" not in str(refused.value)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=rf"state{suffix}: not a checkpoint that can be read safely"):
        load_state(path)
    assert not proof.exists()
    pickle.loads(pickle.dumps(content))
    assert proof.is_dir()  # it would have


def test_full_disk_says_so_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.pth"
    save_state(path, {"epoch": 1})
    before = path.read_bytes()
    code = f"""
import resource, signal, torch
from pathlib import Path
from utils.checkpoint import save_state
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    save_state(Path({str(path)!r}), {{"weight": torch.zeros(100, 1000)}})
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True)
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text", ["", "[", "[]", "null", "{}", '{"files": {}}', '{"files": 1, "config": {}}', "[" * 99999]
)
def test_damaged_settings_are_named(tmp_path: Path, text: str) -> None:
    name = CheckpointName(tmp_path, "bagel", 50, 4)
    name.path("NET", ".json").parent.mkdir()
    name.path("NET", ".json").write_text(text)
    with pytest.raises(UserError, match=r"NET_bagel_50ep_4bs\.json: cannot be read .* restore the file or train again"):
        load_settings(name, "NET")


def test_settings_name_files_of_their_folder_only(tmp_path: Path) -> None:
    name = CheckpointName(tmp_path, "bagel", 50, 4)
    name.path("NET", ".json").parent.mkdir()
    for other in ("../../other", "/etc/passwd", "x" * 300):
        name.path("NET", ".json").write_text(json.dumps({"files": {other: "0"}, "config": {}}))
        with pytest.raises(UserError, match="the name of a file that cannot lie beside it"):
            load_settings(name, "NET")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_checkpoint_and_its_settings(state: dict[str, Tensor], suffix: str, tmp_path: Path) -> None:
    name = CheckpointName(tmp_path, "bagel", 50, 4)
    states = {"NET": {"weight": state["weight"]}, "NET_empty": {}}
    save_checkpoint(name, "NET", states, {"config": {"seed": 1}}, suffix)
    weights = tmp_path / f"bagel/NET_bagel_50ep_4bs{suffix}"
    settings = tmp_path / "bagel/NET_bagel_50ep_4bs.json"
    assert sorted(weights.parent.iterdir()) == sorted([weights, settings])
    assert torch.equal(load_state(name.path("NET", suffix))["weight"], state["weight"])
    expected = {"config": {"seed": 1}, "files": {weights.name: sha256_file(weights)}}
    assert json.loads(settings.read_text()) == load_settings(name, "NET") == expected
    save_state(weights, {"weight": state["weight"] + 1})
    with pytest.raises(UserError, match=r"its sha256 differs"):
        load_settings(name, "NET")
    weights.unlink()
    with pytest.raises(UserError, match=rf"{weights.name}: missing, although NET_bagel_50ep_4bs\.json names it"):
        load_settings(name, "NET")
    assert load_settings(name, "OTHER") is None


def test_tensors_of_a_gpu_are_written_from_the_cpu() -> None:
    with FakeTensorMode():  # tensors that have a device, but no memory there
        there = torch.ones(3, device="cuda")
        state = {"weights": {"a": there}, "steps": [there, 3], "config": "text", "here": torch.ones(2)}
        found = on_cpu(state)
    assert [t.device.type for t in (found["weights"]["a"], found["steps"][0], found["here"])] == ["cpu"] * 3
    assert (found["steps"][1], found["config"]) == (3, "text")
    assert found["here"] is state["here"]
