//! A descriptor ring's position, which outlives the process.
//!
//! Hot state of a ring is one 64-bit number, stored at once: head, tail, how far completions are
//! being shown (`end`), and whether they are. A descriptor's status byte says the rest:
//!
//! 1. What is done gets [`MARK`] in its status byte, without "descriptor done". No driver looks at
//!    it, and no driver touches it, as it is not done yet.
//! 2. The number says: showing up to `end`.
//! 3. Each marked descriptor gets its status, "descriptor done" and no mark. From here on the
//!    driver may take it, post it again, and go on around the ring.
//! 4. The number says: head is at `end`.
//!
//! After a death in 3, a descriptor with the mark was not shown, and any other was, whatever became
//! of it since; so the successor finishes 3 for those with the mark, and does 4. After a death
//! before 2, the head is where it was: frames are sent again, or buffers filled again.

use alloc::vec::Vec;

use guest_memory::{Memory, Window};
use request::Address;

/// In a status byte: done, and not shown yet. Transmit status has nothing in bit 7; a receive
/// status has "passed inexact filter" there, never without "end of packet".
pub const MARK: u8 = 0x80;

/// "Descriptor done", in every format.
pub const DD: u8 = 1;

const PENDING: u64 = 1 << 48;

/// A transmit ring's contexts are in the second place.
const EXTRA: u64 = 1 << 49;

/// A descriptor's former content is in a note.
const NOTED: u64 = 1 << 50;

/// Bytes that head and tail registers count, whatever a descriptor's length: they go on by two for
/// one of 32 bytes, as drivers for the 82574 have it.
const UNIT: u32 = 16;

/// Descriptors of 16 bytes that a ring holds at most: RDLEN and TDLEN count 128 bytes in 13 bits.
#[derive(Debug)]
pub struct Ring {
    hot: Window,
    /// Where the number lies in `hot`.
    at: usize,
    base: u64,
    /// Number of descriptors; 0: there is no ring.
    pub count: u32,
    /// Bytes of a descriptor.
    stride: u32,
    head: u16,
    /// As the driver wrote it, in units of [`UNIT`]: it may come before the descriptors' kind.
    tail: u16,
    /// How far the device has come; the driver sees it as the head when it is published.
    pub next: u16,
    window: Option<Window>,
    /// The window was looked for.
    looked: bool,
}

impl Ring {
    pub fn new(hot: Window, at: usize) -> Ring {
        let mut ring = Ring {
            hot,
            at,
            base: 0,
            count: 0,
            stride: 16,
            head: 0,
            tail: 0,
            next: 0,
            window: None,
            looked: false,
        };
        ring.take_up();
        ring
    }

    fn take_up(&mut self) {
        let number = self.hot.load_u64(self.at);
        self.head = number as u16;
        self.tail = (number >> 16) as u16;
        self.next = self.head;
    }

    fn number(&self) -> u64 {
        u64::from(self.head) | u64::from(self.tail) << 16
    }

    fn keep(&self) {
        self.hot.store_u64(self.at, self.number() | self.extra());
    }

    /// What a ring keeps in the number beside its positions.
    fn extra(&self) -> u64 {
        self.hot.load_u64(self.at) & EXTRA
    }

    pub fn head(&self) -> u16 {
        self.head
    }

    /// The index behind the last descriptor that is the device's.
    pub fn tail(&self) -> u16 {
        self.tail / self.units()
    }

    /// RDH or TDH.
    pub fn head_register(&self) -> u32 {
        u32::from(self.head) * u32::from(self.units())
    }

    /// RDT or TDT.
    pub fn tail_register(&self) -> u32 {
        self.tail.into()
    }

    /// How many units a descriptor has.
    fn units(&self) -> u16 {
        (self.stride / UNIT) as u16
    }

    /// Where the ring is. What was taken and not published is forgotten.
    pub fn configure(&mut self, base: u64, bytes: u32, stride: u32) {
        self.base = base;
        self.stride = stride;
        self.count = bytes / stride;
        self.next = self.head;
        self.forget_window();
    }

    pub fn forget_window(&mut self) {
        self.window = None;
        self.looked = false;
    }

    /// Takes what is written to RDH or TDH.
    pub fn set_head(&mut self, value: u16) {
        self.head = value / self.units();
        self.next = self.head;
        self.keep();
    }

    /// Takes what is written to RDT or TDT.
    pub fn set_tail(&mut self, value: u16) {
        self.tail = value;
        self.keep();
    }

