use alloc::vec;
use alloc::vec::Vec;
use request::{Blocks, Operation};

use super::{NEXUS, OTHER, codes, data, facts, failure, operations, refused, response, unit, with_list};
use crate::{Reset, Unit, Verdict};

const ERROR_RECOVERY: [u8; 12] = [0x01, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const DISCONNECT: [u8; 16] = [0x02, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// PS and WCE.
const CACHING: [u8; 20] = [0x88, 0x12, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// PS, GLTSD, QUEUE ALGORITHM MODIFIER 1, TAS.
const CONTROL: [u8; 12] = [0x8a, 0x0a, 0x02, 0x10, 0, 0x40, 0, 0, 0xff, 0xff, 0, 0];
const EXCEPTIONS: [u8; 12] = [0x1c, 0x0a, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn power_condition() -> [u8; 40] {
    let mut page = [0; 40];
    page[..2].copy_from_slice(&[0x1a, 0x26]);
    page
}

fn control_extension() -> [u8; 32] {
    let mut page = [0; 32];
    // SPF; TCMOS and IALUAE.
    page[..5].copy_from_slice(&[0x4a, 0x01, 0x00, 0x1c, 0x05]);
    page
}

#[test]
fn all_pages_with_a_short_descriptor() {
    let mut unit = unit(facts());
    let mut expected = vec![123, 0x00, 0x10, 0x08, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00];
    let power = power_condition();
    for page in [&ERROR_RECOVERY[..], &DISCONNECT, &CACHING, &CONTROL, &power, &EXCEPTIONS] {
        expected.extend_from_slice(page);
    }
    assert_eq!(data(&mut unit, &[0x1a, 0, 0x3f, 0, 255, 0]), expected);
    assert_eq!(data(&mut unit, &[0x1a, 0, 0x3f, 0, 4, 0]), expected[..4]);
    // With the subpages.
    let extension = control_extension();
    expected.splice(72..72, extension);
    expected[0] = 155;
    assert_eq!(data(&mut unit, &[0x1a, 0, 0x3f, 0xff, 255, 0]), expected);
    assert_eq!(data(&mut unit, &[0x1a, 8, 0x0a, 0xff, 255, 0])[4..], [&CONTROL[..], &extension].concat());
    assert_eq!(data(&mut unit, &[0x1a, 8, 0x0a, 0x01, 255, 0])[4..], extension);
}

#[test]
fn a_soft_threshold_is_a_subpage() {
    let profile = crate::Profile { thin_threshold_percent: Some(80), ..crate::Profile::default() };
    let mut unit = Unit::new(facts(), profile);
    let _ = unit.attach(super::peer(0));
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    let mut expected = [0; 24];
    expected[..4].copy_from_slice(&[0x5c, 0x02, 0x00, 0x14]);
    // ENABLED, soft, increasing; used LBA mapping; 80% of 2,097,152 blocks by twos: 838,860.
    expected[16..24].copy_from_slice(&[0x81, 0x02, 0, 0, 0x00, 0x0c, 0xcc, 0xcc]);
    assert_eq!(data(&mut unit, &[0x1a, 8, 0x1c, 0x02, 255, 0])[4..], expected);
    assert_eq!(failure(&mut super::unit(facts()), &[0x1a, 8, 0x1c, 0x02, 255, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn ten_bytes_with_each_descriptor() {
    let mut unit = unit(facts());
    let mut expected = vec![0, 26, 0x00, 0x10, 0, 0, 0, 0];
    expected.extend_from_slice(&CACHING);
    assert_eq!(data(&mut unit, &[0x5a, 0x08, 0x08, 0, 0, 0, 0, 0, 255, 0]), expected);
    let short = data(&mut unit, &[0x5a, 0, 0x08, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!(short[..16], [0, 34, 0x00, 0x10, 0, 0, 0, 8, 0x00, 0x20, 0x00, 0x00, 0, 0, 0x02, 0x00]);
    let long = data(&mut unit, &[0x5a, 0x10, 0x08, 0, 0, 0, 0, 0, 255, 0]);
    assert_eq!(long[..8], [0, 42, 0x00, 0x10, 0x01, 0, 0, 16]);
    assert_eq!(long[8..24], [0, 0, 0, 0, 0x00, 0x20, 0x00, 0x00, 0, 0, 0, 0, 0x00, 0x00, 0x02, 0x00]);
    assert_eq!(long[24..], CACHING);
}

#[test]
fn more_blocks_than_a_short_descriptor_holds() {
    let mut facts = facts();
    facts.blocks = Blocks(1 << 33);
    facts.block_size = 4096;
    let short = data(&mut unit(facts), &[0x1a, 0, 0x08, 0, 255, 0]);
    assert_eq!(short[4..12], [0xff, 0xff, 0xff, 0xff, 0, 0x00, 0x10, 0x00]);
}

/// One page with the given PC, without descriptors.
fn page(unit: &mut Unit, control: u8, code: u8) -> Vec<u8> {
    let mut all = data(unit, &[0x1a, 0x08, control << 6 | code, 0, 255, 0]);
    assert_eq!(all[1], 0x00);
    all.split_off(4)
}

#[test]
fn changeable_default_and_saved_values() {
    let mut unit = unit(facts());
    let mut wce = [0; 20];
    wce[..3].copy_from_slice(&[0x88, 0x12, 0x04]);
    assert_eq!(page(&mut unit, 1, 0x08), wce);
    let mut d_sense = [0; 12];
    // D_SENSE and SWP.
    d_sense[..5].copy_from_slice(&[0x8a, 0x0a, 0x04, 0x00, 0x08]);
    assert_eq!(page(&mut unit, 1, 0x0a), d_sense);
    assert_eq!(page(&mut unit, 1, 0x01), ERROR_RECOVERY);
    let mut nothing = [0; 12];
    nothing[..2].copy_from_slice(&[0x1c, 0x0a]);
    assert_eq!(page(&mut unit, 1, 0x1c), nothing);

    set_write_cache(&mut unit, false);
    assert_eq!(page(&mut unit, 0, 0x08)[2], 0x00);
    assert_eq!(page(&mut unit, 2, 0x08), CACHING);
    assert_eq!(page(&mut unit, 3, 0x08), CACHING);
}

/// MODE SELECT with SP: what it settles, and the page of saved values behind it.
fn save(unit: &mut Unit, list: &[u8]) -> crate::Settle {
    let length = u8::try_from(list.len()).unwrap();
    match with_list(unit, NEXUS, &[0x15, 0x11, 0, 0, length, 0], list) {
        Verdict::Settle(settle) => settle,
        Verdict::Medium(mut plan) => {
            let settle = plan.take_settle().unwrap();
            assert_eq!(plan.collect::<Vec<_>>(), [Operation::Flush]);
            settle
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn saved_values_survive_a_reset_and_a_loss_of_power() {
    let mut unit = unit(facts());
    // What lies in the cache first.
    let save_off = [0x15, 0x11, 0, 0, 24, 0];
    let flush = with_list(&mut super::unit(facts()), NEXUS, &save_off, &write_cache_list(false));
    assert!(matches!(flush, Verdict::Medium(plan) if plan.data_out() == 24));
    let settle = save(&mut unit, &write_cache_list(false));
    assert!(settle.persist && settle.waits_for.is_empty());
    assert_eq!((settle.response.status, settle.response.data_out), (0x00, 24));
    assert_eq!((page(&mut unit, 0, 0x08)[2], page(&mut unit, 3, 0x08)[2]), (0x00, 0x00));
    assert_eq!(page(&mut unit, 2, 0x08)[2], 0x04);
    unit.reset(Reset::LogicalUnit, None);
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    assert_eq!(page(&mut unit, 0, 0x08)[2], 0x00);
    // Not saved: another loss of power takes it back.
    set_write_cache(&mut unit, true);
    unit.seen();
    let mut recovered = Unit::recover(facts(), crate::Profile::default(), &unit.persistent());
    let _ = recovered.attach(super::peer(0));
    let _ = response(&mut recovered, NEXUS, &[0; 6]);
    assert_eq!(page(&mut recovered, 0, 0x08)[2], 0x00);
    let mut successor = Unit::restore(facts(), crate::Profile::default(), &unit.state());
    let _ = successor.attach(super::peer(0));
    assert_eq!((page(&mut successor, 0, 0x08)[2], page(&mut successor, 3, 0x08)[2]), (0x04, 0x00));
    // The same once more, and on again: nothing lies in a cache that has to be flushed.
    let on = with_list(&mut unit, NEXUS, &save_off, &write_cache_list(true));
    assert!(matches!(on, Verdict::Settle(_)));
    let again = with_list(&mut unit, NEXUS, &save_off, &write_cache_list(true));
    assert!(matches!(again, Verdict::Respond(good) if good.status == 0));
    assert_eq!(unit.persistent(), Unit::new(facts(), crate::Profile::default()).persistent());
}

#[test]
fn software_write_protection() {
    let mut unit = unit(facts());
    let mut list = vec![0; 4];
    list.extend_from_slice(&CONTROL);
    list[8] = 0x08;
    assert!(matches!(select_6(&mut unit, NEXUS, &list), Verdict::Respond(good) if good.status == 0));
    assert_eq!(data(&mut unit, &[0x1a, 0x08, 0x0a, 0, 255, 0])[2], 0x90);
    assert_eq!(failure(&mut unit, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]), (0x7, 0x27, 0x02));
    assert_eq!(operations(&mut unit, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0]).len(), 1);
    let mut successor = Unit::restore(facts(), crate::Profile::default(), &unit.state());
    let _ = successor.attach(super::peer(0));
    assert_eq!(failure(&mut successor, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]), (0x7, 0x27, 0x02));
    list[8] = 0x00;
    assert!(matches!(select_6(&mut unit, NEXUS, &list), Verdict::Respond(good) if good.status == 0));
    assert_eq!(operations(&mut unit, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0]).len(), 1);
}

#[test]
fn pages_that_are_not_there() {
    let mut unit = unit(facts());
    assert_eq!(failure(&mut unit, &[0x1a, 0, 0x03, 0, 255, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x1a, 0, 0x3f, 0x01, 255, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x1a, 0, 0x08, 0x01, 255, 0]), (0x5, 0x24, 0x00));
}

#[test]
fn write_protection_shows() {
    let mut facts = facts();
    facts.read_only = true;
    let mut unit = unit(facts);
    assert_eq!(data(&mut unit, &[0x1a, 0, 0x3f, 0, 255, 0])[2], 0x90);
    assert_eq!(data(&mut unit, &[0x5a, 0, 0x3f, 0, 0, 0, 0, 0, 255, 0])[3], 0x90);
}

fn select_6(unit: &mut Unit, nexus: crate::Nexus, list: &[u8]) -> Verdict {
    let length = u8::try_from(list.len()).unwrap();
    with_list(unit, nexus, &[0x15, 0x10, 0, 0, length, 0], list)
}

fn write_cache_list(on: bool) -> Vec<u8> {
    let mut list = vec![0; 4];
    list.extend_from_slice(&CACHING);
    list[6] = if on { 0x04 } else { 0x00 };
    list
}

fn set_write_cache(unit: &mut Unit, on: bool) {
    match select_6(unit, NEXUS, &write_cache_list(on)) {
        Verdict::Medium(plan) => {
            assert!(!on);
            assert_eq!(plan.data_out(), 24);
            assert_eq!(plan.collect::<Vec<_>>(), [Operation::Flush]);
        }
        Verdict::Respond(response) => {
            assert!(on);
            assert_eq!((response.status, response.data_out), (0x00, 24));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn writes_are_durable_while_the_write_cache_is_off() {
    let mut unit = unit(facts());
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    let fua = |operations: Vec<Operation>| match operations[..] {
        [Operation::Write { fua, .. }] => fua,
        ref other => panic!("{other:?}"),
    };
    assert!(!fua(operations(&mut unit, &write)));
    set_write_cache(&mut unit, false);
    assert!(fua(operations(&mut unit, &write)));
    let zeroes = operations(&mut unit, &[0x93, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
    assert!(matches!(zeroes[..], [Operation::WriteZeroes { fua: true, unmap: false, .. }]));
    set_write_cache(&mut unit, true);
    assert!(!fua(operations(&mut unit, &write)));
    set_write_cache(&mut unit, false);
    unit.reset(Reset::LogicalUnit, None);
    let _ = response(&mut unit, NEXUS, &[0; 6]);
    assert!(!fua(operations(&mut unit, &write)));
}

#[test]
fn a_change_is_told_to_the_other_initiators() {
    let mut unit = unit(facts());
    set_write_cache(&mut unit, false);
    assert_eq!(response(&mut unit, NEXUS, &[0; 6]).status, 0x00);
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x2a, 0x01));
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x00);
    // The same values again are no change.
    assert!(matches!(select_6(&mut unit, NEXUS, &write_cache_list(false)), Verdict::Respond(_)));
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x00);
}

#[test]
fn a_unit_without_a_cache_cannot_be_given_one() {
    let mut facts = facts();
    facts.write_cache = false;
    let mut unit = unit(facts);
    assert_eq!(page(&mut unit, 0, 0x08)[2], 0x00);
    assert_eq!(page(&mut unit, 1, 0x08)[2], 0x00);
    assert_eq!(refused(select_6(&mut unit, NEXUS, &write_cache_list(true))), (0x5, 0x26, 0x00));
    assert!(matches!(select_6(&mut unit, NEXUS, &write_cache_list(false)), Verdict::Respond(_)));
    assert_eq!(response(&mut unit, OTHER, &[0; 6]).status, 0x00);
}

#[test]
fn descriptor_sense_data_by_mode_select_10() {
    let mut unit = unit(facts());
    let mut list = vec![0; 8];
    list.extend_from_slice(&CONTROL);
    list[10] = 0x06;
    let cdb = [0x55, 0x10, 0, 0, 0, 0, 0, 0, 20, 0];
    assert!(matches!(with_list(&mut unit, NEXUS, &cdb, &list), Verdict::Respond(good) if good.status == 0));
    let refusal = response(&mut unit, NEXUS, &[0xff; 16]);
    assert_eq!(&refusal.sense_data().unwrap()[..], [0x72, 0x05, 0x20, 0x00, 0, 0, 0, 0]);
    assert_eq!(
        &super::ended(&mut unit, &[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], request::Status::NoSpace)
            .sense_data()
            .unwrap()[..4],
        [0x72, 0x07, 0x27, 0x07]
    );
    // REQUEST SENSE has its own bit.
    assert_eq!(data(&mut unit, &[0x03, 0, 0, 0, 255, 0])[0], 0x70);
    assert_eq!(data(&mut unit, &[0x03, 1, 0, 0, 255, 0])[0], 0x72);
}

#[test]
fn select_with_descriptors() {
    let mut unit = unit(facts());
    let mut list = vec![0, 0, 0, 8, 0x00, 0x20, 0x00, 0x00, 0, 0x00, 0x02, 0x00];
    list.extend_from_slice(&CACHING);
    assert!(matches!(select_6(&mut unit, NEXUS, &list), Verdict::Respond(good) if good.status == 0));
    for (blocks, good) in [([0; 4], true), ([0xff; 4], true), ([0, 0, 0, 9], false)] {
        list[4..8].copy_from_slice(&blocks);
        let Verdict::Respond(response) = select_6(&mut unit, NEXUS, &list) else { panic!() };
        assert_eq!(response.status == 0, good);
    }
    list[4..8].copy_from_slice(&[0; 4]);
    list[10] = 0x10; // Another block length.
    let Verdict::Respond(refusal) = select_6(&mut unit, NEXUS, &list) else { panic!() };
    assert_eq!(&refusal.sense_data().unwrap()[12..], [0x26, 0x00, 0, 0x80, 0x00, 0x08]);

    let mut long = vec![0, 0, 0, 0, 0x01, 0, 0, 16];
    long.extend_from_slice(&[0, 0, 0, 0, 0x00, 0x20, 0x00, 0x00, 0, 0, 0, 0, 0x00, 0x00, 0x02, 0x00]);
    let cdb = [0x55, 0x10, 0, 0, 0, 0, 0, 0, 24, 0];
    assert!(matches!(with_list(&mut unit, NEXUS, &cdb, &long), Verdict::Respond(good) if good.status == 0));
}

#[test]
fn select_points_at_what_is_wrong_and_changes_nothing() {
    let mut unit = unit(facts());
    // PF zero, SP.
    assert_eq!(failure(&mut unit, &[0x15, 0x00, 0, 0, 24, 0]), (0x5, 0x24, 0x00));
    assert_eq!(failure(&mut unit, &[0x15, 0x12, 0, 0, 24, 0]), (0x5, 0x24, 0x00));
    assert_eq!(response(&mut unit, NEXUS, &[0x15, 0x10, 0, 0, 0, 0]).status, 0x00);

    // First a good change, then a page with a bit that cannot be changed: RCD of caching.
    let mut list = write_cache_list(false);
    list.extend_from_slice(&CONTROL);
    list[4 + 20 + 3] = 0x00; // QUEUE ALGORITHM MODIFIER
    let Verdict::Respond(refusal) = select_6(&mut unit, NEXUS, &list) else { panic!() };
    assert_eq!(&refusal.sense_data().unwrap()[12..], [0x26, 0x00, 0, 0x8c, 0x00, 27]);
    assert_eq!(page(&mut unit, 0, 0x08), CACHING);

    for (at, value, byte) in [(4, 0x03, 4), (4, 0x48, 4), (5, 0x0a, 5), (1, 0x01, 1), (3, 0x04, 3)] {
        let mut list = write_cache_list(false);
        list[at] = value;
        let Verdict::Respond(refusal) = select_6(&mut unit, NEXUS, &list) else { panic!() };
        assert_eq!(codes(&refusal), (0x5, 0x26, 0x00), "{at}");
        assert_eq!(refusal.sense.unwrap().pointer.unwrap().byte, byte);
    }
    // Cut within the header, the descriptor, the page; and less sent than said.
    for length in [3, 23] {
        let cut = select_6(&mut unit, NEXUS, &write_cache_list(false)[..length]);
        assert_eq!(refused(cut), (0x5, 0x1a, 0x00));
    }
    assert_eq!(refused(select_6(&mut unit, NEXUS, &[0, 0, 0, 8, 0])), (0x5, 0x1a, 0x00));
    let list = write_cache_list(false);
    let short = with_list(&mut unit, NEXUS, &[0x15, 0x10, 0, 0, 24, 0], &list[..20]);
    assert_eq!(refused(short), (0x5, 0x1a, 0x00));
    assert_eq!(page(&mut unit, 0, 0x08), CACHING);
}
