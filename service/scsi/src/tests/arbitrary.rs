//! Whatever comes: no panic, and every verdict keeps its promises.

use alloc::vec::Vec;
use proptest::prelude::*;
use request::{Blocks, Discard, Operation};

use super::bench::Machine;
use super::{NEXUS, command, facts, run_command};
use crate::{
    At, Command, Do, Kind, PARAMETERS_MAX_BYTES, Profile, Sense, Status, TRANSFER_MAX_BYTES, Unit, Verdict,
    no_unit, rows, well_known,
};

/// A CDB that has a row, with few bits set, so that most are not refused at the door.
fn likely_cdb() -> impl Strategy<Value = Vec<u8>> {
    (0..rows().len(), proptest::array::uniform32(any::<u8>()), any::<u32>()).prop_map(
        |(row, noise, zeroed)| {
            let row = &rows()[row];
            let mut cdb: Vec<u8> = row.usage.iter().zip(noise).map(|(usage, noise)| usage & noise).collect();
            for (at, byte) in cdb.iter_mut().enumerate().skip(1) {
                if zeroed >> at & 1 != 0 {
                    *byte = 0;
                }
            }
            cdb[0] = row.opcode;
            if let Some(action) = row.action {
                cdb[1] = action;
            }
            cdb
        },
    )
}

fn any_cdb() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![likely_cdb(), proptest::collection::vec(any::<u8>(), 0..40)]
}

fn any_unit() -> impl Strategy<Value = Unit> {
    (0..3u64, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(size, large_blocks, read_only, write_cache, thin)| {
            let mut facts = facts();
            facts.blocks = Blocks([0, 1000, 1 << 50][size as usize]);
            facts.block_size = if large_blocks { 4096 } else { 512 };
            facts.read_only = read_only;
            facts.write_cache = write_cache;
            facts.discard = thin.then_some(Discard { granularity: Blocks(1), zeroes: false });
            let mut unit = super::attached(facts);
            if large_blocks && !write_cache {
                unit.set_profile(Profile { kind: Kind::CdRom, ..Profile::default() });
            }
            let _ = super::response(&mut unit, NEXUS, &[0; 6]);
            let _ = super::response(&mut unit, NEXUS, &[0; 6]);
            unit
        },
    )
}

fn within(unit: &Unit, operation: Operation) {
    let facts = unit.facts();
    match operation {
        Operation::Read(extent) => assert!(extent.len_bytes() <= TRANSFER_MAX_BYTES),
        Operation::Flush => {}
        Operation::Write { extent, .. }
        | Operation::WriteAtomic { extent, .. }
        | Operation::WriteZeroes { extent, .. }
        | Operation::WriteSame { extent, .. }
        | Operation::Discard(extent) => {
            assert!(extent.first().0 + extent.count().0 <= facts.blocks.0);
            assert!(!facts.read_only);
            assert!(!extent.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_command_is_answered(
        mut unit in any_unit(),
        cdbs in proptest::collection::vec(any_cdb(), 1..8),
        offered in prop_oneof![Just(0), Just(1024), Just(4096 * 2), 0..5000u64],
        list in proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..5000),
    ) {
        for cdb in &cdbs {
            let mut out = Vec::new();
            let command = Command { data_out: offered, ..command(NEXUS, cdb) };
            let asked = unit.execute(&command, None, &mut out);
            if let Verdict::Parameters(bytes) = asked.verdict {
                prop_assert!(bytes <= PARAMETERS_MAX_BYTES && bytes > 0);
            }
            let _ = unit.finish(asked.task, Status::Good);
            out.clear();
            let verdict = run_command(&mut unit, &command, Some(&list), &mut out);
            match verdict {
                Verdict::Respond(response) => {
                    prop_assert_eq!(response.sense.is_some(), response.status == 0x02);
                    prop_assert!(response.status == 0x00 || out.is_empty());
                    prop_assert!(out.len() < 8192);
                }
                Verdict::Medium(plan) => {
                    prop_assert!(out.is_empty());
                    prop_assert!(plan.data_in() == 0 || plan.data_out() == 0);
                    let mut count = 0;
                    for operation in plan {
                        within(&unit, operation);
                        count += 1;
                    }
                    prop_assert!((1..=256).contains(&count));
                }
                Verdict::Work(work) => {
                    prop_assert!(out.is_empty());
                    let mut machine = Machine::new(work, &list);
                    let mut steps = 0;
                    while let Do::Disk { at, operation, .. } =
                        machine.work.next(Status::Good, &mut machine.memories)
                    {
                        prop_assert_eq!(at, At::Own);
                        within(&unit, operation);
                        steps += 1;
                        prop_assert!(steps < 100, "{:?}", machine.work);
                    }
                }
                Verdict::Allocation(_) | Verdict::Settle(_) | Verdict::Wait => prop_assert!(out.is_empty()),
                other => prop_assert!(false, "{other:?}"),
            }
            if unit.background().is_some() {
                unit.finish_background(if offered % 3 == 0 { Err(Sense::WRITE_ERROR) } else { Ok(()) });
            }
            let state = unit.state();
            let restored = Unit::restore(unit.facts().clone(), *unit.profile(), &state);
            prop_assert_eq!(restored.state(), state);
        }
    }

    #[test]
    fn any_command_to_no_unit_is_answered(cdb in any_cdb()) {
        for ask in [no_unit, well_known] {
            let mut out = Vec::new();
            prop_assert!(matches!(ask(&command(NEXUS, &cdb), &mut out), Verdict::Respond(_)));
            prop_assert!(out.len() < 1024);
        }
    }

    #[test]
    fn any_stored_state_is_a_unit(
        version in 0..4u32,
        noise in proptest::collection::vec((0..40u16, proptest::collection::vec(any::<u8>(), 0..100)), 0..6),
        cut in 0..600usize,
    ) {
        let mut stored = Vec::from(version.to_le_bytes());
        for (tag, bytes) in noise {
            stored.extend_from_slice(&tag.to_le_bytes());
            stored.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            stored.extend_from_slice(&bytes);
        }
        stored.truncate(cut);
        let mut unit = Unit::restore(facts(), Profile::default(), &stored);
        let nexus = unit.attach(super::peer(0)).unwrap();
        // Each pending condition is told once, and then commands run.
        let ready = (0..20).any(|_| {
            let told = super::response(&mut unit, nexus, &[0; 6]);
            told.sense.is_none_or(|sense| sense.key as u8 != 0x6)
        });
        prop_assert!(ready);
        prop_assert_eq!(Unit::restore(facts(), Profile::default(), &unit.state()).state(), unit.state());
    }
}
