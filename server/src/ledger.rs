//! What a slot's device must not forget when the worker dies: one file in memory, held by the
//! keeper.
//!
//! A record that changes on requests of the control path is kept twice: the new text is written
//! beside the old one, and one store makes it the valid one. A crash leaves the old or the new,
//! never a mixture. Ring positions that change with every request do not lie here but in the
//! in-flight region, where `guest/virtqueue` keeps them crash-exact by itself.

use std::os::fd::{AsFd, OwnedFd};

use guest_memory::Window;

/// `SPLEDGER` in ASCII.
const MAGIC: u64 = 0x5245_4744_454c_5053;
const VERSION: u32 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
/// A reply that may not have been sent in full: its length, and in the upper half the length of
/// the message that it answers as long as that still lies in the socket.
const REPLY_AT: usize = 16;
/// How often this device has brought the worker down, and when (CLOCK_MONOTONIC) the last time.
const DEATHS_AT: usize = 24;
const SESSION_AT: usize = 64;
const SESSION_MAX: usize = vhost_user::State::ENCODED_MAX;
const MODEL_AT: usize = SESSION_AT + Record::size(SESSION_MAX);
/// Longest state of a device model: a SCSI controller with all its LUNs, see the test in
/// `lane::device`. Pages that are not written take no memory.
pub const MODEL_MAX: usize = 64 << 10;
pub const LEDGER_BYTES: usize = MODEL_AT + Record::size(MODEL_MAX);

/// Two copies of a text of up to `max` bytes, one of them valid.
#[derive(Clone, Debug)]
pub struct Record {
    window: Window,
    max: usize,
}

impl Record {
    /// Bytes of a record for texts of up to `max` bytes.
    pub const fn size(max: usize) -> usize {
        (64 + 2 * (8 + max)).next_multiple_of(64)
    }

    /// A record that has a window of [`Record::size`] for itself.
    pub fn new(window: Window, max: usize) -> Self {
        assert!(window.len() >= Self::size(max), "a record needs its whole size");
        Self { window, max }
    }

    fn copy_at(&self, which: u32) -> usize {
        64 + (which as usize & 1) * (8 + self.max)
    }

    /// The valid text; empty before the first `save`.
    pub fn load(&self) -> Vec<u8> {
        let at = self.copy_at(self.window.load_acquire_u32(0));
        let mut len = [0; 4];
        self.window.read_bytes(at, &mut len);
        let mut bytes = vec![0; (u32::from_le_bytes(len) as usize).min(self.max)];
        self.window.read_bytes(at + 8, &mut bytes);
        bytes
    }

    /// # Panics
    /// If the text is longer than the record: our own mistake, not anybody's input.
    pub fn save(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.max, "a record of {} bytes cannot hold {}", self.max, bytes.len());
        let next = self.window.load_u32(0) ^ 1;
        let at = self.copy_at(next);
        self.window.write_bytes(at, &(bytes.len() as u32).to_le_bytes());
        self.window.write_bytes(at + 8, bytes);
        self.window.store_release_u32(0, next);
    }
}

/// A slot's ledger.
#[derive(Debug)]
pub struct Ledger {
    window: Window,
    pub session: Record,
    pub model: Record,
}

/// Why a file is not a ledger that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerError {
    Map,
    NotALedger,
    Version(u32),
}

/// A reply that was under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyNote {
    pub reply_len: u32,
    /// Bytes of the answered message that may still lie in the socket; 0: it was consumed.
    pub message_len: u32,
}

impl Ledger {
    pub fn create(name: &str) -> std::io::Result<(Self, OwnedFd)> {
        let fd = host::memfd::create(&format!("standpipe-{name}"), LEDGER_BYTES as u64)?;
        let window = Window::of_file(fd.as_fd(), 0, LEDGER_BYTES)?;
        window.store_u32(VERSION_AT, VERSION);
        window.store_release_u64(MAGIC_AT, MAGIC);
        Ok((Self::of(window), fd))
    }

    pub fn open(fd: &OwnedFd) -> Result<Self, LedgerError> {
        let size = host::memfd::size(fd).map_err(|_| LedgerError::Map)?;
        if size != LEDGER_BYTES as u64 {
            return Err(LedgerError::NotALedger);
        }
        let window = Window::of_file(fd.as_fd(), 0, LEDGER_BYTES).map_err(|_| LedgerError::Map)?;
        if window.load_acquire_u64(MAGIC_AT) != MAGIC {
            return Err(LedgerError::NotALedger);
        }
        match window.load_u32(VERSION_AT) {
            VERSION => Ok(Self::of(window)),
            other => Err(LedgerError::Version(other)),
        }
    }

    fn of(window: Window) -> Self {
        let record = |at: usize, max: usize| {
            let window = window.sub(at, Record::size(max)).expect("the ledger's layout fits its size");
            Record::new(window, max)
        };
        Self { session: record(SESSION_AT, SESSION_MAX), model: record(MODEL_AT, MODEL_MAX), window }
    }

    pub fn reply(&self) -> ReplyNote {
        let value = self.window.load_acquire_u64(REPLY_AT);
        ReplyNote { reply_len: value as u32, message_len: (value >> 32) as u32 }
    }

    pub fn set_reply(&self, note: ReplyNote) {
        let value = u64::from(note.reply_len) | u64::from(note.message_len) << 32;
        self.window.store_release_u64(REPLY_AT, value);
    }

    /// What the panic hook of the worker writes to: see `crate::blame`.
    pub fn death_certificate(&self) -> Window {
        self.window.sub(DEATHS_AT, 16).expect("the ledger's layout fits its size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_found_again_as_it_was_left() {
        let (ledger, fd) = Ledger::create("web1.disk0").unwrap();
        ledger.session.save(b"first");
        ledger.session.save(b"second, and longer");
        ledger.model.save(&[9; MODEL_MAX]);
        ledger.set_reply(ReplyNote { reply_len: 20, message_len: 12 });
        drop(ledger);
        let ledger = Ledger::open(&fd).unwrap();
        assert_eq!(ledger.session.load(), b"second, and longer");
        assert_eq!(ledger.model.load().len(), MODEL_MAX);
        assert_eq!(ledger.reply(), ReplyNote { reply_len: 20, message_len: 12 });
    }

    #[test]
    fn something_else_is_no_ledger() {
        let fd = host::memfd::create("other", LEDGER_BYTES as u64).unwrap();
        assert_eq!(Ledger::open(&fd).unwrap_err(), LedgerError::NotALedger);
        let fd = host::memfd::create("other", 4096).unwrap();
        assert_eq!(Ledger::open(&fd).unwrap_err(), LedgerError::NotALedger);
        let (ledger, fd) = Ledger::create("later").unwrap();
        ledger.window.store_u32(VERSION_AT, 7);
        assert_eq!(Ledger::open(&fd).unwrap_err(), LedgerError::Version(7));
    }
}
