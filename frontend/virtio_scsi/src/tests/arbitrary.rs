//! Whatever a driver posts: no panic, writes within the chain alone, and the layout does not matter.

use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use request::Span;
use virtqueue::Chain;

use super::post;
use crate::{Answer, EVENTS_BYTES, Event, Events, Happening, Sizes, control, parse};

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

/// Spans anywhere, also outside of memory.
fn any_chain() -> impl Strategy<Value = Chain> {
    let span = (0..0x24000u64, 1..300u32, prop_oneof![9 => Just(0u32), 1 => Just(1)])
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
        header in proptest::collection::vec(any::<u8>(), 16..=16),
        cdb in proptest::collection::vec(any::<u8>(), 32..=32),
        data in 0..2000u32,
        write in any::<bool>(),
        out in borders(),
        into in borders(),
    ) {
        let mut readable = vec![1, 0, 0, 0, 0, 0, 0, 0];
        readable.extend_from_slice(&header[..11]);
        readable.extend_from_slice(&cdb);
        let (data_out, data_in) = if write { (data, 0) } else { (0, data) };
        readable.extend((0..data_out).map(|at| at as u8));
        let total_out = readable.len() as u32;
        let mut plain = post(&readable, &[total_out], &[108 + data_in]);
        let mut cut = post(&readable, &cuts(total_out, &out), &cuts(108 + data_in, &into));
        let expected = parse(&plain.memory, &mut plain.chain, Sizes::default()).unwrap();
        let task = parse(&cut.memory, &mut cut.chain, Sizes::default()).unwrap();
        prop_assert_eq!(&*task.cdb, &cdb[..]);
        prop_assert_eq!((task.place, task.id, task.attribute), (expected.place, expected.id, expected.attribute));
        let mut sent = vec![0; data_out as usize];
        prop_assert_eq!(cut.memory.gather(task.data_out(&cut.chain), &mut sent), data_out as usize);
        prop_assert_eq!(&sent[..], &readable[51..]);
        let received: Vec<u8> = (0..data_in).map(|at| !(at as u8)).collect();
        for (posted, task) in [(&plain, &expected), (&cut, &task)] {
            prop_assert_eq!(posted.memory.scatter(task.data_in(&posted.chain), &received), received.len());
            let answer = Answer { status: 2, sense: &[0x11; 18], residual: 5, ..Answer::default() };
            let written = task.finish(&posted.memory, &posted.chain, &answer, u64::from(data_in));
            prop_assert_eq!(written, 108 + data_in);
        }
        let all = (108 + data_in) as usize;
        prop_assert_eq!(plain.written(all), cut.written(all));
    }

    #[test]
    fn any_chain_is_answered_within_itself(
        mut chain in any_chain(),
        noise in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 512),
        cdb_size in 0..400u32,
        sense_size in 0..400u32,
        limit in 0..5000u64,
    ) {
        let memory = guest_memory::Memory::anonymous(0x20000);
        for at in 0..256u64 {
            memory.scatter(&[Span { offset: at * 512, len: 512, region: 0 }], &noise);
        }
        let before = chain.clone();
        let room = request::total(before.writable());
        if let Ok(control) = control::parse(&memory, &chain) {
            let written = match control {
                crate::Control::TaskManagement(_) => control::answer(&memory, &chain, 11),
                crate::Control::Async(_) => control::answer_async(&memory, &chain, 0, 0),
            };
            prop_assert!(u64::from(written) <= room);
        }
        let mut events = Events::default();
        events.post(Event { target: 0, lun: 1, happening: Happening::Added });
        let _ = events.deliver(&memory, &chain);
        match parse(&memory, &mut chain, Sizes::new(cdb_size, sense_size)) {
            Ok(mut task) => {
                // The cuts lose and add no byte.
                prop_assert_eq!(request::total(chain.writable()), room);
                prop_assert_eq!(request::total(chain.readable()), request::total(before.readable()));
                let fits = task.limit_data_in(&mut chain, limit);
                prop_assert!(!fits || request::total(task.data_in(&chain)) == limit);
                let written = task.finish(&memory, &chain, &Answer::failure(9), 0);
                prop_assert!(u64::from(written) <= room);
            }
            Err(refused) => prop_assert!(u64::from(refused.written) <= room),
        }
    }

    #[test]
    fn any_stored_events_can_be_told(mut stored in proptest::collection::vec(any::<u8>(), EVENTS_BYTES)) {
        stored[0] = 1;
        let stored: [u8; EVENTS_BYTES] = stored.try_into().unwrap();
        let mut events = Events::decode(&stored).unwrap();
        let posted = post(&[], &[], &[16]);
        for _ in 0..18 {
            if events.is_waiting() {
                prop_assert_eq!(events.deliver(&posted.memory, &posted.chain), Ok(16));
            }
        }
        prop_assert!(!events.is_waiting());
    }
}
