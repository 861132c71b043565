//! Expected bytes are typed here from the specification, apart from the constants of the code.

mod arbitrary;
mod config;
mod requests;
mod segments;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use guest_memory::Memory;
use request::{Blocks, Discard, Facts, Identity, Span};
use virtqueue::Chain;

use crate::{Config, Limits, Mode, Parsed, features, parse};

/// Where the readable bytes of a test's chain lie, and where the writable ones.
pub(super) const READABLE: u64 = 0x1000;
pub(super) const WRITABLE: u64 = 0x9000;
/// What the writable bytes hold before.
pub(super) const UNTOUCHED: u8 = 0xee;

/// 1 MiB of 512-byte blocks, thin, with a volatile cache.
pub(super) fn facts() -> Facts {
    Facts {
        block_size: 512,
        blocks: Blocks(2048),
        physical_exponent: 3,
        optimal: Blocks(256),
        read_only: false,
        rotational: false,
        write_cache: true,
        discard: Some(Discard { granularity: Blocks(8), zeroes: true }),
        atomic: None,
        identity: Identity { naa: [0; 16], serial: String::from("web1-disk0"), name: String::new() },
    }
}

pub(super) const LIMITS: Limits = Limits { seg_max: 126, queues: 2 };

/// Everything that is offered was accepted.
pub(super) fn mode(facts: &Facts) -> Mode {
    Mode::new(facts, features(facts, LIMITS.queues), &Config::new(facts, LIMITS))
}

/// A request header.
pub(super) fn header(kind: u8, sector: u64) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend_from_slice(&sector.to_le_bytes());
    bytes
}

/// A guest that posted one chain.
pub(super) struct Posted {
    pub memory: Arc<Memory>,
    pub chain: Chain,
}

/// Spans one behind the other, of the given lengths.
fn run(start: u64, lens: &[u32]) -> Vec<Span> {
    let mut offset = start;
    let mut spans = Vec::new();
    for len in lens {
        spans.push(Span { offset, len: *len, region: 0 });
        offset += u64::from(*len);
    }
    spans
}

/// `readable` bytes cut into spans of the lengths in `out`, and writable spans of the lengths in
/// `into`.
pub(super) fn post(readable: &[u8], out: &[u32], into: &[u32]) -> Posted {
    let memory = Memory::anonymous(0x20000);
    let mut spans = run(READABLE, out);
    assert_eq!(request::total(&spans), readable.len() as u64);
    memory.scatter(&spans, readable);
    let writable = run(WRITABLE, into);
    memory.scatter(&writable, &vec![UNTOUCHED; request::total(&writable) as usize]);
    let chain = Chain {
        head: 0,
        count: 1,
        writable_from: spans.len(),
        spans: {
            spans.extend(writable);
            spans
        },
    };
    Posted { memory, chain }
}

impl Posted {
    pub fn parse(&mut self, facts: &Facts) -> Parsed {
        parse(&self.memory, &mut self.chain, facts, &mode(facts))
    }

    /// Bytes of the writable part, from its beginning.
    pub fn written(&self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.memory.gather(&[Span { offset: WRITABLE, len: count as u32, region: 0 }], &mut bytes);
        bytes
    }
}
