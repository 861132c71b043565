//! Frames from and to emulated NICs.

use std::sync::Arc;

use frame::{Frame, Refused, Taken};
use request::Rewrite;
use switch::Reason;

use super::super::net::{Passing, reason_of};
use super::super::{BURST_MAX, Lane};
use super::model::Model;

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

    pub(in super::super) fn deliver_to_emulated(
        &mut self,
        index: u32,
        passing: &Passing<'_>,
        rewrite: Rewrite,
    ) -> Result<(), Reason> {
        let Some(slot) = self.emulated.get(index) else { return Err(Reason::Disabled) };
        if slot.quarantined || !slot.link.is_connected() {
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
        // A frame that found no room may be an interrupt, too.
        self.emulated.stage(index);
        delivered
    }
}
