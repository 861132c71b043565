//! The packed ring (virtio 1.2, 2.8).

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use guest_memory::{Memory, Window};
use request::Address;

use crate::chain::Popped;
use crate::event::{PACKED_DESC, PACKED_DISABLE, PACKED_ENABLE, passed};
use crate::inflight_packed::{Inflight, State, second_word};
use crate::position::Position;
use crate::undo::Undo;
use crate::walk::{Hints, INDIRECT, NEXT, WRITE, Walk, packed_word};
use crate::{Chain, Fault, Order, Setup};

#[derive(Debug)]
pub struct Packed {
    desc: Window,
    driver: Window,
    device: Window,
    size: u16,
    event_idx: bool,
    indirect: bool,
    log: Option<Address>,
    /// The next slot to take from.
    avail: Position,
    /// The next slot to be used as the guest sees it, and behind what waits for `publish`.
    used: Position,
    staged_to: Position,
    staged: Vec<Staged>,
    staged_slots: u16,
    /// Slots that were taken and whose use is not staged.
    taken_slots: u16,
    order: Notes,
    hints: Hints,
}

/// A used element that is not visible yet.
#[derive(Clone, Copy, Debug)]
struct Staged {
    head: u16,
    slot: u16,
    word: u64,
}

#[derive(Debug)]
enum Notes {
    Any {
        inflight: Inflight,
        /// To be handed out (again) before anything new, last first.
        again: Vec<u16>,
    },
    InOrder {
        undo: Option<Undo>,
        /// What was taken from each slot, for as long as it is not used.
        taken: Vec<Taken>,
    },
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// The descriptor's second word as the driver wrote it.
    word: u64,
    count: u16,
    id: u16,
}

impl Packed {
    /// With the fault of a ledger that cannot be gone on from.
    pub fn new(setup: Setup) -> (Self, Option<Fault>) {
        let Setup { size, resume, .. } = setup;
        let mut avail = Position::decode(setup.base as u16);
        let mut used = Position::decode((setup.base >> 16) as u16);
        let mut fault = None;
        let mut taken_slots = 0;
        let order = match setup.order {
            Order::Any => {
                let mut again = Vec::new();
                let mut open = None;
                if let Some(window) = &setup.inflight {
                    match Inflight::open(window.clone(), size, &setup.desc) {
                        Some(Ok((table, found))) if resume || !found.again.is_empty() => {
                            // At most all slots: each entry belongs to one request.
                            taken_slots = found.slots as u16;
                            used = found.used;
                            avail = used.after(taken_slots, size);
                            again = found.again;
                            again.reverse();
                            open = Some(table);
                        }
                        Some(Err(bad)) if resume => fault = Some(bad),
                        _ => {}
                    }
                }
                let inflight = match (open, setup.inflight) {
                    (Some(table), _) => table,
                    (None, Some(window)) if fault.is_none() => Inflight::format(window, size, used),
                    _ => Inflight::private(size),
                };
                Notes::Any { inflight, again }
            }
            Order::InOrder => {
                let undo = setup.inflight.map(|window| {
                    if resume && let Some((undo, at)) = Undo::open(window.clone(), size, &setup.desc) {
                        (used, avail) = (at, at);
                        undo
                    } else {
                        Undo::format(window, size, used)
                    }
                });
                Notes::InOrder { undo, taken: alloc::vec![Taken::default(); usize::from(size)] }
            }
        };
        let this = Self {
            desc: setup.desc,
            driver: setup.driver,
            device: setup.device,
            size,
            event_idx: setup.event_idx,
            indirect: setup.indirect,
            log: setup.log,
            avail,
            used,
            staged_to: used,
            staged: Vec::with_capacity(usize::from(size)),
            staged_slots: 0,
            taken_slots,
            order,
            hints: Hints::default(),
        };
        this.ask_for_kicks();
        (this, fault)
    }

    pub fn base(&self) -> u32 {
        u32::from(self.avail.encode()) | u32::from(self.used.encode()) << 16
    }

    pub fn used_bytes(&self) -> u32 {
        16 * u32::from(self.size)
    }

    fn again(&self) -> &[u16] {
        match &self.order {
            Notes::Any { again, .. } => again,
            Notes::InOrder { .. } => &[],
        }
    }

    pub fn resubmits(&self) -> usize {
        self.again().len()
    }

    pub fn in_flight(&self) -> u16 {
        self.taken_slots
    }

    /// Slots, not requests: the ring does not say where one ends without a walk.
    pub fn pending(&self) -> u16 {
        let mut at = self.avail;
        let mut count = 0;
        while count < self.size && at.is_available((self.load_word(at.index) >> 48) as u16) {
            count += 1;
            at = at.after(1, self.size);
        }
        count
    }

