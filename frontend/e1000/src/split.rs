//! Packet split descriptors of the 82574: four buffers each, 32 bytes (82574 datasheet, 7.1.6).
//!
//! Headers are not split off: the buffers are filled one after the other, which the descriptor says
//! by a header status of zero. The write-back covers the buffers' addresses, so that a successor
//! needs what was there: each frame is shown by itself, in these steps.
//!
//! 1. The second address goes to the hot note, and the ring's number says "noted".
//! 2. The half of the descriptor with the status is written, marked and not done.
//! 3. The ring's number says "showing"; the other halves are written, then the status with "done".
//! 4. The head moves on.
//!
//! After a death before 3 the address comes back, and the descriptor serves another frame. After a
//! death in 3 it is shown with a length of zero, which drivers drop: the frame is lost, the ring is
//! not.

use frame::Refused;
use guest_memory::Memory;

use crate::arrival::Arrival;
use crate::receive::{EOP, FCS, MINIMUM, Receive, Settings, status};
use crate::registers::{self as r, Registers};
use crate::ring::{DD, MARK};

/// Bytes of a descriptor.
pub const STRIDE: u32 = 32;

/// RCTL: the descriptor type, and the one with packet split.
const DTYP: u32 = 3 << 10;
const DTYP_SPLIT: u32 = 1 << 10;

/// PSRCTL: bytes of the four buffers; `None`: descriptors are of another kind.
pub fn sizes(registers: &Registers, extended: bool) -> Option<[u32; 4]> {
    if !extended || registers[r::RCTL] & DTYP != DTYP_SPLIT {
        return None;
    }
    let psrctl = registers[r::PSRCTL];
    Some([
        (psrctl & 0x7f) * 128,
        (psrctl >> 8 & 0x3f) << 10,
        (psrctl >> 16 & 0x3f) << 10,
        (psrctl >> 24 & 0x3f) << 10,
    ])
}

impl Receive {
    /// As `deliver`, with one descriptor.
    pub(crate) fn deliver_split(
        &mut self,
        memory: &Memory,
        settings: &Settings,
        arrival: Arrival<'_>,
        sizes: [u32; 4],
    ) -> Result<u32, Refused> {
        let Arrival { frame, front, hash } = arrival;
        let body = frame.body.len();
        let len = body.saturating_add(front.bytes.len() as u64);
        let stored = len.max(MINIMUM) + if settings.fcs { FCS } else { 0 };
        if len + FCS > settings.longest || stored > sizes.iter().map(|size| u64::from(*size)).sum() {
            return Err(Refused::BufferTooSmall);
        }
        if self.ring.available() == 0 {
            return Err(Refused::NoBuffer);
        }
        if !self.ring.look(memory) {
            return Err(Refused::Broken);
        }
        let index = self.ring.next;
        let place = self.ring.place(index);
        let Some(window) = self.ring.memory().cloned() else { return Err(Refused::Broken) };
        self.spans.clear();
        let mut lengths = [0; 4];
        // `stored` is less than the sizes' sum, which fits.
        let mut left = stored as u32;
        for (nth, size) in sizes.into_iter().enumerate() {
            let want = left.min(size);
            if want > 0 {
                self.add_buffer(memory, window.load_u64(place + 8 * nth), want)?;
            }
            lengths[nth] = want;
            left -= want;
        }
        self.fill(memory, frame, &front, body, stored - len).ok_or(Refused::BadMemory)?;

        let status = status(settings, frame, &front) | DD;
        let tag = u64::from(front.tag.unwrap_or(0)) << 48;
        let second = u64::from(lengths[0]) << 32 | tag;
        self.ring.note(self.note_at, window.load_u64(place + 8));
        window.store_u64(place + 8, second | u64::from(MARK));
        self.ring.next = self.ring.following(index);
        self.ring.begin(false);
        window.store_u64(place, hash);
        let third = [lengths[1], lengths[2], lengths[3]]
            .into_iter()
            .rev()
            .fold(0, |sum, length| sum << 16 | u64::from(length));
        window.store_u64(place + 16, third << 16);
        window.store_u64(place + 24, 0);
        window.store_release_u64(place + 8, second | u64::from(status));
        self.ring.mark_dirty(memory, index);
        self.ring.finish(false);
        self.shown = true;
        Ok(len as u32)
    }

    /// Finishes or takes back what a predecessor had begun.
    pub(crate) fn resume_split(&mut self, memory: &Memory) {
        let noted = self.ring.noted(self.note_at);
        let interrupted = self.ring.interrupted();
        if !self.ring.look(memory) {
            return self.ring.finish_at_head();
        }
        let Some(window) = self.ring.memory().cloned() else { return };
        let head = self.ring.head();
        if let Some(address) = noted {
            // Not shown, so it is the device's, whatever of the write-back is there.
            window.store_u64(self.ring.place(head) + 8, address);
            self.ring.mark_dirty(memory, head);
            return self.ring.finish_at_head();
        }
        let Some(indexes) = interrupted else { return };
        for index in indexes {
            let place = self.ring.place(index);
            if window.load_u8(place + 8) & (MARK | DD) == MARK {
                for at in [0, 16, 24] {
                    window.store_u64(place + at, 0);
                }
                window.store_release_u64(place + 8, u64::from(EOP | DD));
                self.ring.mark_dirty(memory, index);
            }
        }
        self.ring.finish(false);
    }
}