    pub fn reset(&mut self) {
        self.head = 0;
        self.tail = 0;
        self.hot.store_u64(self.at, 0);
        self.configure(0, 0, 16);
    }

    /// Descriptors from `next` on that are the device's. A driver that says nonsense has none.
    #[inline]
    pub fn available(&self) -> u32 {
        self.free_from(self.next)
    }

    /// Descriptors from an index on that are the device's.
    pub fn free_from(&self, from: u16) -> u32 {
        let (from, tail) = (u32::from(from), u32::from(self.tail()));
        if from >= self.count || tail >= self.count {
            return 0;
        }
        if tail >= from { tail - from } else { self.count - from + tail }
    }

    /// The index behind this one.
    #[inline]
    pub fn following(&self, index: u16) -> u16 {
        let following = u32::from(index) + 1;
        if following >= self.count { 0 } else { following as u16 }
    }

    /// Finds the ring's memory, once. `false`: it is not in one piece of the guest's memory.
    #[inline]
    pub fn look(&mut self, memory: &Memory) -> bool {
        if !self.looked {
            self.looked = true;
            let bytes = self.count.saturating_mul(self.stride);
            self.window = memory.window(Address(self.base), bytes).filter(|window| window.is_aligned(8));
        }
        self.window.is_some()
    }

    /// A descriptor's first 16 bytes.
    #[inline]
    pub fn load(&self, index: u16) -> [u64; 2] {
        let Some(window) = &self.window else { return [0; 2] };
        // What the driver wrote before the tail is seen behind the tail, which came by a message.
        window.load_desc(self.place(index))
    }

    /// The status byte of a transmit descriptor.
    pub fn status(&self, index: u16) -> u8 {
        self.window.as_ref().map_or(0, |window| window.load_u8(self.place(index) + 12))
    }

    #[inline]
    pub fn store_status(&self, index: u16, status: u8) {
        if let Some(window) = &self.window {
            window.store_release_u8(self.place(index) + 12, status);
        }
    }

    /// The memory, after `look`.
    #[inline]
    pub fn memory(&self) -> Option<&Window> {
        self.window.as_ref()
    }

    #[inline]
    pub fn place(&self, index: u16) -> usize {
        usize::from(index) * self.stride as usize
    }

    /// Notes in the dirty log that a descriptor was written.
    #[inline]
    pub fn mark_dirty(&self, memory: &Memory, index: u16) {
        memory.mark_range(Address(self.base.saturating_add(self.place(index) as u64)), self.stride);
    }

    /// Step 2. `extra` is kept beside the positions from here on.
    pub fn begin(&self, extra: bool) {
        let number = self.number() | u64::from(self.next) << 32 | PENDING | if extra { EXTRA } else { 0 };
        self.hot.store_u64(self.at, number);
    }

    /// Step 4.
    pub fn finish(&mut self, extra: bool) {
        self.head = self.next;
        self.hot.store_u64(self.at, self.number() | if extra { EXTRA } else { 0 });
    }

    /// Keeps what the next descriptor's write-back takes away.
    pub fn note(&self, at: usize, content: u64) {
        self.hot.store_u64(at, content);
        self.hot.store_u64(self.at, self.number() | NOTED);
    }

    /// What a predecessor noted and did not go on from.
    pub fn noted(&self, at: usize) -> Option<u64> {
        (self.hot.load_u64(self.at) & NOTED != 0).then(|| self.hot.load_u64(at))
    }

    /// Nothing was begun.
    pub fn finish_at_head(&mut self) {
        self.next = self.head;
        self.hot.store_u64(self.at, self.number());
    }

    /// What `begin` or `finish` was told last.
    pub fn kept_extra(&self) -> bool {
        self.extra() != 0
    }

    /// The indexes from head to `end`, if a predecessor died while it showed them.
    pub fn interrupted(&mut self) -> Option<Vec<u16>> {
        let number = self.hot.load_u64(self.at);
        self.take_up();
        if number & PENDING == 0 {
            return None;
        }
        let end = (number >> 32) as u16;
        let mut indexes = Vec::new();
        let mut at = self.head;
        // As many as the ring has at most: what the number says may not fit the ring any more.
        while at != end && (indexes.len() as u32) < self.count {
            indexes.push(at);
            at = self.following(at);
        }
        self.next = end;
        Some(indexes)
    }
}