    #[inline(always)]
    fn load_word(&self, slot: u16) -> u64 {
        self.desc.load_acquire_u64(second_word(slot))
    }

    #[inline]
    pub fn has_work(&self) -> bool {
        !self.again().is_empty() || self.avail.is_available((self.load_word(self.avail.index) >> 48) as u16)
    }

    #[inline]
    pub fn pop(&mut self, memory: &Memory, chain: &mut Chain) -> Result<Popped, Fault> {
        if let Notes::Any { inflight, again } = &mut self.order
            && let Some(&head) = again.last()
        {
            walk_again(memory, &mut self.hints, chain, inflight, head, self.indirect)?;
            again.pop();
            return Ok(Popped::Again);
        }
        let first = self.load_word(self.avail.index);
        if !self.avail.is_available((first >> 48) as u16) {
            return Ok(Popped::Nothing);
        }
        let room = self.size.wrapping_sub(self.taken_slots).wrapping_sub(self.staged_slots);
        if room == 0 {
            return Err(Fault::AvailRunaway);
        }
        let ring = Slots { desc: &self.desc, size: self.size, indirect: self.indirect };
        let from = self.avail.index;
        let (count, head) = match &mut self.order {
            Notes::Any { inflight, .. } => {
                let (mut entry, mut last) = (inflight.first_free(), 0);
                let copy = |address, word| {
                    inflight.copy(entry, address, word);
                    last = entry;
                    entry = inflight.next(entry);
                };
                let (count, id) = ring.collect(memory, &mut self.hints, chain, from, first, room, copy)?;
                (count, inflight.taken(last, entry, count, id))
            }
            Notes::InOrder { taken, .. } => {
                let (count, id) =
                    ring.collect(memory, &mut self.hints, chain, from, first, room, |_, _| {})?;
                taken[usize::from(from)] = Taken { word: first, count, id };
                (count, from)
            }
        };
        chain.head = head;
        chain.count = count;
        self.taken_slots = self.taken_slots.wrapping_add(count);
        self.avail = self.avail.after(count, self.size);
        Ok(Popped::New)
    }

    pub fn unpop(&mut self, chain: &Chain) {
        match &mut self.order {
            Notes::Any { again, .. } => again.push(chain.head),
            Notes::InOrder { .. } => {
                self.avail = self.avail.before(chain.count, self.size);
                self.taken_slots = self.taken_slots.saturating_sub(chain.count);
            }
        }
    }

    #[inline]
    pub fn push(&mut self, head: u16, written: u32) {
        let (id, count) = match &mut self.order {
            Notes::Any { inflight, .. } => {
                let entry = inflight.entries.get_mut(usize::from(head));
                match entry {
                    Some(entry) if entry.state == State::Taken => {
                        entry.state = State::Staged;
                        (entry.id, entry.num)
                    }
                    _ => panic!("a request ends once, in the queue that it came from"),
                }
            }
            Notes::InOrder { taken, .. } => {
                assert!(
                    head == self.staged_to.index && self.taken_slots != 0,
                    "requests end in the order in which they were taken"
                );
                let taken = taken[usize::from(head)];
                (taken.id, taken.count)
            }
        };
        let flags = self.staged_to.used() | if written != 0 { WRITE } else { 0 };
        let word = u64::from(written) | u64::from(id) << 32 | u64::from(flags) << 48;
        self.staged.push(Staged { head, slot: self.staged_to.index, word });
        self.taken_slots = self.taken_slots.saturating_sub(count);
        self.staged_slots = self.staged_slots.wrapping_add(count);
        self.staged_to = self.staged_to.after(count, self.size);
    }

    /// Makes the staged elements visible; whether the guest wants to be told.
    #[inline]
    pub fn publish(&mut self, memory: &Memory) -> Option<bool> {
        let (first, rest) = self.staged.split_first()?;
        let (old, new) = (self.used, self.staged_to);
        let heads = || core::iter::once(first).chain(rest).map(|staged| staged.head);
        match &mut self.order {
            Notes::Any { inflight, .. } => inflight.publishing(heads(), new, old),
            Notes::InOrder { undo: Some(undo), taken } => {
                let before = rest.iter().map(|staged| (staged.slot, taken[usize::from(staged.slot)].word));
                undo.publishing(before, new, old);
            }
            Notes::InOrder { undo: None, .. } => {}
        }
        for staged in rest {
            self.desc.store_release_u64(second_word(staged.slot), staged.word);
        }
        // One store of length, id and flags: with it the first and hence all of them are visible.
        self.desc.store_release_u64(second_word(first.slot), first.word);
        if let Some(log) = self.log {
            for staged in &self.staged {
                let at = log.0.wrapping_add(16 * u64::from(staged.slot));
                memory.mark_range(Address(at), 16);
            }
        }
        match &mut self.order {
            Notes::Any { inflight, .. } => inflight.published(heads(), new),
            Notes::InOrder { undo: Some(undo), .. } => undo.published(new),
            Notes::InOrder { undo: None, .. } => {}
        }
        let slots = self.staged_slots;
        self.used = new;
        self.staged.clear();
        self.staged_slots = 0;
        Some(self.wants_interrupt(slots))
    }

