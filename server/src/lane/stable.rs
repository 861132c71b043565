//! The thread that brings units' lasting state to stable storage: reservations that an initiator was
//! promised to find again after a loss of power. Lanes never wait for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use control::Problem;
use control::step::VolumeSpec;
use crossbeam_channel::{Receiver, Sender, unbounded};
use host::stable::Store;

use super::LaneHandle;

/// Below the server's state directory.
const FOLDER: &str = "units";

struct Job {
    name: String,
    state: Vec<u8>,
    whom: Whom,
}

/// Who is told.
enum Whom {
    Lane { lane: u32, tag: u32 },
    Caller(Sender<bool>),
}

/// What a lane gives its units' states to.
#[derive(Clone)]
pub struct Stable {
    jobs: Sender<Job>,
}

/// States that wait to be written, until there are lanes to be told of it.
pub struct Jobs(Receiver<Job>);

/// The file of a volume's unit: by its NAA name, which it has on every host.
pub fn stable_name(spec: &VolumeSpec) -> String {
    spec.naa.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The two ends.
pub fn channel() -> (Stable, Jobs) {
    let (jobs, wanted) = unbounded();
    (Stable { jobs }, Jobs(wanted))
}

impl Stable {
    /// Writes a state; [`super::Lane::made_durable`] is called with the tag when it is there, or
    /// cannot be brought there.
    pub fn store(&self, lane: u32, tag: u32, name: String, state: Vec<u8>) {
        // The thread lives as long as the lanes do.
        let _ = self.jobs.send(Job { name, state, whom: Whom::Lane { lane, tag } });
    }

    /// The same for somebody who can wait, behind what was given before.
    pub fn store_and_tell(&self, name: String, state: Vec<u8>) -> Receiver<bool> {
        let (told, is_told) = unbounded();
        let _ = self.jobs.send(Job { name, state, whom: Whom::Caller(told) });
        is_told
    }
}

/// Where the states are.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    store: Arc<Store<host::stable::Folder>>,
}

impl Folder {
    /// The states below the server's state directory.
    pub fn open(state: &Path) -> Result<Self, Problem> {
        let path = state.join(FOLDER);
        let opened = Store::open(&path).and_then(|store| store.sweep().map(|()| store));
        let store = opened.map_err(|error| {
            Problem::failed(format!("cannot open the directory of reservations: {error}"))
                .at(path.display().to_string())
                .hint("it must be a directory that the server may write to")
        })?;
        Ok(Self { path, store: Arc::new(store) })
    }

    /// What is stored of a volume's unit. A file that makes no sense is an error and not an absence:
    /// its reservations would be forgotten.
    pub fn read(&self, spec: &VolumeSpec) -> Result<Option<Vec<u8>>, Problem> {
        let name = stable_name(spec);
        self.store.read(&name).map_err(|error| {
            Problem::failed(format!("cannot read the reservations of volume `{}`: {error}", spec.name))
                .at(self.path.join(name).display().to_string())
                .hint("restore the file; or remove it, and its reservations are forgotten: make sure first that no host of its cluster is using the volume")
        })
    }

    /// Forgets what is stored of a volume's unit.
    pub fn remove(&self, spec: &VolumeSpec) -> Result<(), Problem> {
        let name = stable_name(spec);
        self.store.remove(&name).map_err(|error| {
            Problem::failed(format!("cannot remove the reservations of volume `{}`: {error}", spec.name))
                .at(self.path.join(name).display().to_string())
        })
    }
}

/// Writes what comes, and tells the lanes.
pub fn run(folder: Folder, wanted: Jobs, lanes: Vec<LaneHandle>) -> std::io::Result<()> {
    std::thread::Builder::new().name("stable".to_owned()).spawn(move || {
        while let Ok(job) = wanted.0.recv() {
            let written = folder.store.write(&job.name, &job.state);
            if let Err(error) = &written {
                let file = folder.path.join(&job.name);
                tracing::error!(file = %file.display(), %error, "reservations cannot be made durable");
            }
            let durable = written.is_ok();
            match job.whom {
                Whom::Lane { lane, tag } => {
                    if let Some(lane) = lanes.get(lane as usize) {
                        lane.tell(move |lane| lane.made_durable(tag, durable));
                    }
                }
                // One that waits no more needs not be told.
                Whom::Caller(told) => drop(told.send(durable)),
            }
        }
    })?;
    Ok(())
}
