//! What an in-order packed ring notes: a used descriptor is written over the available one at the
//! same place, so a batch that is not visible yet must be possible to take back.
//!
//! The header is that of the in-flight table with a version of its own. Behind it stand the batch:
//!
//! ```text
//! 24 number of overwritten slots u16
//! 32 + 16 * i: second word of the descriptor as the driver wrote it u64, its slot u16
//! ```

use guest_memory::Window;

use crate::inflight_packed::{HEADER_BYTES, Header, second_word};
use crate::position::Position;

/// Not a version of the in-flight table: one is never taken for the other.
const VERSION: u16 = 0x8001;
const COUNT_AT: usize = 24;
const ENTRY_BYTES: usize = 16;

#[derive(Debug)]
pub struct Undo {
    header: Header,
}

impl Undo {
    pub fn format(window: Window, size: u16, used: Position) -> Self {
        let header = Header { window };
        header.invalidate();
        header.set_used(used, used);
        header.validate(VERSION, size);
        Self { header }
    }

    /// Opens a predecessor's notes, and finishes or takes back the batch that it was about to
    /// publish; `None` if they are no notes. Each step may be interrupted and done again.
    pub fn open(window: Window, size: u16, desc: &Window) -> Option<(Self, Position)> {
        let header = Header { window };
        if !header.is_valid(VERSION, size) {
            return None;
        }
        let (new, old) = header.used();
        if new.index >= size || old.index >= size {
            return None;
        }
        let first = (desc.load_acquire_u64(second_word(old.index)) >> 48) as u16;
        if new != old && !old.is_available(first) {
            header.set_used(new, new);
            return Some((Self { header }, new));
        }
        if new != old {
            for index in 0..header.window.load_u16(COUNT_AT).min(size) {
                let word = header.window.load_u64(entry(index));
                let slot = header.window.load_u16(entry(index) + 8);
                desc.store_release_u64(second_word(slot), word);
            }
            header.set_used(old, old);
        }
        Some((Self { header }, old))
    }

    /// Notes what is about to be overwritten, but for the batch's first slot, whose one store makes
    /// all visible.
    pub fn publishing(&self, overwritten: impl Iterator<Item = (u16, u64)>, new: Position, old: Position) {
        let window = &self.header.window;
        let mut count = 0;
        for (slot, word) in overwritten {
            window.store_release_u64(entry(count), word);
            window.store_release_u16(entry(count) + 8, slot);
            count += 1;
        }
        window.store_release_u16(COUNT_AT, count);
        self.header.set_used(new, old);
    }

    pub fn published(&self, used: Position) {
        self.header.set_used(used, used);
    }
}

#[inline(always)]
fn entry(index: u16) -> usize {
    HEADER_BYTES + ENTRY_BYTES * usize::from(index)
}
