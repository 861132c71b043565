//! The table of requests in flight in a split ring, as vhost-user lays it out ("Inflight I/O
//! tracking", QueueRegionSplit):
//!
//! ```text
//! 0 features u64   8 version u16   10 desc_num u16   12 last_batch_head u16   14 used_idx u16
//! 16 + 16 * i: inflight u8, padding, next u16 (at 6), counter u64 (at 8)
//! ```
//!
//! Every store is a release store: a process that dies between any two of them leaves exactly
//! those behind that come first in this text.

use alloc::vec::Vec;

use guest_memory::Window;

const VERSION_AT: usize = 8;
const DESC_NUM_AT: usize = 10;
const LAST_BATCH_HEAD_AT: usize = 12;
const USED_IDX_AT: usize = 14;
const HEADER_BYTES: usize = 16;
const ENTRY_BYTES: usize = 16;
const NEXT_IN_ENTRY: usize = 6;
const COUNTER_IN_ENTRY: usize = 8;

const VERSION: u16 = 1;

pub const fn bytes(size: u16) -> usize {
    HEADER_BYTES + ENTRY_BYTES * size as usize
}

#[derive(Debug)]
pub struct Inflight {
    window: Window,
    counter: u64,
    last_batch_head: u16,
}

impl Inflight {
    /// Opens a table, or lays out a fresh one, and returns the requests that are to be done again,
    /// in the order in which they were taken. `used_idx` is the used ring's index.
    pub fn open(window: Window, size: u16, used_idx: u16) -> (Self, Vec<u16>) {
        let mut this = Self { window, counter: 0, last_batch_head: 0 };
        if this.window.load_u16(VERSION_AT) != VERSION || this.window.load_u16(DESC_NUM_AT) != size {
            this.format(size, used_idx);
            return (this, Vec::new());
        }
        this.last_batch_head = this.window.load_u16(LAST_BATCH_HEAD_AT);
        this.settle(size, used_idx);
        let mut again: Vec<(u64, u16)> = (0..size)
            .filter(|&head| this.window.load_u8(entry(head)) != 0)
            .map(|head| (this.window.load_u64(entry(head) + COUNTER_IN_ENTRY), head))
            .collect();
        again.sort_unstable();
        this.counter = again.last().map_or(0, |last| last.0.wrapping_add(1));
        (this, again.into_iter().map(|(_, head)| head).collect())
    }

    fn format(&mut self, size: u16, used_idx: u16) {
        // The version is taken away first and given last, so that a half-made table is no table.
        self.window.store_release_u16(VERSION_AT, 0);
        for head in 0..size {
            self.window.store_release_u64(entry(head), 0);
        }
        self.window.store_release_u64(0, 0);
        self.window.store_release_u16(DESC_NUM_AT, size);
        self.window.store_release_u16(LAST_BATCH_HEAD_AT, 0);
        self.window.store_release_u16(USED_IDX_AT, used_idx);
        self.window.store_release_u16(VERSION_AT, VERSION);
    }

    /// Finishes what a predecessor began: if the used ring went on and `used_idx` here did not, the
    /// guest can see the end of the last batch, and its members are not in flight any more.
    fn settle(&mut self, size: u16, used_idx: u16) {
        let batch = used_idx.wrapping_sub(self.window.load_u16(USED_IDX_AT));
        let mut head = self.last_batch_head;
        for _ in 0..batch.min(size) {
            if head >= size {
                break;
            }
            self.window.store_release_u8(entry(head), 0);
            head = self.window.load_u16(entry(head) + NEXT_IN_ENTRY);
        }
        self.window.store_release_u16(USED_IDX_AT, used_idx);
    }

    /// Before the request is handed out.
    #[inline(always)]
    pub fn taken(&mut self, head: u16) {
        self.window.store_release_u64(entry(head) + COUNTER_IN_ENTRY, self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.window.store_release_u8(entry(head), 1);
    }

    /// The used element is in its place, and not yet visible.
    #[inline(always)]
    pub fn staged(&mut self, head: u16) {
        self.window.store_release_u16(entry(head) + NEXT_IN_ENTRY, self.last_batch_head);
        self.last_batch_head = head;
        self.window.store_release_u16(LAST_BATCH_HEAD_AT, head);
    }

    /// The used index went on to `used_idx` with this batch.
    #[inline(always)]
    pub fn published(&mut self, batch: &[u16], used_idx: u16) {
        for &head in batch {
            self.window.store_release_u8(entry(head), 0);
        }
        self.window.store_release_u16(USED_IDX_AT, used_idx);
    }
}

#[inline(always)]
fn entry(head: u16) -> usize {
    HEADER_BYTES + ENTRY_BYTES * usize::from(head)
}
