use guest_memory::{Memory, Window};

use crate::chain::Popped;
use crate::inflight_packed;
use crate::inflight_split;
use crate::packed::Packed;
use crate::position::Position;
use crate::setup::SetupError;
use crate::split::Split;
use crate::{Chain, Fault, Pop, Setup};
use request::Address;

/// What a queue did, for the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests handed out for the first time, and those handed out again: begun by a dead
    /// predecessor, or given back.
    pub popped: u64,
    pub resubmitted: u64,
    /// Requests given back with `unpop`.
    pub returned: u64,
    /// Requests that ended, and the batches in which the guest could see it.
    pub pushed: u64,
    pub batches: u64,
    /// Batches after which the guest wanted an interrupt.
    pub interrupts: u64,
}

/// One virtqueue, seen from the device.
#[derive(Debug)]
pub struct Queue {
    ring: Ring,
    fault: Option<Fault>,
    /// A predecessor may have died between making an end visible and saying so.
    interrupt_owed: bool,
    counters: Counters,
}

#[derive(Debug)]
enum Ring {
    Split(Split),
    Packed(Packed),
}

macro_rules! ring {
    ($queue:expr, $ring:ident => $body:expr) => {
        match &$queue.ring {
            Ring::Split($ring) => $body,
            Ring::Packed($ring) => $body,
        }
    };
    (mut $queue:expr, $ring:ident => $body:expr) => {
        match &mut $queue.ring {
            Ring::Split($ring) => $body,
            Ring::Packed($ring) => $body,
        }
    };
}

impl Queue {
    /// Bytes of a queue's part of the shared memory for requests in flight, as QEMU's and other
    /// back ends lay it out: each part a multiple of 64 bytes.
    pub const fn inflight_bytes(size: u16, packed: bool) -> usize {
        let bytes = if packed { inflight_packed::bytes(size) } else { inflight_split::bytes(size) };
        bytes.next_multiple_of(64)
    }

    /// The base of a ring that was never used (SET_VRING_BASE of a fresh ring).
    pub const fn base_of_fresh(packed: bool) -> u32 {
        if packed { 0x8000_8000 } else { 0 }
    }

    /// Empties a table of requests in flight, for a ring that is to begin anew: a table of version 0 is
    /// none (both layouts have the version behind the 64 bits of features).
    pub fn forget(inflight: &Window) {
        inflight.store_release_u16(8, 0);
    }

    /// Opens a ring, and finishes whatever a dead predecessor was about to do. Requests that it had
    /// begun come out of [`Queue::pop`] first, in the order in which the guest made them.
    pub fn new(setup: Setup, memory: &Memory) -> Result<Self, SetupError> {
        setup.check()?;
        let (packed, resume, log) = (setup.packed, setup.resume, setup.log);
        let (ring, fault) = if packed {
            let (avail, used) = (setup.base as u16, (setup.base >> 16) as u16);
            if Position::decode(avail).index >= setup.size || Position::decode(used).index >= setup.size {
                return Err(SetupError::Base);
            }
            let (ring, fault) = Packed::new(setup);
            (Ring::Packed(ring), fault)
        } else {
            (Ring::Split(Split::new(setup)), None)
        };
        let this = Self { ring, fault, interrupt_owed: resume, counters: Counters::default() };
        if let Some(Address(log)) = log
            && resume
        {
            // A predecessor may have died between a write and its note in the dirty log.
            memory.mark_range(Address(log), ring!(this, ring => ring.used_bytes()));
        }
        Ok(this)
    }

    /// Takes the next request.
    #[inline]
    pub fn pop(&mut self, memory: &Memory, chain: &mut Chain) -> Pop {
        if let Some(fault) = self.fault {
            return Pop::Broken(fault);
        }
        match ring!(mut self, ring => ring.pop(memory, chain)) {
            Ok(Popped::New) => {
                self.counters.popped = self.counters.popped.wrapping_add(1);
                Pop::Chain
            }
            Ok(Popped::Again) => {
                self.counters.resubmitted = self.counters.resubmitted.wrapping_add(1);
                Pop::Chain
            }
            Ok(Popped::Nothing) => Pop::Empty,
            Err(fault) => {
                self.fault = Some(fault);
                Pop::Broken(fault)
            }
        }
    }

    /// Gives back the chain that was popped last (and then the one before it, and so on); it comes
    /// again with the next `pop`.
    pub fn unpop(&mut self, chain: &Chain) {
        self.counters.returned += 1;
        ring!(mut self, ring => ring.unpop(chain));
    }

    /// The request `head` has ended with `written` bytes in its writable spans. The guest sees it
    /// after `publish`.
    ///
    /// # Panics
    /// If the request is not in flight, or (`Order::InOrder`, packed) not the oldest one.
    #[inline]
    pub fn push(&mut self, memory: &Memory, head: u16, written: u32) {
        self.counters.pushed = self.counters.pushed.wrapping_add(1);
        match &mut self.ring {
            Ring::Split(ring) => ring.push(memory, head, written),
            Ring::Packed(ring) => ring.push(head, written),
        }
    }

    /// Makes all ended requests visible at once. True: the guest wants an interrupt. Also true once
    /// after a predecessor's death, whether anything ended or not.
    #[inline]
    pub fn publish(&mut self, memory: &Memory) -> bool {
        let wanted = ring!(mut self, ring => ring.publish(memory));
        self.counters.batches += u64::from(wanted.is_some());
        let interrupt = wanted.unwrap_or(false) | core::mem::take(&mut self.interrupt_owed);
        self.counters.interrupts += u64::from(interrupt);
        interrupt
    }

    /// Whether `pop` has anything to give.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.fault.is_none() && ring!(self, ring => ring.has_work())
    }

    /// The guest need not kick. It may do so nevertheless.
    pub fn disable_kicks(&mut self) {
        ring!(mut self, ring => ring.disable_kicks());
    }

    /// The guest is to kick when it makes the next request available. True: one came meanwhile, and
    /// no kick will come for it.
    pub fn enable_kicks(&mut self) -> bool {
        let came = ring!(mut self, ring => ring.enable_kicks());
        came && self.fault.is_none()
    }

    /// GET_VRING_BASE's number. Right when nothing is in flight.
    pub fn base(&self) -> u32 {
        ring!(self, ring => ring.base())
    }

    /// Why the queue stopped.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Requests (split) or ring slots (packed) that were taken and have not ended.
    pub fn in_flight(&self) -> u16 {
        ring!(self, ring => ring.in_flight())
    }

    /// Requests (split) or ring slots (packed) that wait to be taken.
    pub fn pending(&self) -> u16 {
        ring!(self, ring => ring.pending())
    }

    /// Requests of a predecessor that wait to be taken again.
    pub fn resubmits(&self) -> usize {
        ring!(self, ring => ring.resubmits())
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }
}
