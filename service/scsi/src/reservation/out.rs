//! PERSISTENT RESERVE OUT, SPC-4 6.16 and 5.13.7 to 5.13.11.
//!
//! The order of the checks: RESERVE held (SPC-2 5.5.1), registered, parameter list length, SPEC_I_PT,
//! reservation key (whatever the service action and the scope, 6.16.3), scope and type where they
//! are not ignored, and then what the service action says.

use alloc::vec::Vec;

use super::effects::{Attention, Effects, Refusal};
use super::name::{Name, canonical, name, node};
use super::table::{Held, Key, REGISTRANTS_MAX, Reservations, Type};
use crate::nexus::{Peer, PortId, TRANSPORT_ID_MAX_BYTES, TransportId};
use crate::reservation::Access;
use crate::sense::Sense;

/// Bytes of the basic parameter list without additional parameter data.
const LIST_BYTES: usize = 24;
/// Where TransportIDs begin after a TRANSPORTID PARAMETER DATA LENGTH.
const IDS_AT: usize = 28;

/// The longest parameter list that is taken: a TransportID of the longest kind for every
/// registration that there can be.
pub const LIST_MAX_BYTES: usize = IDS_AT + REGISTRANTS_MAX * TRANSPORT_ID_MAX_BYTES;

/// Service actions, SPC-4 table 213.
mod action {
    pub const REGISTER: u8 = 0x00;
    pub const RESERVE: u8 = 0x01;
    pub const RELEASE: u8 = 0x02;
    pub const CLEAR: u8 = 0x03;
    pub const PREEMPT: u8 = 0x04;
    pub const PREEMPT_AND_ABORT: u8 = 0x05;
    pub const REGISTER_AND_IGNORE_EXISTING_KEY: u8 = 0x06;
    pub const REGISTER_AND_MOVE: u8 = 0x07;
    pub const REPLACE_LOST_RESERVATION: u8 = 0x08;
}

/// What the device server knows beside the table.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The attached nexuses.
    pub peers: &'a [Peer],
    /// The target ports of the SCSI target device.
    pub ports: &'a [PortId],
}

/// The fields of a PERSISTENT RESERVE OUT CDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// SERVICE ACTION.
    pub action: u8,
    /// SCOPE.
    pub scope: u8,
    /// TYPE.
    pub kind: u8,
    /// PARAMETER LIST LENGTH.
    pub list_bytes: u32,
}

impl Out {
    /// From the CDB, of which the row has seen to it that ten bytes are there.
    pub fn parse(cdb: &[u8; 10]) -> Out {
        Out {
            action: cdb[1] & 0x1f,
            scope: cdb[2] >> 4,
            kind: cdb[2] & 0x0f,
            list_bytes: u32::from_be_bytes([cdb[5], cdb[6], cdb[7], cdb[8]]),
        }
    }

    /// SCOPE and TYPE of a reservation that is to be made.
    fn reservation(&self) -> Result<Type, Refusal> {
        self.check_scope()?;
        Type::decode(self.kind).ok_or(Refusal::Check(Sense::cdb_bit(2, 3)))
    }

    /// Only LU_SCOPE is implemented, as there is no other.
    fn check_scope(&self) -> Result<(), Refusal> {
        if self.scope == 0 { Ok(()) } else { Err(Sense::cdb_bit(2, 7).into()) }
    }
}

/// A parameter list, at least [`LIST_BYTES`] long.
struct List<'a> {
    key: Key,
    new: Key,
    bytes: &'a [u8],
}

