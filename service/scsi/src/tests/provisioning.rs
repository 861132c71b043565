use alloc::vec;
use alloc::vec::Vec;
use request::{Blocks, Extent, Lba, Operation};

use super::{NEXUS, facts, failure, operations, refused, response, unit, with_list};
use crate::{Unit, Verdict};

fn extent(first: u64, count: u64) -> Extent {
    facts().extent(Lba(first), Blocks(count)).unwrap()
}

fn unmap_list(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let bytes = descriptors.len() * 16;
    let mut list = vec![0; 8];
    list[..2].copy_from_slice(&u16::try_from(bytes + 6).unwrap().to_be_bytes());
    list[2..4].copy_from_slice(&u16::try_from(bytes).unwrap().to_be_bytes());
    for (lba, count) in descriptors {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&count.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

fn unmap(unit: &mut Unit, list: &[u8]) -> Verdict {
    let [high, low] = u16::try_from(list.len()).unwrap().to_be_bytes();
    with_list(unit, NEXUS, &[0x42, 0, 0, 0, 0, 0, 0, high, low, 0], list)
}

#[test]
fn unmap_gives_back_each_descriptor() {
    let mut unit = unit(facts());
    let list = [
        0x00, 0x26, 0x00, 0x20, 0, 0, 0, 0, // lengths 38 and 32
        0, 0, 0, 0, 0, 0, 0x01, 0x00, 0x00, 0x00, 0x00, 0x08, 0, 0, 0, 0, // 8 at 256
        0, 0, 0, 0, 0x00, 0x1f, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01, 0, 0, 0, 0, // the last
    ];
    let Verdict::Medium(plan) = unmap(&mut unit, &list) else { panic!() };
    assert_eq!((plan.data_in(), plan.data_out()), (0, 40));
    let expected = [Operation::Discard(extent(256, 8)), Operation::Discard(extent(0x1f_ffff, 1))];
    assert_eq!(plan.collect::<Vec<_>>(), expected);
}

#[test]
fn unmap_of_nothing_is_good() {
    let mut unit = unit(facts());
    assert_eq!(response(&mut unit, NEXUS, &[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0]).status, 0x00);
    for list in [unmap_list(&[]), unmap_list(&[(7, 0), (2_097_152, 0)])] {
        let Verdict::Respond(response) = unmap(&mut unit, &list) else { panic!() };
        assert_eq!((response.status, response.data_out), (0x00, list.len() as u64));
    }
}

#[test]
fn unmap_refuses_a_list_that_is_cut_short() {
    let mut unit = unit(facts());
    assert_eq!(failure(&mut unit, &[0x42, 0, 0, 0, 0, 0, 0, 0, 7, 0]), (0x5, 0x1a, 0x00));
    let list = unmap_list(&[(0, 8), (8, 8)]);
    // The header says more than there is.
    assert_eq!(refused(unmap(&mut unit, &list[..39])), (0x5, 0x1a, 0x00));
    // The initiator sent less than the CDB says.
    let short = with_list(&mut unit, NEXUS, &[0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0], &list[..24]);
    assert_eq!(refused(short), (0x5, 0x1a, 0x00));
    // UNMAP DATA LENGTH less than the descriptors need.
    let mut list = unmap_list(&[(0, 8)]);
    list[1] = 21;
    assert_eq!(refused(unmap(&mut unit, &list)), (0x5, 0x1a, 0x00));
}

#[test]
fn unmap_ignores_an_incomplete_last_descriptor() {
    let mut unit = unit(facts());
    let mut list = unmap_list(&[(0, 8), (8, 8)]);
    list[3] = 31;
    let Verdict::Medium(plan) = unmap(&mut unit, &list) else { panic!() };
    assert_eq!(plan.collect::<Vec<_>>(), [Operation::Discard(extent(0, 8))]);
}

#[test]
fn unmap_changes_nothing_if_any_descriptor_is_wrong() {
    let mut unit = unit(facts());
    let list = unmap_list(&[(0, 8), (2_097_151, 2)]);
    assert_eq!(refused(unmap(&mut unit, &list)), (0x5, 0x21, 0x00));
}

#[test]
fn unmap_keeps_its_limits() {
    let mut unit = unit(facts());
    let most: Vec<_> = (0..256).map(|at| (at * 8, 8)).collect();
    let Verdict::Medium(plan) = unmap(&mut unit, &unmap_list(&most)) else { panic!() };
    assert_eq!(plan.count(), 256);
    let more: Vec<_> = (0..257).map(|at| (at * 8, 8)).collect();
    assert_eq!(refused(unmap(&mut unit, &unmap_list(&more))), (0x5, 0x26, 0x00));

    let mut large = facts();
    large.blocks = Blocks(1 << 40);
    let mut large = super::unit(large);
    let limit = 1_048_576;
    assert!(matches!(unmap(&mut large, &unmap_list(&[(0, limit)])), Verdict::Medium(_)));
    let over = unmap(&mut large, &unmap_list(&[(0, limit), (1 << 30, 1)]));
    let Verdict::Respond(over) = over else { panic!() };
    // The pointer names the block count of the second descriptor.
    assert_eq!(&over.sense_data().unwrap()[12..], [0x26, 0x00, 0, 0x80, 0x00, 32]);
}

#[test]
fn a_unit_that_cannot_give_space_back_has_no_unmap() {
    let mut thick = facts();
    thick.discard = None;
    let mut unit = unit(thick);
    assert_eq!(failure(&mut unit, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), (0x5, 0x20, 0x00));
    let refusal = response(&mut unit, NEXUS, &[0x41, 0x08, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(&refusal.sense_data().unwrap()[12..], [0x24, 0x00, 0, 0xcb, 0x00, 0x01]);
}

#[test]
fn write_same_looks_at_its_block() {
    let mut unit = unit(facts());
    let extent = extent(16, 8);
    let zeroes = |unmap| Operation::WriteZeroes { extent, unmap, fua: false };
    let same = Operation::WriteSame { extent, fua: false };
    let mut odd = [0; 512];
    odd[511] = 1;
    for (flags, block, expected) in [
        (0x00, [0; 512], zeroes(false)),
        (0x08, [0; 512], zeroes(true)),
        (0x00, odd, same),
        (0x08, odd, same),
    ] {
        for cdb in [
            &[0x41, flags, 0, 0, 0, 16, 0, 0, 8, 0][..],
            &[0x93, flags, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0],
        ] {
            let Verdict::Medium(plan) = with_list(&mut unit, NEXUS, cdb, &block) else { panic!() };
            assert_eq!(plan.data_out(), 512);
            assert_eq!(plan.collect::<Vec<_>>(), [expected], "{cdb:02x?}");
        }
    }
}

#[test]
fn write_same_without_a_buffer_means_zeroes() {
    let mut unit = unit(facts());
    let cdb = [0x93, 0x09, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0];
    let plan = super::plan(&mut unit, &cdb);
    assert_eq!(plan.data_out(), 0);
    let expected = Operation::WriteZeroes { extent: extent(16, 8), unmap: true, fua: false };
    assert_eq!(operations(&mut unit, &cdb), [expected]);
    // NDOB is not of WRITE SAME(10).
    assert_eq!(failure(&mut unit, &[0x41, 0x01, 0, 0, 0, 0, 0, 0, 1, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn write_same_refuses() {
    let mut unit = unit(facts());
    // LBDATA, PBDATA, ANCHOR, a protection field.
    for bit in [0x02, 0x04, 0x10, 0x20] {
        assert_eq!(failure(&mut unit, &[0x41, bit, 0, 0, 0, 0, 0, 0, 1, 0]), (0x5, 0x24, 0x00));
    }
    // No blocks (WSNZ), more than the maximum, and behind the end.
    assert_eq!(failure(&mut unit, &[0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (0x5, 0x24, 0x00));
    let more = [0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x01, 0x00, 0x01, 0, 0];
    assert_eq!(failure(&mut unit, &more), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x41, 0, 0x00, 0x1f, 0xff, 0xff, 0, 0, 2, 0]), (0x5, 0x21, 0x00));
    // Less than a block was offered.
    let short = with_list(&mut unit, NEXUS, &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0], &[0; 511]);
    assert_eq!(refused(short), (0x5, 0x1a, 0x00));
}
