use alloc::vec;
use request::{Blocks, Extent, Lba, Operation};

use super::{codes, data, facts, failure, operations, plan, response, unit};
use crate::Unit;

fn extent(first: u64, count: u64) -> Extent {
    facts().extent(Lba(first), Blocks(count)).unwrap()
}

/// The four lengths of one command at the same place.
fn lengths(six: Option<u8>, ten: u8, twelve: u8, sixteen: u8, flags: u8) -> vec::Vec<vec::Vec<u8>> {
    let mut all = vec![
        vec![ten, flags, 0x00, 0x1f, 0x00, 0x10, 0, 0x00, 0x08, 0],
        vec![twelve, flags, 0x00, 0x1f, 0x00, 0x10, 0, 0, 0x00, 0x08, 0, 0],
        vec![sixteen, flags, 0, 0, 0, 0, 0x00, 0x1f, 0x00, 0x10, 0, 0, 0x00, 0x08, 0, 0],
    ];
    if let Some(six) = six {
        all.push(vec![six, 0x1f, 0x00, 0x10, 0x08, 0]);
    }
    all
}

#[test]
fn reads_of_every_length() {
    let mut unit = unit(facts());
    for cdb in lengths(Some(0x08), 0x28, 0xa8, 0x88, 0x10) {
        let mut plan = plan(&mut unit, &cdb);
        assert_eq!((plan.data_in(), plan.data_out()), (4096, 0), "{cdb:02x?}");
        assert_eq!(plan.next(), Some(Operation::Read(extent(0x1f_0010, 8))));
        assert_eq!(plan.next(), None);
    }
}

#[test]
fn writes_of_every_length() {
    let mut unit = unit(facts());
    for (flags, fua) in [(0x00, false), (0x08, true), (0x10, false), (0x18, true)] {
        for cdb in lengths((flags == 0).then_some(0x0a), 0x2a, 0xaa, 0x8a, flags) {
            let mut plan = plan(&mut unit, &cdb);
            assert_eq!((plan.data_in(), plan.data_out()), (0, 4096), "{cdb:02x?}");
            assert_eq!(plan.next(), Some(Operation::Write { extent: extent(0x1f_0010, 8), fua }));
            assert_eq!(plan.next(), None);
        }
    }
}

#[test]
fn a_write_of_data_that_was_cut_short_can_be_cut() {
    let mut unit = unit(facts());
    let write = [0x2a, 0x08, 0, 0, 0, 5, 0, 0, 3, 0];
    for (offered, blocks) in [(1535, 2), (1024, 2), (1023, 1), (1536, 3), (9999, 3)] {
        let mut cut = plan(&mut unit, &write).cut_data_out(offered).unwrap();
        assert_eq!(cut.data_out(), 512 * blocks);
        assert_eq!(cut.next(), Some(Operation::Write { extent: extent(5, blocks), fua: true }));
    }
    let mut nothing = plan(&mut unit, &write).cut_data_out(511).unwrap();
    assert_eq!((nothing.data_out(), nothing.next()), (0, None));
    // Atomic is all or nothing.
    let atomic = [0x9c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0];
    assert_eq!(plan(&mut unit, &atomic).cut_data_out(4096), None);
}

