//! `standpipe`: the wiring. Which crate does what is decided elsewhere; here they are put together.
#![forbid(unsafe_code)]

mod blame;
mod engine;
mod keep;
mod lane;
mod ledger;
mod serve;
mod vault;

use std::path::Path;
use std::process::ExitCode;

use control::Problem;

/// The worker cannot be started at all, and trying again would not help (sysexits.h, EX_CONFIG). The
/// keeper then ends too, and systemd is told so by RestartPreventExitStatus=.
pub const EXIT_CONFIGURATION: i32 = 78;

/// What the command line cannot do by itself.
struct Daemon;

impl control::cli::Daemon for Daemon {
    fn serve(&self, args: &control::cli::Serve, api: &Path) -> Result<(), Problem> {
        serve::run(args, api)
    }

    fn keep(&self, args: &control::cli::Keep) -> Result<u8, Problem> {
        keep::run(args.command.clone())
    }
}

fn main() -> ExitCode {
    // The keeper and the worker hold several for each device, and an import one for each file of its package.
    host::process::raise_fd_limit();
    control::cli::run(std::env::args_os(), &Daemon)
}