impl<'a> List<'a> {
    fn parse(bytes: &'a [u8]) -> Option<List<'a>> {
        if bytes.len() < LIST_BYTES {
            return None;
        }
        Some(List { key: Key(u64_at(bytes, 0)?), new: Key(u64_at(bytes, 8)?), bytes })
    }

    fn bit(&self, byte: usize, bit: u8) -> bool {
        self.bytes[byte] >> bit & 1 != 0
    }

    fn spec_i_pt(&self) -> bool {
        self.bit(20, 3)
    }
}

/// SPEC_I_PT where it must be zero.
const SPEC_I_PT_WRONG: Refusal = Refusal::Check(Sense::parameter_bit(20, 3));
const LENGTH_WRONG: Refusal = Refusal::Check(Sense::PARAMETER_LIST_LENGTH_ERROR);

impl Reservations {
    /// Before the parameter list is fetched: its length, if the command is not refused at once.
    pub fn out_list(&self, peer: &Peer, out: &Out) -> Result<usize, Refusal> {
        self.check_nexus(&canonical(peer), out)?;
        let len = usize::try_from(out.list_bytes).map_err(|_| LENGTH_WRONG)?;
        if (LIST_BYTES..=LIST_MAX_BYTES).contains(&len) { Ok(len) } else { Err(LENGTH_WRONG) }
    }

    /// PERSISTENT RESERVE OUT from `peer` with its parameter list. Refused: nothing changed.
    pub fn out(
        &mut self,
        known: &Known<'_>,
        peer: &Peer,
        out: &Out,
        list: &[u8],
    ) -> Result<Effects, Refusal> {
        let peer = canonical(peer);
        self.check_nexus(&peer, out)?;
        let len = usize::try_from(out.list_bytes).map_err(|_| LENGTH_WRONG)?;
        let list = list.get(..len).and_then(List::parse).ok_or(LENGTH_WRONG)?;
        if out.action != action::REGISTER_AND_MOVE {
            if list.spec_i_pt() && out.action != action::REGISTER {
                return Err(SPEC_I_PT_WRONG);
            }
            if !list.spec_i_pt() && len != LIST_BYTES {
                return Err(LENGTH_WRONG);
            }
        }
        let registers = matches!(out.action, action::REGISTER | action::REGISTER_AND_IGNORE_EXISTING_KEY);
        let replaces = out.action == action::REPLACE_LOST_RESERVATION;
        if !registers && !replaces && self.key_of(&peer) != Some(list.key) {
            return Err(Refusal::Conflict);
        }
        let mut change =
            Change { before: self, next: self.clone(), peer: &peer, effects: Effects::default() };
        match out.action {
            action::REGISTER => change.register(known, &list, false)?,
            action::REGISTER_AND_IGNORE_EXISTING_KEY => change.register(known, &list, true)?,
            action::RESERVE => change.reserve(out)?,
            action::RELEASE => change.release(out)?,
            action::CLEAR => change.clear(),
            action::PREEMPT => change.preempt(out, list.new, false)?,
            action::PREEMPT_AND_ABORT => change.preempt(out, list.new, true)?,
            action::REGISTER_AND_MOVE => change.register_and_move(known, &list)?,
            action::REPLACE_LOST_RESERVATION => change.replace_lost(out, &list)?,
            _ => return Err(Sense::cdb_bit(1, 4).into()),
        }
        let (next, effects) = change.finish(known);
        *self = next;
        Ok(effects)
    }

    /// What needs no parameter list: SPC-2 5.5.1, and SPC-4 5.13.5.3 and 5.13.7 with table 66.
    fn check_nexus(&self, peer: &Peer, out: &Out) -> Result<(), Refusal> {
        if self.lost {
            return match out.action {
                action::REPLACE_LOST_RESERVATION => Ok(()),
                _ => Err(Sense::PERSISTENT_RESERVATION_INFORMATION_LOST.into()),
            };
        }
        if self.is_reserved() {
            return Err(Refusal::Conflict);
        }
        let conflicts = match out.action {
            action::REGISTER | action::REGISTER_AND_IGNORE_EXISTING_KEY => false,
            // Conflicts only beside the reservation of another; else it is told that nothing is lost.
            action::REPLACE_LOST_RESERVATION => self.held.is_some() && self.key_of(peer).is_none(),
            _ => self.key_of(peer).is_none(),
        };
        if conflicts { Err(Refusal::Conflict) } else { Ok(()) }
    }
}

/// One service action on its way: the table as it is, and as it will be.
struct Change<'a> {
    before: &'a Reservations,
    next: Reservations,
    /// Who asks.
    peer: &'a Peer,
    effects: Effects,
}

