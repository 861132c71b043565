use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use disk::Data;
use guest_memory::Memory;
use request::{Blocks, Extent, Facts, Lba, Operation, Provisioning, Run, Span, Status, total};

/// A drive: its bytes, its cache, and what was started on it. Clones are the same drive.
#[derive(Clone)]
pub struct Medium(Rc<RefCell<State>>);

struct State {
    facts: Facts,
    /// What reads see.
    bytes: Vec<u8>,
    /// Blocks that a power cut may turn back, and what they would turn back to.
    volatile: BTreeMap<u64, Before>,
    /// Which blocks have a place in the store.
    mapped: Vec<bool>,
    /// Atomic writes so far.
    groups: u64,
    started: Vec<Started>,
    random: u64,
}

/// A block as it is on stable storage.
struct Before {
    bytes: Vec<u8>,
    mapped: bool,
    /// Blocks of one group turn back together.
    group: Option<u64>,
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
        let state = State {
            mapped: vec![facts.discard.is_none(); facts.blocks.0 as usize],
            facts,
            bytes,
            volatile: BTreeMap::new(),
            groups: 0,
            started: Vec::new(),
            random: seed | 1,
        };
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
        let mapped = state.facts.discard.is_none();
        state.mapped.resize(blocks.0 as usize, mapped);
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

    /// The worker is dead: each of its requests is done, done in part, or cancelled, in any order.
    /// Nobody learns which.
    pub fn settle(&self) {
        while self.settle_one() {}
    }

    /// One of the dead worker's requests meets its fate. False: there is none left.
    pub fn settle_one(&self) -> bool {
        let mut state = self.0.borrow_mut();
        if state.started.is_empty() {
            return false;
        }
        let request = state.any();
        match state.below(3) {
            0 => {}
            1 => state.execute_in_part(&request),
            _ => {
                state.execute(&request);
            }
        }
        true
    }

    /// The power is cut: requests in flight are lost, or done in part, and so is each block that was
    /// not flushed.
    pub fn cut_power(&self) {
        self.settle();
        let mut state = self.0.borrow_mut();
        let block_size = state.facts.block_size as usize;
        let mut fates = BTreeMap::new();
        for (block, before) in core::mem::take(&mut state.volatile) {
            let fate = state.below(2) == 0;
            let lost = before.group.map_or(fate, |group| *fates.entry(group).or_insert(fate));
            if lost {
                let at = block as usize * block_size;
                state.bytes[at..at + block_size].copy_from_slice(&before.bytes);
                state.mapped[block as usize] = before.mapped;
            }
        }
    }

