//! What a driver wants to receive.

use alloc::vec::Vec;

use crate::bits::mode;
use crate::codec::{Reader, Writer};
use crate::shared::at;
use guest_memory::{Memory, Window};
use request::{Address, Mac};

/// Multicast addresses that are compared; with more than these all are taken, and the driver's own
/// stack sorts them out.
const MULTICAST_MAX: usize = 512;

const VLAN_BYTES: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub mode: u32,
    /// Sorted.
    multicast: Vec<Mac>,
    multicast_overflow: bool,
    vlans: [u8; VLAN_BYTES],
}

impl Default for Filter {
    fn default() -> Self {
        Self { mode: 0, multicast: Vec::new(), multicast_overflow: false, vlans: [0; VLAN_BYTES] }
    }
}

impl Filter {
    pub fn read_mode(&mut self, area: &Window) {
        self.mode = area.load_u32(at::RX_MODE);
    }

    pub fn read_vlans(&mut self, area: &Window) {
        area.read_bytes(at::VLANS, &mut self.vlans);
    }

    pub fn read_multicast(&mut self, memory: &Memory, area: &Window) {
        self.multicast.clear();
        self.multicast_overflow = false;
        let count = usize::from(area.load_u16(at::MULTICAST_BYTES)) / 6;
        if count == 0 {
            return;
        }
        if count > MULTICAST_MAX {
            self.multicast_overflow = true;
            return;
        }
        let Some(table) = memory.window(Address(area.load_u64(at::MULTICAST)), (count * 6) as u32) else {
            // A table that cannot be read must not make frames vanish.
            self.multicast_overflow = true;
            return;
        };
        for index in 0..count {
            let mut address = [0; 6];
            table.read_bytes(index * 6, &mut address);
            self.multicast.push(Mac(address));
        }
        self.multicast.sort_unstable();
    }

    /// Promiscuous mode comes before the VLAN table: Linux empties the table then.
    pub fn wants(&self, own: Mac, destination: Mac, tag: Option<u16>) -> bool {
        if self.mode & mode::PROMISCUOUS != 0 {
            return true;
        }
        if let Some(tci) = tag
            && self.vlans[usize::from(tci & 0xfff) / 8] >> (tci % 8) & 1 == 0
        {
            return false;
        }
        if destination == Mac::BROADCAST {
            return self.mode & mode::BROADCAST != 0;
        }
        if destination.is_group() {
            return self.mode & mode::ALL_MULTI != 0
                || self.mode & mode::MULTICAST != 0
                    && (self.multicast_overflow || self.multicast.binary_search(&destination).is_ok());
        }
        self.mode & mode::UNICAST != 0 && destination == own
    }

    pub fn encode(&self, out: &mut Writer) {
        out.u32(self.mode);
        out.u8(self.multicast_overflow.into());
        out.u16(self.multicast.len() as u16);
        self.multicast.iter().for_each(|address| out.bytes(&address.0));
        out.bytes(&self.vlans);
    }

    pub fn decode(from: &mut Reader<'_>) -> Option<Filter> {
        let mode = from.u32()?;
        let multicast_overflow = from.bool()?;
        let count = usize::from(from.u16()?);
        if count > MULTICAST_MAX {
            return None;
        }
        let mut multicast = Vec::with_capacity(count);
        for _ in 0..count {
            multicast.push(Mac(from.array()?));
        }
        multicast.sort_unstable();
        Some(Filter { mode, multicast, multicast_overflow, vlans: from.array()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([0x00, 0x50, 0x56, 0, 0, 1]);
    const OTHER: Mac = Mac([0x00, 0x50, 0x56, 0, 0, 2]);
    const GROUP: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

    #[test]
    fn each_bit_opens_its_door() {
        let seen = |mode: u32, multicast: &[Mac]| {
            let filter = Filter { mode, multicast: multicast.to_vec(), ..Filter::default() };
            [OWN, OTHER, Mac::BROADCAST, GROUP].map(|to| filter.wants(OWN, to, None))
        };
        assert_eq!(seen(0, &[GROUP]), [false; 4]);
        assert_eq!(seen(0x01, &[]), [true, false, false, false]);
        assert_eq!(seen(0x02, &[]), [false; 4]);
        assert_eq!(seen(0x02, &[GROUP]), [false, false, false, true]);
        assert_eq!(seen(0x04, &[GROUP]), [false, false, true, false]);
        assert_eq!(seen(0x08, &[]), [false, false, false, true]);
        assert_eq!(seen(0x10, &[]), [true; 4]);
    }

    #[test]
    fn tagged_frames_meet_the_table_and_untagged_ones_do_not() {
        let mut filter = Filter { mode: 0x01, ..Filter::default() };
        assert!(filter.wants(OWN, OWN, None));
        assert!(!filter.wants(OWN, OWN, Some(0)));
        filter.vlans[12] = 0b10;
        assert!(filter.wants(OWN, OWN, Some(0x6000 | 97)));
        assert!(!filter.wants(OWN, OWN, Some(96)));
        filter.mode = 0x10;
        assert!(filter.wants(OWN, OWN, Some(96)));
    }

    #[test]
    fn a_filter_outlives_its_process() {
        let mut filter = Filter { mode: 0x17, multicast: [GROUP].to_vec(), ..Filter::default() };
        filter.vlans[511] = 0x80;
        let mut out = Writer::default();
        filter.encode(&mut out);
        assert_eq!(Filter::decode(&mut Reader(&out.0)), Some(filter));
        for len in 0..out.0.len() {
            assert_eq!(Filter::decode(&mut Reader(&out.0[..len])), None);
        }
    }
}
