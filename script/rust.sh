# Sourced by the scripts that build: finds cargo, also where a root shell does not look.
command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
command -v cargo >/dev/null ||
  fail "cargo is not found: install Rust 1.90 or newer (rustup.rs), or, under sudo, keep your HOME with sudo -E"
