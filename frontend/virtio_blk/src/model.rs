//! The device as a whole.

use request::Facts;

use crate::bits::feature;
use crate::config::Config;

/// Device type, virtio 1.2 section 5.
pub const DEVICE_ID: u16 = 2;

/// What is offered beyond the transport's own features.
pub fn features(facts: &Facts, queues: u16) -> u64 {
    let mut offered = feature::SIZE_MAX
        | feature::SEG_MAX
        | feature::GEOMETRY
        | feature::BLK_SIZE
        | feature::FLUSH
        | feature::TOPOLOGY
        | feature::WRITE_ZEROES;
    for (applies, bit) in [
        (facts.read_only, feature::RO),
        (facts.write_cache, feature::CONFIG_WCE),
        (queues > 1, feature::MQ),
        (facts.discard.is_some(), feature::DISCARD),
    ] {
        if applies {
            offered |= bit;
        }
    }
    offered
}

/// What was negotiated, and what the driver set, as far as requests depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Each write has to be durable when it ends.
    pub write_through: bool,
    pub discard: bool,
    pub write_zeroes: bool,
    /// No request has more data.
    pub data_max_bytes: u64,
}

impl Mode {
    /// `negotiated`: the features that the driver accepted. To be made again when the driver wrote
    /// to the configuration.
    pub fn new(facts: &Facts, negotiated: u64, config: &Config) -> Mode {
        let writeback = if negotiated & feature::CONFIG_WCE != 0 {
            config.writeback()
        } else {
            negotiated & feature::FLUSH != 0
        };
        Mode {
            // A volume without a volatile cache needs nothing said.
            write_through: facts.write_cache && !writeback,
            discard: negotiated & feature::DISCARD != 0,
            write_zeroes: negotiated & feature::WRITE_ZEROES != 0,
            data_max_bytes: config.data_max_bytes(),
        }
    }
}
