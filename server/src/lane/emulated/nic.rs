//! Frames from and to emulated NICs.

use std::sync::Arc;

use control::step::Device as DeviceSpec;
use frame::{Frame, Refused, Taken};
use request::{Mac, Rewrite};
use switch::Reason;

use super::super::net::{LINK_MBPS, Passing, reason_of};
use super::super::{BURST_MAX, Lane};
use super::model::Model;
use super::slot::blamed_as;
use crate::blame;

impl Lane {
    /// Frames that the driver posted, a burst of each queue at most.
    pub(super) fn transmit_emulated(&mut self, index: u32) {
        let Some(slot) = self.emulated.get(index) else { return };
        let memory = Arc::clone(&slot.memory);
        let Model::Nic(model) = &slot.model else { return };
        let (network, port) = (model.network, model.port);
        let mut waiting = model.nic.waiting();
        let mut posted = std::mem::take(&mut self.emulated.posted);
        while waiting != 0 {
            let queue = waiting.trailing_zeros() as u16;
            waiting &= waiting - 1;
            for _ in 0..BURST_MAX {
                let Some(slot) = self.emulated.get(index) else { break };
                let Model::Nic(model) = &mut slot.model else { break };
                match model.nic.transmit(&memory, queue, &mut posted) {
                    Taken::Frame => self.forward(network, port, posted.frame(&memory), posted.len),
                    Taken::Dropped => {}
                    Taken::Empty => break,
                }
            }
        }
        self.emulated.posted = posted;
        self.emulated.stage(index);
    }

    /// Asks the host for the speed of a network's uplink, and tells the drivers if it is another.
    pub(in super::super) fn look_at_link(&mut self, network: u32) {
        let of_network = self.networks.uplinks.iter().flatten().filter(|uplink| uplink.network == network);
        let found = of_network.filter_map(|uplink| uplink_tap::link_mbps(&uplink.spec.tap)).max();
        let mbps = found.unwrap_or(LINK_MBPS);
        match self.networks.get(network) {
            Some(network) if network.link_mbps != mbps => network.link_mbps = mbps,
            _ => return,
        }
        for index in 0..self.emulated.slots.len() as u32 {
            if self.emulated.network_of(index) == Some(network) {
                self.tell_link(index);
            }
        }
    }

    /// The slot's driver learns the speed of its network, if it does not know it.
    pub(super) fn tell_link(&mut self, index: u32) {
        let network = self.emulated.network_of(index).and_then(|network| self.networks.get(network));
        let Some(mbps) = network.map(|network| network.link_mbps) else { return };
        let now = self.now;
        let Some(slot) = self.emulated.get(index).filter(|slot| !slot.quarantined) else { return };
        let Model::Nic(model) = &mut slot.model else { return };
        let before = blame::turn_to(blamed_as(index));
        // A switch has no cable that could be out.
        model.nic.set_link(now, true, mbps);
        blame::turn_to(before);
        let deadline = slot.deadline();
        self.emulated.expect(deadline);
    }

    /// A NIC that came from another host learns what its network is here, and is found here from now on.
    pub(super) fn show_where(&mut self, index: u32) {
        let Some(slot) = self.emulated.get(index) else { return };
        if std::mem::take(&mut slot.renewed) {
            self.tell_link(index);
        }
        let Some(slot) = self.emulated.get(index) else { return };
        if std::mem::take(&mut slot.announces)
            && let (Model::Nic(model), DeviceSpec::Nic { mac, .. }) = (&slot.model, &slot.spec.device)
        {
            let (network, port, mac) = (model.network, model.port, Mac(mac.0));
            self.announce_from(network, port, mac);
        }
    }

    pub(in super::super) fn deliver_to_emulated(
        &mut self,
        index: u32,
        passing: &Passing<'_>,
        rewrite: Rewrite,
    ) -> Result<(), Reason> {
        let Some(slot) = self.emulated.get(index) else { return Err(Reason::Disabled) };
        if slot.quarantined || slot.is_stopped() || !slot.link.is_connected() {
            return Err(Reason::Disabled);
        }
        let memory = &slot.memory;
        let Model::Nic(model) = &mut slot.model else { return Err(Reason::Disabled) };
        let nic = model.nic.as_mut();
        let mut deliver = |frame: &Frame<'_>| nic.deliver(memory, frame, rewrite);
        let delivered = match deliver(&passing.frame) {
            Ok(_) => Ok(()),
            Err(Refused::Offload) => {
                let mut buffer = std::mem::take(&mut self.networks.segment);
                let done = passing.finish_and_deliver(&mut buffer, deliver);
                self.networks.segment = buffer;
                done
            }
            Err(refused) => Err(reason_of(refused)),
        };
        // Its driver gives buffers back by messages. The socket of a slot that is not active is looked
        // at now and then only, and the ring would run empty under a sender's burst.
        if !matches!(delivered, Err(Reason::Filtered)) {
            // A frame that found no room may be an interrupt, too.
            self.emulated.stage(index);
            self.activate_emulated(index);
        }
        delivered
    }
}
