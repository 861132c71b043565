//! GET LBA STATUS, READ DEFECT DATA, and the soft threshold.

use alloc::vec::Vec;

use super::bench::{BLOCKS, Bench, small};
use super::{NEXUS, OTHER, codes, data, facts, response};
use crate::{Profile, Unit};

fn get_lba_status(first: u64, allocation: u32) -> [u8; 16] {
    let mut cdb = [0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    cdb[2..10].copy_from_slice(&first.to_be_bytes());
    cdb[10..14].copy_from_slice(&allocation.to_be_bytes());
    cdb
}

/// Address, number, PROVISIONING STATUS.
fn descriptors(data: &[u8]) -> Vec<(u64, u32, u8)> {
    let length = u32::from_be_bytes([data[0], data[1], data[2], data[3]]);
    assert_eq!(length as usize + 4, data.len());
    assert_eq!(data[4..8], [0; 4]);
    data[8..]
        .chunks(16)
        .map(|bytes| {
            let mut first = [0; 8];
            first.copy_from_slice(&bytes[..8]);
            assert_eq!(bytes[13..], [0; 3]);
            let count = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
            (u64::from_be_bytes(first), count, bytes[12])
        })
        .collect()
}

#[test]
fn runs_that_are_alike_are_one() {
    let mut bench = Bench::new();
    bench.mapped[16..24].fill(false);
    bench.mapped[32..].fill(false);
    let (good, data) = bench.allocation(&get_lba_status(0, 256));
    assert_eq!(good.status, 0x00);
    // The store is asked 1024 times, and says three blocks at a time: 6 + 3 + 3 questions for the first
    // three runs, and 1012 for what is told of the last.
    assert_eq!(descriptors(&data), [(0, 16, 0), (16, 8, 1), (24, 8, 0), (32, 3036, 1)]);
    // From the middle of a run.
    let (_, data) = bench.allocation(&get_lba_status(19, 40));
    assert_eq!(descriptors(&data), [(19, 5, 1), (24, 8, 0)]);
}

#[test]
fn the_answer_is_cut_to_the_allocation_length() {
    let mut bench = Bench::new();
    bench.mapped[16..].fill(false);
    let (_, whole) = bench.allocation(&get_lba_status(0, 24));
    assert_eq!(whole[..8], [0, 0, 0, 20, 0, 0, 0, 0]);
    assert_eq!(whole[8..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0]);
    for allocation in [0u32, 4, 20] {
        let (good, cut) = bench.allocation(&get_lba_status(0, allocation));
        assert_eq!((good.status, &cut[..]), (0x00, &whole[..allocation as usize]));
    }
    let (_, last) = bench.allocation(&get_lba_status(BLOCKS - 1, 1024));
    assert_eq!(descriptors(&last), [(BLOCKS - 1, 1, 1)]);
    for beyond in [BLOCKS, BLOCKS + 1, 1 << 63, u64::MAX] {
        let (refused, none) = bench.allocation(&get_lba_status(beyond, 24));
        assert_eq!((codes(&refused), none.len()), ((0x5, 0x21, 0x00), 0));
    }
}

#[test]
fn a_run_longer_than_its_field_goes_on_in_the_next() {
    let large = crate::Facts { blocks: request::Blocks((1 << 33) + 5), ..facts() };
    let mut unit = super::unit(large);
    let cdb = get_lba_status(2, 1024);
    let outcome = unit.execute(&super::command(NEXUS, &cdb), None, &mut Vec::new());
    let crate::Verdict::Allocation(wanted) = outcome.verdict else { panic!() };
    let ask =
        |_| request::Run { blocks: request::Blocks(u64::MAX), state: request::Provisioning::Deallocated };
    let mut out = Vec::new();
    let _ = unit.finish_allocation(outcome.task, &wanted, ask, &mut out);
    let most = u32::MAX;
    assert_eq!(
        descriptors(&out),
        [(2, most, 1), (2 + u64::from(most), most, 1), (2 + 2 * u64::from(most), 5, 1)]
    );
    assert_eq!(unit.tasks(), 0);
}

#[test]
fn there_are_no_defects() {
    let mut unit = super::unit(facts());
    let ten = |byte2| [0x37, 0, byte2, 0, 0, 0, 0, 0, 32, 0];
    // PLISTV and GLISTV as they were asked for, and an empty list.
    assert_eq!(data(&mut unit, &ten(0x00)), [0, 0x00, 0, 0]);
    assert_eq!(data(&mut unit, &ten(0x1d)), [0, 0x1d, 0, 0]);
    let twelve = |byte1| [0xb7, byte1, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];
    assert_eq!(data(&mut unit, &twelve(0x0b)), [0, 0x0b, 0, 0, 0, 0, 0, 0]);
    assert_eq!(super::failure(&mut unit, &ten(0x06)), (0x5, 0x24, 0x00));
    assert_eq!(super::failure(&mut unit, &twelve(0x07)), (0x5, 0x24, 0x00));
}

#[test]
fn the_soft_threshold_is_told_once_until_it_was_below() {
    let profile = Profile { thin_threshold_percent: Some(80), ..Profile::default() };
    let mut unit = super::unit(small());
    unit.profile = profile;
    let told = |unit: &mut Unit| {
        [NEXUS, OTHER].map(|nexus| response(unit, nexus, &[0; 6]).sense.map(|sense| (sense.asc, sense.ascq)))
    };
    let reached = Some((0x38, 0x07));
    // 80 % of 4097 blocks are 3277.6.
    unit.allocated(3277);
    assert_eq!(told(&mut unit), [None, None]);
    unit.allocated(3278);
    assert_eq!(told(&mut unit), [reached, reached]);
    unit.allocated(4097);
    assert_eq!(told(&mut unit), [None, None]);
    // A successor knows that it was told.
    let mut unit = Unit::restore(small(), profile, &{
        unit.seen();
        unit.state()
    });
    unit.allocated(4000);
    assert_eq!(told(&mut unit), [None, None]);
    unit.allocated(3000);
    unit.allocated(3300);
    assert_eq!(told(&mut unit), [reached, reached]);
    // An owner who named no threshold wants none.
    unit.profile = Profile::default();
    unit.allocated(0);
    unit.allocated(4097);
    assert_eq!(told(&mut unit), [None, None]);
}
