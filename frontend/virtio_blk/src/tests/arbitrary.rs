//! Whatever a driver posts: no panic, writes within the chain alone, and the layout does not matter.

use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use request::{Blocks, Operation, Span, Status};
use virtqueue::Chain;

use super::{facts, header, mode, post};
use crate::{Parsed, parse, status_of};

/// Lengths that sum up to `total`.
fn cuts(total: u32, borders: &[u32]) -> Vec<u32> {
    let mut at: Vec<u32> = borders.iter().map(|border| border % total).chain([0, total]).collect();
    at.sort_unstable();
    at.dedup();
    at.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

fn borders() -> impl Strategy<Value = Vec<u32>> {
    proptest::collection::vec(any::<u32>(), 0..12)
}

fn any_chain() -> impl Strategy<Value = Chain> {
    let span = (0..0x24000u64, 1..600u32, prop_oneof![9 => Just(0u32), 1 => Just(1)])
        .prop_map(|(offset, len, region)| Span { offset, len, region });
    (proptest::collection::vec(span, 0..20), any::<prop::sample::Index>()).prop_map(|(spans, at)| Chain {
        head: 0,
        count: 1,
        writable_from: at.index(spans.len() + 1),
        spans,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn the_layout_does_not_matter(
        kind in prop_oneof![Just(0u8), Just(1), Just(4), Just(8), Just(11), Just(13), any::<u8>()],
        sector in 0..2100u64,
        body in proptest::collection::vec(prop_oneof![9 => Just(0u8), 1 => any::<u8>()], 0..1100),
        sectors_in in 0..4u32,
        out in borders(),
        into in borders(),
    ) {
        let mut readable = header(kind, sector);
        readable.extend_from_slice(&body[..body.len() / 16 * 16]);
        let len = readable.len() as u32;
        let room = sectors_in * 512 + 1;
        let mut plain = post(&readable, &[len], &[room]);
        let mut cut = post(&readable, &cuts(len, &out), &cuts(room, &into));
        let facts = facts();
        match (plain.parse(&facts), cut.parse(&facts)) {
            (Parsed::Answered(plain), Parsed::Answered(cut)) => prop_assert_eq!(plain, cut),
            (Parsed::Work(expected), Parsed::Work(work)) => {
                let mut sent = [vec![0; 4096], vec![0; 4096]];
                for ((posted, work), sent) in [(&plain, &expected), (&cut, &work)].into_iter().zip(&mut sent) {
                    let spans = work.data(&posted.chain);
                    posted.memory.gather(spans, sent);
                    if kind == 0 {
                        posted.memory.scatter(spans, &vec![0x77; request::total(spans) as usize]);
                    }
                    work.finish(&posted.memory, &posted.chain, 0);
                }
                prop_assert_eq!(&sent[0], &sent[1]);
                prop_assert_eq!(expected.collect::<Vec<_>>(), work.collect::<Vec<_>>());
            }
            (plain, cut) => prop_assert!(false, "{:?} {:?}", plain, cut),
        }
        prop_assert_eq!(plain.written(room as usize), cut.written(room as usize));
    }

    #[test]
    fn any_chain_is_answered_within_itself(
        mut chain in any_chain(),
        noise in proptest::collection::vec(prop_oneof![4 => Just(0u8), 1 => 0..16u8, 1 => any::<u8>()], 512),
        large in any::<bool>(),
        status in 0..8usize,
    ) {
        let memory = guest_memory::Memory::anonymous(0x20000);
        for at in 0..256u64 {
            memory.scatter(&[Span { offset: at * 512, len: 512, region: 0 }], &noise);
        }
        let mut facts = facts();
        if large {
            facts.block_size = 4096;
            facts.blocks = Blocks(1 << 40);
        }
        let before = chain.clone();
        let room = request::total(before.writable());
        match parse(&memory, &mut chain, &facts, &mode(&facts)) {
            Parsed::Work(work) => {
                prop_assert_eq!(request::total(chain.writable()), room);
                prop_assert_eq!(request::total(chain.readable()), request::total(before.readable()));
                let data = request::total(work.data(&chain));
                let written = work.finish(&memory, &chain, status_of(Status::ALL[status]));
                prop_assert!(u64::from(written) <= room);
                let mut count = 0;
                for operation in work {
                    count += 1;
                    let bytes = match operation {
                        Operation::Read(extent) | Operation::Write { extent, .. } => extent.len_bytes(),
                        _ => 0,
                    };
                    prop_assert_eq!(data, bytes);
                }
                prop_assert!((1..=64).contains(&count));
            }
            Parsed::Answered(answered) => prop_assert!(u64::from(answered.written) <= room),
        }
    }
}
