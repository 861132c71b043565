//! A keeper with its worker, in a folder of its own, and the command line against it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bench::driver::disk::{Disk, DiskOptions, Kind, Operation, Outcome, Request};
use bench::load::disk::{self, DiskFigures, DiskLoad, Pattern};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub const BINARY: &str = env!("CARGO_BIN_EXE_standpipe");

/// Nothing that works takes this long, on however busy a machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const MIB: u64 = 1 << 20;

pub struct Daemon {
    keeper: Child,
    pub api: PathBuf,
    pub folder: TempDir,
    pub config: PathBuf,
}

/// What a command said, and how it ended.
pub struct Said {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

/// A disk of one volume, as a site's text; `volume` is 16 MiB in the store.
pub fn disk_slot(vm: &str, model: &str, volume: &str) -> String {
    let volumes = match model {
        "virtio-scsi" => format!("volumes = [\"{volume}\"]"),
        _ => format!("volume = \"{volume}\""),
    };
    format!(
        "[disk.{volume}]\nstore = \"local\"\nsize = \"16MiB\"\n[vm.{vm}.disk0]\nmodel = \"{model}\"\n{volumes}\n"
    )
}

/// In a site's text: all slots are in one lane.
pub const ONE_LANE: &str = "# one lane\n";

/// The parts of a site that every test has: `{dir}` in `rest` is the test's folder.
pub fn site(folder: &Path, rest: &str) -> String {
    let lanes = if rest.contains(ONE_LANE) { 1 } else { 2 };
    let head = "socket_dir = \"{dir}/s\"\n[store.local]\ndirectory = \"{dir}/volumes\"\n";
    format!("[server]\nlanes = {lanes}\n{head}{rest}").replace("{dir}", &folder.display().to_string())
}

fn keeper(folder: &Path, state: &Path, config: &Path, api: &Path) -> Command {
    let log = File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = Command::new(BINARY);
    command.args(["keep", "--", BINARY, "serve", "--state-dir"]).arg(state);
    command.arg("--config").arg(config).arg("--api").arg(api);
    command.env_remove("NOTIFY_SOCKET").env_remove("STANDPIPE_LOG");
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command
}

impl Daemon {
    /// Starts a server on a site, and waits until it answers.
    pub fn start(rest: &str) -> Daemon {
        Daemon::start_in(TempDir::new().unwrap(), rest)
    }

    /// The same in a folder that has something in it already.
    pub fn start_in(folder: TempDir, rest: &str) -> Daemon {
        let daemon = Daemon::spawn(folder, rest);
        daemon.wait_answer();
        daemon
    }

    /// Does not wait: for servers that will not come up.
    pub fn spawn(folder: TempDir, rest: &str) -> Daemon {
        let config = folder.path().join("site.toml");
        std::fs::write(&config, site(folder.path(), rest)).unwrap();
        let (state, api) = (folder.path().join("state"), folder.path().join("api.sock"));
        let keeper = keeper(folder.path(), &state, &config, &api).spawn().unwrap();
        Daemon { keeper, api, folder, config }
    }

    /// A second keeper beside this one, with a state directory, a site and an API socket; it is
    /// expected to end by itself. Gives its exit status; what it said is in the log.
    pub fn run_another(&self, state: &Path, config: &Path, api: &Path) -> ExitStatus {
        let mut other = keeper(self.path(), state, config, api).spawn().unwrap();
        wait_end(&mut other).unwrap_or_else(|| {
            let _ = other.kill();
            panic!("the other server goes on:\n{}", self.log())
        })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn socket(&self, slot: &str) -> PathBuf {
        self.path().join("s").join(format!("{slot}.sock"))
    }

    pub fn volume(&self, name: &str) -> PathBuf {
        self.path().join("volumes").join(format!("{name}.raw"))
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path().join("log")).unwrap_or_default()).into_owned()
    }

    /// Waits for a text in the log, as it stands there.
    pub fn wait_log(&self, text: &str) {
        self.eventually(&format!("the log says: {text}"), || self.log().contains(text).then_some(()));
    }

    pub fn eventually<T>(&self, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn wait_answer(&self) -> Value {
        self.eventually("the API answers", || self.try_status())
    }

    pub fn run(&self, args: &[&str]) -> Said {
        let output = Command::new(BINARY).args(args).arg("--api").arg(&self.api).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { status: output.status, out: text(output.stdout), err: text(output.stderr) }
    }

    /// A command that works; what it printed.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert!(said.status.success(), "{args:?}: {}\n{}", said.err, self.log());
        said.out
    }

