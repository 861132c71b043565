# Sourced by the scripts of this folder: where things are kept, and how a stage reports itself.
#
# STANDPIPE_CACHE holds everything that is fetched or made once: the Debian tree, the guest image,
# the verdict about KVM, scratch folders of runs. Deleting it is always safe; it is made again.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
STANDPIPE_CACHE=${STANDPIPE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/standpipe}
mkdir -p "$STANDPIPE_CACHE/log"
STANDPIPE_CACHE=$(cd "$STANDPIPE_CACHE" && pwd)
tree=$STANDPIPE_CACHE/debian13
export STANDPIPE_CACHE

# Results go to stdout; progress goes to stderr, so that a caller can read the one and show the other.
say() { printf '%s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

# stage TITLE COMMAND...: runs a command with its output in a log file, and a line on the terminal
# that ends with the seconds it took. When it fails, the end of the log says why.
stage() {
  local title=$1 log started
  shift
  log=$STANDPIPE_CACHE/log/$(printf '%s' "$title" | tr -cs 'A-Za-z0-9' '-').log
  started=$SECONDS
  printf '  %-62s ' "$title" >&2
  if "$@" >"$log" 2>&1; then
    printf '%4d s\n' $((SECONDS - started)) >&2
  else
    printf 'FAILED\n' >&2
    tail -n 25 "$log" >&2
    fail "\"$title\" failed; the whole log is $log"
  fi
}

need_root() {
  [ "$(id -u)" = 0 ] || fail "this needs root, for mount namespaces, TAP devices and packages: try sudo -E $0"
}
