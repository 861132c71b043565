//! What an emulated slot must not forget when the worker dies: one file in memory, held by the
//! keeper.
//!
//! Clients of vfio-user send writes without waiting for anything, so many messages lie in the socket
//! at a time, and each may change the device. One number, the [`Commit`], says at once how many bytes
//! of the stream were followed, which replies they have, and which of two copies of the device's
//! control state and of the session hold what they led to. Storing it is the step that makes all of
//! that so.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use guest_memory::Window;
use host::counted::Slip;
use host::map::Mapping;

/// `SPEMULED` in ASCII.
const MAGIC: u64 = 0x4445_4c55_4d45_5053;
const VERSION: u32 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
/// Which model's hot state this is.
const MODEL_AT: usize = 12;
const COMMIT_AT: usize = 16;
/// As in the ledgers of other slots: how often this device has brought the worker down, and when.
const DEATHS_AT: usize = 24;
const SLIPS_AT: usize = 64;
const TEXTS_AT: usize = 4096;
const SESSION_MAX: usize = vfio_user::State::ENCODED_MAX;
/// A device's configuration space and its control state.
pub const MODEL_MAX: usize = pci::STATE_MAX + (8 << 10);
/// Replies to one look at the socket.
pub const REPLIES_MAX: usize = 64 << 10;

const fn text_bytes(max: usize) -> usize {
    (8 + max).next_multiple_of(64)
}

const SESSION_AT: usize = TEXTS_AT;
const STATE_AT: usize = SESSION_AT + 2 * text_bytes(SESSION_MAX);
const REPLIES_AT: usize = STATE_AT + 2 * text_bytes(MODEL_MAX);
const HOT_AT: usize = (REPLIES_AT + REPLIES_MAX).next_multiple_of(4096);

/// How far the stream is followed, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Bytes at the head of the stream that were followed and not yet taken from it, but for those
    /// that the receiving slip counts.
    pub handled: u32,
    /// Replies that were not yet sent, but for what the sending slip counts.
    pub reply_from: u32,
    pub reply_to: u32,
    /// Which slip is used.
    pub receive: bool,
    pub send: bool,
    /// Which copy is valid.
    pub model: bool,
    pub session: bool,
}

const LEN_BITS: u32 = 17;

impl Commit {
    fn bits(self) -> u64 {
        let flag = |flag: bool, at: u32| u64::from(flag) << at;
        u64::from(self.handled)
            | u64::from(self.reply_from) << LEN_BITS
            | u64::from(self.reply_to) << (2 * LEN_BITS)
            | flag(self.receive, 60)
            | flag(self.send, 61)
            | flag(self.model, 62)
            | flag(self.session, 63)
    }

    fn of(bits: u64) -> Self {
        let len = |at: u32| (bits >> at) as u32 & ((1 << LEN_BITS) - 1);
        let flag = |at: u32| bits >> at & 1 != 0;
        Self {
            handled: len(0),
            reply_from: len(LEN_BITS),
            reply_to: len(2 * LEN_BITS),
            receive: flag(60),
            send: flag(61),
            model: flag(62),
            session: flag(63),
        }
    }
}

/// The ledger of an emulated slot.
#[derive(Debug)]
pub struct Ledger {
    window: Window,
    slips: [Slip; 4],
    hot: usize,
}

/// Why a file is not a ledger that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    Map,
    NotALedger,
    Version(u32),
    /// Of another model.
    OtherModel(u32),
}

impl Ledger {
    fn bytes(hot: usize) -> usize {
        HOT_AT + hot.next_multiple_of(4096)
    }

    /// `model`: a number that stands for the model and the form of its hot state.
    pub fn create(name: &str, model: u32, hot: usize) -> std::io::Result<(Self, OwnedFd)> {
        let fd = host::memfd::create(&format!("standpipe-{name}"), Self::bytes(hot) as u64)?;
        let ledger = Self::map(&fd, hot).ok_or(std::io::ErrorKind::OutOfMemory)?;
        ledger.window.store_u32(VERSION_AT, VERSION);
        ledger.window.store_u32(MODEL_AT, model);
        ledger.window.store_release_u64(MAGIC_AT, MAGIC);
        Ok((ledger, fd))
    }

    pub fn open(fd: &OwnedFd, model: u32, hot: usize) -> Result<Self, LedgerError> {
        let size = host::memfd::size(fd).map_err(|_| LedgerError::Map)?;
        if size != Self::bytes(hot) as u64 {
            return Err(LedgerError::NotALedger);
        }
        let ledger = Self::map(fd, hot).ok_or(LedgerError::Map)?;
        if ledger.window.load_acquire_u64(MAGIC_AT) != MAGIC {
            return Err(LedgerError::NotALedger);
        }
        match (ledger.window.load_u32(VERSION_AT), ledger.window.load_u32(MODEL_AT)) {
            (VERSION, there) if there == model => Ok(ledger),
            (VERSION, other) => Err(LedgerError::OtherModel(other)),
            (other, _) => Err(LedgerError::Version(other)),
        }
    }

    fn map(fd: &OwnedFd, hot: usize) -> Option<Self> {
        let len = Self::bytes(hot);
        let mapping = Arc::new(Mapping::of_file(fd.as_fd(), 0, len).ok()?);
        let slip = |which: usize| Slip::new(Arc::clone(&mapping), SLIPS_AT + which * Slip::BYTES);
        let slips = [slip(0)?, slip(1)?, slip(2)?, slip(3)?];
        Some(Self { window: Window::new(mapping, 0, len)?, slips, hot })
    }

