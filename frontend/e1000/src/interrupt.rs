//! Causes, masks, and when an interrupt may come (8254x SDM, 3.2.7 and 13.4.17 to 13.4.21; 82574
//! datasheet, 7.4 and 10.2.4).
//!
//! ICR and IMS are hot state: a store each, no copy of the control state, whenever a driver's
//! handler reads or masks. A read of ICR that is done twice, since the process died before its
//! reply was noted, finds the causes that `resume` sets.

use core::time::Duration;

use guest_memory::Window;
use pci::{Interrupts, IrqMode};
use request::Instant;

pub const TXDW: u32 = 1 << 0;
pub const TXQE: u32 = 1 << 1;
pub const LSC: u32 = 1 << 2;
pub const RXDMT0: u32 = 1 << 4;
pub const RXO: u32 = 1 << 6;
pub const RXT0: u32 = 1 << 7;
pub const MDAC: u32 = 1 << 9;
pub const RXQ0: u32 = 1 << 20;
pub const TXQ0: u32 = 1 << 22;
pub const OTHER: u32 = 1 << 24;
pub const ASSERTED: u32 = 1 << 31;

/// Causes that "other" stands for (82574 datasheet, 10.2.4.1).
const OTHER_CAUSES: u32 = LSC | RXO | MDAC | 1 << 16 | 1 << 17 | 1 << 18;

/// Vectors of the 82574.
pub const VECTORS: usize = 5;

/// What the registers say about interrupts at present.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// ITR: no two interrupts are closer.
    pub interval: Duration,
    /// EITR, for each vector.
    pub intervals: [Duration; VECTORS],
    pub ivar: u32,
    pub eiac: u32,
    pub iam: u32,
    /// CTRL_EXT: a read of ICR masks what IAM says (IAME), a message does (EIAME).
    pub masks_on_read: bool,
    pub masks_on_message: bool,
}

#[derive(Debug)]
pub struct Causes {
    hot: Window,
    at: usize,
    icr: u32,
    ims: u32,
    new: bool,
    mode: IrqMode,
    pub rules: Rules,
    /// The pin, or for MSI the causes that a message told of.
    told: u32,
    level: bool,
    vectors: u32,
    /// The pin or the message may be used again from then on.
    quiet_until: Option<Instant>,
    /// The same for each vector, with the messages that wait.
    vector_quiet: [Option<Instant>; VECTORS],
    vector_waits: u32,
    /// A predecessor may have masked a cause for a message that it did not send.
    owes_messages: bool,
}

impl Causes {
    pub fn new(hot: Window, at: usize, new: bool) -> Causes {
        let number = hot.load_u64(at);
        Causes {
            hot,
            at,
            icr: number as u32,
            ims: (number >> 32) as u32,
            new,
            mode: IrqMode::Off,
            rules: Rules::default(),
            told: 0,
            level: false,
            vectors: 0,
            quiet_until: None,
            vector_quiet: [None; VECTORS],
            vector_waits: 0,
            owes_messages: false,
        }
    }

    fn keep(&self) {
        self.hot.store_u64(self.at, u64::from(self.icr) | u64::from(self.ims) << 32);
    }

    pub fn reset(&mut self) {
        (self.icr, self.ims) = (0, 0);
        self.rules = Rules::default();
        (self.told, self.level, self.vectors, self.vector_waits) = (0, false, 0, 0);
        (self.quiet_until, self.vector_quiet) = (None, [None; VECTORS]);
        self.keep();
    }

    pub fn set_mode(&mut self, mode: IrqMode) {
        if self.mode != mode {
            self.mode = mode;
            (self.told, self.level, self.vectors, self.vector_waits) = (0, false, 0, 0);
            (self.quiet_until, self.vector_quiet) = (None, [None; VECTORS]);
            // What waits comes in the new way; of the time it is only known that it is no earlier.
            self.raise(Instant::default(), self.icr);
            self.send_owed();
        }
    }

    /// Every vector in use, once, after a death: what a message masks is masked before it is sent.
    fn send_owed(&mut self) {
        if !self.owes_messages || self.mode != IrqMode::MsiX {
            return;
        }
        self.owes_messages = false;
        for nth in 0..5 {
            let entry = self.rules.ivar >> (4 * nth);
            if entry & 8 != 0 && (entry & 7) < VECTORS as u32 {
                self.vectors |= 1 << (entry & 7);
            }
        }
    }

    pub fn ims(&self) -> u32 {
        self.ims
    }

    /// Sets causes, and interrupts if it may.
    pub fn raise(&mut self, now: Instant, causes: u32) {
        let mut causes = causes & !ASSERTED;
        if self.new && causes & OTHER_CAUSES & self.ims != 0 {
            causes |= OTHER;
        }
        if self.icr | causes != self.icr {
            self.icr |= causes;
            self.keep();
        }
        if self.mode == IrqMode::MsiX {
            self.message(now, causes & self.ims);
        } else {
            self.update(now);
        }
    }

