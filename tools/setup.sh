#!/usr/bin/env bash
# Make .venv as requirements.lock says, and get the programs that pip cannot install.
#
#   tools/setup.sh          what running Switchyard takes
#   tools/setup.sh --test   and what only the tests use
#   tools/setup.sh --score  and what the conversion of documents is compared with
#
# Done once, and again when requirements.lock or pyproject.toml changes. What is missing and cannot be
# installed is told in one line with what it costs; only Python itself is worth stopping for.
set -euo pipefail
cd "$(dirname "$0")/.."

NATS_CLI=v0.5.1
MARKITDOWN=0.1.8
STAMP=.venv/.switchyard-setup

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

# The words before a command that needs root; fails where the person may not install.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; elif sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

apt_updated=
apt_install() {
  command -v apt-get >/dev/null || return 1
  as_root true || return 1
  say "installing $* with apt-get"
  if [ -z "$apt_updated" ]; then
    as_root apt-get update -qq >/dev/null || true
    apt_updated=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$name"
      return
    fi
  done
  stop "Python 3.11 or newer is needed; install it with: apt-get install python3 python3-venv"
}

make_venv() {
  local python
  python=$(find_python)
  # Debian's python3 may come without the part of venv that brings pip.
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    local package
    package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    apt_install "$package" ||
      stop "Python's venv module is missing; install it with: apt-get install $package"
  fi
  "$python" -m venv --clear .venv
}

# `-m pip` and not the script: a moved tree keeps a .venv whose scripts name the old place.
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

install_python_packages() {
  local wanted
  wanted="$(cat requirements.lock pyproject.toml | cksum) $PWD"
  if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ]; then return; fi
  .venv/bin/python -c 'import pip' 2>/dev/null || make_venv
  say "installing Python packages into .venv"
  pip install --quiet --require-hashes -r requirements.lock
  pip install --quiet --no-deps --no-build-isolation -e .
  echo "$wanted" >"$STAMP"
  first_time=1
}

has_tesseract() {
  command -v tesseract >/dev/null && tesseract --list-langs 2>/dev/null | grep -qx eng
}

install_tesseract() {
  has_tesseract && return
  # A refused installation is not tried again at every make.
  if [ -n "$first_time" ] && apt_install tesseract-ocr tesseract-ocr-eng && has_tesseract; then return; fi
  say "tesseract-ocr is missing: scanned pages and images cannot be converted;" \
    "install with: apt-get install tesseract-ocr tesseract-ocr-eng"
}

# German, so that the choice of languages is tested with two of them.
install_german() {
  if ! has_tesseract || tesseract --list-langs 2>/dev/null | grep -qx deu; then return; fi
  if [ -n "$first_time" ] && apt_install tesseract-ocr-deu; then return; fi
  say "tesseract-ocr-deu is missing: the tests of several languages are skipped"
}

install_nats_cli() {
  if [ -x .tools/bin/nats ] && [ "$(cat .tools/nats-version 2>/dev/null)" = "$NATS_CLI" ]; then return; fi
  if ! command -v go >/dev/null; then
    say "go is missing: the tests of the commands in docs/nats-cli.md are skipped; install with: apt-get install golang"
    return
  fi
  say "building the nats command line $NATS_CLI into .tools/bin"
  mkdir -p .tools/bin
  if GOBIN="$PWD/.tools/bin" go install "github.com/nats-io/natscli/nats@$NATS_CLI" >.tools/go.log 2>&1; then
    echo "$NATS_CLI" >.tools/nats-version
  else
    say "the nats command line could not be built: tests of docs/nats-cli.md are skipped; see .tools/go.log"
  fi
}

# In an environment of its own: nothing of ours may come to depend on what it brings.
install_markitdown() {
  local venv=.tools/markitdown
  if [ "$(cat "$venv/version" 2>/dev/null)" = "$MARKITDOWN $PWD" ]; then return; fi
  say "installing markitdown $MARKITDOWN into $venv"
  mkdir -p .tools
  if .venv/bin/python -m venv --clear "$venv" >.tools/markitdown.log 2>&1 &&
    "$venv/bin/python" -m pip install --quiet "markitdown[docx,pdf,pptx,xlsx]==$MARKITDOWN" >>.tools/markitdown.log 2>&1; then
    echo "$MARKITDOWN $PWD" >"$venv/version"
  else
    rm -rf "$venv"
    say "markitdown could not be installed: the comparison with it is skipped; see .tools/markitdown.log"
  fi
}

first_time=
install_python_packages
install_tesseract
case "${1-}" in
  --test)
    install_german
    install_nats_cli
    ;;
  --score) install_markitdown ;;
esac
