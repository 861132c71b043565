//! What a driver set, as plain data that outlives the process.

use alloc::vec::Vec;

use crate::codec::{Reader, Writer};
use crate::config::Config;
use crate::filter::Filter;
use crate::interrupts::Coalescing;
use crate::rss::Rss;
use crate::shared::Setup;
use request::Mac;

/// Of what `encode` writes; another one is not read.
const VERSION: u8 = 1;

#[derive(Clone)]
pub struct Control {
    /// As chosen by the driver, 1 to 9.
    pub revision: u8,
    pub mac: Mac,
    /// Written in halves.
    pub mac_low: u32,
    pub shared: u64,
    /// What reading CMD gives.
    pub result: u32,
    /// Accepted device capabilities.
    pub capabilities: u32,
    /// Events that the driver did not acknowledge.
    pub events: u32,
    pub features: u64,
    pub link_up: bool,
    pub link_mbps: u32,
    pub coalescing: Coalescing,
    pub filter: Filter,
    pub rss: Rss,
    /// Why each queue stands still, transmit queues first.
    pub errors: Vec<u32>,
    /// Since ACTIVATE_DEV.
    pub setup: Option<Setup>,
}

impl Control {
    pub fn new(config: &Config) -> Control {
        Control {
            revision: 1,
            mac: config.mac,
            mac_low: 0,
            shared: 0,
            result: 0,
            capabilities: 0,
            events: 0,
            features: 0,
            link_up: config.link_up,
            link_mbps: config.link_mbps,
            coalescing: Coalescing::default(),
            filter: Filter::default(),
            rss: Rss::default(),
            errors: Vec::new(),
            setup: None,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u8(VERSION);
        out.u8(self.revision);
        out.bytes(&self.mac.0);
        out.u32(self.mac_low);
        out.u64(self.shared);
        out.u32(self.result);
        out.u32(self.capabilities);
        out.u32(self.events);
        out.u64(self.features);
        out.u8(self.link_up.into());
        out.u32(self.link_mbps);
        self.coalescing.write(&mut out);
        self.filter.encode(&mut out);
        self.rss.encode(&mut out);
        match &self.setup {
            None => out.u8(0),
            Some(setup) => {
                out.u8(1);
                setup.encode(&mut out);
                for index in 0..setup.transmit.len() + setup.receive.len() {
                    out.u32(self.errors.get(index).copied().unwrap_or(0));
                }
            }
        }
        out.0
    }

    pub fn decode(bytes: &[u8]) -> Option<Control> {
        let mut from = Reader(bytes);
        if from.u8()? != VERSION {
            return None;
        }
        let mut control = Control {
            revision: from.u8()?,
            mac: Mac(from.array()?),
            mac_low: from.u32()?,
            shared: from.u64()?,
            result: from.u32()?,
            capabilities: from.u32()?,
            events: from.u32()?,
            features: from.u64()?,
            link_up: from.bool()?,
            link_mbps: from.u32()?,
            coalescing: Coalescing::read(&mut from)?,
            filter: Filter::decode(&mut from)?,
            rss: Rss::decode(&mut from)?,
            errors: Vec::new(),
            setup: None,
        };
        if from.bool()? {
            let setup = Setup::decode(&mut from)?;
            for _ in 0..setup.transmit.len() + setup.receive.len() {
                control.errors.push(from.u32()?);
            }
            control.setup = Some(setup);
        }
        from.0.is_empty().then_some(control)
    }
}
