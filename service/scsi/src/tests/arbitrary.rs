//! Whatever comes: no panic, and every verdict keeps its promises.

use alloc::vec::Vec;
use proptest::prelude::*;
use request::{Blocks, Discard, Operation};

use super::{command, facts};
use crate::{
    Nexus, PARAMETERS_MAX_BYTES, State, TRANSFER_MAX_BYTES, Unit, Verdict, no_unit, rows, well_known,
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
            let mut unit = Unit::new(facts);
            let _ = unit.execute(&command(Nexus(0), &[0; 6]), None, &mut Vec::new());
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
        | Operation::WriteZeroes { extent, .. }
        | Operation::WriteSame { extent, .. }
        | Operation::Discard(extent) => {
            assert!(!facts.read_only);
            assert!(extent.first().0 + extent.count().0 <= facts.blocks.0);
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
        list in proptest::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..5000),
    ) {
        for cdb in &cdbs {
            let mut out = Vec::new();
            let command = command(Nexus(0), cdb);
            let mut verdict = unit.execute(&command, None, &mut out);
            if let Verdict::Parameters(bytes) = verdict {
                prop_assert!(bytes <= PARAMETERS_MAX_BYTES && bytes > 0);
                verdict = unit.execute(&command, Some(&list[..list.len().min(bytes)]), &mut out);
            }
            match verdict {
                Verdict::Respond(response) => {
                    prop_assert_eq!(response.sense.is_some(), response.status == 0x02);
                    prop_assert!(response.status == 0x00 || out.is_empty());
                    prop_assert!(out.len() < 1024);
                }
                Verdict::Parameters(_) => prop_assert!(false, "asked twice"),
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
            }
            let state = unit.state();
            prop_assert_eq!(State::decode(&state.encode()), Some(state));
        }
    }

    #[test]
    fn any_command_to_no_unit_is_answered(cdb in any_cdb()) {
        for ask in [no_unit, well_known] {
            let mut out = Vec::new();
            prop_assert!(matches!(ask(&command(Nexus(0), &cdb), &mut out), Verdict::Respond(_)));
            prop_assert!(out.len() < 1024);
        }
    }

    #[test]
    fn any_stored_state_is_a_unit(bytes in proptest::array::uniform32(any::<u8>())) {
        let mut stored = [0; crate::STATE_BYTES];
        for (at, byte) in stored.iter_mut().enumerate() {
            *byte = bytes[at % 32];
        }
        stored[..4].copy_from_slice(&[1, 0, 0, 0]);
        let mut unit = Unit::restore(facts(), &State::decode(&stored).unwrap());
        // Each pending condition is told once, and then commands run: there are seven.
        let ready = (0..8).any(|_| {
            let told = super::response(&mut unit, Nexus(5), &[0; 6]);
            told.sense.is_none_or(|sense| sense.key as u8 != 0x6)
        });
        prop_assert!(ready);
    }
}
