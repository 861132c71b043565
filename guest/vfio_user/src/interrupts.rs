//! Interrupts: DEVICE_SET_IRQS, and what is signalled to whom.

use alloc::vec::Vec;

use crate::device::Device;
use crate::fault::Fault;
use crate::numbers::*;
use crate::session::{Effect, Outcome, Session, at_least};
use crate::wire::{Header, Reader, put_reply};

const DATA: u32 = IRQ_SET_DATA_NONE | IRQ_SET_DATA_BOOL | IRQ_SET_DATA_EVENTFD;
const ACTION: u32 = IRQ_SET_ACTION_MASK | IRQ_SET_ACTION_UNMASK | IRQ_SET_ACTION_TRIGGER;

/// A set of vectors, `count` from `start` on; both are within [`VECTORS_MAX`].
fn vectors(start: u32, count: u32) -> u32 {
    (((1u64 << count) - 1) << start) as u32
}

/// Takes a generation out of a place, for those that are dropped.
fn replace(place: &mut u32, fd: u32, dropped: &mut Vec<u32>) {
    let was = core::mem::replace(place, fd);
    dropped.extend((was != 0).then_some(was));
}

impl Session {
    pub(crate) fn set_irqs<'a>(
        &mut self,
        device: &Device,
        header: &Header,
        payload: &[u8],
        fds: usize,
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        let mut from = Reader::of(payload, 20)?;
        let (argsz, flags, index) = (from.u32(), from.u32(), from.u32());
        let (start, count) = (from.u32(), from.u32());
        at_least(argsz, 20)?;
        let known = *device.irqs.get(index as usize).ok_or(Fault::NoSuchIrq)?;
        let known = known.min(VECTORS_MAX);
        let (data, action) = (flags & DATA, flags & ACTION);
        if flags & !(DATA | ACTION) != 0 || !data.is_power_of_two() || !action.is_power_of_two() {
            return Err(Fault::BadIrqSet);
        }
        // Errors and requests are told, not masked.
        if index >= IRQ_ERR && action != IRQ_SET_ACTION_TRIGGER {
            return Err(Fault::BadIrqSet);
        }
        if start > known || count > known - start {
            return Err(Fault::NoSuchIrq);
        }
        if data != IRQ_SET_DATA_EVENTFD && fds != 0 || fds > count as usize {
            return Err(Fault::ExtraDescriptors);
        }
        let named = match data {
            _ if count == 0 => {
                if start != 0 || data != IRQ_SET_DATA_NONE || action != IRQ_SET_ACTION_TRIGGER {
                    return Err(Fault::BadIrqSet);
                }
                0
            }
            IRQ_SET_DATA_BOOL => {
                let wanted = from.rest().get(..count as usize).ok_or(Fault::Malformed)?;
                let mut named = 0;
                for (vector, &wanted) in (start..).zip(wanted) {
                    named |= u32::from(wanted != 0) << vector;
                }
                named
            }
            _ => vectors(start, count),
        };
        let before = self.state.irqs[index as usize];
        let generation = self.state.generation;
        let mut outcome = Outcome::of(Effect::Nothing);
        let mut trigger = 0;
        match (action, data) {
            (IRQ_SET_ACTION_TRIGGER, IRQ_SET_DATA_EVENTFD) => {
                outcome.kept = self.set_triggers(index, start, count, fds, &mut outcome.dropped);
            }
            (IRQ_SET_ACTION_TRIGGER, _) if count == 0 => self.disable(index, &mut outcome.dropped),
            (IRQ_SET_ACTION_TRIGGER, _) => trigger = named & self.assigned(index),
            (_, IRQ_SET_DATA_EVENTFD) => {
                // Only INTx has a mask of its own that somebody else could want to hear of.
                if index != IRQ_INTX {
                    return Err(Fault::BadIrqSet);
                }
                let fd = if fds == 0 { 0 } else { self.next_generation() };
                outcome.kept.extend((fd != 0).then_some(fd));
                let irq = &mut self.state.irqs[index as usize];
                let place =
                    if action == IRQ_SET_ACTION_MASK { &mut irq.mask_event } else { &mut irq.unmask_event };
                replace(place, fd, &mut outcome.dropped);
            }
            (IRQ_SET_ACTION_MASK, _) => self.state.irqs[index as usize].masked |= named,
            _ => trigger = self.unmask(index, named),
        }
        outcome.changed = self.state.irqs[index as usize] != before || self.state.generation != generation;
        outcome.effect = Effect::Irqs { index, trigger };
        put_reply(reply, header, 0);
        Ok(outcome)
    }

    /// Descriptors for the vectors from `start` on; those that got none are taken back.
    fn set_triggers(
        &mut self,
        index: u32,
        start: u32,
        count: u32,
        fds: usize,
        dropped: &mut Vec<u32>,
    ) -> Vec<u32> {
        let kept: Vec<u32> = (0..fds).map(|_| self.next_generation()).collect();
        let mut given = kept.iter().copied();
        let irq = &mut self.state.irqs[index as usize];
        for vector in start..start + count {
            let fd = given.next().unwrap_or(0);
            if fd == 0 {
                irq.masked &= !(1 << vector);
                irq.pending &= !(1 << vector);
            }
            replace(&mut irq.triggers[vector as usize], fd, dropped);
        }
        if index == IRQ_INTX {
            self.automasked = false;
        }
        kept
    }

    fn disable(&mut self, index: u32, dropped: &mut Vec<u32>) {
        let irq = core::mem::take(&mut self.state.irqs[index as usize]);
        let events = [irq.mask_event, irq.unmask_event];
        dropped.extend(irq.triggers.into_iter().chain(events).filter(|&fd| fd != 0));
        if index == IRQ_INTX {
            self.automasked = false;
        }
    }

    /// Takes masks away, and gives the vectors that waited for it.
    fn unmask(&mut self, index: u32, named: u32) -> u32 {
        if index == IRQ_INTX && named != 0 {
            self.automasked = false;
        }
        let irq = &mut self.state.irqs[index as usize];
        irq.masked &= !named;
        let due = irq.pending & named;
        irq.pending &= !named;
        due & self.assigned(index)
    }

    /// Vectors that somebody listens to.
    pub fn assigned(&self, index: u32) -> u32 {
        let Some(irq) = self.state.irqs.get(index as usize) else { return 0 };
        irq.triggers.iter().rev().fold(0, |set, &fd| set << 1 | u32::from(fd != 0))
    }

    /// The descriptor of a vector.
    pub fn trigger(&self, index: u32, vector: u32) -> Option<u32> {
        let irq = self.state.irqs.get(index as usize)?;
        irq.triggers.get(vector as usize).copied().filter(|&fd| fd != 0)
    }

    /// Vectors of MSI or MSI-X (or ERR, REQ) that a device asks for: gives those that are to be
    /// signalled now; the masked ones wait in the state, which is then to be saved.
    pub fn signal(&mut self, index: u32, vectors: u32) -> u32 {
        let assigned = self.assigned(index);
        let Some(irq) = self.state.irqs.get_mut(index as usize) else { return 0 };
        irq.pending |= vectors & irq.masked;
        vectors & !irq.masked & assigned
    }

    /// The INTx pin is at this level: gives the descriptor to signal, if there is one to be. Once
    /// signalled INTx is masked until the client (or [`Session::intx_unmasked`]) unmasks it.
    pub fn intx(&mut self, level: bool) -> Option<u32> {
        let masked = self.automasked || self.is_intx_masked();
        let fd = self.trigger(IRQ_INTX, 0).filter(|_| level && !masked)?;
        self.automasked = true;
        Some(fd)
    }

    /// Whether the client has masked INTx, so that [`Session::intx_unmasked`] changes the state.
    pub fn is_intx_masked(&self) -> bool {
        self.state.irqs[IRQ_INTX as usize].masked & 1 != 0
    }

    /// The descriptor that unmasks INTx was signalled: call [`Session::intx`] again. Gives whether the
    /// state changed, which is then to be saved.
    pub fn intx_unmasked(&mut self) -> bool {
        let masked = self.is_intx_masked();
        self.unmask(IRQ_INTX, 1);
        masked
    }

    pub(crate) fn reset_interrupts(&mut self) {
        for irq in &mut self.state.irqs {
            irq.pending = 0;
        }
        self.automasked = false;
    }
}
