use request::Blocks;

use super::{LIMITS, facts};
use crate::{CONFIG_BYTES, Config, DEVICE_ID, WritebackChange, features};

#[test]
fn the_structure() {
    let config = Config::new(&facts(), LIMITS);
    let mut bytes = [0xaa; 64];
    config.read(0, &mut bytes);
    let expected = [
        0x00, 0x08, 0, 0, 0, 0, 0, 0, // capacity: 2048
        0, 0, 0x40, 0, // size_max: 4 MiB
        126, 0, 0, 0, // seg_max
        2, 0, 16, 63, // cylinders, heads, sectors
        0x00, 0x02, 0, 0, // blk_size
        3, 0, 8, 0, // physical_block_exp, alignment_offset, min_io_size
        0x00, 0x01, 0, 0, // opt_io_size
        1, 0, // writeback, unused
        2, 0, // num_queues
        0, 0, 0x80, 0, // max_discard_sectors: 8,388,608
        64, 0, 0, 0, // max_discard_seg
        8, 0, 0, 0, // discard_sector_alignment
        0, 0, 1, 0, // max_write_zeroes_sectors: 65,536
        64, 0, 0, 0, // max_write_zeroes_seg
        1, 0, 0, 0, // write_zeroes_may_unmap, unused
        0, 0, 0, 0, // behind the end
    ];
    assert_eq!(bytes, expected);
}

#[test]
fn capacity_is_in_sectors_whatever_the_block_size() {
    let mut large = facts();
    large.block_size = 4096;
    let bytes = Config::new(&large, LIMITS).encode();
    assert_eq!(bytes[..8], [0x00, 0x40, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[20..24], [0x00, 0x10, 0, 0]);
    assert_eq!(bytes[44..48], [64, 0, 0, 0]);
}

#[test]
fn a_volume_that_cannot_give_space_back() {
    let mut thick = facts();
    thick.discard = None;
    let bytes = Config::new(&thick, LIMITS).encode();
    assert_eq!(bytes[36..48], [0; 12]);
    assert_eq!(bytes[48..60], [0, 0, 1, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn reads_from_anywhere() {
    let config = Config::new(&facts(), LIMITS);
    let whole = config.encode();
    for offset in 0..70 {
        for len in [0, 1, 2, 3, 4, 8, 80] {
            let mut bytes = [0xaa; 80];
            config.read(offset, &mut bytes[..len]);
            for (at, byte) in bytes[..len].iter().enumerate() {
                assert_eq!(*byte, whole.get(offset + at).copied().unwrap_or(0));
            }
        }
    }
}

#[test]
fn the_driver_sets_writeback_only() {
    let mut config = Config::new(&facts(), LIMITS);
    let before = config.clone();
    for offset in (0..32).chain(33..70) {
        assert_eq!(config.write(offset, &[0]), WritebackChange::None);
    }
    assert_eq!(config.write(usize::MAX, &[0]), WritebackChange::None);
    assert_eq!(config.write(32, &[]), WritebackChange::None);
    assert_eq!(config, before);
    assert_eq!(config.write(32, &[0]), WritebackChange::ToWriteThrough);
    assert_eq!(config.write(32, &[0]), WritebackChange::None);
    assert_eq!(config.encode()[32], 0);
    // Within a longer write.
    assert_eq!(config.write(0, &[1; CONFIG_BYTES]), WritebackChange::ToWriteback);
    assert_eq!(config, before);
    config.write(30, &[9, 9, 0, 9]);
    assert!(!config.writeback());
    config.reset();
    assert!(config.writeback());
    config.restore_writeback(false);
    assert!(!config.writeback());
}

#[test]
fn no_cache_cannot_be_switched_on() {
    let mut steady = facts();
    steady.write_cache = false;
    let mut config = Config::new(&steady, LIMITS);
    assert_eq!(config.encode()[32], 0);
    assert_eq!(config.write(32, &[1]), WritebackChange::None);
    config.restore_writeback(true);
    assert!(!config.writeback());
}

#[test]
fn a_new_size_is_a_new_configuration() {
    let mut config = Config::new(&facts(), LIMITS);
    config.write(32, &[0]);
    assert!(!config.resized(&facts()));
    let mut grown = facts();
    grown.blocks = Blocks(4096);
    assert!(config.resized(&grown));
    assert_eq!(config.encode()[..8], [0x00, 0x10, 0, 0, 0, 0, 0, 0]);
    assert!(!config.writeback());
}

#[test]
fn the_device() {
    assert_eq!(DEVICE_ID, 2);
    // SIZE_MAX, SEG_MAX, GEOMETRY, BLK_SIZE, FLUSH, TOPOLOGY, WRITE_ZEROES: bits 1, 2, 4, 6, 9, 10, 14.
    let always = 0x4656;
    let mut plain = facts();
    plain.write_cache = false;
    plain.discard = None;
    assert_eq!(features(&plain, 1), always);
    assert_eq!(features(&plain, 2), always | 1 << 12);
    plain.read_only = true;
    assert_eq!(features(&plain, 1), always | 1 << 5);
    assert_eq!(features(&facts(), 1), always | 1 << 11 | 1 << 13);
}
