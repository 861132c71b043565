//! The keeper's stand-in where systemd is not: it holds descriptors while the worker is away, and
//! starts the next worker at once.
//!
//! It speaks systemd's own protocol (sd_notify(3), sd_pid_notify_with_fds(3), sd_listen_fds(3)), so
//! the worker does not know which of the two it has. It looks at nothing that a guest has written:
//! not one byte of a ring, a register or a message passes through here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use control::Problem;
use host::process::{Child, Ended, Signals, spawn_with_fds};
use host::{poll, socket};

/// A worker that ends sooner than this after its start did no work; the next start waits, so that
/// a binary that cannot run does not burn a core.
const USEFUL_LIFE: Duration = Duration::from_millis(200);
/// Consecutive useless lives before starts are spaced out, and how far.
const QUICK_STARTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// How long a worker may take to end when asked to.
const PATIENCE: Duration = Duration::from_secs(10);

/// Descriptors by name, in the order in which they came. systemd keeps several under one name as
/// well.
#[derive(Default)]
struct Kept {
    by_name: BTreeMap<String, Vec<OwnedFd>>,
    /// A worker has said that it serves: guests may be connected.
    served: bool,
}

impl Kept {
    /// Follows one notification. What it does not know, it ignores, as systemd does.
    fn follow(&mut self, text: &str, fds: Vec<OwnedFd>) {
        let mut store = false;
        let mut remove = false;
        let mut name = "stored";
        for line in text.lines() {
            match line.split_once('=') {
                Some(("FDSTORE", "1")) => store = true,
                Some(("READY", "1")) => self.served = true,
                Some(("FDSTOREREMOVE", "1")) => remove = true,
                Some(("FDNAME", given)) => name = given,
                _ => {}
            }
        }
        if remove {
            self.by_name.remove(name);
        }
        if store {
            self.by_name.entry(name.to_owned()).or_default().extend(fds);
        }
    }

    fn listing(&self) -> Vec<(String, std::os::fd::BorrowedFd<'_>)> {
        self.by_name
            .iter()
            .flat_map(|(name, fds)| fds.iter().map(move |fd| (name.clone(), fd.as_fd())))
            .collect()
    }
}

struct Keeper {
    argv: Vec<OsString>,
    socket: UnixDatagram,
    /// Its path, or its name in the abstract namespace behind an `@`.
    address: String,
    kept: Kept,
    starts: u64,
}

impl Keeper {
    fn drain(&mut self) {
        let mut buffer = [0; 4096];
        while let Ok(Some(message)) = socket::take(self.socket.as_fd(), &mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..message.len]).into_owned();
            self.kept.follow(&text, message.fds);
        }
    }

    fn start(&mut self) -> Result<Child, Problem> {
        let environment =
            [("NOTIFY_SOCKET", self.address.clone()), ("STANDPIPE_RESTARTS", self.starts.to_string())];
        let child = spawn_with_fds(&self.argv, &environment, &self.kept.listing()).map_err(|error| {
            Problem::failed(format!("cannot start the worker: {error}"))
                .at(self.argv[0].to_string_lossy().into_owned())
                .hint("give the worker's command behind `--`, as in `standpipe keep -- standpipe serve`")
        })?;
        self.starts += 1;
        Ok(child)
    }
}

/// `standpipe keep -- COMMAND…`: returns the worker's exit status when it is over.
pub fn run(argv: Vec<OsString>) -> Result<u8, Problem> {
    use std::os::linux::net::SocketAddrExt;
    let failed = |what: &str, error: std::io::Error| Problem::failed(format!("{what}: {error}"));
    if argv.is_empty() {
        return Err(Problem::invalid("no worker to keep")
            .hint("write the worker's command behind `--`, as in `standpipe keep -- standpipe serve`"));
    }
    let signals = Signals::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGHUP])
        .map_err(|error| failed("cannot receive signals", error))?;
    let name = format!("standpipe-keeper-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name)
        .map_err(|error| failed("cannot name the keeper's socket", error))?;
    let socket = UnixDatagram::bind_addr(&address)
        .map_err(|error| failed("cannot open the keeper's socket", error))?;
    let mut keeper = Keeper { argv, socket, address: format!("@{name}"), kept: Kept::default(), starts: 0 };
    let mut useless = 0;
    loop {
        let born = std::time::Instant::now();
        let mut child = match keeper.start() {
            Ok(child) => child,
            Err(problem) if keeper.starts == 0 => return Err(problem),
            // The system is short of something. Guests wait for us, so we try again.
            Err(problem) => {
                eprintln!("{problem}");
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        let ended = loop {
            let waited = poll::readable(&[keeper.socket.as_fd(), signals.as_fd()], Duration::from_secs(3600));
            waited.map_err(|error| failed("cannot wait for the worker", error))?;
            keeper.drain();
            while let Some(signal) = signals.take() {
                match signal {
                    libc::SIGTERM | libc::SIGINT => return Ok(stop(child)),
                    // A restart on request: the same path as every other end.
                    libc::SIGHUP => child.signal(libc::SIGHUP),
                    _ => {}
                }
            }
            if let Some(ended) =
                child.try_wait().map_err(|error| failed("cannot wait for the worker", error))?
            {
                break ended;
            }
        };
        // What it said last is still in the socket.
        keeper.drain();
        // Guests may be waiting for what is kept: then the next try may succeed, and ending would take
        // their disks away.
        if ended == Ended::Exited(crate::EXIT_CONFIGURATION) && !keeper.kept.served {
            return Ok(crate::EXIT_CONFIGURATION as u8);
        }
        eprintln!(
            "standpipe keep: the worker ended ({ended:?}) after {:.1?}; starting the next",
            born.elapsed()
        );
        // One that somebody killed is no sign of a binary that cannot run.
        let by_itself = ended != Ended::Killed(libc::SIGKILL);
        useless = if by_itself && born.elapsed() < USEFUL_LIFE { useless + 1 } else { 0 };
        if useless > QUICK_STARTS {
            std::thread::sleep(PAUSE);
        }
    }
}

fn stop(mut child: Child) -> u8 {
    child.signal(libc::SIGTERM);
    let asked = std::time::Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(Ended::Exited(code))) => return code as u8,
            Ok(Some(Ended::Killed(_))) | Err(_) => return 1,
            Ok(None) => {}
        }
        if asked.elapsed() > PATIENCE {
            child.signal(libc::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::event::Event;

    fn fd() -> OwnedFd {
        Event::new().unwrap().into_fd()
    }

    #[test]
    fn descriptors_are_stored_and_removed_by_name() {
        let mut kept = Kept::default();
        kept.follow("FDSTORE=1\nFDNAME=web1.disk0/ledger\nFDPOLL=0", vec![fd()]);
        kept.follow("READY=1\nSTATUS=2 slots", vec![]);
        kept.follow("FDSTORE=1\nFDNAME=web1.disk0/7", vec![fd()]);
        let names: Vec<String> = kept.listing().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["web1.disk0/7", "web1.disk0/ledger"]);
        kept.follow("FDSTOREREMOVE=1\nFDNAME=web1.disk0/7", vec![]);
        assert_eq!(kept.listing().len(), 1);
    }
}
