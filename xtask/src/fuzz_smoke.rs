//! `cargo xtask fuzz-smoke`: every fuzz target for a moment, on the compiler at hand.

use std::path::Path;
use std::process::Command;

/// Each target's time when `--seconds` is not given: all of them together are done within a minute.
const SECONDS_DEFAULT: &str = "5";

/// Arguments are passed on: `--seconds N`, `--seed N`, names of targets.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command
        .args(["run", "--quiet", "--locked", "--release", "--bin", "smoke", "--manifest-path"])
        .arg(root.join("fuzz/Cargo.toml"))
        // Beside the workspace's own artefacts, and with them in the cache of a CI machine.
        .arg("--target-dir")
        .arg(root.join("target/fuzz"))
        .arg("--");
    if !arguments.iter().any(|argument| argument == "--seconds") {
        command.args(["--seconds", SECONDS_DEFAULT]);
    }
    let status = command.args(arguments).status().map_err(|error| format!("starting cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err("a target failed; its input is above, in hexadecimal".into()) }
}
