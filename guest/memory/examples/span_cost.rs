//! What spans cost, in nanoseconds each, the best of several rounds:
//! `cargo run --release -p standpipe-guest-memory --example span_cost`.
//!
//! docs/decisions/0001 quotes it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use host::map::Mapping;
use request::{Address, Span};
use standpipe_guest_memory::{Memory, Region};

const ROUNDS: usize = 30;
const CALLS: usize = 50_000;
const REGION_BYTES: u64 = 4 << 20;
const REGIONS: u64 = 8;

fn measure(name: &str, bytes: u64, mut call: impl FnMut(usize)) {
    let mut best = f64::MAX;
    let calls = if bytes > 4096 { CALLS / 50 } else { CALLS };
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        for at in 0..calls {
            call(at);
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / calls as f64);
    }
    println!("{name}_ns={best:.1}");
}

/// Regions with a hole behind each, as a machine with plugged memory has them.
fn regions() -> Vec<Region> {
    let region = |index: u64| {
        let mapping = Arc::new(Mapping::anonymous(REGION_BYTES as usize).expect("memory"));
        Region { guest: index * 2 * REGION_BYTES, len: REGION_BYTES, user: 0, offset: 0, mapping }
    };
    (0..REGIONS).map(region).collect()
}

fn main() {
    let parts = regions();
    let memory = Memory::new(parts.clone(), None).expect("regions that do not overlap");
    let other = Memory::new(regions(), None).expect("regions that do not overlap");
    let all = Span { offset: 0, len: REGION_BYTES as u32, region: 0 };
    for region in 0..REGIONS as u32 {
        // Every page is there before it is measured.
        memory.zero(Span { region, ..all }).expect("a span of this memory");
        other.zero(Span { region, ..all }).expect("a span of this memory");
    }

    let mut hint = 3;
    let near = Address(3 * 2 * REGION_BYTES);
    measure("locate_in_the_last_region", 0, |at| {
        black_box(memory.locate(Address(near.0 + (at as u64 & 0xfffff)), 64, &mut hint));
    });
    measure("locate_in_another_region", 0, |at| {
        let address = Address((at as u64 % REGIONS) * 2 * REGION_BYTES);
        black_box(memory.locate(address, 64, &mut hint));
    });
    let span = |at: usize, len: u32| Span { offset: (at as u64 * 4096) & 0x1f_ffff, len, region: 1 };
    measure("pin", 0, |at| {
        black_box(memory.pin(black_box(span(at, 4096))));
    });
    measure("lease", 0, |_| {
        black_box(Arc::clone(black_box(&memory)));
    });
    let mut header = [0; 64];
    measure("read_64", 64, |at| {
        memory.read(span(at, 64), &mut header).expect("a span of this memory");
        black_box(&header);
    });
    for len in [64, 1514, 65_536] {
        measure(&format!("copy_{len}"), u64::from(len), |at| {
            black_box(memory.copy(&[span(at, len)], &other, &[span(at, len)]));
        });
    }
    measure("new_snapshot_of_8_regions", 8192, |_| {
        black_box(Memory::new(parts.clone(), None).expect("regions that do not overlap"));
    });
}