#[test]
fn synchronize_cache_flushes() {
    let mut unit = unit(facts());
    assert_eq!(operations(&mut unit, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [Operation::Flush]);
    assert_eq!(operations(&mut unit, &[0x35, 0x02, 0, 0, 0, 5, 0, 0, 9, 0]), [Operation::Flush]);
    assert_eq!(operations(&mut unit, &[0x35, 0x06, 0, 0, 0, 5, 0, 0, 9, 0]), [Operation::Flush]);
    assert_eq!(
        operations(&mut unit, &[0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        [Operation::Flush]
    );
    assert_eq!(failure(&mut unit, &[0x35, 0, 0x00, 0x1f, 0xff, 0xff, 0, 0, 2, 0]), (0x5, 0x21, 0x00));
}

#[test]
fn fua_on_a_read_flushes_a_volatile_cache_first() {
    let cdb = [0x28, 0x08, 0, 0, 0, 0, 0, 0, 1, 0];
    let plan = plan(&mut unit(facts()), &cdb);
    assert_eq!(plan.data_in(), 512);
    assert_eq!(plan.collect::<vec::Vec<_>>(), [Operation::Flush, Operation::Read(extent(0, 1))]);
    let mut steady = facts();
    steady.write_cache = false;
    assert_eq!(operations(&mut unit(steady), &cdb), [Operation::Read(extent(0, 1))]);
}

#[test]
fn a_six_byte_command_of_zero_blocks_means_256() {
    let mut unit = unit(facts());
    assert_eq!(operations(&mut unit, &[0x08, 0, 0, 0, 0, 0]), [Operation::Read(extent(0, 256))]);
    let write = Operation::Write { extent: extent(3, 256), fua: false };
    assert_eq!(operations(&mut unit, &[0x0a, 0, 0, 3, 0, 0]), [write]);
}

#[test]
fn zero_blocks_move_nothing_but_have_to_be_there() {
    let mut unit = unit(facts());
    for opcode in [0x28, 0x2a, 0x2f] {
        assert_eq!(response(&mut unit, super::NEXUS, &[opcode, 0, 0, 0, 0, 0, 0, 0, 0, 0]).status, 0x00);
        let end = [opcode, 0, 0x00, 0x20, 0x00, 0x00, 0, 0, 0, 0];
        assert_eq!(failure(&mut unit, &end), (0x5, 0x21, 0x00));
    }
}

#[test]
fn the_last_block_is_there_and_the_next_is_not() {
    let mut unit = unit(facts());
    let last = [0x28, 0, 0x00, 0x1f, 0xff, 0xff, 0, 0, 1, 0];
    assert_eq!(operations(&mut unit, &last), [Operation::Read(extent(0x1f_ffff, 1))]);
    assert_eq!(failure(&mut unit, &[0x28, 0, 0x00, 0x1f, 0xff, 0xff, 0, 0, 2, 0]), (0x5, 0x21, 0x00));
    let far = [0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2, 0, 0];
    assert_eq!(failure(&mut unit, &far), (0x5, 0x21, 0x00));
}

#[test]
fn more_than_the_maximum_transfer_length_is_refused_with_its_place() {
    let mut unit = unit(facts());
    let most = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x01, 0x00, 0x00, 0, 0];
    assert_eq!(plan(&mut unit, &most).data_in(), 33_554_432);
    let more = [0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x01, 0x00, 0x01, 0, 0];
    let refusal = response(&mut unit, super::NEXUS, &more);
    assert_eq!(codes(&refusal), (0x5, 0x24, 0x00));
    assert_eq!(&refusal.sense_data().unwrap()[15..], [0xc0, 0x00, 0x0a]);
}

#[test]
fn protection_fields_are_refused() {
    let mut unit = unit(facts());
    for bits in [0x20, 0x40, 0x80] {
        assert_eq!(failure(&mut unit, &[0x28, bits, 0, 0, 0, 0, 0, 0, 1, 0]), (0x5, 0x24, 0x00));
        assert_eq!(failure(&mut unit, &[0x2a, bits, 0, 0, 0, 0, 0, 0, 1, 0]), (0x5, 0x24, 0x00));
    }
}

#[test]
fn a_write_protected_unit_is_not_written() {
    let mut facts = facts();
    facts.read_only = true;
    let mut unit = unit(facts);
    for cdb in lengths(Some(0x0a), 0x2a, 0xaa, 0x8a, 0) {
        assert_eq!(failure(&mut unit, &cdb), (0x7, 0x27, 0x00));
    }
    assert_eq!(failure(&mut unit, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0]), (0x7, 0x27, 0x00));
    assert_eq!(failure(&mut unit, &[0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0]), (0x7, 0x27, 0x00));
    assert_eq!(plan(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).data_in(), 512);
    assert_eq!(operations(&mut unit, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]), [Operation::Flush]);
}

#[test]
fn a_stopped_unit_waits_to_be_started() {
    let mut unit = unit(facts());
    assert_eq!(operations(&mut unit, &[0x1b, 0, 0, 0, 0, 0]), [Operation::Flush]);
    let not_ready = (0x2, 0x04, 0x02);
    assert_eq!(failure(&mut unit, &[0; 6]), not_ready);
    assert_eq!(failure(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]), not_ready);
    assert_eq!(data(&mut unit, &[0x12, 0, 0, 0, 36, 0]).len(), 36);
    assert_eq!(data(&mut unit, &[0x03, 0, 0, 0, 18, 0])[2], 0x02);
    assert_eq!(response(&mut unit, super::OTHER, &[0x1b, 0, 0, 0, 0x01, 0]).status, 0x00);
    assert_eq!(response(&mut unit, super::NEXUS, &[0; 6]).status, 0x00);
    // NO_FLUSH.
    assert_eq!(response(&mut unit, super::NEXUS, &[0x1b, 0, 0, 0, 0x04, 0]).status, 0x00);
    assert_eq!(failure(&mut unit, &[0; 6]), not_ready);
}

#[test]
fn preventing_removal_is_allowed() {
    let mut unit: Unit = unit(facts());
    assert_eq!(response(&mut unit, super::NEXUS, &[0x1e, 0, 0, 0, 1, 0]).status, 0x00);
    assert_eq!(response(&mut unit, super::NEXUS, &[0x1e, 0, 0, 0, 0, 0]).status, 0x00);
}
