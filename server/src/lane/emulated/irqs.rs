//! What is told to whom: the descriptors of a session's interrupts.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use host::event::PeerEvent;
use host::poll;
use host::wait::{Interest, Wait};
use pci::{Interrupts, IrqMode};
use vfio_user::numbers::{IRQ_INTX, IRQ_MSI, IRQ_MSIX};

use super::super::slot::HELD_UP;
use super::super::token::Token;
use super::link::Link;

#[derive(Default)]
pub struct Irqs {
    pub mode: IrqMode,
    /// The pin, as the model has it.
    pub level: bool,
    /// Vectors that are due.
    vectors: u32,
    /// Some wait in the session now, which is to be saved.
    pub unsaved: bool,
    /// By generation.
    events: HashMap<u32, PeerEvent>,
    /// The hypervisor's end of an interrupt, which unmasks INTx.
    unmask: Option<(u32, PeerEvent)>,
}

impl Irqs {
    pub fn collect(&mut self, interrupts: Interrupts) {
        self.level = interrupts.level;
        self.vectors |= interrupts.vectors;
    }

    /// The descriptors are those of the session now.
    pub fn sync(&mut self, link: &Link, slot: u32, wait: &Wait) {
        let of = |generation: u32| {
            let fd = link.fds.get(&generation)?.try_clone().ok()?;
            PeerEvent::from_fd(fd).ok()
        };
        let state = &link.session.state;
        let triggers = state.irqs.iter().flat_map(|irq| irq.triggers).filter(|generation| *generation != 0);
        let mut events = HashMap::new();
        for generation in triggers {
            if let Some(event) = self.events.remove(&generation).or_else(|| of(generation)) {
                events.insert(generation, event);
            }
        }
        self.events = events;
        let wanted = state.irqs[IRQ_INTX as usize].unmask_event;
        if self.unmask.as_ref().map_or(0, |(generation, _)| *generation) != wanted {
            if let Some((_, event)) = self.unmask.take() {
                let _ = wait.delete(event.as_fd());
            }
            if let Some(event) = of(wanted) {
                let _ = wait.add(event.as_fd(), Token::Unmask(slot).into(), Interest::READ_EDGE);
                self.unmask = Some((wanted, event));
            }
        }
    }

    /// Whether INTx was unmasked by its descriptor.
    pub fn is_unmasked(&self) -> bool {
        let event = self.unmask.as_ref().map(|(_, event)| event.as_fd());
        event.is_some_and(|event| poll::readable(&[event], Duration::ZERO).is_ok_and(|ready| ready == 1))
    }

    /// The same, and forgets it.
    pub fn take_unmasked(&self) -> bool {
        self.unmask.as_ref().is_some_and(|(_, event)| event.clear())
    }

    /// Signals what is due. Returns how many.
    pub fn signal(&mut self, link: &mut Link) -> u64 {
        let due = std::mem::take(&mut self.vectors);
        let index = match self.mode {
            IrqMode::Off => return 0,
            IrqMode::Intx => {
                let told = link.session.intx(self.level).and_then(|generation| self.events.get(&generation));
                if let Some(event) = told
                    && !event.signal()
                {
                    link.expel(HELD_UP);
                }
                return u64::from(told.is_some());
            }
            IrqMode::Msi => IRQ_MSI,
            IrqMode::MsiX => IRQ_MSIX,
        };
        if due == 0 {
            return 0;
        }
        let waited = link.session.state.irqs[index as usize].pending;
        let vectors = link.session.signal(index, due);
        if link.session.state.irqs[index as usize].pending != waited {
            self.unsaved = true;
        }
        self.trigger(link, index, vectors)
    }

    /// Signals these vectors. Returns how many.
    pub fn trigger(&self, link: &mut Link, index: u32, mut vectors: u32) -> u64 {
        let mut told = 0;
        while vectors != 0 {
            let vector = vectors.trailing_zeros();
            vectors &= vectors - 1;
            let event =
                link.session.trigger(index, vector).and_then(|generation| self.events.get(&generation));
            if let Some(event) = event {
                if !event.signal() {
                    link.expel(HELD_UP);
                }
                told += 1;
            }
        }
        told
    }

    pub fn clear(&mut self, wait: &Wait) {
        if let Some((_, event)) = self.unmask.take() {
            let _ = wait.delete(event.as_fd());
        }
        *self = Self::default();
    }
}
