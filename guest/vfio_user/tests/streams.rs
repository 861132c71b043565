//! Anything that a client may send: the stream stays in step, each message that wants a reply has
//! exactly one, no descriptor is lost, and the state can be taken up by a successor at any time.

use std::collections::BTreeSet;

use proptest::prelude::*;
use standpipe_vfio_user::numbers::{FLAG_NO_REPLY, MESSAGE_MAX, REPLY_MAX};
use standpipe_vfio_user::{Area, Device, Effect, Header, Session, State};

#[derive(Clone, Debug)]
struct Message {
    command: u16,
    flags: u32,
    payload: Vec<u8>,
    fds: usize,
    /// What the head says beyond what is there, for a message that is refused by its head.
    excess: u32,
}

/// Numbers that mean something somewhere, and some that do not.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..9,
        2 => prop::sample::select(vec![16, 20, 24, 32, 64, 0x1000, 0x2000, 0x21, 0x24, 0x22, 0x11, 0x09, 0x14, 4096]),
        2 => (0u32..9, 1u32..8).prop_map(|(feature, method)| feature | method << 16),
        1 => any::<u32>(),
        1 => prop::sample::select(vec![u32::MAX, u32::MAX - 1, 1 << 31]),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::collection::vec(word(), 0..16);
    let of_words = words.prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect());
    prop_oneof![
        8 => of_words,
        1 => prop::collection::vec(any::<u8>(), 0..80),
        // A map that is likely to be good, and its end.
        2 => (0u32..4, 1u32..4).prop_map(|(page, pages)| {
            [32, 3, 0, 0, page * 0x1000, 0, pages * 0x1000, 0].iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
        }),
        1 => (0u32..4, 1u32..4).prop_map(|(page, pages)| {
            [24, 0, page * 0x1000, 0, pages * 0x1000, 0].iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
        }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let flags = prop_oneof![8 => Just(0), 2 => Just(FLAG_NO_REPLY), 1 => Just(1), 1 => Just(0x21)];
    let excess = prop_oneof![20 => Just(0u32), 1 => 0u32..1 << 20];
    let fds = prop_oneof![2 => Just(0usize), 2 => Just(1), 1 => 0usize..17];
    (0u16..20, flags, payload(), fds, excess).prop_map(|(command, flags, payload, fds, excess)| Message {
        command,
        flags,
        payload,
        fds,
        excess,
    })
}

fn device(migration: bool) -> Device {
    let mut device = Device::new([0x4000, 0x40, 0, 0, 0, 0], 0x1_0000, 256, true, 1, 8);
    device.regions[0].areas = vec![Area { offset: 0x3000, size: 0x1000 }];
    device.migration = migration;
    device
}

fn check_effect(effect: &Effect<'_>, reply: &[u8], device: &Device) {
    match effect {
        Effect::Read { into, .. } | Effect::Saved { into, .. } | Effect::LogReport { into, .. } => {
            assert!(into.end <= reply.len());
            assert!(reply[into.clone()].iter().all(|&byte| byte == 0));
        }
        Effect::Write(write) => {
            let end = write.offset + write.data.len() as u64;
            assert!(end <= device.regions[write.region as usize].size);
        }
        Effect::Writes(writes) => {
            for write in writes.clone() {
                let end = write.offset + write.data.len() as u64;
                assert!(end <= device.regions[write.region as usize].size);
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]
    #[test]
    fn any_messages_may_come(messages in prop::collection::vec(message(), 0..60), migration in any::<bool>(), greets in any::<bool>()) {
        let device = device(migration);
        let mut session = Session::new();
        let mut live = BTreeSet::new();
        let greeting = Message { command: 1, flags: 0, payload: vec![0; 4], fds: 0, excess: 0 };
        for (id, message) in (0u16..).zip(greets.then_some(greeting).into_iter().chain(messages)) {
            let size = 16 + message.payload.len() as u32 + message.excess;
            let header = Header { id, command: message.command, size, flags: message.flags, error: 0 };
            prop_assert_eq!(Header::parse(&header.encode()), Ok(header));
            let oversize = size as usize > MESSAGE_MAX;
            prop_assert_eq!(header.is_oversize(), oversize);
            let payload = if oversize { &[][..] } else { &message.payload[..] };
            let _ = session.drain(&header, payload);
            let before = session.state.clone();
            let mut reply = vec![0xee; 7];
            let outcome = session.follow(&device, &header, payload, message.fds, &mut reply);
            check_effect(&outcome.effect, &reply, &device);
            let reply = &reply[7..];
            if message.flags == 0 {
                let head: &[u8; 16] = reply.first_chunk().unwrap();
                let answer = Header::parse(head).unwrap();
                prop_assert_eq!((answer.id, answer.command), (id, message.command));
                prop_assert_eq!(answer.message_len(), reply.len());
                prop_assert!(reply.len() <= REPLY_MAX);
                let failed = outcome.fault.is_some() && message.command != 15;
                prop_assert!(!failed || answer.flags == 0x21 && answer.error != 0 && reply.len() == 16);
                prop_assert!(outcome.fault.is_some() || answer.flags == 1);
            } else {
                prop_assert!(reply.is_empty());
            }
            if !outcome.changed {
                prop_assert!(before == session.state);
            }
            prop_assert_eq!(session.state.discard, if oversize { size - 16 } else { 0 });
            session.discarded(session.state.discard as usize);

            prop_assert!(outcome.kept.len() <= message.fds);
            for generation in outcome.kept {
                prop_assert!(generation != 0 && live.insert(generation), "a generation comes once");
            }
            for generation in outcome.dropped {
                prop_assert!(live.remove(&generation), "only what was there is dropped");
            }
            let named: Vec<_> = session.state.generations().collect();
            prop_assert_eq!(named.len(), live.len());
            prop_assert_eq!(&named.into_iter().collect::<BTreeSet<_>>(), &live);

            let bytes = session.state.encode();
            prop_assert!(bytes.len() <= State::ENCODED_MAX);
            prop_assert_eq!(&State::decode(&bytes).unwrap(), &session.state);
            session = Session::resume(session.state);
            let _ = (session.intx(true), session.signal(2, u32::MAX), session.signal(9, 1));
        }
        let left: BTreeSet<_> = session.disconnected().into_iter().collect();
        prop_assert_eq!(left, live);
    }

    #[test]
    fn any_bytes_may_lie_in_a_ledger(mut bytes in prop::collection::vec(any::<u8>(), 0..1200), version in any::<bool>(), zeroes in 0usize..1200) {
        if version && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&[1, 0, 0, 0]);
            for byte in bytes.iter_mut().skip(4).take(zeroes) {
                *byte = 0;
            }
        }
        if let Ok(state) = State::decode(&bytes) {
            let again = state.encode();
            prop_assert_eq!(State::decode(&again), Ok(state));
        }
    }
}
