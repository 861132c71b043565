//! `standpipe serve`: the worker, from its first instruction to its last.

use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::cli::Serve;
use control::{Controller, Problem, Store};
use host::poll;
use host::process::Signals;

use crate::engine::Host;
use crate::lane::LaneHandle;
use crate::lane::stable::{self, Folder};
use crate::vault::{Estate, Vault};

const API: &str = "api";
/// How long a predecessor on the same state directory may take to be gone for good.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How often the stores of thin volumes with a threshold are asked how full they are.
const THRESHOLDS_EVERY: Duration = Duration::from_secs(10);

pub fn run(args: &Serve, api: &Path) -> Result<(), Problem> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("STANDPIPE_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_ansi(false)
        .init();
    // The keeper holds what a predecessor left: guests wait for a worker, and may get one when what
    // is wrong has been mended.
    let awaited = std::env::var_os("LISTEN_FDS").is_some_and(|count| count != "0");
    let failed = match serve(args, api) {
        Ok(()) => return Ok(()),
        Err(problem) => problem,
    };
    eprintln!("{failed}");
    if awaited {
        // Whoever keeps the descriptors tries again at once: not as fast as it can.
        std::thread::sleep(Duration::from_millis(500));
    }
    std::process::exit(if awaited { 1 } else { crate::EXIT_CONFIGURATION });
}

fn serve(args: &Serve, api_path: &Path) -> Result<(), Problem> {
    // Before any thread is started, so that all of them have these blocked.
    let signals = Signals::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP])
        .map_err(|error| Problem::failed(format!("cannot receive signals: {error}")))?;
    crate::blame::install_hook();
    // For whoever looks for a fault of ours, with test data: docs/threat-model.md.
    if std::env::var_os("STANDPIPE_CORE_DUMPS").is_none_or(|value| value != "1") {
        host::process::keep_memory_private()
            .map_err(|error| Problem::failed(format!("cannot keep the memory out of core dumps: {error}")))?;
    }
    let mut estate = Estate::inherit();
    let vault = Vault::from_environment(&estate)?;
    std::fs::create_dir_all(&args.state_dir).map_err(|error| {
        Problem::failed(format!("cannot make the state directory: {error}"))
            .at(args.state_dir.display().to_string())
            .hint("run as root, or choose another directory with --state-dir")
    })?;
    let _lock = lock(&args.state_dir)?;
    let store = Store::open(&args.state_dir)?;
    let config = match args.config.as_deref().map(control::site::read).transpose() {
        Ok(config) => config,
        // The site that was taken over before is served on: a slip in the file, found by a worker that
        // follows a dead one, must not take the disks of running guests away.
        Err(problem) if store.document().config.is_some() => {
            tracing::error!("the site of before is served: {problem}");
            None
        }
        Err(problem) => return Err(problem),
    };
    let server =
        config.as_ref().map_or_else(|| store.document().site.server.clone(), |site| site.server.clone());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    let lanes = server.lanes.unwrap_or(cores).max(1);
    let (stable, jobs) = stable::channel();
    let handles: Vec<LaneHandle> = (0..lanes)
        .map(|index| LaneHandle::start(index, vault.clone(), stable.clone()))
        .collect::<Result<_, Problem>>()?;
    let folder = Folder::open(&args.state_dir)?;
    handles
        .iter()
        .map(LaneHandle::try_clone)
        .collect::<std::io::Result<Vec<_>>>()
        .and_then(|lanes| stable::run(folder.clone(), jobs, lanes))
        .map_err(|error| Problem::failed(format!("cannot start the thread of lasting state: {error}")))?;
    let api = api_listener(api_path, server.api_group.as_deref(), &mut estate, &vault)?;
    let (restart, restarted) = crossbeam_channel::bounded(1);
    let host = Arc::new(Host::new(handles, vault.clone(), folder, estate, restart));
    let controller = Arc::new(Controller::new(store, Arc::clone(&host) as Arc<dyn control::Engine>));
    for problem in controller.start(config) {
        tracing::error!("{problem}");
    }
    host.settle_estate();
    vault.ready(&format!("{lanes} lanes"));
    tracing::info!(lanes, api = %api_path.display(), kept = vault.is_kept(), "serving");
    let served = Arc::clone(&controller);
    std::thread::Builder::new()
        .name("api".to_owned())
        .spawn(move || {
            if let Err(error) = control::api::serve(api, served) {
                tracing::error!(%error, "the API stopped; slots are served on");
            }
        })
        .map_err(|error| Problem::failed(format!("cannot start the API's thread: {error}")))?;
    let thresholds = Arc::clone(&host);
    std::thread::Builder::new()
        .name("thresholds".to_owned())
        .spawn(move || {
            loop {
                // At once, too: log page 0Ch is there when it is known how much is allocated.
                thresholds.look_at_thresholds();
                std::thread::sleep(THRESHOLDS_EVERY);
            }
        })
        .map_err(|error| Problem::failed(format!("cannot start the thread of thresholds: {error}")))?;
    loop {
        // The signals' descriptor wakes at once; a restart is asked for over the API, which has to
        // be given a moment to answer its caller anyway.
        let _ = poll::readable(&[signals.as_fd()], Duration::from_millis(200));
        match signals.take() {
            // Another worker follows, and nobody need know.
            Some(libc::SIGHUP) if vault.is_kept() => {
                tracing::info!("asked to make way for the next worker");
                break;
            }
            Some(_) => {
                tracing::info!("asked to stop");
                host.say_goodbye();
                break;
            }
            None => {}
        }
        if restarted.try_recv().is_ok() {
            tracing::info!("making way for the next worker");
            break;
        }
    }
    host.quiesce();
    Ok(())
}