    /// A command that is refused; what it complained of, with the test's folder as `{dir}`.
    pub fn refused(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.status.code(), Some(1), "{args:?}: {}{}", said.out, said.err);
        self.anonymous(&said.err)
    }

    pub fn anonymous(&self, text: &str) -> String {
        text.replace(&self.path().display().to_string(), "{dir}")
    }

    /// Applies a site; what was done, or why not.
    pub fn apply(&self, rest: &str) -> Said {
        let file = self.path().join("changed.toml");
        std::fs::write(&file, site(self.path(), rest)).unwrap();
        self.run(&["apply", &file.display().to_string()])
    }

    pub fn try_status(&self) -> Option<Value> {
        let said = self.run(&["status", "--json"]);
        said.status.success().then(|| serde_json::from_str(&said.out).unwrap())
    }

    pub fn status(&self) -> Value {
        self.wait_answer()
    }

    pub fn counter(&self, slot: &str, name: &str) -> u64 {
        let status = self.status();
        let value = &status["slots"][slot]["counters"][name];
        value.as_u64().unwrap_or_else(|| panic!("{slot} has no counter {name}: {status:#}"))
    }

    pub fn wait_counter(&self, slot: &str, name: &str, at_least: u64) {
        self.eventually(&format!("{name} of {slot} reaches {at_least}"), || {
            (self.counter(slot, name) >= at_least).then_some(())
        });
    }

    /// The worker that answers.
    pub fn worker(&self) -> u64 {
        self.status()["worker"]["pid"].as_u64().unwrap()
    }

    /// The keeper's child, which may not answer yet.
    pub fn child(&self) -> Option<Pid> {
        let keeper = self.keeper.id();
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).ok()?;
        children.split_whitespace().last()?.parse().ok().and_then(Pid::from_raw)
    }

    /// Ends the worker as it is; false if there was none to end.
    pub fn signal_worker(&self, signal: Signal) -> bool {
        self.child().is_some_and(|child| kill_process(child, signal).is_ok())
    }

    /// `kill -9`, and waits until a successor answers.
    pub fn replace_worker(&self, signal: Signal) {
        let before = self.worker();
        self.eventually("there is a worker to end", || self.signal_worker(signal).then_some(()));
        self.eventually("the next worker answers", || {
            let status = self.try_status()?;
            (status["worker"]["pid"].as_u64()? != before).then_some(())
        });
    }

    /// Waits until keeper and worker have ended by themselves.
    pub fn wait_end(&mut self) -> ExitStatus {
        wait_end(&mut self.keeper).unwrap_or_else(|| panic!("the server goes on:\n{}", self.log()))
    }

    /// Asks the keeper to end, and the worker with it.
    pub fn stop(&mut self) -> ExitStatus {
        if let Some(keeper) = Pid::from_raw(self.keeper.id() as i32) {
            let _ = kill_process(keeper, Signal::TERM);
        }
        self.wait_end()
    }
}

fn wait_end(child: &mut Child) -> Option<ExitStatus> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.keeper.try_wait(), Ok(None)) {
            let worker = self.child();
            if let Some(keeper) = Pid::from_raw(self.keeper.id() as i32) {
                let _ = kill_process(keeper, Signal::TERM);
            }
            if wait_end(&mut self.keeper).is_none() {
                let _ = self.keeper.kill();
                let _ = self.keeper.wait();
                let _ = worker.map(|worker| kill_process(worker, Signal::KILL));
            }
        }
        if std::thread::panicking() {
            eprintln!("the server said:\n{}", self.log());
        }
    }
}

/// A driver on a slot that has just been offered.
pub fn open(daemon: &Daemon, slot: &str, options: &DiskOptions) -> Disk {
    Disk::open(&daemon.socket(slot), options).unwrap_or_else(|error| panic!("{error}\n{}", daemon.log()))
}

pub fn disk(daemon: &Daemon, slot: &str, kind: Kind) -> Disk {
    open(daemon, slot, &DiskOptions::new(kind))
}

pub fn write(disk: &mut Disk, sector: u64, byte: u8) -> Outcome {
    let queue = &mut disk.queues[0];
    queue.data(0).write_bytes(0, &[byte; 4096]);
    queue.run(0, Request { operation: Operation::Write, sector, bytes: 4096 }, PATIENCE).unwrap()
}

/// What is read, or why not.
pub fn read(disk: &mut Disk, sector: u64) -> Result<Vec<u8>, Outcome> {
    let queue = &mut disk.queues[0];
    queue.data(0).write_bytes(0, &[0xa5; 4096]);
    let request = Request { operation: Operation::Read, sector, bytes: 4096 };
    match queue.run(0, request, PATIENCE).unwrap() {
        Outcome::Good => {
            let mut bytes = vec![0; 4096];
            queue.data(0).read_bytes(0, &mut bytes);
            Ok(bytes)
        }
        bad => Err(bad),
    }
}

/// Writes a byte and reads it again.
pub fn works(disk: &mut Disk, byte: u8) {
    assert_eq!(write(disk, 8, byte), Outcome::Good);
    assert_eq!(read(disk, 8), Ok(vec![byte; 4096]));
}

/// Reads, writes, flushes, discards and zeroing for some seconds, each block checked against a
/// model. Every request has to end, once and well.
pub fn verify(disk: &mut Disk, seconds: f64, seed: u64, progress: &AtomicU64) -> DiskFigures {
    let load = DiskLoad {
        pattern: Pattern::Verify,
        block_bytes: 4096,
        depth: disk.queues[0].depth(),
        seconds,
        poll: false,
        span_bytes: 0,
        seed,
        stall: PATIENCE,
    };
    let figures = disk::run(disk, &load, progress).unwrap();
    let first = &figures.first_error;
    assert_eq!((figures.errors, figures.wrong_bytes, figures.wrong_lengths), (0, 0, 0), "{first:?}");
    assert!(figures.ios > 0 && figures.blocks_checked > 0);
    figures
}
