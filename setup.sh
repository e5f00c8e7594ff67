#!/usr/bin/env bash
# Creates or completes the one environment of the project: .venv with everything in requirements.txt, and the system
# libraries that Open3D loads. Returns at once when nothing is to be done; a stopped or failed run is simply run again.
#
#   bash setup.sh                     with python3
#   PYTHON=python3.12 bash setup.sh   with another interpreter (3.10 or newer)
#   bash setup.sh --dev               also what the checks need: requirements-dev.txt, and a browser for tests of pages
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

venv_python=.venv/bin/python

say() { echo "setup: $*"; }
fail() {
    echo "setup: error: $*" >&2
    exit 1
}

# Prints the Debian package of each system library that Open3D needs and that cannot be loaded.
missing_system_packages() {
    "$venv_python" - <<'PY'
import ctypes
import sys

packages = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libudev.so.1": "libudev1",
    "libidn2.so.0": "libidn2-0",
}
for library, package in packages.items() if sys.platform == "linux" else ():
    try:
        ctypes.CDLL(library)
    except OSError:
        print(package)
PY
}

# Installs the packages named in the arguments. Fails when apt is absent, not permitted, or cannot get them.
apt_install() {
    local as_root=()
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || return 1
        as_root=(sudo -n)
    fi
    local install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@")
    "${install[@]}" || { "${as_root[@]}" apt-get update && "${install[@]}"; }
}

provide_system_libraries() {
    local packages
    read -r -a packages <<<"$(missing_system_packages | tr '\n' ' ')"
    [ "${#packages[@]}" -gt 0 ] || return 0
    say "Open3D needs system libraries that are missing; installing ${packages[*]}"
    apt_install "${packages[@]}" || true
    read -r -a packages <<<"$(missing_system_packages | tr '\n' ' ')"
    [ "${#packages[@]}" -gt 0 ] || return 0
    say "warning: could not install them here. Open3D will not import until they are there. As root, run:"
    say "    apt-get update && apt-get install -y ${packages[*]}"
}

has_browser() { "$venv_python" -c 'import sys; from tests.browser import find_browser; sys.exit(find_browser() is None)'; }

# Debian's Chromium without windows, which draws pages faster, or else the whole of it. Ubuntu's package of that name only
# fetches a snap, which may take for ever and would not do.
provide_browser() {
    has_browser && return
    if ! grep -qsi ubuntu /etc/os-release; then
        say "the tests of HTML pages need a browser; installing chromium"
        apt_install chromium-headless-shell || apt_install chromium || true
        has_browser && return
    fi
    say "warning: no Chromium or Chrome, tests of HTML pages are skipped. Install one, or: $venv_python -m playwright install --with-deps chromium"
}

create_environment() {
    local python=${PYTHON:-python3}
    command -v "$python" >/dev/null || fail "no interpreter '$python'. Install Python 3.10 or newer, or name one: PYTHON=/path/to/python3 bash setup.sh"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "Python 3.10 or newer is needed, '$python' is $("$python" --version 2>&1). Name another one: PYTHON=/path/to/python3 bash setup.sh"
    say "creating .venv with $("$python" --version)"
    "$python" -m venv --clear .venv || fail "could not create .venv. On Debian and Ubuntu: apt-get install -y python3-venv, then run this again"
}

# Compiles what came since the last complete installation, or the creation of .venv: as pip would, but on all cores, and
# without the packages' own tests.
compile_new() {
    local since
    since=$(find .venv -maxdepth 1 \( -name pyvenv.cfg -o -name '*.sha256' \) -exec ls -t {} + | head -1)
    [ -n "$since" ] || return 0
    find .venv -name '*.py' -not -path '*/test/*' -not -path '*/tests/*' -cnewer "$since" -print0 |
        xargs -0 -r -n 200 -P "$(getconf _NPROCESSORS_ONLN)" "$venv_python" -m compileall -q >/dev/null || true
}

# Installs what a requirements file names, and imports the modules of the second argument; once for each content.
install_requirements() {
    local file=$1 modules=$2 stamp=".venv/${1%.txt}.sha256" wanted # the stamp is written last: what is complete
    wanted=$(sha256sum "$file")
    [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ] || return 0
    rm -f "$stamp"
    say "installing $file into .venv (several GB the first time; some minutes)"
    "$venv_python" -m pip install --disable-pip-version-check --no-compile -r "$file" ||
        fail "pip could not install $file (see above). Run this again to continue"
    compile_new
    "$venv_python" -m pip check || fail "the packages in .venv contradict each other (see above). Remove .venv and run this again"
    "$venv_python" -c "import $modules" ||
        fail "the installed packages do not import (see above). Remove .venv and run this again"
    echo "$wanted" >"$stamp"
}

case "$*" in
    "" | --dev) ;;
    *) fail "expected no argument or --dev, found: $*" ;;
esac
"$venv_python" -m pip --version >/dev/null 2>&1 || create_environment
provide_system_libraries
if [ "$*" = --dev ]; then # first, since playwright looks for a browser, which can then come while pip goes on
    install_requirements requirements-dev.txt "pytest, xdist, playwright.sync_api"
    trap wait EXIT # not while apt is at work
    { said=$(provide_browser 2>&1); [ -z "$said" ] || echo "$said"; } & # all at once, not between the lines of pip
fi
install_requirements requirements.txt "torch, torchvision, timm, scipy, sklearn, tifffile, fpsample, matplotlib, pandas"
wait
say "ready: .venv, $("$venv_python" --version)"
