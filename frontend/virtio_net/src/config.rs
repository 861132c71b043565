//! `struct virtio_net_config` (5.1.4).

use crate::features::{OFFERED, bit};
use crate::v1::State;
use request::Mac;

/// Up to `duplex`: what the offered features make readable.
pub const CONFIG_BYTES: usize = 17;

const S_LINK_UP: u16 = 1;
const S_ANNOUNCE: u16 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Up,
    Down,
}

/// What the slot's owner decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    pub mac: Mac,
    /// May the driver change it? A slot with spoof protection would not carry its frames then.
    pub mac_changeable: bool,
    /// Told to the driver; `None` offers it no VIRTIO_NET_F_MTU.
    pub mtu: Option<u16>,
    pub pairs_max: u16,
    pub link: Link,
    /// Mbit/s, or `u32::MAX`: unknown.
    pub speed: u32,
}

impl Config {
    /// The features to offer.
    pub fn offered(&self) -> u64 {
        let mut offered = OFFERED;
        if self.mtu.is_none() {
            offered &= !(1 << bit::MTU);
        }
        if self.pairs_max < 2 {
            offered &= !(1 << bit::MQ);
        }
        offered
    }

    /// The configuration space.
    pub fn space(&self, state: &State) -> [u8; CONFIG_BYTES] {
        let mut space = [0; CONFIG_BYTES];
        space[0..6].copy_from_slice(&state.mac.0);
        let link = if self.link == Link::Up { S_LINK_UP } else { 0 };
        let announce = if state.announce { S_ANNOUNCE } else { 0 };
        space[6..8].copy_from_slice(&(link | announce).to_le_bytes());
        space[8..10].copy_from_slice(&self.pairs_max.max(1).to_le_bytes());
        space[10..12].copy_from_slice(&self.mtu.unwrap_or(0).to_le_bytes());
        space[12..16].copy_from_slice(&self.speed.to_le_bytes());
        // Full duplex.
        space[16] = 1;
        space
    }
}
