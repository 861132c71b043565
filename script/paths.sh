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

# ticker TITLE LOG: shows that the work behind a printed title goes on, until untick: on a terminal the
# seconds and the last line of the log, elsewhere a dot every ten seconds.
ticker() {
  local title=$1 log=$2 started=$SECONDS
  (
    # A script that is interrupted does not come to its untick; $$ is the script itself.
    while sleep 1 && kill -0 $$ 2>/dev/null; do
      passed=$((SECONDS - started))
      if [ -t 2 ]; then
        last=$(tail -c 400 "$log" 2>/dev/null | tr '\r' '\n' | tr -cd '[:print:]\n' | tail -n 1)
        printf '\r\033[K  %-62s %4d s  %.40s' "$title" "$passed" "$last" >&2
      elif [ $((passed % 10)) = 0 ]; then
        printf . >&2
      fi
    done
  ) </dev/null >/dev/null &
  ticker_pid=$! ticker_title=$title
}
untick() {
  kill "$ticker_pid" 2>/dev/null || true
  wait "$ticker_pid" 2>/dev/null || true
  [ ! -t 2 ] || printf '\r\033[K  %-62s ' "$ticker_title" >&2
}

# stage TITLE COMMAND...: runs a command with its output in a log file, and a line on the terminal
# that ends with the seconds it took. When it fails, the end of the log says why.
stage() {
  local title=$1 log started status=0
  shift
  log=$STANDPIPE_CACHE/log/$(printf '%s' "$title" | tr -cs 'A-Za-z0-9' '-').log
  started=$SECONDS
  printf '  %-62s ' "$title" >&2
  ticker "$title" "$log"
  # Not as the condition of an if: there, a function that COMMAND names would go on after an error.
  set +e
  (set -e; "$@") >"$log" 2>&1
  status=$?
  set -e
  untick
  if [ $status = 0 ]; then
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
