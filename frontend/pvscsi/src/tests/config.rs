//! CONFIG, as Linux asks.

use pci::Lasting;

use super::driver::{Driver, command, counter, hot};
use crate::{Adapter, Config};

fn ask(adapter: &mut Adapter, driver: &Driver, page: u32, address: u64) -> (u32, [u8; 480]) {
    driver.put(0x9000, &[0xcc; 512]);
    let words = [0x9000, 0, address as u32, (address >> 32) as u32, page, 0];
    (command(adapter, &driver.memory, 7, &words), driver.get(0x9000))
}

#[test]
fn pages_say_what_the_adapter_is() {
    let driver = Driver::new(1);
    let mut config = Config { wwn: 0x5000_1234_5678_9a00, ..Config::default() };
    config.devices[3] = 0x6000_0000_0000_0001;
    let mut adapter = Adapter::new(config, hot());

    let (status, page) = ask(&mut adapter, &driver, 0x1958, 0x2120 << 32);
    assert_eq!(status, 0);
    // pageNum, numDwords, hostStatus, scsiStatus, reserved.
    assert_eq!(page[..16], [0x58, 0x19, 0, 0, 120, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(page[16..24], [0, 0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0x50]);
    assert_eq!(page[24..28], [b'S', 0, b't', 0]);
    assert_eq!(page[472..480], [64, 0, 0, 0, 1, 0, 0, 0], "numPhys is what Linux takes for max_id");

    let (status, page) = ask(&mut adapter, &driver, 0x1959, 0x2122 << 32 | 3);
    assert_eq!((status, &page[4..10]), (0, &[10, 0, 0, 0, 0, 0][..]));
    assert_eq!(page[16..24], 0x5000_1234_5678_9a04_u64.to_le_bytes());
    assert_eq!(page[24..33], [1, 0, 0, 0, 0, 0, 0, 0x60, 1]);

    let (status, page) = ask(&mut adapter, &driver, 0x195a, 0x2121 << 32 | 3);
    assert_eq!((status, &page[4..10]), (0, &[10, 0, 0, 0, 0, 0][..]));
    assert_eq!(page[16..24], 0x6000_0000_0000_0001_u64.to_le_bytes());
    assert_eq!(page[32..40], [3, 0, 0, 0, 3, 0, 0, 0]);
}

#[test]
fn what_is_not_there_has_a_status_in_its_header() {
    let driver = Driver::new(1);
    let mut adapter = Adapter::new(Config::default(), hot());
    let failures = [
        (0x195a, 0x2121 << 32 | 3, 0x11),
        (0x195a, 0x2121 << 32 | 0x1_0000, 0x11),
        (0x1959, 0x2122 << 32 | 64, 0x1a),
        (0x1958, 0x2121 << 32, 0x1a),
        (0x1957, 0x2120 << 32, 0x1a),
        (u32::MAX, u64::MAX, 0x1a),
    ];
    for (number, address, host_status) in failures {
        let (status, page) = ask(&mut adapter, &driver, number, address);
        assert_eq!((status, &page[4..10]), (0, &[4, 0, host_status, 0, 2, 0][..]));
        assert_eq!(page[16], 0xcc, "more was written than the page has");
    }
    // Nowhere to write it.
    assert_eq!(command(&mut adapter, &driver.memory, 7, &[0, 1, 0, 0x2120, 0x1958, 0]), u32::MAX);
    assert_eq!(counter(&adapter, "fault_bad_command_data"), 1);
    assert!(adapter.take_dirty());
}
