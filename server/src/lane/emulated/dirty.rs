//! The pages that a slot's device wrote, while its client wants to know: one file in memory, held by
//! the keeper, so that none is forgotten when the worker dies.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use guest_memory::{Log, Window};
use host::map::Mapping;
use vfio_user::LogState;

/// The range whose marks are being taken away: address and length. A length of 0: none.
const TAKING_AT: usize = 0;
const TAKING_LEN: usize = 8;
const BITS_AT: usize = 4096;
/// A byte of marks stands for eight pages of 4 KiB.
const COVERED: u64 = 8 * 4096;

pub struct DirtyLog {
    fd: OwnedFd,
    head: Window,
    marks: Log,
}

impl DirtyLog {
    fn bytes(state: &LogState) -> u64 {
        BITS_AT as u64 + state.end().div_ceil(COVERED)
    }

    pub fn create(name: &str, state: &LogState) -> std::io::Result<Self> {
        let fd = host::memfd::create(&format!("standpipe-{name}-dirty"), Self::bytes(state))?;
        Self::open(fd, state)
    }

    /// Takes up a log where a dead worker left it: marks that it may have taken away without telling
    /// the client are there again.
    pub fn open(fd: OwnedFd, state: &LogState) -> std::io::Result<Self> {
        use std::io::ErrorKind::{InvalidData, OutOfMemory};
        if host::memfd::size(&fd)? != Self::bytes(state) {
            return Err(InvalidData.into());
        }
        let len = usize::try_from(Self::bytes(state)).map_err(|_| OutOfMemory)?;
        let mapping = Arc::new(Mapping::of_file(fd.as_fd(), 0, len)?);
        let head = Window::new(Arc::clone(&mapping), 0, BITS_AT).ok_or(OutOfMemory)?;
        let marks = Log::new(mapping, BITS_AT, len - BITS_AT).ok_or(OutOfMemory)?;
        let log = Self { fd, head, marks };
        log.marks.mark(log.head.load_u64(TAKING_AT), log.head.load_acquire_u64(TAKING_LEN));
        log.taken();
        Ok(log)
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    pub fn marks(&self) -> Log {
        self.marks.clone()
    }

    /// As if the device had written everything.
    pub fn mark_all(&self, state: &LogState) {
        self.marks.mark(0, state.end());
    }

    /// Puts the marks of a range into a bitmap, one bit for `page_size` bytes, and takes them away.
    /// They come back if the worker dies before [`taken`](Self::taken).
    pub fn take(&self, address: u64, length: u64, page_size: u64, bitmap: &mut [u8]) {
        // Of reports in one look none may be forgotten.
        let (begun, len) = (self.head.load_u64(TAKING_AT), self.head.load_u64(TAKING_LEN));
        let (from, to) = match len {
            0 => (address, address.saturating_add(length)),
            _ => (begun.min(address), begun.saturating_add(len).max(address.saturating_add(length))),
        };
        // At each of these stores the range holds what was taken so far.
        self.head.store_release_u64(TAKING_LEN, u64::MAX);
        self.head.store_release_u64(TAKING_AT, from);
        self.head.store_release_u64(TAKING_LEN, to - from);
        self.marks.take(address, length, |page| {
            let bit = page.saturating_sub(address) / page_size;
            let byte = usize::try_from(bit / 8).ok().and_then(|byte| bitmap.get_mut(byte));
            if let Some(byte) = byte {
                *byte |= 1 << (bit % 8);
            }
        });
    }

    /// What was taken holds: the client will be told, whatever happens to us.
    pub fn taken(&self) {
        self.head.store_release_u64(TAKING_LEN, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: LogState = LogState { page_size: 4096, ranges: Vec::new() };

    fn state() -> LogState {
        LogState { ranges: vec![(0x10_0000, 0x10_0000), (0, 0x8_0000)], ..STATE }
    }

    #[test]
    fn marks_are_told_once() {
        let log = DirtyLog::create("web1.nic0", &state()).unwrap();
        log.marks().mark(0x10_3fff, 2);
        log.marks().mark(0x17_0000, 1);
        let mut bitmap = [0; 8];
        log.take(0x10_0000, 0x4_0000, 0x1000, &mut bitmap);
        assert_eq!(bitmap, [0b1_1000, 0, 0, 0, 0, 0, 0, 0]);
        log.taken();
        let mut bitmap = [0; 8];
        log.take(0x10_0000, 0x10_0000, 0x1_0000, &mut bitmap);
        assert_eq!(bitmap, [0b1000_0000, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_was_taken_by_a_dead_worker_comes_back() {
        let log = DirtyLog::create("web1.nic0", &state()).unwrap();
        log.marks().mark(0x10_3000, 1);
        log.marks().mark(0x4000, 1);
        log.take(0x10_0000, 0x1_0000, 0x1000, &mut [0; 8]);
        let log = DirtyLog::open(log.into_fd(), &state()).unwrap();
        let mut bitmap = [0; 8];
        log.take(0x10_0000, 0x1_0000, 0x1000, &mut bitmap);
        // More than was written may be told, never less.
        assert_eq!(bitmap[..2], [0xff, 0xff]);
        log.taken();
        let log = DirtyLog::open(log.into_fd(), &state()).unwrap();
        let mut bitmap = [0; 8];
        log.take(0, 0x8000, 0x1000, &mut bitmap);
        assert_eq!(bitmap[0], 1 << 4);
    }

    #[test]
    fn a_log_of_everything_is_a_file_with_holes() {
        let log = DirtyLog::create("web1.nic0", &STATE).unwrap();
        log.marks().mark(vfio_user::LOG_END - 1, 1);
        let mut bitmap = [0; 8];
        log.take(vfio_user::LOG_END - 0x4000, 0x4000, 0x1000, &mut bitmap);
        assert_eq!(bitmap[0], 0b1000);
        assert!(DirtyLog::open(log.into_fd(), &state()).is_err());
    }
}