/// One server for one state directory.
fn lock(state_dir: &Path) -> Result<std::fs::File, Problem> {
    let path = state_dir.join("lock");
    let failed = |error: std::io::Error| {
        Problem::failed(format!("cannot lock the state directory: {error}")).at(path.display().to_string())
    };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    if host::file::lock(&file, false, LOCK_PATIENCE).map_err(failed)? {
        return Ok(file);
    }
    Err(Problem::conflict("another server uses this state directory")
        .at(state_dir.display().to_string())
        .hint("stop it, or give this one another --state-dir"))
}

fn api_listener(
    path: &Path,
    group: Option<&str>,
    estate: &mut Estate,
    vault: &Vault,
) -> Result<UnixListener, Problem> {
    if let Some(fd) = estate.take(API) {
        return Ok(UnixListener::from(fd));
    }
    let listener = control::api::listen(path, group)?;
    vault.keep(API, listener.as_fd());
    Ok(listener)
}

/// Listens on a path. A socket that nobody listens on any more is taken away first; anything else
/// that is in the way is left where it is.
pub fn bind(path: &Path) -> Result<UnixListener, Problem> {
    use std::os::unix::fs::FileTypeExt;
    let at = |problem: Problem| problem.at(path.display().to_string());
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| {
            at(Problem::failed(format!("cannot make the socket's directory: {error}"))
                .hint("run as root, or choose a directory that this user may write to"))
        })?;
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(Problem::failed(format!("cannot look at the socket's path: {error}")))),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(at(Problem::conflict("a file that is no socket is in the way")
                .hint("move it away, or choose another path: nothing was changed")));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => {
                return Err(at(Problem::conflict("another program listens on this socket").hint(
                    "is a server running already? `standpipe status` asks it; otherwise choose another path",
                )));
            }
            Err(_) => std::fs::remove_file(path).map_err(|error| {
                at(Problem::failed(format!("cannot remove the stale socket of an earlier server: {error}")))
            })?,
        },
    }
    UnixListener::bind(path).map_err(|error| {
        at(Problem::failed(format!("cannot listen: {error}"))
            .hint("a socket's path has at most 107 characters and its directory must be writable"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("standpipe-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = folder("bind");
        let path = folder.join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let live = bind(&path).unwrap();
        let problem = bind(&path).unwrap_err();
        assert!(problem.what.contains("another program listens"), "{problem}");
        drop(live);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        let problem = bind(&path).unwrap_err();
        assert!(problem.what.contains("no socket"), "{problem}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
