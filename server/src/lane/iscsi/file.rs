//! The file in memory of one iSCSI connection: a page of ours, and behind it the memory that
//! `frontend/iscsi_target` lays out. It lies in one envelope with the connection's socket, so a
//! successor finds both or none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use guest_memory::{Memory, Region, Window};
use host::map::Mapping;

use crate::blame::{DEATHS_MAX, FORGIVEN_NANOS};

/// `SPISCSI1` in ASCII.
const MAGIC: u64 = 0x3149_5343_5349_5053;
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 4096;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
/// How often this connection has brought the worker down, and when (CLOCK_MONOTONIC) the last time.
const DEATHS_AT: usize = 24;
const LAST_DEATH_AT: usize = 32;
/// When its login was over, in seconds since 1970: for the operator.
const SINCE_AT: usize = 40;

#[derive(Debug)]
pub struct File {
    fd: OwnedFd,
    head: Window,
    memory: Arc<Memory>,
}

impl File {
    pub fn create(memory_bytes: usize) -> io::Result<Self> {
        let len = HEAD_BYTES.checked_add(memory_bytes).ok_or(io::ErrorKind::InvalidInput)?;
        let file = Self::of(host::memfd::create("standpipe-iscsi", len as u64)?, len)?;
        file.head.store_u32(VERSION_AT, VERSION);
        file.head.store_release_u64(MAGIC_AT, MAGIC);
        Ok(file)
    }

    /// What a predecessor made.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let len = usize::try_from(host::memfd::size(&fd)?).map_err(|_| bad("the file is too long"))?;
        if len <= HEAD_BYTES {
            return Err(bad("the file is too short"));
        }
        let file = Self::of(fd, len)?;
        match (file.head.load_acquire_u64(MAGIC_AT), file.head.load_u32(VERSION_AT)) {
            (MAGIC, VERSION) => Ok(file),
            (MAGIC, other) => Err(bad(&format!("the file has version {other} instead of {VERSION}"))),
            _ => Err(bad("the file is not of a connection")),
        }
    }

    fn of(fd: OwnedFd, len: usize) -> io::Result<Self> {
        let mapping = Arc::new(Mapping::of_file(fd.as_fd(), 0, len)?);
        let head = Window::new(Arc::clone(&mapping), 0, HEAD_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let region =
            Region { guest: 0, len: (len - HEAD_BYTES) as u64, user: 0, offset: HEAD_BYTES as u64, mapping };
        let memory = Memory::new(vec![region], None).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(Self { fd, head, memory })
    }

    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// What the panic hook of the worker writes to: see `crate::blame`.
    pub fn death_certificate(&self) -> Option<Window> {
        self.head.sub(DEATHS_AT, 16)
    }

    /// It has ended the worker several times within a minute. A VM's slot would be left alone then; a
    /// connection can be closed.
    pub fn is_quarantined(&self, now_nanos: u64) -> bool {
        let deaths = self.head.load_u32(DEATHS_AT);
        if deaths > 0 && now_nanos.saturating_sub(self.head.load_u64(LAST_DEATH_AT)) > FORGIVEN_NANOS {
            self.head.store_u32(DEATHS_AT, 0);
            return false;
        }
        deaths >= DEATHS_MAX
    }

    /// Pages of the connection's data are given back while nothing is in them.
    pub fn give_back(&self, (at, len): (u64, u64)) {
        // Where it does not work, they stay: nothing depends on it.
        let _ = host::memfd::give_back(&self.fd, HEAD_BYTES as u64 + at, len);
    }

    pub fn since(&self) -> u64 {
        self.head.load_u64(SINCE_AT)
    }

    pub fn set_since(&self, seconds: u64) {
        self.head.store_u64(SINCE_AT, seconds);
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use request::Span;

    #[test]
    fn a_file_is_found_again_as_it_was_left() {
        let file = File::create(8192).unwrap();
        let span = Span { offset: 0, len: 4, region: 0 };
        file.memory().write(span, b"here").unwrap();
        file.set_since(1_700_000_000);
        let again = File::open(file.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let mut bytes = [0; 4];
        again.memory().read(span, &mut bytes).unwrap();
        assert_eq!((&bytes, again.since()), (b"here", 1_700_000_000));
        // Our own page cannot be reached by a span.
        let whole = Span { offset: 0, len: 8193, region: 0 };
        assert!(again.memory().pin(whole).is_none());
    }

    #[test]
    fn something_else_is_none() {
        let open = |len: u64| File::open(host::memfd::create("other", len).unwrap());
        assert!(open(4096).is_err());
        assert!(open(65536).is_err());
        let file = File::create(4096).unwrap();
        file.head.store_u32(VERSION_AT, 7);
        assert!(File::open(file.as_fd().try_clone_to_owned().unwrap()).is_err());
    }

    #[test]
    fn three_deaths_within_a_minute_are_too_many() {
        let file = File::create(4096).unwrap();
        let certificate = file.death_certificate().unwrap();
        certificate.store_u64(8, 1_000);
        certificate.store_u32(0, 2);
        assert!(!file.is_quarantined(2_000));
        certificate.store_u32(0, 3);
        assert!(file.is_quarantined(2_000));
        assert!(!file.is_quarantined(1_001 + FORGIVEN_NANOS));
        assert!(!file.is_quarantined(2_000));
    }
}