    /// A read of ICR.
    pub fn read(&mut self, now: Instant) -> u32 {
        let enabled = self.ims;
        let asserted = self.icr & enabled != 0;
        let value = self.icr | if self.new && asserted { ASSERTED } else { 0 };
        if self.new && asserted && self.rules.masks_on_read {
            self.ims &= !self.rules.iam;
        }
        // The 82574 clears them if an interrupt is asserted or none is enabled (10.2.4.1).
        if !self.new || asserted || enabled == 0 {
            self.icr = 0;
        }
        self.keep();
        self.update(now);
        value
    }

    /// A write to ICR clears what it names; with IAME it masks as a read does.
    pub fn acknowledge(&mut self, now: Instant, causes: u32) {
        if self.new && self.icr & self.ims != 0 && self.rules.masks_on_read {
            self.ims &= !self.rules.iam;
        }
        self.icr &= !causes;
        self.keep();
        self.update(now);
    }

    pub fn enable(&mut self, now: Instant, causes: u32) {
        self.ims |= causes & !ASSERTED;
        self.keep();
        if self.mode == IrqMode::MsiX {
            self.message(now, self.icr & causes & self.ims);
        } else {
            self.update(now);
        }
    }

    pub fn disable(&mut self, now: Instant, causes: u32) {
        self.ims &= !causes;
        self.keep();
        self.update(now);
    }

    /// Brings the pin, or MSI's one message, to where the causes are.
    fn update(&mut self, now: Instant) {
        let wanted = self.icr & self.ims;
        self.told &= wanted;
        if wanted == 0 {
            self.level = false;
            return;
        }
        if self.mode == IrqMode::MsiX || self.level && self.mode == IrqMode::Intx || wanted == self.told {
            return;
        }
        if self.quiet_until.is_some_and(|until| now < until) {
            return;
        }
        self.quiet_until = (self.rules.interval > Duration::ZERO).then(|| now.after(self.rules.interval));
        match self.mode {
            IrqMode::Msi => {
                self.told = wanted;
                self.vectors |= 1;
            }
            _ => {
                self.told = wanted;
                self.level = true;
            }
        }
    }

    /// Sends the messages of these causes (82574 datasheet, 7.4.1 to 7.4.4).
    fn message(&mut self, now: Instant, causes: u32) {
        for (nth, cause) in [RXQ0, RXQ0 << 1, TXQ0, TXQ0 << 1, OTHER].into_iter().enumerate() {
            if causes & cause == 0 {
                continue;
            }
            let entry = self.rules.ivar >> (4 * nth as u32);
            let vector = (entry & 7) as usize;
            if entry & 8 == 0 || vector >= VECTORS {
                continue;
            }
            if self.vector_quiet[vector].is_some_and(|until| now < until) {
                self.vector_waits |= cause;
                continue;
            }
            let interval = self.rules.intervals[vector];
            self.vector_quiet[vector] = (interval > Duration::ZERO).then(|| now.after(interval));
            self.vector_waits &= !cause;
            self.vectors |= 1 << vector;
            if self.rules.masks_on_message {
                self.ims &= !(self.rules.iam & cause);
            }
            let cleared = self.rules.eiac & cause;
            self.icr &= !cleared;
            // Without IAME, what is cleared by itself is masked by itself: Linux's handlers enable
            // it again, and never mask.
            if !self.rules.masks_on_read {
                self.ims &= !cleared;
            }
            self.keep();
        }
    }

    /// When an interrupt that waits may come.
    pub fn deadline(&self) -> Option<Instant> {
        let wanted = self.icr & self.ims;
        if self.mode == IrqMode::MsiX {
            let mut first: Option<Instant> = None;
            for (nth, cause) in [RXQ0, RXQ0 << 1, TXQ0, TXQ0 << 1, OTHER].into_iter().enumerate() {
                let vector = (self.rules.ivar >> (4 * nth as u32) & 7) as usize;
                if self.vector_waits & cause & self.ims != 0
                    && let Some(until) = self.vector_quiet.get(vector).copied().flatten()
                {
                    first = Some(first.map_or(until, |first| first.min(until)));
                }
            }
            return first;
        }
        let waits = wanted != 0 && wanted != self.told && !(self.level && self.mode == IrqMode::Intx);
        if waits { self.quiet_until } else { None }
    }

    pub fn expire(&mut self, now: Instant) {
        if self.mode == IrqMode::MsiX {
            self.message(now, self.vector_waits & self.ims);
        } else {
            self.update(now);
        }
    }

    /// One interrupt too many does no harm: the driver looks at its rings.
    pub fn resume(&mut self, causes: u32) {
        self.quiet_until = None;
        self.vector_quiet = [None; VECTORS];
        self.told = 0;
        self.level = false;
        self.raise(Instant::default(), causes);
        self.owes_messages = self.new;
        self.send_owed();
    }

    pub fn take(&mut self) -> Interrupts {
        Interrupts { level: self.level, vectors: core::mem::take(&mut self.vectors) }
    }
}