impl Change<'_> {
    /// REGISTER and REGISTER AND IGNORE EXISTING KEY, SPC-4 tables 67 to 69.
    ///
    /// ALL_TG_PT is "as if the same request had been received through each target port": the key of
    /// the initiator port is set, or removed, where it is registered with the RESERVATION KEY (or with
    /// any key, where that is ignored); a registration with another key is a conflict for the
    /// whole, as it would be there. Ports through which it is not registered are registered.
    fn register(&mut self, known: &Known<'_>, list: &List<'_>, ignore: bool) -> Result<(), Refusal> {
        match self.before.key_of(self.peer) {
            _ if ignore => {}
            None if list.key != Key::NONE => return Err(Refusal::Conflict),
            Some(key) if list.key != key => return Err(Refusal::Conflict),
            Some(_) if list.spec_i_pt() => return Err(SPEC_I_PT_WRONG),
            _ => {}
        }
        let mut ports = Vec::from([self.peer.port]);
        if list.bit(20, 2) {
            ports.extend(known.ports.iter().filter(|port| **port != self.peer.port));
        }
        let matches = |key: Key| ignore || key == list.key;
        if list.new == Key::NONE {
            let initiator = &self.peer.initiator;
            self.unregister(|peer, key| {
                peer.initiator == *initiator && ports.contains(&peer.port) && matches(key)
            });
        } else {
            for port in &ports {
                let nexus = Peer { initiator: self.peer.initiator.clone(), port: *port };
                if self.before.key_of(&nexus).is_some_and(|key| !matches(key)) {
                    return Err(Refusal::Conflict);
                }
                self.next.register(&nexus, list.new)?;
            }
            if list.spec_i_pt() {
                for (initiator, at) in listed(self.before, known, list.bytes)? {
                    if initiator == self.peer.initiator {
                        continue; // registered just now
                    }
                    for port in &ports {
                        let nexus = Peer { initiator: initiator.clone(), port: *port };
                        if self.before.key_of(&nexus).is_some() {
                            return Err(Sense::parameter_byte(at).into());
                        }
                        self.next.register(&nexus, list.new)?;
                    }
                }
            }
        }
        self.next.aptpl = list.bit(20, 0);
        self.count();
        Ok(())
    }

    /// Unregistering, SPC-4 5.13.11.2.3.
    fn unregister(&mut self, goes: impl Fn(&Peer, Key) -> bool) {
        let kind = self.next.persistent();
        self.next.unregister(|entry| goes(&entry.peer, entry.key));
        let released = kind.is_some() && self.next.held.is_none();
        if released && kind.is_some_and(Type::is_registrants_only) {
            self.tell_others(Attention::ReservationsReleased);
        }
    }

    /// SPC-4 5.13.9.
    fn reserve(&mut self, out: &Out) -> Result<(), Refusal> {
        let kind = out.reservation()?;
        match self.before.persistent() {
            None => self.next.hold(kind, self.peer),
            Some(held) if held == kind && self.before.is_holder(self.peer) => {}
            Some(_) => return Err(Refusal::Conflict),
        }
        Ok(())
    }

    /// SPC-4 5.13.11.2.2. The control mode page has NUAR zero: the others are told.
    fn release(&mut self, out: &Out) -> Result<(), Refusal> {
        out.check_scope()?;
        let Some(kind) = self.before.persistent().filter(|_| self.before.is_holder(self.peer)) else {
            return Ok(());
        };
        if Type::decode(out.kind) != Some(kind) {
            return Err(Sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION.into());
        }
        self.next.held = None;
        if kind.is_registrants_only() || kind.is_all_registrants() {
            self.tell_others(Attention::ReservationsReleased);
        }
        Ok(())
    }

    /// SPC-4 5.13.11.2.7.
    fn clear(&mut self) {
        self.tell_others(Attention::ReservationsPreempted);
        self.next.held = None;
        self.next.registrations.clear();
        self.count();
    }

    /// SPC-4 5.13.11.2.4 to 5.13.11.2.6, table 72.
    fn preempt(&mut self, out: &Out, preempted: Key, abort: bool) -> Result<(), Refusal> {
        let takes_over = match &self.before.held {
            None => false,
            Some(Held { holder: None, .. }) => preempted == Key::NONE,
            Some(_) if preempted == Key::NONE => return Err(Sense::parameter_byte(8).into()),
            Some(Held { holder: Some(holder), .. }) => self.before.key_of(holder) == Some(preempted),
        };
        // Zero is the key of all where all hold the reservation, and of nobody elsewhere.
        let named = |key: Key| preempted == Key::NONE || key == preempted;
        let hit: Vec<Peer> = (self.before.registrations.iter())
            .filter(|entry| takes_over && named(entry.key) || !takes_over && entry.key == preempted)
            .map(|entry| entry.peer.clone())
            .collect();
        if hit.is_empty() {
            return Err(Refusal::Conflict);
        }
        let peer = self.peer;
        if takes_over {
            let kind = out.reservation()?;
            self.next.unregister(|entry| entry.peer != *peer && hit.contains(&entry.peer));
            self.next.hold(kind, peer);
        } else {
            self.next.unregister(|entry| hit.contains(&entry.peer));
        }
        for lost in hit.iter().filter(|lost| *lost != peer) {
            self.effects.attentions.push((lost.clone(), Attention::RegistrationsPreempted));
        }
        if takes_over && self.before.persistent() != self.next.persistent() {
            self.tell_others(Attention::ReservationsReleased);
        }
        if abort {
            // The one who asks is hit where it names its own key; its command itself goes on.
            self.effects.abort = hit;
            self.effects.abort_copies = true;
        }
        self.count();
        Ok(())
    }

    /// SPC-4 5.13.8, table 70; the parameter list is that of 6.16.4.
    fn register_and_move(&mut self, known: &Known<'_>, list: &List<'_>) -> Result<(), Refusal> {
        let Some(held) = &self.before.held else {
            return Err(Sense::INVALID_FIELD_IN_CDB.into());
        };
        if held.holder.as_ref() != Some(self.peer) {
            return Err(Refusal::Conflict);
        }
        let kind = held.kind;
        if list.new == Key::NONE {
            return Err(Sense::parameter_byte(8).into());
        }
        let port = PortId(u16::from_be_bytes([list.bytes[18], list.bytes[19]]));
        if !known.ports.contains(&port) {
            return Err(Sense::parameter_byte(18).into());
        }
        let id_bytes = u32_at(list.bytes, 20).ok_or(LENGTH_WRONG)?;
        let id_bytes = usize::try_from(id_bytes).map_err(|_| LENGTH_WRONG)?;
        if id_bytes < 24 || !id_bytes.is_multiple_of(4) {
            return Err(Sense::parameter_byte(20).into());
        }
        let ids = list.bytes[LIST_BYTES..].get(..id_bytes).ok_or(LENGTH_WRONG)?;
        let id = TransportId::parse(ids).filter(|(_, len)| *len == ids.len());
        let target = match id.and_then(|(id, _)| name(&id)) {
            Some(Name::Port(initiator)) if initiator != self.peer.initiator => Peer { initiator, port },
            // Itself; a node, which names no nexus; or nothing that could be an initiator of ours.
            _ => return Err(Sense::parameter_byte(24).into()),
        };
        self.next.register(&target, list.new)?;
        self.next.hold(kind, &target);
        if list.bit(17, 1) {
            let peer = self.peer;
            self.unregister(|registered, _| registered == peer);
        }
        self.next.aptpl = list.bit(17, 0);
        self.count();
        Ok(())
    }

    /// SPC-4 5.13.11.3.
    fn replace_lost(&mut self, out: &Out, list: &List<'_>) -> Result<(), Refusal> {
        if !self.before.lost {
            return Err(Sense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION.into());
        }
        let kind = out.reservation()?;
        if list.key != Key::NONE {
            return Err(Sense::parameter_byte(0).into());
        }
        if list.new == Key::NONE {
            return Err(Sense::parameter_byte(8).into());
        }
        if list.bit(20, 2) {
            return Err(Sense::parameter_bit(20, 2).into());
        }
        self.next = Reservations::new();
        self.next.register(self.peer, list.new)?;
        self.next.hold(kind, self.peer);
        self.next.aptpl = list.bit(20, 0);
        Ok(())
    }

    /// PRGENERATION, SPC-4 6.15.2.
    fn count(&mut self) {
        self.next.generation = self.next.generation.wrapping_add(1);
    }

    /// Everybody who stays registered, except who asks.
    fn tell_others(&mut self, attention: Attention) {
        let others: Vec<Peer> = self.next.others(self.peer).cloned().collect();
        self.effects.attentions.extend(others.into_iter().map(|peer| (peer, attention)));
    }

    fn finish(self, known: &Known<'_>) -> (Reservations, Effects) {
        let Change { before, next, mut effects, .. } = self;
        effects.compare(before, &next, known);
        (next, effects)
    }
}