    pub(crate) fn run_at(&self, from: Lba) -> Run {
        let state = self.0.borrow();
        let rest = state.mapped.get(from.0 as usize..).unwrap_or(&[]);
        let mapped = rest.first().copied().unwrap_or(true);
        let blocks = Blocks(rest.iter().take_while(|block| **block == mapped).count() as u64);
        Run { blocks, state: if mapped { Provisioning::Mapped } else { Provisioning::Deallocated } }
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

    /// Somebody dies while it is under way: some of its blocks are written, in any order.
    fn execute_in_part(&mut self, request: &Started) {
        let (extent, fua) = match request.operation {
            Operation::Write { extent, fua } | Operation::WriteSame { extent, fua } => (extent, fua),
            Operation::WriteZeroes { extent, fua, .. } => (extent, fua),
            Operation::Discard(extent) => (extent, false),
            Operation::Read(_) | Operation::Flush | Operation::WriteAtomic { .. } => return,
        };
        let unsupported = matches!(request.operation, Operation::Discard(_)) && self.facts.discard.is_none();
        if self.facts.read_only || unsupported {
            return;
        }
        let Some(bytes) = self.bytes_of(request, extent) else { return };
        let mapped = self.keeps_place(request.operation);
        let block_size = self.facts.block_size as usize;
        for (index, new) in bytes.chunks_exact(block_size).enumerate() {
            if self.below(2) == 0 {
                self.write_block(extent.first().0 + index as u64, new, mapped, fua, None);
            }
        }
    }

    fn execute(&mut self, request: &Started) -> Status {
        let writes = !matches!(request.operation, Operation::Read(_) | Operation::Flush);
        if writes && self.facts.read_only {
            return Status::WriteProtected;
        }
        let (extent, fua, atomic) = match request.operation {
            Operation::Read(extent) => {
                assert_eq!(total(&request.spans), extent.len_bytes(), "a read has the extent's bytes");
                let range = range(extent);
                let len = range.len();
                return match request.memory.scatter(&request.spans, &self.bytes[range]) {
                    done if done == len => Status::Good,
                    _ => Status::Aborted,
                };
            }
            Operation::Flush => {
                self.volatile.clear();
                return Status::Good;
            }
            Operation::Discard(_) if self.facts.discard.is_none() => return Status::Unsupported,
            Operation::Discard(extent) => (extent, false, false),
            Operation::Write { extent, fua } | Operation::WriteSame { extent, fua } => (extent, fua, false),
            Operation::WriteZeroes { extent, fua, .. } => (extent, fua, false),
            Operation::WriteAtomic { extent, fua } => {
                let promised = self.facts.atomic.is_some_and(|atomic| atomic.covers(extent));
                assert!(promised, "an atomic write is one that the facts cover");
                (extent, fua, true)
            }
        };
        let Some(bytes) = self.bytes_of(request, extent) else { return Status::Aborted };
        let group = atomic.then(|| self.new_group(extent));
        let mapped = self.keeps_place(request.operation);
        for (index, new) in bytes.chunks_exact(self.facts.block_size as usize).enumerate() {
            self.write_block(extent.first().0 + index as u64, new, mapped, fua, group);
        }
        Status::Good
    }

    /// Whether its blocks have a place in the store afterwards.
    fn keeps_place(&self, operation: Operation) -> bool {
        let unmaps = matches!(operation, Operation::Discard(_) | Operation::WriteZeroes { unmap: true, .. });
        !unmaps || self.facts.discard.is_none()
    }

    /// What it writes; `None` if the guest's memory is gone.
    fn bytes_of(&self, request: &Started, extent: Extent) -> Option<Vec<u8>> {
        let len = match request.operation {
            Operation::Write { .. } | Operation::WriteAtomic { .. } => extent.len_bytes(),
            Operation::WriteSame { .. } => u64::from(self.facts.block_size),
            _ => 0,
        };
        assert_eq!(total(&request.spans), len, "a write has the extent's bytes");
        let mut bytes = vec![0; len as usize];
        if request.memory.gather(&request.spans, &mut bytes) < bytes.len() {
            return None;
        }
        Some(match request.operation {
            Operation::WriteSame { .. } => bytes.repeat(extent.count().0 as usize),
            Operation::Write { .. } | Operation::WriteAtomic { .. } => bytes,
            _ => vec![0; range(extent).len()],
        })
    }

    /// A name for the blocks of an atomic write, and of those that it lies over: a block remembers one
    /// state to turn back to, so what shares a block turns back together.
    fn new_group(&mut self, extent: Extent) -> u64 {
        self.groups += 1;
        let within = extent.first().0..extent.first().0 + extent.count().0;
        let shared: Vec<u64> = self.volatile.range(within).filter_map(|(_, before)| before.group).collect();
        for before in self.volatile.values_mut() {
            if before.group.is_some_and(|group| shared.contains(&group)) {
                before.group = Some(self.groups);
            }
        }
        self.groups
    }

    fn write_block(&mut self, block: u64, new: &[u8], mapped: bool, fua: bool, group: Option<u64>) {
        let at = block as usize * new.len();
        let old = &mut self.bytes[at..at + new.len()];
        let was_mapped = self.mapped[block as usize];
        if fua || !self.facts.write_cache {
            self.volatile.remove(&block);
        } else {
            let fresh = || Before { bytes: old.to_vec(), mapped: was_mapped, group: None };
            let before = self.volatile.entry(block).or_insert_with(fresh);
            before.group = group.or(before.group);
        }
        old.copy_from_slice(new);
        self.mapped[block as usize] = mapped;
    }
}

fn range(extent: Extent) -> core::ops::Range<usize> {
    // The extent lies within a volume whose bytes are in memory.
    let from = extent.offset_bytes() as usize;
    from..from + extent.len_bytes() as usize
}
