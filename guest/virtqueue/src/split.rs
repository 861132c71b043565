//! The split ring (virtio 1.2, 2.7).

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use guest_memory::{Memory, Window};
use request::Address;

use crate::chain::Popped;
use crate::event::{SPLIT_NO_NOTIFICATION, passed};
use crate::inflight_split::Inflight;
use crate::walk::{Hints, INDIRECT, NEXT, Walk, split_word};
use crate::{Chain, Fault, Order, Setup};

const FLAGS_AT: usize = 0;
const IDX_AT: usize = 2;
const RING_AT: usize = 4;

/// How a head descriptor stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Taken,
    Staged,
}

#[derive(Debug)]
pub struct Split {
    desc: Window,
    avail: Window,
    used: Window,
    /// The size, a power of two, less one.
    mask: u16,
    event_idx: bool,
    indirect: bool,
    order: Order,
    log: Option<Address>,
    /// The next entry of the available ring to take, and how far it was seen to be filled.
    last_avail: u16,
    avail_idx: u16,
    /// The used index as the guest sees it, and elements behind it that wait for `publish`.
    used_idx: u16,
    staged: u16,
    /// How far requests have ended and the guest can see it, in the numbers of the available ring:
    /// until then the driver may not use their descriptors again.
    ended: u16,
    /// `Order::Any`: how each head stands, those staged, and the ones to be handed out (again)
    /// before anything new, last first.
    states: Vec<State>,
    batch: Vec<u16>,
    again: Vec<u16>,
    inflight: Option<Inflight>,
    hints: Hints,
}

impl Split {
    pub fn new(setup: Setup) -> Self {
        let Setup { size, order, resume, .. } = setup;
        let used_idx = setup.device.load_acquire_u16(IDX_AT);
        let mut states = Vec::new();
        let mut again = Vec::new();
        let mut inflight = None;
        if order == Order::Any {
            states = vec![State::Free; usize::from(size)];
            if let Some(window) = setup.inflight {
                let (table, heads) = Inflight::open(window, size, used_idx);
                for &head in &heads {
                    states[usize::from(head)] = State::Taken;
                }
                again = heads;
                inflight = Some(table);
            }
        }
        // What was taken is either used or in flight, so the two numbers say where to go on. A
        // front end that lost its back end gives the used index as base and the table of requests
        // in flight: the same sum.
        let last_avail = if resume || !again.is_empty() {
            used_idx.wrapping_add(again.len() as u16)
        } else {
            setup.base as u16
        };
        again.reverse();
        let this = Self {
            desc: setup.desc,
            avail: setup.driver,
            used: setup.device,
            mask: size - 1,
            event_idx: setup.event_idx,
            indirect: setup.indirect,
            order,
            log: setup.log,
            last_avail,
            avail_idx: last_avail,
            used_idx,
            staged: 0,
            ended: last_avail.wrapping_sub(again.len() as u16),
            states,
            batch: Vec::with_capacity(usize::from(size)),
            again,
            inflight,
            hints: Hints::default(),
        };
        this.used.store_u16(FLAGS_AT, 0);
        this.ask_for_kicks();
        this
    }

    pub fn base(&self) -> u32 {
        u32::from(self.last_avail)
    }

    pub fn used_bytes(&self) -> u32 {
        4 + 8 * (u32::from(self.mask) + 1) + if self.event_idx { 2 } else { 0 }
    }

    pub fn resubmits(&self) -> usize {
        self.again.len()
    }

    pub fn in_flight(&self) -> u16 {
        self.last_avail.wrapping_sub(self.ended).wrapping_sub(self.staged)
    }

    pub fn pending(&self) -> u16 {
        let avail = self.avail.load_acquire_u16(IDX_AT).wrapping_sub(self.last_avail);
        avail.saturating_add(self.again.len() as u16)
    }

    #[inline]
    pub fn has_work(&self) -> bool {
        !self.again.is_empty() || self.avail.load_acquire_u16(IDX_AT) != self.last_avail
    }

    #[inline]
    pub fn pop(&mut self, memory: &Memory, chain: &mut Chain) -> Result<Popped, Fault> {
        if self.last_avail == self.avail_idx || !self.again.is_empty() {
            if let Some(&head) = self.again.last() {
                self.walk(memory, chain, head)?;
                self.again.pop();
                return Ok(Popped::Again);
            }
            if !self.look()? {
                return Ok(Popped::Nothing);
            }
        }
        let slot = usize::from(self.last_avail & self.mask);
        let head = self.avail.load_u16(RING_AT + 2 * slot);
        if head > self.mask {
            return Err(Fault::BadHead);
        }
        if self.order == Order::Any {
            if self.states.get(usize::from(head)) != Some(&State::Free) {
                return Err(Fault::HeadInFlight);
            }
            self.walk(memory, chain, head)?;
            if let Some(state) = self.states.get_mut(usize::from(head)) {
                *state = State::Taken;
            }
            if let Some(inflight) = &mut self.inflight {
                inflight.taken(head);
            }
        } else {
            self.walk(memory, chain, head)?;
        }
        self.last_avail = self.last_avail.wrapping_add(1);
        Ok(Popped::New)
    }

