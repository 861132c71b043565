//! The command line. The binary calls [`run`] and gives it what it alone can
//! do ([`Daemon`]); everything else is a client of the API.

mod args;
mod documents;
mod exports;
mod import;
mod libvirt;
mod objects;
mod progress;
mod qemu;
mod show;
mod status;

pub use args::{Keep, Serve};
pub use documents::{completions, man_pages};

use crate::client::Client;
use crate::controller::Applied;
use crate::problem::Problem;
use crate::site;
use args::{Cli, Command};
use clap::{CommandFactory, Parser};
use serde::Serialize;
use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

/// The commands that are not clients.
pub trait Daemon {
    /// `serve`. `api` is the socket to offer.
    fn serve(&self, args: &Serve, api: &Path) -> Result<(), Problem>;
    /// `keep`. Returns the exit status for the shell.
    fn keep(&self, args: &Keep) -> Result<u8, Problem>;
}

/// The definition that help, completions and man pages come from.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
pub fn run(args: impl IntoIterator<Item = OsString>, daemon: &dyn Daemon) -> ExitCode {
    let mut out = std::io::stdout();
    let mut err = std::io::stderr();
    ExitCode::from(run_with(args, daemon, &mut out, &mut err))
}

/// The same with other places to print to. Returns the exit status: 0, 1 for
/// a problem, 2 for a wrong command line.
pub fn run_with(
    args: impl IntoIterator<Item = OsString>,
    daemon: &dyn Daemon,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render();
            let (to, text): (&mut dyn Write, String) = if error.use_stderr() {
                (err, paint(&text, std::io::stderr().is_terminal()))
            } else {
                (out, paint(&text, std::io::stdout().is_terminal()))
            };
            // There is nowhere to complain to if this fails.
            let _ = write!(to, "{text}");
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let json = cli.json;
    let mut screen = Screen { json, out };
    match dispatch(cli, daemon, &mut screen) {
        Ok(code) => code,
        Err(Failure::Problem(problem)) => {
            let text =
                if json { serde_json::to_string(&problem).unwrap_or_default() } else { problem.to_string() };
            let _ = writeln!(err, "{text}");
            1
        }
        // The reader of a pipe had enough: `standpipe disk list | head -1`.
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => 0,
        Err(Failure::Output(error)) => {
            let _ = writeln!(err, "error: cannot print: {error}");
            1
        }
    }
}

fn paint(text: &clap::builder::StyledStr, terminal: bool) -> String {
    if terminal { text.ansi().to_string() } else { text.to_string() }
}

/// Why a command did not end well.
enum Failure {
    Problem(Problem),
    Output(std::io::Error),
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Failure::Problem(problem)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Failure::Output(error)
    }
}

type Outcome = Result<(), Failure>;

/// Where results go, and in which form.
struct Screen<'a> {
    json: bool,
    out: &'a mut dyn Write,
}

impl Screen<'_> {
    /// Prints a value as JSON, or with `human`.
    fn show<T: Serialize>(
        &mut self,
        value: &T,
        human: impl FnOnce(&mut dyn Write, &T) -> std::io::Result<()>,
    ) -> Outcome {
        if self.json {
            let text = serde_json::to_string_pretty(value).map_err(std::io::Error::other)?;
            writeln!(self.out, "{text}")?;
        } else {
            human(self.out, value)?;
        }
        self.out.flush()?;
        Ok(())
    }

    fn applied(&mut self, applied: &Applied) -> Outcome {
        self.show(applied, |out, applied| {
            if applied.steps.is_empty() {
                return writeln!(out, "nothing to do");
            }
            let prefix = if applied.dry_run { "would " } else { "" };
            applied.steps.iter().try_for_each(|step| writeln!(out, "{prefix}{step}"))
        })
    }
}

fn dispatch(cli: Cli, daemon: &dyn Daemon, screen: &mut Screen<'_>) -> Result<u8, Failure> {
    let client = Client::new(&cli.api);
    match cli.command {
        Command::Serve(args) => daemon.serve(&args, &cli.api)?,
        Command::Keep(args) => return Ok(daemon.keep(&args)?),
        Command::Upgrade => upgrade(&client, screen)?,
        Command::Apply(args) => {
            let desired = site::read(&args.file)?;
            let path = format!("/v1/site?dry_run={}", args.dry_run);
            let applied: Applied = client.put(&path, &desired)?;
            screen.applied(&applied)?;
        }
        Command::Vm(command) => objects::vm(&client, command, screen)?,
        Command::Disk(command) => objects::disk(&client, command, screen)?,
        Command::Portal(command) => exports::portal(&client, command, screen)?,
        Command::Target(command) => exports::target(&client, command, screen)?,
        Command::Network(command) => objects::network(&client, command, screen)?,
        Command::Nic(command) => objects::nic(&client, command, screen)?,
        Command::Status(args) => status::status(&client, &args, screen)?,
        Command::QemuArgs(args) => qemu::print(&client, &args, screen)?,
        Command::LibvirtXml(args) => libvirt::print(&client, &args, screen)?,
        Command::Completions(args) => screen.out.write_all(&completions(args.shell))?,
        Command::Man(args) => documents::man(&args, screen)?,
    }
    Ok(0)
}

/// What `upgrade --json` prints.
#[derive(Serialize)]
struct Upgraded {
    before: crate::status::Worker,
    after: crate::status::Worker,
}

/// Asks for the upgrade, and waits until the new worker answers.
fn upgrade(client: &Client, screen: &mut Screen<'_>) -> Outcome {
    use std::time::{Duration, Instant};
    const WAIT: Duration = Duration::from_secs(10);
    let before: crate::status::Status = client.get("/v1/status")?;
    client.command("/v1/upgrade")?;
    let deadline = Instant::now() + WAIT;
    loop {
        // The old worker may answer, nobody, or the new one.
        let now = client.get::<crate::status::Status>("/v1/status");
        if let Ok(now) = now
            && now.worker.pid != before.worker.pid
        {
            let both = Upgraded { before: before.worker, after: now.worker };
            return screen.show(&both, |out, both| {
                writeln!(
                    out,
                    "upgraded: worker {} ({}) took over from {} ({})",
                    both.after.pid, both.after.version, both.before.pid, both.before.version
                )
            });
        }
        if Instant::now() > deadline {
            return Err(Problem::failed("no new worker has answered after 10 s")
                .at(client.socket().display().to_string())
                .hint("`standpipe status` shows which worker runs; the daemon's log says why")
                .into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
