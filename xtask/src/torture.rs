//! `cargo xtask torture --model M --kills N`: kills the worker under verified load in real guests.
//! The work is done by `standpipe-guests`; this builds what it needs and passes the words on.

use std::process::Command;

pub fn run(arguments: &[String]) -> Result<(), String> {
    let root = env!("CARGO_MANIFEST_DIR").trim_end_matches("/xtask");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(&cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--release", "-p", "standpipe-server", "-p", "standpipe-guests"])
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !built.success() {
        return Err("the server or the guests' harness does not build".to_owned());
    }
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| format!("{root}/target"));
    let status = Command::new(format!("{target}/release/standpipe-guests"))
        .current_dir(root)
        .env("STANDPIPE_BINARY", format!("{target}/release/standpipe"))
        .arg("torture")
        .args(arguments)
        .status()
        .map_err(|error| format!("cannot run the guests' harness: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err("the torture found a fault, or could not run: see above".to_owned())
    }
}
