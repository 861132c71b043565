//! The embedded store: one file that survives power loss at any point. A file
//! that is not ours, damaged, or of a newer version is reported and left as it
//! is.

mod secrets;
pub mod v1;
pub mod v2;

use crate::problem::{Kind, Problem};
use crate::site::Site;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableDefinition, TableError};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
pub use v2::Document;

/// The file's name in the state directory.
pub const FILE_NAME: &str = "standpipe.redb";

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("standpipe");
const DOCUMENTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("documents");
const VERSION: &str = "version";
const SITE: &str = "site";

/// A site takes kilobytes; the library's default of a gigabyte is for others.
const CACHE_BYTES: usize = 1 << 20;

/// How long a worker waits for the one before it to let go of the file.
const LOCK_WAIT: Duration = Duration::from_secs(5);

pub struct Store {
    state_dir: PathBuf,
    path: PathBuf,
    database: Database,
    document: Document,
    /// The file has an older version of the document.
    outdated: bool,
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // Also after a clean close: the file may have been altered since.
    builder.set_check_integrity_on_open(true);
    builder
}

impl Store {
    /// Opens the store in a state directory, which is made if it is missing.
    pub fn open(state_dir: &Path) -> Result<Store, Problem> {
        fs::create_dir_all(state_dir).map_err(|error| {
            Problem::failed(format!("cannot make the state directory: {error}"))
                .at(state_dir.display().to_string())
                .hint("choose another with --state-dir, or run as a user that may write there")
        })?;
        let path = state_dir.join(FILE_NAME);
        if !path.exists() {
            create(state_dir, &path)?;
        }
        is_ours(&path)?;
        let deadline = Instant::now() + LOCK_WAIT;
        let database = loop {
            match guarded(|| builder().open(&path)) {
                Ok(Err(DatabaseError::DatabaseAlreadyOpen)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(Ok(database)) => break database,
                Ok(Err(error)) => return Err(open_problem(&path, &error)),
                Err(()) => return Err(damaged(&path, "its structure is broken")),
            }
        };
        let (document, outdated) = match guarded(|| read(&path, &database)) {
            Ok(found) => found?,
            Err(()) => return Err(damaged(&path, "its structure is broken")),
        };
        Ok(Store { state_dir: state_dir.to_owned(), path, database, document, outdated })
    }

    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Puts the secrets that a site carries into files, and their paths into the site.
    pub(crate) fn keep_secrets(&self, site: &mut Site) -> Result<(), Problem> {
        let directory = self.state_dir.join(secrets::DIRECTORY);
        secrets::keep(&directory, site)
    }

    /// Removes kept secrets that nothing names any more. One that cannot be removed is tried again at
    /// the next change.
    pub(crate) fn sweep_secrets(&self) {
        let document = &self.document;
        let sites = [Some(&document.site), document.pending.as_ref(), document.config.as_ref()];
        secrets::sweep(&self.state_dir.join(secrets::DIRECTORY), sites.into_iter().flatten());
    }

    /// Keeps a document. When this returns, it survives power loss.
    pub fn save(&mut self, document: Document) -> Result<(), Problem> {
        if document == self.document && !self.outdated {
            return Ok(());
        }
        write(&self.database, &document).map_err(|error| {
            Problem::failed(format!("cannot write the store: {error}"))
                .at(self.path.display().to_string())
                .hint("make room on its filesystem, or mend the disk; nothing was changed")
        })?;
        self.document = document;
        self.outdated = false;
        Ok(())
    }
}

/// Runs a call into the library on bytes that may be anything. It promises
/// errors for damaged files, but "may panic" for some.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, ()> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| ())
}

/// Makes the file under another name and moves it into place when it is
/// whole, so that power loss never leaves half a store.
fn create(state_dir: &Path, path: &Path) -> Result<(), Problem> {
    let fresh = state_dir.join(format!("{FILE_NAME}.new"));
    let problem = |error: String| {
        Problem::failed(format!("cannot make the store: {error}"))
            .at(path.display().to_string())
            .hint("choose another directory with --state-dir, or make room on this filesystem")
    };
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(problem(error.to_string()));
        }
        _ => {}
    }
    let made = || -> Result<(), redb::Error> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&fresh)?;
        let database = builder().create_with_backend(FileBackend::new(file)?)?;
        write(&database, &Document::default())?;
        drop(database);
        File::open(&fresh)?.sync_all()?;
        fs::rename(&fresh, path)?;
        File::open(state_dir)?.sync_all()?;
        Ok(())
    };
    made().map_err(|error| problem(error.to_string()))
}

