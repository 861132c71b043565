//! The commands, joined with the unit: what a change asks for is done to its nexuses and its tasks.

use alloc::vec::Vec;

use super::{Attention, Effects, Known, Out, Refusal};
use crate::attention::Condition;
use crate::execute::Call;
use crate::nexus::{Nexus, Peer, PortId};
use crate::reservation::Access;
use crate::sense::Sense;
use crate::task_set::NOBODY;
use crate::unit::{Response, Settle, Unit, Verdict, status};

/// PERSISTENT RESERVE IN.
pub(crate) fn persistent_reserve_in(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = usize::from(call.cdb.u16(7));
    match unit.reservations.read(call.cdb.byte(1) & 0x1f) {
        Ok(data) => Ok(call.reply(allocation, &data)),
        Err(refusal) => refuse(refusal),
    }
}

/// PERSISTENT RESERVE OUT.
pub(crate) fn persistent_reserve_out(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let cdb = core::array::from_fn(|at| call.cdb.byte(at));
    let out = Out::parse(&cdb);
    if call.note.is_some() {
        return Ok(unit.settle_again(call, u64::from(out.list_bytes)));
    }
    let peer = unit.peer_of(call.nexus);
    let Some(list) = call.parameters else {
        return match unit.reservations.out_list(&peer, &out) {
            Ok(len) => Ok(Verdict::Parameters(len)),
            Err(refusal) => refuse(refusal),
        };
    };
    let (peers, ports) = unit.known();
    let known = Known { peers: &peers, ports: &ports };
    match unit.reservations.out(&known, &peer, &out, list) {
        Ok(effects) => Ok(unit.settle(call, effects, u64::from(out.list_bytes))),
        Err(refusal) => refuse(refusal),
    }
}

/// RESERVE(6) and RESERVE(10).
pub(crate) fn reserve(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if call.note.is_some() {
        return Ok(unit.settle_again(call, 0));
    }
    let peer = unit.peer_of(call.nexus);
    let (peers, ports) = unit.known();
    match unit.reservations.reserve(&Known { peers: &peers, ports: &ports }, &peer) {
        Ok(effects) => Ok(unit.settle(call, effects, 0)),
        Err(refusal) => refuse(refusal),
    }
}

/// RELEASE(6) and RELEASE(10).
pub(crate) fn release(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    // Nobody is waited for, so that there is nothing to go on with.
    let peer = unit.peer_of(call.nexus);
    match unit.reservations.release(&peer) {
        Ok(effects) => Ok(unit.settle(call, effects, 0)),
        Err(refusal) => refuse(refusal),
    }
}

fn refuse(refusal: Refusal) -> Result<Verdict, Sense> {
    match refusal {
        Refusal::Conflict => Ok(Verdict::Respond(Response::of_status(status::RESERVATION_CONFLICT))),
        Refusal::Check(sense) => Err(sense),
    }
}

impl Unit {
    fn peer_of(&self, nexus: Nexus) -> Peer {
        self.nexuses.peer(nexus).expect("commands come by nexuses that are attached").clone()
    }

    fn known(&self) -> (Vec<Peer>, Vec<PortId>) {
        let peers = self.nexuses.iter().map(|(_, peer)| peer.clone()).collect();
        (peers, self.ports.iter().map(|port| port.id).collect())
    }

    /// Does what a change asks for.
    fn settle(&mut self, call: &Call<'_>, effects: Effects, data_out: u64) -> Verdict {
        let persist = effects.durable || (effects.changed && self.stored.may_hold());
        for (peer, attention) in &effects.attentions {
            let condition = match attention {
                Attention::ReservationsPreempted => Condition::RESERVATIONS_PREEMPTED,
                Attention::ReservationsReleased => Condition::RESERVATIONS_RELEASED,
                Attention::RegistrationsPreempted => Condition::REGISTRATIONS_PREEMPTED,
            };
            if let Some(nexus) = self.nexuses.find(peer) {
                self.attend(nexus, condition);
            }
        }
        let numbers = |peers: &[Peer]| -> Vec<Nexus> {
            peers.iter().filter_map(|peer| self.nexuses.find(peer)).collect()
        };
        let (abort, fenced) = (numbers(&effects.abort), numbers(&effects.fenced));
        let mut waits_for = Vec::new();
        if !abort.is_empty() {
            for nexus in &abort {
                self.allow_removal(*nexus);
            }
            waits_for = self.tasks.abort(call.nexus, |of, _| abort.contains(&of), Some(call.task));
        }
        // Who is shut out may have left tasks at the disks when its nexus was lost.
        let shut_out = |of| fenced.contains(&of) || (effects.changed && of == NOBODY);
        waits_for.extend(self.tasks.begun(shut_out, call.task));
        if effects.changed {
            self.reservations_changed();
        }
        let response = Response { data_out, ..Response::GOOD };
        if waits_for.is_empty() && !persist {
            return Verdict::Respond(response);
        }
        if persist {
            self.stored.begin(call.task);
        }
        Verdict::Settle(Settle { response, waits_for, persist })
    }

    /// A command that has changed the table, in a successor of the process that did it. That one may
    /// have died before the tasks of others had ended, and before the table was on stable storage.
    fn settle_again(&mut self, call: &Call<'_>, data_out: u64) -> Verdict {
        self.stored.begin(call.task);
        let shut_out = |of| of == NOBODY || !self.allowed(of).has(Access::Write);
        let waits_for = self.tasks.begun(shut_out, call.task);
        Verdict::Settle(Settle {
            response: Response { data_out, ..Response::GOOD },
            waits_for,
            persist: true,
        })
    }

    /// Looks up anew what each nexus may do.
    pub(crate) fn reservations_changed(&mut self) {
        for (nexus, peer) in self.nexuses.iter() {
            self.allowed[nexus.0 as usize] = self.reservations.allowed(peer);
        }
        self.dirty = true;
    }
}
