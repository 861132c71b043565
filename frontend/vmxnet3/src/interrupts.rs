//! Interrupt vectors: masks, and when one is due.

use core::time::Duration;

use crate::bits::{IMR, VECTORS};
use crate::codec::{Reader, Writer};
use guest_memory::Window;
use pci::IrqMode;
use request::Instant;

/// A completion of a sent frame is worth an interrupt only after a while, or with others: the driver
/// frees memory then, and nobody waits for it.
const SENT_WAIT: Duration = Duration::from_micros(64);
const SENT_DEPTH: u32 = 32;

/// Adaptive moderation: a vector that told of many frames at once waits this long from one interrupt
/// to the next.
const BUSY_FRAMES: u32 = 8;
const BUSY_GAP: Duration = Duration::from_micros(20);
const FLOOD_FRAMES: u32 = 32;
const FLOOD_GAP: Duration = Duration::from_micros(50);

/// Fixed levels, 1 to 7 (UPT1_IML): this much more each.
const LEVEL_GAP: Duration = Duration::from_micros(15);
const LEVEL_ADAPTIVE: u8 = 8;

/// With fixed depths nothing waits longer than this for others.
const STATIC_WAIT: Duration = Duration::from_micros(100);
const DEPTH_MAX: u32 = 128;
const RATE_MIN: u32 = 100;
const RATE_MAX: u32 = 100_000;

/// SET_COALESCE
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coalescing {
    Disabled,
    /// As the vector's level says, and by itself where that says "adaptive".
    #[default]
    Adaptive,
    /// Interrupts after so many frames. (The depth of frames that are sent is the driver's own affair.)
    Static {
        sent: u32,
        completed: u32,
        received: u32,
    },
    /// At most so many interrupts a second.
    Rate(u32),
}

impl Coalescing {
    /// `Vmxnet3_CoalesceScheme`
    pub fn decode(raw: &[u8; 16]) -> Option<Coalescing> {
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        match word(0) {
            0 => Some(Coalescing::Disabled),
            1 => Some(Coalescing::Adaptive),
            2 if word(4).max(word(8)).max(word(12)) <= DEPTH_MAX => {
                Some(Coalescing::Static { sent: word(4), completed: word(8), received: word(12) })
            }
            3 if (RATE_MIN..=RATE_MAX).contains(&word(4)) => Some(Coalescing::Rate(word(4))),
            _ => None,
        }
    }

    pub fn encode(&self) -> [u8; 16] {
        let words = match *self {
            Coalescing::Disabled => [0; 4],
            Coalescing::Adaptive => [1, 0, 0, 0],
            Coalescing::Static { sent, completed, received } => [2, sent, completed, received],
            Coalescing::Rate(rate) => [3, rate, 0, 0],
        };
        let mut raw = [0; 16];
        for (bytes, word) in raw.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        raw
    }

    pub fn write(&self, out: &mut Writer) {
        out.bytes(&self.encode());
    }

