//! `cargo xtask COMMAND`: what a developer runs beside the product. One module a command.

#![forbid(unsafe_code)]

mod bench;
mod fuzz_smoke;
mod tidy;
mod torture;

use std::process::ExitCode;

/// A command takes its arguments and says in a sentence why it failed.
type Command = fn(&[String]) -> Result<(), String>;

const COMMANDS: &[(&str, &str, Command)] = &[
    ("bench", "run a benchmark beside its peers: disks, switch, iscsi, attach", bench::run),
    (
        "fuzz-smoke",
        "run every fuzz target for a moment: --seconds N, --seed N, names of targets",
        fuzz_smoke::run,
    ),
    (
        "torture",
        "kill the worker under load in real guests: --model MODEL|all|emulated --kills N",
        torture::run,
    ),
    ("tidy", "check the rules of STYLE.md that a program can check", tidy::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let found = arguments.first().and_then(|name| COMMANDS.iter().find(|(known, ..)| known == name));
    let Some((name, _, command)) = found else {
        eprintln!("usage: cargo xtask COMMAND\n");
        for (name, what, _) in COMMANDS {
            eprintln!("  {name:10} {what}");
        }
        return ExitCode::from(2);
    };
    match command(&arguments[1..]) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {name}: {why}");
            ExitCode::FAILURE
        }
    }
}
