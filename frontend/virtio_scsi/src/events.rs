//! The event queue: 5.6.6.3.

use guest_memory::Memory;
use request::total;
use virtqueue::Chain;

use crate::bits::{event, size};
use crate::fault::{Fault, Refused};
use crate::place::Place;

/// Something that a driver should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// A LUN is there that was not.
    Added,
    /// A LUN went away.
    Removed,
    /// A LUN was reset by somebody else.
    Reset,
    /// CAPACITY DATA HAS CHANGED.
    Capacity,
    /// MODE PARAMETERS CHANGED.
    ModeParameters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub target: u8,
    /// Below 16,384.
    pub lun: u16,
    pub happening: Happening,
}

impl Happening {
    /// `event` and `reason`. A parameter change has the additional sense code in the lower byte of
    /// the reason and the qualifier in the one above.
    fn codes(self) -> (u32, u32) {
        match self {
            Happening::Added => (event::TRANSPORT_RESET, event::RESET_RESCAN),
            Happening::Removed => (event::TRANSPORT_RESET, event::RESET_REMOVED),
            Happening::Reset => (event::TRANSPORT_RESET, event::RESET_HARD),
            Happening::Capacity => (event::PARAM_CHANGE, 0x092a),
            Happening::ModeParameters => (event::PARAM_CHANGE, 0x012a),
        }
    }

    fn number(self) -> u8 {
        match self {
            Happening::Added => 1,
            Happening::Removed => 2,
            Happening::Reset => 3,
            Happening::Capacity => 4,
            Happening::ModeParameters => 5,
        }
    }

    fn from_number(number: u8) -> Option<Happening> {
        Some(match number {
            1 => Happening::Added,
            2 => Happening::Removed,
            3 => Happening::Reset,
            4 => Happening::Capacity,
            5 => Happening::ModeParameters,
            _ => return None,
        })
    }
}

/// Events that can wait. Linux keeps 8 buffers posted; a site change touches a few LUNs of one
/// device; whatever is more is told as "missed", and makes the driver look at everything.
const PENDING_MAX: usize = 16;

/// Version 1 of the stored form.
const VERSION: u8 = 1;

/// Length of the stored form: version, missed, count, a byte of padding, four bytes an event.
pub const EVENTS_BYTES: usize = 4 + 4 * PENDING_MAX;

/// Events that wait for a buffer of the driver's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    pending: [Option<Event>; PENDING_MAX],
    missed: bool,
}

impl Events {
    /// Adds an event behind the others. One that says what a waiting one says already is the same
    /// event. False: there was no room, and the driver will be told that it missed something.
    pub fn post(&mut self, event: Event) -> bool {
        for slot in &mut self.pending {
            match slot {
                Some(waiting) if *waiting == event && event.happening.repeats() => return true,
                Some(_) => {}
                None => {
                    *slot = Some(event);
                    return true;
                }
            }
        }
        self.missed = true;
        false
    }

    /// Whether a buffer is wanted.
    pub fn is_waiting(&self) -> bool {
        self.missed || self.pending.iter().any(Option::is_some)
    }

    /// Forgets everything: the driver was reset and will look for itself.
    pub fn reset(&mut self) {
        *self = Events::default();
    }

    /// Tells the next event into a buffer that the driver posted; only to be called while
    /// [`Events::is_waiting`]. Returns the used length. Store the state when the buffer is used: an
    /// event told twice is harmless.
    pub fn deliver(&mut self, memory: &Memory, chain: &Chain) -> Result<u32, Refused> {
        if total(chain.writable()) < size::EVENT as u64 {
            return Err(Refused { fault: Fault::EventBufferTooShort, written: 0 });
        }
        let first = self.pending.iter_mut().find_map(Option::take);
        let (mut code, lun, reason) = match first {
            Some(event) => {
                let (code, reason) = event.happening.codes();
                let place = Place::Unit { target: event.target, lun: event.lun };
                (code, place.encode(), reason)
            }
            None => (event::NO_EVENT, [0; 8], 0),
        };
        if self.missed {
            code |= event::EVENTS_MISSED;
            self.missed = false;
        }
        self.close_up();
        let [e0, e1, e2, e3] = code.to_le_bytes();
        let [l0, l1, l2, l3, l4, l5, l6, l7] = lun;
        let [r0, r1, r2, r3] = reason.to_le_bytes();
        let bytes = [e0, e1, e2, e3, l0, l1, l2, l3, l4, l5, l6, l7, r0, r1, r2, r3];
        Ok(memory.scatter(chain.writable(), &bytes) as u32)
    }

    /// The first place is free: everybody moves up.
    fn close_up(&mut self) {
        if self.pending.first().is_some_and(Option::is_none) {
            self.pending.rotate_left(1);
        }
    }

    /// For the ledger.
    pub fn encode(&self) -> [u8; EVENTS_BYTES] {
        let mut bytes = [0; EVENTS_BYTES];
        let (head, list) = bytes.split_at_mut(4);
        head.copy_from_slice(&[VERSION, u8::from(self.missed), 0, 0]);
        for (into, event) in list.chunks_exact_mut(4).zip(self.pending.iter().flatten()) {
            let [low, high] = event.lun.to_le_bytes();
            into.copy_from_slice(&[event.happening.number(), event.target, low, high]);
        }
        bytes
    }

    /// `None`: never stored, or by a version that this one does not know. Events end at the first
    /// that makes no sense, and count as missed from there.
    pub fn decode(bytes: &[u8; EVENTS_BYTES]) -> Option<Events> {
        let (head, list) = bytes.split_at(4);
        if *head.first()? != VERSION {
            return None;
        }
        let mut events =
            Events { missed: head.get(1).is_some_and(|missed| *missed != 0), ..Events::default() };
        for (slot, stored) in events.pending.iter_mut().zip(list.chunks_exact(4)) {
            let [number, target, low, high] = *stored else { break };
            if number == 0 {
                break;
            }
            let lun = u16::from_le_bytes([low, high]);
            match Happening::from_number(number) {
                Some(happening) => *slot = Some(Event { target, lun, happening }),
                None => {
                    events.missed = true;
                    break;
                }
            }
        }
        Some(events)
    }
}

impl Happening {
    /// Whether two of these are as good as one. A LUN that is removed, added and removed again is
    /// told in that order.
    fn repeats(self) -> bool {
        matches!(self, Happening::Reset | Happening::Capacity | Happening::ModeParameters)
    }
}