    pub fn read(from: &mut Reader<'_>) -> Option<Coalescing> {
        Coalescing::decode(&from.array()?)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Vector {
    level: u8,
    /// Something happened that the guest was not interrupted for.
    pending: bool,
    /// Since the last interrupt.
    received: u32,
    sent: u32,
    last: Instant,
    /// From `last` on, what adaptive moderation found.
    gap: Duration,
    due: Option<Instant>,
}

pub struct Vectors {
    vectors: [Vector; VECTORS],
    mode: IrqMode,
    pub auto_mask: bool,
    pub coalescing: Coalescing,
    /// One bit each: open.
    unmasked: u32,
    /// Where the masks are instead, if the driver reaches them as memory.
    page: Option<Window>,
    messages: u32,
    asserted: bool,
    pub raised: u64,
    pub held_back: u64,
}

impl Vectors {
    pub fn new() -> Vectors {
        Vectors {
            vectors: [Vector::default(); VECTORS],
            mode: IrqMode::Off,
            auto_mask: false,
            coalescing: Coalescing::default(),
            unmasked: 0,
            page: None,
            messages: 0,
            asserted: false,
            raised: 0,
            held_back: 0,
        }
    }

    /// Nothing pending. A page of masks stays as it is.
    pub fn reset(&mut self) {
        let (mode, raised, held_back) = (self.mode, self.raised, self.held_back);
        let page = self.page.take();
        *self = Vectors { mode, raised, held_back, page, ..Vectors::new() };
    }

    pub fn share(&mut self, page: Option<Window>) {
        self.page = page;
    }

    pub fn is_shared(&self) -> bool {
        self.page.is_some()
    }

    pub fn mask_all(&mut self) {
        (0..VECTORS).for_each(|index| self.store_mask(index, true));
    }

    pub fn set_levels(&mut self, levels: &[u8; VECTORS]) {
        for (vector, level) in self.vectors.iter_mut().zip(levels) {
            vector.level = *level;
        }
    }

    /// After a death, from the hot state: which the driver had opened. One that the device masked
    /// itself since is open once too often, which costs an interrupt.
    pub fn set_unmasked(&mut self, unmasked: u32) {
        self.unmasked = unmasked;
    }

    pub fn is_masked(&self, index: usize) -> bool {
        match &self.page {
            // What the driver had done before it opened the vector is seen by whoever sees that.
            Some(page) => page.load_acquire_u32(mask_at(index)) & 1 != 0,
            None => self.unmasked >> index & 1 == 0,
        }
    }

    pub fn store_mask(&mut self, index: usize, masked: bool) {
        match &self.page {
            Some(page) => page.store_release_u32(mask_at(index), masked.into()),
            None if masked => self.unmasked &= !(1 << index),
            None => self.unmasked |= 1 << index,
        }
    }

    /// The driver writes a mask.
    pub fn set_mask(&mut self, now: Instant, index: usize, masked: bool) {
        self.store_mask(index, masked);
        if !masked && self.vectors[index].pending {
            self.consider(now, index);
        }
    }

    /// The device masks a vector when it fires, with a page of masks as well: a worker that died
    /// then may not have told of it, so its successor opens the vector once more.
    pub fn open_after_death(&mut self, index: usize) {
        if self.auto_mask && self.is_shared() {
            self.store_mask(index, false);
        }
    }

    /// A vector waits for a driver that opens it in memory, and says nothing.
    pub fn is_silent(&self) -> bool {
        self.is_shared()
            && self.vectors.iter().enumerate().any(|(index, vector)| vector.pending && self.is_masked(index))
    }

    pub fn set_mode(&mut self, mode: IrqMode) {
        if self.mode == mode {
            return;
        }
        self.mode = mode;
        self.asserted = false;
        self.messages = 0;
        // What was held back comes out with the next look at the clock.
        for vector in &mut self.vectors {
            if vector.pending {
                vector.due = Some(Instant::default());
            }
        }
    }

    /// Frames were completed on a vector's queues.
    pub fn completed(&mut self, now: Instant, index: usize, received: u32, sent: u32) {
        let Some(vector) = self.vectors.get_mut(index) else { return };
        vector.pending = true;
        vector.received = vector.received.saturating_add(received);
        vector.sent = vector.sent.saturating_add(sent);
        self.consider(now, index);
    }

    /// An event: told at once.
    pub fn event(&mut self, now: Instant, index: usize) {
        let Some(vector) = self.vectors.get_mut(index) else { return };
        vector.pending = true;
        vector.due = Some(Instant::default());
        self.fire_if_due(now, index);
    }

    /// One interrupt for whatever a predecessor may have left.
    pub fn wake(&mut self, index: usize) {
        let Some(vector) = self.vectors.get_mut(index) else { return };
        vector.pending = true;
        vector.due = Some(Instant::default());
    }

    fn consider(&mut self, now: Instant, index: usize) {
        let coalescing = self.coalescing;
        let vector = &mut self.vectors[index];
        let sent_due = |wait: Duration, depth: u32| {
            if vector.sent >= depth { now } else { vector.due.unwrap_or(now.after(wait)) }
        };
        let at = match coalescing {
            Coalescing::Disabled => now,
            Coalescing::Rate(rate) => {
                vector.last.after(Duration::from_nanos(1_000_000_000 / u64::from(rate.max(1))))
            }
            Coalescing::Static { completed, received, .. } => {
                let full = vector.received >= received && vector.received > 0
                    || vector.sent >= completed && vector.sent > 0;
                if full { now } else { vector.due.unwrap_or(now.after(STATIC_WAIT)) }
            }
            Coalescing::Adaptive => match vector.level {
                0 => now,
                level if level < LEVEL_ADAPTIVE => vector.last.after(LEVEL_GAP * u32::from(level)),
                _ if vector.received > 0 => vector.last.after(vector.gap),
                _ => sent_due(SENT_WAIT, SENT_DEPTH),
            },
        };
        // What is due earlier stays so.
        vector.due = Some(vector.due.map_or(at, |due| due.min(at)));
        self.fire_if_due(now, index);
    }

    fn fire_if_due(&mut self, now: Instant, index: usize) {
        let vector = &self.vectors[index];
        if !vector.pending || vector.due.is_none_or(|due| due > now) {
            return;
        }
        if self.mode == IrqMode::Off || self.is_masked(index) {
            return;
        }
        // Masked before the interrupt is told: what the driver stores after it has taken it comes later.
        if self.auto_mask {
            self.store_mask(index, true);
        }
        let vector = &mut self.vectors[index];
        let frames = vector.received;
        vector.gap = match frames {
            FLOOD_FRAMES.. => FLOOD_GAP,
            BUSY_FRAMES.. => BUSY_GAP,
            _ => Duration::ZERO,
        };
        self.held_back += u64::from((vector.received.saturating_add(vector.sent)).saturating_sub(1));
        *vector = Vector { level: vector.level, gap: vector.gap, last: now, ..Vector::default() };
        self.raised += 1;
        match self.mode {
            IrqMode::Off => {}
            IrqMode::Intx => self.asserted = true,
            IrqMode::Msi => self.messages |= 1,
            IrqMode::MsiX => self.messages |= 1 << index,
        }
    }

    /// Reading the ICR tells whether the pin is ours, and lets it go.
    pub fn read_cause(&mut self) -> u32 {
        core::mem::take(&mut self.asserted).into()
    }

    pub fn take(&mut self) -> pci::Interrupts {
        pci::Interrupts { level: self.asserted, vectors: core::mem::take(&mut self.messages) }
    }

    /// When something that is not masked falls due.
    pub fn deadline(&self) -> Option<Instant> {
        if self.mode == IrqMode::Off {
            return None;
        }
        self.vectors
            .iter()
            .enumerate()
            .filter(|(index, vector)| vector.pending && !self.is_masked(*index))
            .filter_map(|(_, vector)| vector.due)
            .min()
    }

    pub fn expire(&mut self, now: Instant) {
        for index in 0..VECTORS {
            self.fire_if_due(now, index);
        }
    }
}

/// In a page of masks.
fn mask_at(index: usize) -> usize {
    IMR as usize + 8 * index
}
