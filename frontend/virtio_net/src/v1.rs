//! Version 1 of what a driver set over the control queue and expects to find again: plain data,
//! kept in the ledger while it is used.

use crate::features::{Features, bit};
use request::Mac;

/// Addresses in each table; more are taken as "all of them", as 5.1.6.5.2 allows.
pub const ADDRESSES_MAX: usize = 64;

/// Bytes of `encode`.
pub const STATE_BYTES: usize = 16 + 2 * ADDRESSES_MAX * 6 + 512;

const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    count: u8,
    /// The driver named more than there is room for.
    pub overflow: bool,
    addresses: [Mac; ADDRESSES_MAX],
}

impl Table {
    fn empty() -> Table {
        Table { count: 0, overflow: false, addresses: [Mac([0; 6]); ADDRESSES_MAX] }
    }

    pub fn holds(&self, mac: Mac) -> bool {
        self.overflow || self.list().contains(&mac)
    }

    pub fn list(&self) -> &[Mac] {
        self.addresses.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// Keeps as many as there is room for.
    pub fn set(&mut self, list: &[Mac]) {
        *self = Table::empty();
        self.overflow = list.len() > ADDRESSES_MAX;
        let kept = list.len().min(ADDRESSES_MAX);
        self.addresses[..kept].copy_from_slice(&list[..kept]);
        self.count = kept as u8;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub mac: Mac,
    /// Ring pairs in use.
    pub pairs: u16,
    /// VIRTIO_NET_S_ANNOUNCE stands in the configuration and was not acknowledged.
    pub announce: bool,
    pub promiscuous: bool,
    pub all_multicast: bool,
    pub all_unicast: bool,
    pub no_multicast: bool,
    pub no_unicast: bool,
    pub no_broadcast: bool,
    pub unicast: Table,
    pub multicast: Table,
    /// A bit for each VLAN that is wanted.
    pub vlans: [u8; 512],
}

impl State {
    /// After a reset: promiscuous until the driver says otherwise, as QEMU does it; one pair; VLANs
    /// are filtered only if the driver can name them.
    pub fn reset(mac: Mac, features: Features) -> State {
        State {
            mac,
            pairs: 1,
            announce: false,
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Table::empty(),
            multicast: Table::empty(),
            vlans: if features.has(bit::CTRL_VLAN) { [0; 512] } else { [0xff; 512] },
        }
    }

    pub fn encode(&self) -> [u8; STATE_BYTES] {
        let mut bytes = [0; STATE_BYTES];
        bytes[0..4].copy_from_slice(&VERSION.to_le_bytes());
        let flags = self.flags().iter().enumerate().fold(0u16, |all, (at, set)| all | u16::from(*set) << at);
        bytes[4..6].copy_from_slice(&flags.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.pairs.to_le_bytes());
        bytes[8..14].copy_from_slice(&self.mac.0);
        bytes[14] = self.unicast.count;
        bytes[15] = self.multicast.count;
        let addresses = self.unicast.addresses.iter().chain(&self.multicast.addresses);
        for (at, mac) in bytes[16..].chunks_exact_mut(6).zip(addresses) {
            at.copy_from_slice(&mac.0);
        }
        bytes[STATE_BYTES - 512..].copy_from_slice(&self.vlans);
        bytes
    }

    /// `None`: not this version, or not written by `encode`.
    pub fn decode(bytes: &[u8; STATE_BYTES]) -> Option<State> {
        if bytes[0..4] != VERSION.to_le_bytes() {
            return None;
        }
        let flags = u16::from_le_bytes([bytes[4], bytes[5]]);
        let (unicast, multicast) = (bytes[14], bytes[15]);
        if flags >> 9 != 0 || usize::from(unicast.max(multicast)) > ADDRESSES_MAX {
            return None;
        }
        let flag = |at: u32| flags >> at & 1 != 0;
        let table = |first: usize, count: u8, overflow: bool| {
            let mut table = Table { count, overflow, ..Table::empty() };
            let bytes = &bytes[16 + first * 6..];
            for (mac, from) in table.addresses.iter_mut().zip(bytes.chunks_exact(6)) {
                mac.0.copy_from_slice(from);
            }
            table
        };
        let mut mac = Mac::default();
        mac.0.copy_from_slice(&bytes[8..14]);
        let mut vlans = [0; 512];
        vlans.copy_from_slice(&bytes[STATE_BYTES - 512..]);
        Some(State {
            mac,
            pairs: u16::from_le_bytes([bytes[6], bytes[7]]),
            announce: flag(0),
            promiscuous: flag(1),
            all_multicast: flag(2),
            all_unicast: flag(3),
            no_multicast: flag(4),
            no_unicast: flag(5),
            no_broadcast: flag(6),
            unicast: table(0, unicast, flag(7)),
            multicast: table(ADDRESSES_MAX, multicast, flag(8)),
            vlans,
        })
    }

    /// In the order of their bits.
    fn flags(&self) -> [bool; 9] {
        [
            self.announce,
            self.promiscuous,
            self.all_multicast,
            self.all_unicast,
            self.no_multicast,
            self.no_unicast,
            self.no_broadcast,
            self.unicast.overflow,
            self.multicast.overflow,
        ]
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;

    /// Yesterday's bytes: promiscuous off, all multicast, two pairs, one unicast address, VLAN 9.
    #[test]
    fn bytes_in_digits() {
        let mut bytes = [0; STATE_BYTES];
        bytes[..22].copy_from_slice(&[
            1, 0, 0, 0, 0x04, 0, 2, 0, 0x52, 0x54, 0, 0, 0, 1, 1, 0, 0x52, 0x54, 0, 0, 0, 7,
        ]);
        bytes[784 + 1] = 2;
        let state = State::decode(&bytes).unwrap();
        let own = Mac([0x52, 0x54, 0, 0, 0, 1]);
        let mut expected = State::reset(own, Features(1 << bit::CTRL_VLAN));
        expected.promiscuous = false;
        expected.all_multicast = true;
        expected.pairs = 2;
        expected.unicast.set(&[Mac([0x52, 0x54, 0, 0, 0, 7])]);
        expected.vlans[1] = 2;
        assert_eq!(state, expected);
        assert_eq!(state.encode(), bytes);
        bytes[0] = 2;
        assert_eq!(State::decode(&bytes), None);
        bytes[0] = 1;
        bytes[14] = 65;
        assert_eq!(State::decode(&bytes), None);
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back(flags: [bool; 7], pairs: u16, unicast in 0usize..70, multicast in 0usize..70, vlan in 0usize..512) {
            let mut state = State::reset(Mac([1, 2, 3, 4, 5, 6]), Features(0));
            [state.announce, state.promiscuous, state.all_multicast, state.all_unicast, state.no_multicast,
                state.no_unicast, state.no_broadcast] = flags;
            state.pairs = pairs;
            let list = |count: usize, kind: u8| (0..count).map(|n| Mac([kind, 0, 0, 0, 0, n as u8])).collect::<std::vec::Vec<_>>();
            state.unicast.set(&list(unicast, 2));
            state.multicast.set(&list(multicast, 3));
            state.vlans[vlan] = 0x5a;
            prop_assert_eq!(state.unicast.overflow, unicast > 64);
            prop_assert_eq!(State::decode(&state.encode()), Some(state));
        }
    }
}
