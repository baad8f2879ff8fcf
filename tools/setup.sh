#!/usr/bin/env bash
# Make .venv as requirements.lock says, and get the programs that pip cannot install.
#
#   tools/setup.sh          what running Switchyard takes
#   tools/setup.sh --test   and what only the tests use
#   tools/setup.sh --score  and what the conversion of documents is compared with
#
# Python packages are installed once, and again when requirements.lock or pyproject.toml changes. A program
# is installed whenever it is missing; one that could not be is not tried again until the Python packages
# are. What is missing is reported in one line with what it costs; only Python itself is worth stopping for.
set -euo pipefail
cd "$(dirname "$0")/.."

NATS_CLI=v0.5.1
MARKITDOWN=0.1.8
STAMP=.venv/.switchyard-setup
REFUSED=.venv/.refused- # and what could not be installed

say() { printf 'setup: %s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

# Show how far an installation is, from what it prints: on one line that changes at a terminal, else every
# 20 seconds. What is said of it, how many steps it has (0: unknown), and what a line says that ends one.
show_progress() {
  local what="$1" steps="$2" ends="$3" line done=0 of="" next=20 started=$SECONDS
  if [ "$steps" != 0 ]; then of=" of $steps"; fi
  while true; do
    if IFS= read -r -t 1 line; then
      if [[ "$line" =~ $ends ]]; then done=$((done + 1)); fi
      if [[ "$line" == "Installing collected packages"* ]]; then what="unpacking Python packages" done=0 of=""; fi
    elif [ $? -le 128 ]; then # more than that is a second without a line
      break
    fi
    local seconds=$((SECONDS - started)) count=""
    if [ "$done" != 0 ]; then count=": $done$of"; fi
    if [ -t 2 ]; then
      printf '\rsetup: %s%s, %d s\033[K' "$what" "$count" "$seconds" >&2
    elif [ "$seconds" -ge "$next" ]; then
      say "$what$count, $seconds s"
      next=$((seconds + 20))
    fi
  done
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

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
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" |
    show_progress "installing $1" 0 "^(Get:|Unpacking|Setting up)"
}

# Run an installation, unless the same one failed before: a refusal need not be waited for at every make.
once() {
  local mark="$REFUSED$1"
  shift
  if [ -e "$mark" ]; then return 1; fi
  if "$@"; then return; fi
  touch "$mark"
  return 1
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
pip() { PYTHONUNBUFFERED=1 .venv/bin/python -m pip --disable-pip-version-check "$@"; }

install_python_packages() {
  local wanted
  wanted="$(cat requirements.lock pyproject.toml | cksum) $PWD"
  if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ]; then return; fi
  .venv/bin/python -c 'import pip' 2>/dev/null || make_venv
  say "installing Python packages into .venv, some minutes at the first time"
  pip install --require-hashes -r requirements.lock |
    show_progress "fetching Python packages" "$(grep -c == requirements.lock)" "^(Collecting|Requirement already)"
  pip uninstall --quiet --yes switchyard 2>/dev/null || true # its name until it was published
  pip install --quiet --no-deps --no-build-isolation -e .
  rm -f "$REFUSED"*
  echo "$wanted" >"$STAMP"
}

has_tesseract() {
  command -v tesseract >/dev/null && tesseract --list-langs 2>/dev/null | grep -x "$1" >/dev/null
}

apt_tesseract() {
  apt_install "${@:2}" && has_tesseract "$1"
}

install_tesseract() {
  if has_tesseract eng || once tesseract-ocr apt_tesseract eng tesseract-ocr tesseract-ocr-eng; then return; fi
  say "tesseract-ocr is missing: scanned pages and images cannot be converted;" \
    "install with: apt-get install tesseract-ocr tesseract-ocr-eng"
}

# German, so that the choice of languages is tested with two of them.
install_german() {
  if ! has_tesseract eng || has_tesseract deu || once tesseract-ocr-deu apt_tesseract deu tesseract-ocr-deu; then
    return
  fi
  say "tesseract-ocr-deu is missing: the tests of several languages are skipped;" \
    "install with: apt-get install tesseract-ocr-deu"
}

has_chromium() {
  command -v chromium >/dev/null
}

apt_chromium() {
  apt_install chromium && has_chromium
}

install_chromium() {
  if has_chromium || once chromium apt_chromium; then return; fi
  say "chromium is missing: the tests of the monitor page are skipped; install with: apt-get install chromium"
}

build_nats_cli() {
  say "building the nats command line $NATS_CLI into .tools/bin"
  mkdir -p .tools/bin
  GOBIN="$PWD/.tools/bin" go install "github.com/nats-io/natscli/nats@$NATS_CLI" >.tools/go.log 2>&1 &&
    echo "$NATS_CLI" >.tools/nats-version
}

install_nats_cli() {
  if [ -x .tools/bin/nats ] && [ "$(cat .tools/nats-version 2>/dev/null)" = "$NATS_CLI" ]; then return; fi
  if ! command -v go >/dev/null; then
    say "go is missing: the tests of the commands in docs/nats-cli.md are skipped; install with: apt-get install golang"
    return
  fi
  if once "nats-$NATS_CLI" build_nats_cli; then return; fi
  say "the nats command line could not be built: tests of docs/nats-cli.md are skipped; see .tools/go.log"
}

# Into .tools, where it is no service: Debian's package starts one as soon as it is installed.
unpack_nginx() {
  say "unpacking nginx into .tools/nginx"
  rm -rf .tools/nginx && mkdir -p .tools/nginx
  if [ -z "$apt_updated" ]; then as_root apt-get update -qq >/dev/null 2>&1 || true; fi
  (cd .tools/nginx && apt-get download -qq nginx && dpkg -x nginx_*.deb . && usr/sbin/nginx -v) >.tools/nginx.log 2>&1
}

install_nginx() {
  if command -v nginx >/dev/null || [ -x .tools/nginx/usr/sbin/nginx ]; then return; fi
  if command -v apt-get >/dev/null && command -v dpkg >/dev/null && once nginx unpack_nginx; then return; fi
  rm -rf .tools/nginx
  say "nginx is missing: the tests of docs/proxy.md are skipped; install with: apt-get install nginx"
}

# In an environment of its own: nothing of ours may come to depend on what it brings.
make_markitdown() {
  local venv="$1"
  say "installing markitdown $MARKITDOWN into $venv"
  mkdir -p .tools
  .venv/bin/python -m venv --clear "$venv" >.tools/markitdown.log 2>&1 &&
    "$venv/bin/python" -m pip install --quiet "markitdown[docx,pdf,pptx,xlsx]==$MARKITDOWN" >>.tools/markitdown.log 2>&1 &&
    echo "$MARKITDOWN $PWD" >"$venv/version"
}

install_markitdown() {
  local venv=.tools/markitdown
  if [ "$(cat "$venv/version" 2>/dev/null)" = "$MARKITDOWN $PWD" ]; then return; fi
  if once "markitdown-$MARKITDOWN" make_markitdown "$venv"; then return; fi
  rm -rf "$venv"
  say "markitdown could not be installed: the comparison with it is skipped; see .tools/markitdown.log"
}

install_python_packages
install_tesseract
case "${1-}" in
  --test)
    install_german
    install_chromium
    install_nats_cli
    install_nginx
    ;;
  --score) install_markitdown ;;
esac