    pub fn commit(&self) -> Commit {
        Commit::of(self.window.load_acquire_u64(COMMIT_AT))
    }

    pub fn set_commit(&self, commit: Commit) {
        self.window.store_release_u64(COMMIT_AT, commit.bits());
    }

    pub fn receive_slip(&self, which: bool) -> &Slip {
        &self.slips[usize::from(which)]
    }

    pub fn send_slip(&self, which: bool) -> &Slip {
        &self.slips[2 + usize::from(which)]
    }

    /// The valid session; empty before the first.
    pub fn session(&self) -> Vec<u8> {
        self.text(SESSION_AT, SESSION_MAX, self.commit().session)
    }

    /// The valid state of the device; empty before the first.
    pub fn model(&self) -> Vec<u8> {
        self.text(STATE_AT, MODEL_MAX, self.commit().model)
    }

    fn text(&self, at: usize, max: usize, which: bool) -> Vec<u8> {
        let at = at + usize::from(which) * text_bytes(max);
        let len = (self.window.load_u32(at) as usize).min(max);
        let mut bytes = vec![0; len];
        self.window.read_bytes(at + 8, &mut bytes);
        bytes
    }

    /// Writes the copies that are not valid, and says which they are. Nothing of it holds before
    /// `set_commit`.
    ///
    /// # Panics
    /// If a text is too long: our own mistake, not anybody's input.
    pub fn prepare(&self, commit: &mut Commit, session: Option<&[u8]>, model: Option<&[u8]>) {
        if let Some(session) = session {
            commit.session = !commit.session;
            self.put(SESSION_AT, SESSION_MAX, commit.session, session);
        }
        if let Some(model) = model {
            commit.model = !commit.model;
            self.put(STATE_AT, MODEL_MAX, commit.model, model);
        }
    }

    fn put(&self, at: usize, max: usize, which: bool, bytes: &[u8]) {
        assert!(bytes.len() <= max, "a text of {} bytes does not fit into {max}", bytes.len());
        let at = at + usize::from(which) * text_bytes(max);
        self.window.store_u32(at, bytes.len() as u32);
        self.window.write_bytes(at + 8, bytes);
    }

    pub fn replies(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.min(REPLIES_MAX)];
        self.window.read_bytes(REPLIES_AT, &mut bytes);
        bytes
    }

    /// # Panics
    /// If there are too many: our own mistake.
    pub fn put_replies(&self, bytes: &[u8]) {
        assert!(bytes.len() <= REPLIES_MAX, "{} bytes of replies", bytes.len());
        self.window.write_bytes(REPLIES_AT, bytes);
    }

    /// What the model writes through as it works.
    pub fn hot(&self) -> Window {
        self.window.sub(HOT_AT, self.hot).expect("the ledger's layout fits its size")
    }

    /// What the panic hook of the worker writes to: see `crate::blame`.
    pub fn certificate(&self) -> Window {
        self.window.sub(DEATHS_AT, 16).expect("the ledger's layout fits its size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_store_changes_all_of_it() {
        let (ledger, fd) = Ledger::create("web1.nic0", 7, 100).unwrap();
        assert_eq!((ledger.commit(), ledger.session().len()), (Commit::default(), 0));
        let mut commit = Commit { handled: 1 << 16, reply_to: 1 << 16, send: true, ..Commit::default() };
        ledger.prepare(&mut commit, Some(b"session"), Some(&[3; MODEL_MAX]));
        ledger.put_replies(&[5; REPLIES_MAX]);
        assert!(ledger.session().is_empty() && ledger.model().is_empty());
        ledger.set_commit(commit);
        ledger.hot().store_u32(96, 9);
        drop(ledger);
        let ledger = Ledger::open(&fd, 7, 100).unwrap();
        assert_eq!(ledger.commit(), commit);
        assert_eq!((ledger.session(), ledger.model()), (b"session".to_vec(), vec![3; MODEL_MAX]));
        assert_eq!(ledger.replies(REPLIES_MAX), [5; REPLIES_MAX]);
        assert_eq!((ledger.hot().load_u32(96), ledger.hot().len()), (9, 100));
        // The next change leaves the other copy alone.
        let mut next = ledger.commit();
        ledger.prepare(&mut next, None, Some(b"another"));
        assert_eq!(ledger.model(), vec![3; MODEL_MAX]);
        ledger.set_commit(next);
        assert_eq!((ledger.session(), ledger.model()), (b"session".to_vec(), b"another".to_vec()));
    }

    #[test]
    fn something_else_is_no_ledger() {
        let (ledger, fd) = Ledger::create("web1.nic0", 7, 100).unwrap();
        assert_eq!(Ledger::open(&fd, 8, 100).unwrap_err(), LedgerError::OtherModel(7));
        assert_eq!(Ledger::open(&fd, 7, 10_000).unwrap_err(), LedgerError::NotALedger);
        ledger.window.store_u32(VERSION_AT, 2);
        assert_eq!(Ledger::open(&fd, 7, 100).unwrap_err(), LedgerError::Version(2));
    }
}
