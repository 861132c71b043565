//! CONFIG: pages that say what the adapter is, and what its owner says of it.

use alloc::vec;
use alloc::vec::Vec;

use crate::bits::{TARGETS_MAX, config, host_status};
use crate::bytes::put;

/// What a slot's owner says of its adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// World wide name of the adapter; its phys are named by the numbers behind it.
    pub wwn: u64,
    /// World wide names of the devices by target; 0: no device.
    pub devices: [u64; TARGETS_MAX as usize],
}

impl Default for Config {
    /// An adapter without a name: NAA locally assigned, number 0.
    fn default() -> Config {
        Config { wwn: 0x3000_0000_0000_0000, devices: [0; TARGETS_MAX as usize] }
    }
}

const HEADER: usize = 16;
const CONTROLLER: usize = 480;
const PHY: usize = 40;
const DEVICE: usize = 40;
const CHECK_CONDITION: u16 = 2;

/// The page that is asked for, with the status in its header.
pub(crate) fn page(config: &Config, number: u32, address: u64) -> Vec<u8> {
    let kind = (address >> 32) as u32;
    let low = address as u32;
    let phy_wwn = |phy: u32| config.wwn.wrapping_add(1).wrapping_add(u64::from(phy));
    let device = |target: u32| config.devices.get(target as usize).copied();
    match (number, kind) {
        (config::PAGE_CONTROLLER, config::ADDRESS_CONTROLLER) => {
            let mut page = vec![0; CONTROLLER];
            put(&mut page, 16, &config.wwn.to_le_bytes());
            put_text(&mut page, 24, "Standpipe");
            put_text(&mut page, 280, "none");
            put_text(&mut page, 344, "2");
            put_text(&mut page, 408, "1");
            // numPhys: Linux looks for so many targets.
            put(&mut page, 472, &u32::from(TARGETS_MAX).to_le_bytes());
            // The names of the phys follow one another.
            put(&mut page, 476, &[1]);
            finish(page, number, host_status::SUCCESS)
        }
        (config::PAGE_PHY, config::ADDRESS_PHY) => match device(low) {
            Some(device) => {
                let mut page = vec![0; PHY];
                put(&mut page, 16, &phy_wwn(low).to_le_bytes());
                put(&mut page, 24, &device.to_le_bytes());
                put(&mut page, 32, &[if device == 0 { 0 } else { config::SAS_DEVICE }]);
                finish(page, number, host_status::SUCCESS)
            }
            None => finish(vec![0; HEADER], number, host_status::INVPARAM),
        },
        (config::PAGE_DEVICE, config::ADDRESS_BUSTARGET) => {
            // The bus in the upper half, the target in the lower; there is bus 0 alone.
            match device(low).filter(|wwn| *wwn != 0) {
                Some(device) => {
                    let mut page = vec![0; DEVICE];
                    put(&mut page, 16, &device.to_le_bytes());
                    put(&mut page, 24, &phy_wwn(low).to_le_bytes());
                    put(&mut page, 32, &low.to_le_bytes());
                    // Below 64.
                    put(&mut page, 36, &[low as u8, 0]);
                    finish(page, number, host_status::SUCCESS)
                }
                None => finish(vec![0; HEADER], number, host_status::SELTIMEO),
            }
        }
        _ => finish(vec![0; HEADER], number, host_status::INVPARAM),
    }
}

fn finish(mut page: Vec<u8>, number: u32, host_status: u16) -> Vec<u8> {
    // At most 120 words.
    let words = (page.len() / 4) as u16;
    let scsi_status = if host_status == host_status::SUCCESS { 0 } else { CHECK_CONDITION };
    put(&mut page, 0, &number.to_le_bytes());
    put(&mut page, 4, &words.to_le_bytes());
    put(&mut page, 6, &host_status.to_le_bytes());
    put(&mut page, 8, &scsi_status.to_le_bytes());
    page
}

/// Text has two bytes a character.
fn put_text(page: &mut [u8], at: usize, text: &str) {
    for (index, unit) in text.encode_utf16().enumerate() {
        put(page, at.saturating_add(index.saturating_mul(2)), &unit.to_le_bytes());
    }
}