    #[inline(always)]
    fn wants_interrupt(&self, slots: u16) -> bool {
        // The descriptors must be visible before the driver's wish is read: the driver writes its
        // wish and reads the descriptors in the opposite order (2.8.21.3.1).
        fence(Ordering::SeqCst);
        let wish = self.driver.load_u32(0);
        match (wish >> 16) as u16 {
            PACKED_DISABLE => false,
            PACKED_DESC if self.event_idx => {
                let event = Position::decode(wish as u16);
                // Both in the numbers of the lap that `used` is in.
                let lap = if event.wrap == self.used.wrap { 0 } else { self.size };
                let new = self.used.index;
                passed(event.index.wrapping_sub(lap), new, new.wrapping_sub(slots))
            }
            _ => true,
        }
    }

    pub fn disable_kicks(&mut self) {
        self.device.store_u32(0, u32::from(PACKED_DISABLE) << 16);
    }

    fn ask_for_kicks(&self) {
        let wish = if self.event_idx {
            u32::from(self.avail.encode()) | u32::from(PACKED_DESC) << 16
        } else {
            u32::from(PACKED_ENABLE) << 16
        };
        self.device.store_u32(0, wish);
    }

    pub fn enable_kicks(&mut self) -> bool {
        self.ask_for_kicks();
        // The wish must be visible before the descriptors are read, or both sides sleep.
        fence(Ordering::SeqCst);
        self.has_work()
    }
}

/// The ring's slots, for a walk.
struct Slots<'a> {
    desc: &'a Window,
    size: u16,
    indirect: bool,
}

impl Slots<'_> {
    /// Collects the chain whose first descriptor's second word is `first`, in at most `room` slots,
    /// and shows each descriptor to `copy`; returns its number of slots and its buffer id.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "inlined twice; they are registers, not a concept")]
    fn collect(
        &self,
        memory: &Memory,
        hints: &mut Hints,
        chain: &mut Chain,
        from: u16,
        first: u64,
        room: u16,
        mut copy: impl FnMut(u64, u64),
    ) -> Result<(u16, u16), Fault> {
        let mut walk = Walk::new(memory, *hints, &mut chain.spans);
        let (mut slot, mut word, mut left) = (from, first, room);
        loop {
            let address = self.desc.load_u64(16 * usize::from(slot));
            let (len, id, flags) = packed_word(word);
            copy(address, word);
            if flags & INDIRECT != 0 {
                indirect(&mut walk, self.indirect, address, len, flags)?;
            } else {
                walk.add(address, len, flags)?;
            }
            left = left.wrapping_sub(1);
            if flags & NEXT == 0 {
                (chain.writable_from, *hints) = walk.finish()?;
                return Ok((room.wrapping_sub(left), id));
            }
            if left == 0 {
                return Err(if room == self.size { Fault::Loop } else { Fault::AvailRunaway });
            }
            slot = slot.wrapping_add(1);
            if slot == self.size {
                slot = 0;
            }
            word = self.desc.load_u64(second_word(slot));
        }
    }
}

#[inline(always)]
fn indirect(walk: &mut Walk<'_>, allowed: bool, address: u64, len: u32, flags: u16) -> Result<(), Fault> {
    if !allowed {
        return Err(Fault::IndirectRefused);
    }
    if flags & NEXT != 0 {
        return Err(Fault::IndirectNext);
    }
    walk.packed_table(address, len)
}

/// A request that was in flight: its ring slots may be overwritten, its copied descriptors are not.
fn walk_again(
    memory: &Memory,
    hints: &mut Hints,
    chain: &mut Chain,
    inflight: &Inflight,
    head: u16,
    allowed: bool,
) -> Result<(), Fault> {
    let mut walk = Walk::new(memory, *hints, &mut chain.spans);
    let count = inflight.entries.get(usize::from(head)).map_or(0, |entry| entry.num);
    let mut at = head;
    for _ in 0..count {
        let (address, word) = inflight.descriptor(at);
        let (len, _, flags) = packed_word(word);
        if flags & INDIRECT != 0 {
            indirect(&mut walk, allowed, address, len, flags)?;
        } else {
            walk.add(address, len, flags)?;
        }
        at = inflight.next(at);
    }
    (chain.writable_from, *hints) = walk.finish()?;
    chain.head = head;
    chain.count = count;
    Ok(())
}