/// Looks at the file without touching it.
fn is_ours(path: &Path) -> Result<(), Problem> {
    // redb's magic number, from its file format description.
    const MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1a, 0x0a, 0xa9, 0x0d, 0x0a];
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| {
        use std::io::Read;
        file.take(MAGIC.len() as u64).read_to_end(&mut start)
    });
    match read {
        Err(error) => Err(Problem::failed(format!("cannot open the store: {error}"))
            .at(path.display().to_string())
            .hint("run as the user that the daemon ran as before")),
        Ok(_) if start == MAGIC => Ok(()),
        Ok(_) => Err(Problem::failed("the file is not a Standpipe store; it was left as it is")
            .at(path.display().to_string())
            .hint("move it away, or choose another directory with --state-dir")),
    }
}

fn damaged(path: &Path, how: &str) -> Problem {
    Problem::failed(format!(
        "the store is damaged ({how}); it was left as it is"
    ))
    .at(path.display().to_string())
    .hint("restore it from a backup, or move it away and apply the site's TOML file again: volumes keep their data, but get new SCSI names unless the file gives `naa` and `serial`")
}

fn open_problem(path: &Path, error: &DatabaseError) -> Problem {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            Problem::new(Kind::Conflict, "the store is in use by another daemon")
                .at(path.display().to_string())
                .hint("stop the other one, or give this one its own --state-dir")
        }
        DatabaseError::UpgradeRequired(_) => {
            Problem::failed("the store has another file format; it was left as it is")
                .at(path.display().to_string())
                .hint("run the version of Standpipe that wrote it")
        }
        DatabaseError::Storage(StorageError::Io(io)) if io.raw_os_error().is_some() => {
            Problem::failed(format!("cannot open the store: {io}"))
                .at(path.display().to_string())
                .hint("run as the user that the daemon ran as before, and check the disk")
        }
        other => damaged(path, &other.to_string()),
    }
}

fn read(path: &Path, database: &Database) -> Result<(Document, bool), Problem> {
    let foreign = |error: TableError| match error {
        TableError::TableDoesNotExist(_)
        | TableError::TableTypeMismatch { .. }
        | TableError::TableIsMultimap(_)
        | TableError::TypeDefinitionChanged { .. } => {
            Problem::failed("the file is a redb database of another program; it was left as it is")
                .at(path.display().to_string())
                .hint("move it away, or choose another directory with --state-dir")
        }
        other => damaged(path, &other.to_string()),
    };
    let transaction = database.begin_read().map_err(|error| damaged(path, &error.to_string()))?;
    let meta = transaction.open_table(META).map_err(foreign)?;
    let version = meta
        .get(VERSION)
        .map_err(|error| damaged(path, &error.to_string()))?
        .ok_or_else(|| damaged(path, "it has no version"))?
        .value();
    match version {
        v1::VERSION | v2::VERSION => {
            let table = transaction.open_table(DOCUMENTS).map_err(foreign)?;
            let bytes = table
                .get(SITE)
                .map_err(|error| damaged(path, &error.to_string()))?
                .ok_or_else(|| damaged(path, "it has no site"))?;
            let bytes = bytes.value();
            let found = if version == v1::VERSION {
                serde_json::from_slice::<v1::Document>(bytes).map(|old| (old.into(), true))
            } else {
                serde_json::from_slice(bytes).map(|document| (document, false))
            };
            found.map_err(|error| damaged(path, &error.to_string()))
        }
        newer => Err(Problem::failed(format!(
            "the store has version {newer}, and this program knows version {} at most; it was left as it is",
            v2::VERSION
        ))
        .at(path.display().to_string())
        .hint("run the newer version of Standpipe that wrote it")),
    }
}

fn write(database: &Database, document: &Document) -> Result<(), redb::Error> {
    let bytes = serde_json::to_vec(document).map_err(std::io::Error::other)?;
    let mut transaction = database.begin_write()?;
    // Keeps what opening after a crash needs in the commit itself.
    transaction.set_quick_repair(true);
    {
        let mut meta = transaction.open_table(META)?;
        meta.insert(VERSION, v2::VERSION)?;
        let mut documents = transaction.open_table(DOCUMENTS)?;
        documents.insert(SITE, bytes.as_slice())?;
    }
    // The library's default durability: on disk when `commit` returns.
    transaction.commit()?;
    Ok(())
}
