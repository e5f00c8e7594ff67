"""Setting up, with stubs in place of Python, apt and the browser: what it installs for whom, and that it goes on."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYTHON = """#!/bin/bash
echo "python $*" >> commands
case "$*" in
    *"$FAILS"*) exit 1 ;;
    -c*find_browser*) echo "look for a browser" >>commands; [ -e browser ] ;;
    --version) echo Python 3.12.0 ;;
esac
"""
APT = """#!/bin/bash
echo "apt $*" >> commands
case "$*" in
    *"$UNKNOWN") exit 100 ;;
    install*) touch browser ;;
esac
"""
WHOLE = "apt install -y --no-install-recommends chromium"
INSTALL = f"{WHOLE}-headless-shell"
REQUIREMENTS = ("requirements-dev.txt", "requirements.txt")

Setup = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Run setup.sh in a folder of stubs; its exit status, the commands of apt, and what it says."""
    for name in ("setup.sh", *REQUIREMENTS, "tests/run.sh"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def stub(name: str, text: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(
        *words: str,
        user: int = 0,
        sudo: bool = False,
        ubuntu: bool = False,
        unknown: str = "no such",
        fails: str = "no such",
    ) -> tuple:
        stub(".venv/bin/python", PYTHON)
        stub("bin/apt-get", APT)
        stub("bin/id", f"#!/bin/bash\necho {user}")
        stub("bin/sudo", f'#!/bin/bash\n{"shift" if sudo else "exit 1"}\n"$@"')
        stub("bin/grep", f"#!/bin/bash\nexit {0 if ubuntu else 1}")
        environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "UNKNOWN": unknown, "FAILS": fails}
        command = ["bash", *(words or ("setup.sh",))]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        commands = (tmp_path / "commands").read_text().splitlines() if (tmp_path / "commands").exists() else []
        return done.returncode, [c for c in commands if c.startswith("apt")], done.stdout + done.stderr

    return run


def installed(folder: Path) -> list[str]:
    """The requirements files that pip was given, in order."""
    lines = (folder / "commands").read_text().splitlines()
    return [line.split(" -r ")[1] for line in lines if line.startswith("python -m pip install")]


def test_users_get_neither_browser_nor_tools(setup: Setup, tmp_path: Path) -> None:
    status, apt, said = setup()
    assert (status, apt) == (0, [])
    assert "browser" not in said
    assert "look for a browser" not in (tmp_path / "commands").read_text()
    assert installed(tmp_path) == ["requirements.txt"]
    for script in ("00_demo.sh", "settings.sh"):
        calls = [line.strip() for line in (ROOT / script).read_text().splitlines() if "setup.sh" in line]
        assert calls == ["bash setup.sh"]


def test_the_tests_get_one_where_there_is_none(setup: Setup) -> None:
    status, apt, said = setup("setup.sh", "--dev")
    assert (status, apt) == (0, [INSTALL])
    assert "installing chromium" in said
    assert "warning" not in said
    assert setup("setup.sh", "--dev")[1] == [INSTALL]  # found now: no second call


def test_the_whole_browser_will_do_where_the_smaller_is_unknown(setup: Setup) -> None:
    status, apt, said = setup("setup.sh", "--dev", unknown="chromium-headless-shell")
    assert (status, apt) == (0, [INSTALL, "apt update", INSTALL, WHOLE])
    assert "warning" not in said


def test_run_sh_asks_for_packages_and_browser_and_hands_its_arguments_on(setup: Setup, tmp_path: Path) -> None:
    status, apt, _ = setup("tests/run.sh", "tests/models", "-x")
    assert (status, apt) == (0, [INSTALL])
    assert installed(tmp_path) == [*REQUIREMENTS]
    last = (tmp_path / "commands").read_text().splitlines()[-1]
    assert last.startswith("python -m pytest -n auto ")
    assert last.endswith(" tests/models -x")


def test_nothing_is_installed_twice_but_what_changed_is(setup: Setup, tmp_path: Path) -> None:
    for words in (("setup.sh",), ("setup.sh", "--dev"), ("setup.sh", "--dev"), ("setup.sh",)):
        assert setup(*words)[0] == 0
    assert installed(tmp_path) == ["requirements.txt", "requirements-dev.txt"]  # the first call, then the second
    for name in REQUIREMENTS:
        (tmp_path / name).write_text("another>=1\n")
    assert setup("setup.sh")[0] == 0
    assert installed(tmp_path)[2:] == ["requirements.txt"]
    assert setup("setup.sh", "--dev")[0] == 0
    assert installed(tmp_path)[3:] == ["requirements-dev.txt"]


@pytest.mark.parametrize("fails", ["-r requirements-dev.txt", "pip check", "import torch", "import pytest"])
def test_what_did_not_install_is_installed_by_the_next_call(fails: str, setup: Setup, tmp_path: Path) -> None:
    status, _, said = setup("setup.sh", "--dev", fails=fails)
    assert status == 1
    assert "setup: error:" in said
    before = installed(tmp_path)
    assert setup("setup.sh", "--dev")[0] == 0
    assert installed(tmp_path)[len(before) :] == [*REQUIREMENTS][before.index(before[-1]) :]


def test_what_is_said_of_the_browser_is_shown_where_pip_fails_beside_it(setup: Setup) -> None:
    status, apt, said = setup("setup.sh", "--dev", fails="-r requirements.txt")
    assert (status, apt) == (1, [INSTALL])
    assert "installing chromium" in said


def test_without_root_sudo_installs_it_if_it_asks_no_password(setup: Setup) -> None:
    assert setup("setup.sh", "--dev", user=1000, sudo=True)[1] == [INSTALL]


@pytest.mark.parametrize(
    ("machine", "commands"),
    [
        ({"unknown": ""}, [INSTALL, "apt update", WHOLE, "apt update"]),
        ({"user": 1000}, []),
        ({"ubuntu": True}, []),
    ],
)
def test_where_it_cannot_be_had_setup_says_so_and_goes_on(machine: dict, commands: list[str], setup: Setup) -> None:
    status, apt, said = setup("setup.sh", "--dev", **machine)
    assert (status, apt) == (0, commands)
    (warning,) = (line for line in said.splitlines() if "warning" in line)
    assert "skipped" in warning
    assert "playwright install --with-deps chromium" in warning
    assert said.splitlines()[-1] == "setup: ready: .venv, Python 3.12.0"


def test_other_arguments_are_refused_before_anything_is_done(setup: Setup, tmp_path: Path) -> None:
    status, _, said = setup("setup.sh", "--devs")
    assert status == 1
    assert "expected no argument or --dev, found: --devs" in said
    assert not (tmp_path / "commands").exists()
