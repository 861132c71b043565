//! Secrets that came over the API, each in a file of its own that only the
//! daemon can read. The store itself has their paths alone.

use crate::problem::Problem;
use crate::site::{Chap, Site};
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// In the state directory.
pub(super) const DIRECTORY: &str = "secrets";

pub(super) fn keep(directory: &Path, site: &mut Site) -> Result<(), Problem> {
    for chap in site.credentials_mut() {
        if chap.secret.is_some() {
            keep_one(directory, chap).map_err(|error| {
                Problem::failed(format!("cannot keep the secret of user `{}`: {error}", chap.user))
                    .at(directory.display().to_string())
                    .hint("make room in the state directory, or let the daemon's user write there; nothing was changed")
            })?;
        }
    }
    Ok(())
}

fn keep_one(directory: &Path, chap: &mut Chap) -> std::io::Result<()> {
    let Some(secret) = &chap.secret else { return Ok(()) };
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // A name of its own, so that what is in use stays until the change is done.
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let name: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = directory.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(secret.expose())?;
    file.sync_all()?;
    File::open(directory)?.sync_all()?;
    chap.secret = None;
    chap.secret_file = Some(path);
    Ok(())
}

pub(super) fn sweep<'a>(directory: &Path, sites: impl Iterator<Item = &'a Site>) {
    let Ok(there) = fs::read_dir(directory) else { return };
    let used: HashSet<PathBuf> =
        sites.flat_map(|site| site.credentials()).filter_map(|chap| chap.secret_file.clone()).collect();
    for entry in there.flatten() {
        let path = entry.path();
        if !used.contains(&path) {
            // It holds a secret that is of no use any more; who has the directory has it anyway.
            let _ = fs::remove_file(path);
        }
    }
}
