use crate::{CONFIG_BYTES, Config, DEVICE_ID, QueueKind, Sizes, features, queue_kind};

fn config() -> Config {
    Config::new(4, 126, 0xffff, 128)
}

#[test]
fn the_structure() {
    let mut bytes = [0xaa; 40];
    config().read(0, &mut bytes);
    let expected = [
        4, 0, 0, 0, // num_queues
        126, 0, 0, 0, // seg_max
        0xff, 0xff, 0, 0, // max_sectors
        128, 0, 0, 0, // cmd_per_lun
        16, 0, 0, 0, // event_info_size
        96, 0, 0, 0, // sense_size
        32, 0, 0, 0, // cdb_size
        0, 0, // max_channel
        255, 0, // max_target
        0xff, 0x3f, 0, 0, // max_lun
        0, 0, 0, 0, // behind the end
    ];
    assert_eq!(bytes, expected);
    let mut config = config();
    config.max_target = 0x0102;
    assert_eq!(config.encode()[28..32], [0, 0, 0x02, 0x01]);
}

#[test]
fn reads_from_anywhere() {
    let whole = config().encode();
    for offset in 0..45 {
        for len in [0, 1, 2, 3, 4, 8, 50] {
            let mut bytes = [0xaa; 50];
            config().read(offset, &mut bytes[..len]);
            for (at, byte) in bytes[..len].iter().enumerate() {
                assert_eq!(*byte, whole.get(offset + at).copied().unwrap_or(0));
            }
        }
    }
}

#[test]
fn the_driver_sets_the_two_sizes_only() {
    let mut config = config();
    assert!(config.write(24, &[16, 0, 0, 0]));
    assert!(config.write(20, &[64, 0, 0, 0]));
    assert!(!config.write(20, &[64, 0, 0, 0]));
    assert_eq!(config.sizes, Sizes::new(16, 64));
    let before = config.clone();
    for offset in (0..20).chain(28..60) {
        assert!(!config.write(offset, &[0x55]));
    }
    assert!(!config.write(usize::MAX, &[1]));
    assert_eq!(config, before);
    // The whole structure at once, with sizes that are too large.
    assert!(config.write(0, &[0xff; CONFIG_BYTES]));
    assert_eq!((config.sizes.cdb(), config.sizes.sense()), (260, 252));
    assert_eq!(config.num_queues, 4);
    assert_eq!(config.encode()[20..28], [252, 0, 0, 0, 4, 1, 0, 0]);
    config.reset();
    assert_eq!(config, self::config());
}

#[test]
fn the_device() {
    assert_eq!(DEVICE_ID, 8);
    assert_eq!(features(), 0b110);
    assert_eq!(
        [0, 1, 2, 9].map(queue_kind),
        [QueueKind::Control, QueueKind::Event, QueueKind::Request, QueueKind::Request]
    );
}
