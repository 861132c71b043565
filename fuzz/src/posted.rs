//! A request as a hostile guest posts it: memory full of its bytes, and a chain of any shape.

use std::cell::RefCell;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use guest_memory::Memory;
use request::Span;
use virtqueue::Chain;

pub const MEMORY_BYTES: usize = 1 << 14;

thread_local! {
    static MEMORY: RefCell<Option<Arc<Memory>>> = const { RefCell::new(None) };
}

/// The guest's memory, zeroed.
pub fn memory() -> Arc<Memory> {
    let memory = MEMORY
        .with_borrow_mut(|memory| Arc::clone(memory.get_or_insert_with(|| Memory::anonymous(MEMORY_BYTES))));
    memory.zero(all()).expect("the memory's own span");
    memory
}

fn all() -> Span {
    Span { offset: 0, len: MEMORY_BYTES as u32, region: 0 }
}

pub struct Posted {
    pub memory: Arc<Memory>,
    pub chain: Chain,
    before: Vec<u8>,
    writable: Vec<Span>,
}

/// Takes the shape of a chain from the front of the input, and fills the memory with the rest.
pub fn posted(input: &mut Unstructured<'_>) -> Result<Posted> {
    let memory = memory();
    let mut chain = Chain::new();
    let (readable, writable) = (input.int_in_range(0..=6)?, input.int_in_range(0..=6)?);
    let mut offset = 0u64;
    for index in 0..readable + writable {
        if index == readable {
            chain.writable_from = chain.spans.len();
        }
        // Mostly short and one behind the other; now and then long, or anywhere.
        let len = match input.int_in_range(0..=7)? {
            0 => u64::from(input.arbitrary::<u16>()?),
            _ => u64::from(input.arbitrary::<u8>()?),
        };
        if input.ratio(1, 8)? {
            offset = u64::from(input.arbitrary::<u16>()?) % MEMORY_BYTES as u64;
        }
        let len = len.min(MEMORY_BYTES as u64 - offset);
        if len > 0 {
            chain.spans.push(Span { offset, len: len as u32, region: 0 });
        }
        offset = (offset + len).min(MEMORY_BYTES as u64 - 1);
    }
    if writable == 0 {
        chain.writable_from = chain.spans.len();
    }
    let bytes = input.bytes(input.len().min(MEMORY_BYTES))?;
    memory.scatter(&[all()], bytes);
    let mut before = vec![0; MEMORY_BYTES];
    memory.gather(&[all()], &mut before);
    let writable = chain.writable().to_vec();
    Ok(Posted { memory, chain, before, writable })
}

impl Posted {
    pub fn room(&self) -> u64 {
        request::total(&self.writable)
    }

    /// Asserts that nothing was written but what the guest gave to write.
    pub fn check_untouched(&self) {
        let mut after = vec![0; MEMORY_BYTES];
        self.memory.gather(&[all()], &mut after);
        let mut allowed = vec![false; MEMORY_BYTES];
        for span in &self.writable {
            allowed[span.offset as usize..span.offset as usize + span.len as usize].fill(true);
        }
        for (at, (before, after)) in self.before.iter().zip(&after).enumerate() {
            assert!(before == after || allowed[at], "byte {at} was written and is not the device's");
        }
    }
}

/// The shape of a chain, one span behind the other, and the bytes of the memory: a seed.
pub fn seed(readable: &[u8], writable: &[u8], memory: &[u8]) -> Vec<u8> {
    // `int_in_range` takes one byte, `ratio` one, `arbitrary::<u8>` one.
    let mut seed = vec![readable.len() as u8, writable.len() as u8];
    for len in readable.iter().chain(writable) {
        seed.extend([1, *len, 255]);
    }
    seed.extend(memory);
    seed
}