    /// Looks how far the driver has come.
    #[inline]
    fn look(&mut self) -> Result<bool, Fault> {
        self.avail_idx = self.avail.load_acquire_u16(IDX_AT);
        let ahead = self.avail_idx.wrapping_sub(self.last_avail);
        let behind = self.avail_idx.wrapping_sub(self.ended);
        if ahead > self.mask.wrapping_add(1) || behind > self.mask.wrapping_add(1) {
            self.avail_idx = self.last_avail;
            return Err(Fault::AvailRunaway);
        }
        Ok(ahead != 0)
    }

    #[inline(always)]
    fn walk(&mut self, memory: &Memory, chain: &mut Chain, head: u16) -> Result<(), Fault> {
        let mut walk = Walk::new(memory, self.hints, &mut chain.spans);
        let mut index = head;
        let mut left = self.mask;
        loop {
            let [address, word] = self.desc.load_desc(16 * usize::from(index));
            let (len, flags, next) = split_word(word);
            if flags & INDIRECT != 0 {
                if !self.indirect {
                    return Err(Fault::IndirectRefused);
                }
                if flags & NEXT != 0 {
                    return Err(Fault::IndirectNext);
                }
                walk.split_table(address, len)?;
                break;
            }
            walk.add(address, len, flags)?;
            if flags & NEXT == 0 {
                break;
            }
            if next > self.mask {
                return Err(Fault::BadNext);
            }
            if left == 0 {
                return Err(Fault::Loop);
            }
            left -= 1;
            index = next;
        }
        (chain.writable_from, self.hints) = walk.finish()?;
        chain.head = head;
        chain.count = 1;
        Ok(())
    }

    pub fn unpop(&mut self, chain: &Chain) {
        match self.order {
            Order::Any => self.again.push(chain.head),
            Order::InOrder => self.last_avail = self.last_avail.wrapping_sub(1),
        }
    }

    #[inline]
    pub fn push(&mut self, memory: &Memory, head: u16, written: u32) {
        let slot = usize::from(self.used_idx.wrapping_add(self.staged) & (self.mask));
        let at = RING_AT + 8 * slot;
        self.used.store_u32(at, u32::from(head));
        self.used.store_u32(at + 4, written);
        if let Some(log) = self.log {
            memory.mark_range(Address(log.0.wrapping_add(at as u64)), 8);
        }
        if self.order == Order::Any {
            let state = self.states.get_mut(usize::from(head));
            assert!(
                state.as_deref() == Some(&State::Taken),
                "a request ends once, in the queue that it came from"
            );
            if let Some(state) = state {
                *state = State::Staged;
            }
            self.batch.push(head);
            if let Some(inflight) = &mut self.inflight {
                inflight.staged(head);
            }
        }
        self.staged = self.staged.wrapping_add(1);
    }

    /// Makes the staged elements visible; whether the guest wants to be told.
    #[inline]
    pub fn publish(&mut self, memory: &Memory) -> Option<bool> {
        if self.staged == 0 {
            return None;
        }
        let old = self.used_idx;
        let new = old.wrapping_add(self.staged);
        self.used.store_release_u16(IDX_AT, new);
        if let Some(log) = self.log {
            memory.mark_range(Address(log.0.wrapping_add(IDX_AT as u64)), 2);
        }
        self.used_idx = new;
        self.ended = self.ended.wrapping_add(self.staged);
        self.staged = 0;
        if self.order == Order::Any {
            if let Some(inflight) = &mut self.inflight {
                inflight.published(&self.batch, new);
            }
            for head in self.batch.drain(..) {
                self.states[usize::from(head)] = State::Free;
            }
        }
        Some(self.wants_interrupt(old, new))
    }

    #[inline(always)]
    fn wants_interrupt(&self, old: u16, new: u16) -> bool {
        // The index must be visible before the driver's wish is read: the driver writes its wish
        // and reads the index in the opposite order (2.7.7.2).
        fence(Ordering::SeqCst);
        if self.event_idx {
            passed(self.avail.load_u16(RING_AT + 2 * (usize::from(self.mask) + 1)), new, old)
        } else {
            self.avail.load_u16(FLAGS_AT) & SPLIT_NO_NOTIFICATION == 0
        }
    }

    pub fn disable_kicks(&mut self) {
        // With EVENT_IDX the flags stay zero (2.7.10.1), and the event index, once passed, is not
        // met again for 2^16 requests.
        if !self.event_idx {
            self.used.store_u16(FLAGS_AT, SPLIT_NO_NOTIFICATION);
        }
    }

    fn ask_for_kicks(&self) {
        if self.event_idx {
            self.used.store_u16(RING_AT + 8 * (usize::from(self.mask) + 1), self.last_avail);
        } else {
            self.used.store_u16(FLAGS_AT, 0);
        }
    }

    pub fn enable_kicks(&mut self) -> bool {
        self.ask_for_kicks();
        // The wish must be visible before the index is read, or both sides sleep.
        fence(Ordering::SeqCst);
        self.has_work()
    }
}
