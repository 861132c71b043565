use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use disk::Data;
use guest_memory::Memory;
use request::{Blocks, Extent, Facts, Operation, Span, Status, total};

/// A drive: its bytes, its cache, and what was started on it. Clones are the same drive.
#[derive(Clone)]
pub struct Medium(Rc<RefCell<State>>);

struct State {
    facts: Facts,
    /// What reads see.
    bytes: Vec<u8>,
    /// Blocks that a power cut may turn back, and what they would turn back to.
    volatile: BTreeMap<u64, Vec<u8>>,
    started: Vec<Started>,
    random: u64,
}

struct Started {
    tag: u32,
    operation: Operation,
    memory: Arc<Memory>,
    spans: Vec<Span>,
}

impl Medium {
    /// All zeroes. `facts.blocks` blocks of memory are taken.
    pub fn new(facts: Facts, seed: u64) -> Self {
        let bytes = vec![0; usize::try_from(facts.capacity_bytes()).expect("fits into memory")];
        let state = State { facts, bytes, volatile: BTreeMap::new(), started: Vec::new(), random: seed | 1 };
        Self(Rc::new(RefCell::new(state)))
    }

    pub fn facts(&self) -> Facts {
        self.0.borrow().facts.clone()
    }

    /// Makes it longer by zeroes. Workers see it after `resize`.
    ///
    /// # Panics
    /// If it would become shorter.
    pub fn grow(&self, blocks: Blocks) {
        let mut state = self.0.borrow_mut();
        assert!(blocks >= state.facts.blocks, "a medium does not become shorter");
        state.facts.blocks = blocks;
        let bytes = usize::try_from(state.facts.capacity_bytes()).expect("fits into memory");
        state.bytes.resize(bytes, 0);
    }

    /// What reads see now.
    pub fn contents(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// Blocks that were written and not flushed.
    pub fn unsynced(&self) -> usize {
        self.0.borrow().volatile.len()
    }

    /// Requests that were started and have not ended.
    pub fn in_flight(&self) -> usize {
        self.0.borrow().started.len()
    }

    /// The worker is dead: each of its requests is done, or cancelled, in any order. Nobody learns
    /// which.
    pub fn settle(&self) {
        let mut state = self.0.borrow_mut();
        while !state.started.is_empty() {
            let request = state.any();
            if state.below(2) == 0 {
                state.execute(&request);
            }
        }
    }

    /// The power is cut: requests in flight are lost, or done in part, and so is each block that was
    /// not flushed.
    pub fn cut_power(&self) {
        self.settle();
        let mut state = self.0.borrow_mut();
        let block_size = state.facts.block_size as usize;
        for (block, before) in core::mem::take(&mut state.volatile) {
            if state.below(2) == 0 {
                let at = block as usize * block_size;
                state.bytes[at..at + block_size].copy_from_slice(&before);
            }
        }
    }

    pub(crate) fn start(&self, tag: u32, operation: Operation, data: Data<'_>) {
        let (memory, spans) = (Arc::clone(data.memory), data.spans.to_vec());
        self.0.borrow_mut().started.push(Started { tag, operation, memory, spans });
    }

    pub(crate) fn execute_any(&self) -> Option<(u32, Status)> {
        let mut state = self.0.borrow_mut();
        if state.started.is_empty() {
            return None;
        }
        let request = state.any();
        let status = state.execute(&request);
        Some((request.tag, status))
    }
}

impl State {
    /// xorshift64*, Vigna 2016.
    fn below(&mut self, end: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % end
    }

    /// In any order: only the guest knows which of its requests depend on each other, and it waits
    /// between them.
    fn any(&mut self) -> Started {
        let index = self.below(self.started.len() as u64) as usize;
        self.started.swap_remove(index)
    }

    fn execute(&mut self, request: &Started) -> Status {
        let writes = !matches!(request.operation, Operation::Read(_) | Operation::Flush);
        if writes && self.facts.read_only {
            return Status::WriteProtected;
        }
        match request.operation {
            Operation::Read(extent) => {
                assert_eq!(total(&request.spans), extent.len_bytes(), "a read has the extent's bytes");
                let range = range(extent);
                let len = range.len();
                match request.memory.scatter(&request.spans, &self.bytes[range]) {
                    done if done == len => Status::Good,
                    _ => Status::Aborted,
                }
            }
            Operation::Write { extent, fua } => {
                assert_eq!(total(&request.spans), extent.len_bytes(), "a write has the extent's bytes");
                let mut bytes = vec![0; range(extent).len()];
                if request.memory.gather(&request.spans, &mut bytes) < bytes.len() {
                    return Status::Aborted;
                }
                self.write(extent, &bytes, fua)
            }
            Operation::Flush => {
                self.volatile.clear();
                Status::Good
            }
            Operation::Discard(_) if self.facts.discard.is_none() => Status::Unsupported,
            Operation::Discard(extent) => self.write(extent, &vec![0; range(extent).len()], false),
            Operation::WriteZeroes { extent, fua, .. } => {
                self.write(extent, &vec![0; range(extent).len()], fua)
            }
            Operation::WriteSame { extent, fua } => {
                let mut block = vec![0; self.facts.block_size as usize];
                if request.memory.gather(&request.spans, &mut block) < block.len() {
                    return Status::Aborted;
                }
                self.write(extent, &block.repeat(extent.count().0 as usize), fua)
            }
        }
    }

    fn write(&mut self, extent: Extent, bytes: &[u8], fua: bool) -> Status {
        let block_size = self.facts.block_size as usize;
        for (index, new) in bytes.chunks_exact(block_size).enumerate() {
            let block = extent.first().0 + index as u64;
            let at = block as usize * block_size;
            let old = &mut self.bytes[at..at + block_size];
            if fua || !self.facts.write_cache {
                self.volatile.remove(&block);
            } else {
                self.volatile.entry(block).or_insert_with(|| old.to_vec());
            }
            old.copy_from_slice(new);
        }
        Status::Good
    }
}

fn range(extent: Extent) -> core::ops::Range<usize> {
    // The extent lies within a volume whose bytes are in memory.
    let from = extent.offset_bytes() as usize;
    from..from + extent.len_bytes() as usize
}