impl Effects {
    /// What follows from the difference of two tables alone.
    pub(super) fn compare(&mut self, before: &Reservations, next: &Reservations, known: &Known<'_>) {
        self.changed = before != next;
        self.durable = !before.keeps_the_same(next);
        for peer in known.peers {
            let named = canonical(peer);
            let lost = before.allowed_named(&named).has(Access::Write)
                && !next.allowed_named(&named).has(Access::Write);
            if lost && !self.abort.contains(&named) {
                self.fenced.push(named);
            }
        }
    }
}

/// The initiator ports of a SPEC_I_PT list, each once, with the place of the TransportID that named
/// it first.
fn listed(table: &Reservations, known: &Known<'_>, list: &[u8]) -> Result<Vec<(TransportId, u16)>, Refusal> {
    let len = u32_at(list, LIST_BYTES).ok_or(LENGTH_WRONG)?;
    let len = usize::try_from(len).map_err(|_| LENGTH_WRONG)?;
    let ids = list.get(IDS_AT..).and_then(|ids| ids.get(..len)).ok_or(LENGTH_WRONG)?;
    let mut names: Vec<(Name, u16)> = Vec::new();
    let mut offset = 0;
    while offset < ids.len() {
        // The list is shorter than 64 KiB.
        let at = (IDS_AT + offset) as u16;
        let (id, len) = TransportId::parse(&ids[offset..]).ok_or(Sense::parameter_byte(at))?;
        let name = name(&id).ok_or(Sense::parameter_byte(at))?;
        if !names.iter().any(|(seen, _)| *seen == name) {
            if names.len() >= REGISTRANTS_MAX {
                return Err(Sense::INSUFFICIENT_REGISTRATION_RESOURCES.into());
            }
            names.push((name, at));
        }
        offset += len;
    }
    let mut initiators: Vec<(TransportId, u16)> = Vec::new();
    let mut add = |id: TransportId, at: u16| {
        if !initiators.iter().any(|(seen, _)| *seen == id) {
            initiators.push((id, at));
        }
    };
    let attached: Vec<Peer> = known.peers.iter().map(canonical).collect();
    for (name, at) in names {
        match name {
            Name::Port(id) => add(id, at),
            // All ports of that node that are known (SPC-4 7.6.4.6): attached, or registered.
            Name::Node(wanted) => {
                let registered = table.registrations.iter().map(|entry| &entry.peer);
                for peer in attached.iter().chain(registered) {
                    if node(&peer.initiator).as_ref() == Some(&wanted) {
                        add(peer.initiator.clone(), at);
                    }
                }
            }
        }
    }
    Ok(initiators)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_be_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}
