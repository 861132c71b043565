//! Guests that write anything anywhere.

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use guest_memory::Memory;
use pci::{Bars, Function, IrqMode, Lasting, STATE_MAX, Signals};
use proptest::prelude::*;
use request::Instant;

use super::driver::{
    Driver, GOOD, LISTS, NOW, REQUESTS, STATE, adapter, command, hot, successor, take_resumed,
};
use crate::{Answer, COMMANDS_MAX, Command, Hotplug, SPANS_MAX, Taken};

#[derive(Clone, Debug)]
enum Step {
    Register(u64, u32),
    Command(u32, Vec<u32>),
    Bytes(u64, Vec<u8>),
    Read(u8, u64, u8),
    Scribble(u64, u32),
    Setup,
    SetupMessages,
    Take(u8),
    Complete(u8, bool),
    Publish(u32),
    Expire(u32),
    Manage,
    Message(u8, u16),
    Kicks(bool),
    NoMemory,
    Memory,
    Reset,
    Mode(bool),
    Die,
    DieWith(Vec<u8>),
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..70_u32,
        Just(u32::MAX),
        Just(0x8000_0000),
        (0..0x800_u32).prop_map(|page| page << 12),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        proptest::sample::select(&[0_u64, 4, 8, 0x100, 0x100c, 0x2010, 0x3014, 0x3018, 0x4018, 0x6000][..]),
        0..0x9000_u64,
        any::<u64>(),
    ]
}

fn place() -> impl Strategy<Value = u64> {
    prop_oneof![
        proptest::sample::select(&[0_u64, 4, 8, 12, 16, 20, 24, 128, 132, 136][..])
            .prop_map(|field| STATE + field),
        (0..1024_u64).prop_map(|word| REQUESTS + 4 * word),
        (0..2048_u64).prop_map(|word| LISTS + 4 * word),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (offset(), number()).prop_map(|(at, value)| Step::Register(at, value)),
        4 => (0..13_u32, prop::collection::vec(number(), 0..8)).prop_map(|(n, words)| Step::Command(n, words)),
        1 => (offset(), prop::collection::vec(any::<u8>(), 0..24)).prop_map(|(at, bytes)| Step::Bytes(at, bytes)),
        1 => (any::<u8>(), offset(), any::<u8>()).prop_map(|(bar, at, len)| Step::Read(bar, at, len)),
        24 => (place(), number()).prop_map(|(at, value)| Step::Scribble(at, value)),
        2 => Just(Step::Setup),
        1 => Just(Step::SetupMessages),
        8 => any::<u8>().prop_map(Step::Take),
        8 => (any::<u8>(), any::<bool>()).prop_map(|(which, good)| Step::Complete(which, good)),
        4 => any::<u32>().prop_map(Step::Publish),
        1 => any::<u32>().prop_map(Step::Expire),
        3 => Just(Step::Manage),
        2 => (any::<u8>(), any::<u16>()).prop_map(|(target, lun)| Step::Message(target, lun)),
        1 => any::<bool>().prop_map(Step::Kicks),
        1 => Just(Step::NoMemory),
        2 => Just(Step::Memory),
        1 => Just(Step::Reset),
        1 => any::<bool>().prop_map(Step::Mode),
        1 => Just(Step::Die),
        1 => prop::collection::vec(any::<u8>(), 0..200).prop_map(Step::DieWith),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_a_guest_does_is_more_than_its_own_harm(steps in prop::collection::vec(step(), 1..160)) {
        let hot = hot();
        let mut driver = Driver::new(1);
        let mut adapter = adapter(&hot);
        driver.start(&mut adapter);
        let mut memory = driver.memory.clone();
        let mut running: BTreeSet<u64> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Register(at, value) => adapter.write(NOW, &memory, 0, at, &value.to_le_bytes()),
                Step::Command(number, words) => _ = command(&mut adapter, &memory, number, &words),
                Step::Bytes(at, bytes) => adapter.write(NOW, &memory, 0, at, &bytes),
                Step::Read(bar, at, len) => {
                    adapter.read(NOW, bar, at, &mut vec![0; usize::from(len)]);
                }
                Step::Scribble(at, value) => driver.set_word(at, value),
                Step::Setup => _ = command(&mut adapter, &memory, 3, &driver.setup_rings()),
                Step::SetupMessages => _ = command(&mut adapter, &memory, 8, &driver.setup_messages()),
                Step::Take(count) => {
                    let mut one = Command::default();
                    for _ in 0..count {
                        match adapter.next(&memory, &mut one) {
                            Taken::Command => {
                                prop_assert!(one.data.len() <= SPANS_MAX);
                                prop_assert!(one.data.iter().all(|span| memory.pin(*span).is_some()));
                                prop_assert!(one.place.is_some() && !one.cdb.is_empty());
                                prop_assert!(running.insert(one.id), "one name for two commands");
                            }
                            Taken::Ended => {}
                            Taken::Empty => break,
                        }
                    }
                }
                Step::Complete(which, good) => {
                    let answer = if good { GOOD } else { Answer::Aborted };
                    if let Some(id) = running.iter().nth(usize::from(which)).copied() {
                        prop_assert!(adapter.complete(&memory, id, &answer));
                        prop_assert!(!adapter.complete(&memory, id, &answer));
                        running.remove(&id);
                    } else {
                        prop_assert!(!adapter.complete(&memory, u64::from(which), &answer));
                    }
                }
                Step::Publish(now) => adapter.publish(Instant::from_nanos(now.into()), &memory),
                Step::Expire(now) => adapter.expire(Instant::from_nanos(now.into()), &memory),
                Step::Manage => while adapter.take_task_management(&memory).is_some() {},
                Step::Message(target, lun) => {
                    adapter.post_message(Hotplug::Added { target: target % 64, lun });
                }
                Step::Kicks(true) => adapter.want_kicks(NOW, &memory),
                Step::Kicks(false) => adapter.forgo_kicks(&memory),
                Step::NoMemory => {
                    memory = Memory::empty();
                    adapter.memory_changed(&memory);
                }
                Step::Memory => {
                    memory = driver.memory.clone();
                    adapter.memory_changed(&memory);
                }
                Step::Reset => {
                    adapter.reset();
                    for id in core::mem::take(&mut running) {
                        prop_assert!(!adapter.complete(&memory, id, &GOOD));
                    }
                }
                Step::Mode(on) => adapter.set_irq_mode(if on { IrqMode::MsiX } else { IrqMode::Intx }),
                Step::Die => {
                    adapter = successor(&hot, &adapter.state(), &memory);
                    running = take_resumed(&mut adapter, &memory).iter().map(|one| one.id).collect();
                }
                Step::DieWith(state) => {
                    adapter = successor(&hot, &state, &memory);
                    running = take_resumed(&mut adapter, &memory).iter().map(|one| one.id).collect();
                }
            }
            let _ = (adapter.interrupts(), adapter.deadline(), adapter.has_work(), adapter.settling());
            prop_assert!(running.len() <= COMMANDS_MAX);
            prop_assert!(adapter.state().len() <= STATE_MAX);
        }
        // Whatever it did, a reset and a set-up bring it back.
        memory = driver.memory.clone();
        adapter.memory_changed(&memory);
        for id in running {
            prop_assert!(adapter.complete(&memory, id, &Answer::Aborted));
        }
        driver.start(&mut adapter);
        prop_assert!(!adapter.settling());
        prop_assert!(driver.post(&super::driver::Request::read(77)));
        super::driver::run(&mut adapter, &memory);
        prop_assert_eq!(driver.consume().map(|end| (end.context, end.host_status)), Some((77, 0)));
    }
}
