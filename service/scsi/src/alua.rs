//! Asymmetric logical unit access (SPC-5, target port group access states): which paths to the
//! unit may be used, and how well.
//!
//! Every target port is in a group, and every group has a state that its owner chose. An initiator
//! may set another by SET TARGET PORT GROUPS; that holds until the owner chooses anew, also over a
//! change of the process. Whatever changes, each nexus but the one that did it is told.

use alloc::vec::Vec;

use crate::attention::Condition;
use crate::execute::Call;
use crate::nexus::Nexus;
use crate::profile::{AccessState, TargetPort};
use crate::rows::Row;
use crate::sense::Sense;
use crate::state::Reader;
use crate::unit::{Response, Unit, Verdict};

/// Groups of which a choice is remembered.
const CHOICES_MAX: usize = 256;

/// STATUS CODE: why a group is in its state.
const NO_STATUS: u8 = 0x00;
const BY_COMMAND: u8 = 0x01;
const IMPLICIT: u8 = 0x02;

/// One group, as it differs from what its owner said first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    group: u16,
    /// What the owner wanted when this was chosen: another wish of his ends it.
    owner: AccessState,
    state: AccessState,
    status: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AccessStates {
    choices: Vec<Choice>,
    /// Some group is not active: only then each command is looked at.
    restricted: bool,
}

impl AccessStates {
    pub fn state(&self) -> Option<Vec<u8>> {
        if self.choices.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.choices.len() * 5);
        for choice in &self.choices {
            bytes.extend_from_slice(&choice.group.to_le_bytes());
            bytes.extend_from_slice(&[choice.owner as u8, choice.state as u8, choice.status]);
        }
        Some(bytes)
    }

    pub fn restore(text: &mut Reader<'_>) -> Option<AccessStates> {
        let mut choices: Vec<Choice> = Vec::new();
        while !text.is_empty() && choices.len() < CHOICES_MAX {
            let group = text.u16()?;
            let owner = AccessState::from_code(text.u8()?)?;
            let state = AccessState::from_code(text.u8()?)?;
            let status = text.u8()?;
            if choices.iter().all(|choice| choice.group != group) {
                choices.push(Choice { group, owner, state, status });
            }
        }
        Some(AccessStates { choices, restricted: false })
    }

    fn find(&self, group: u16) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.group == group)
    }

    fn forget(&mut self, group: u16) {
        self.choices.retain(|choice| choice.group != group);
    }

    fn put(&mut self, choice: Choice) {
        self.forget(choice.group);
        if self.choices.len() < CHOICES_MAX {
            self.choices.push(choice);
        }
    }
}

/// The state that the owner gave to a group: that of its first port.
fn owners(ports: &[TargetPort], group: u16) -> Option<AccessState> {
    ports.iter().find(|port| port.group == group).map(|port| port.state)
}

impl Unit {
    /// The owner says what ports there are. A group whose state he changes loses what initiators
    /// chose for it, and everybody is told.
    pub(crate) fn change_ports(&mut self, ports: Vec<TargetPort>) {
        let mut changed = false;
        let groups: Vec<u16> = groups(&ports).collect();
        for group in groups {
            let wished = owners(&ports, group).unwrap_or_default();
            let outdated = self.access.find(group).is_some_and(|choice| choice.owner != wished);
            let before = owners(&self.ports, group).map(|_| self.group_state(group));
            if outdated {
                self.access.forget(group);
            }
            let after = self.access.find(group).map_or(wished, |choice| choice.state);
            if before.is_some_and(|before| before != after) {
                changed = true;
                self.access.put(Choice { group, owner: wished, state: wished, status: IMPLICIT });
            }
        }
        self.ports = ports;
        self.update_restricted();
        if changed {
            self.attend_all(Condition::ACCESS_STATE, None);
        }
    }

    fn update_restricted(&mut self) {
        self.access.restricted = self.ports.iter().any(|port| {
            matches!(self.group_state(port.group), AccessState::Standby | AccessState::Unavailable)
        });
    }

    pub(crate) fn group_state(&self, group: u16) -> AccessState {
        match self.access.find(group) {
            Some(choice) => choice.state,
            None => owners(&self.ports, group).unwrap_or_default(),
        }
    }

    /// The port that a nexus came by, if it was told of.
    pub(crate) fn port_of(&self, nexus: Nexus) -> Option<&TargetPort> {
        let id = self.nexuses.peer(nexus)?.port;
        self.ports.iter().find(|port| port.id == id)
    }

    /// Why a command cannot be taken by the port that it came by (SPC-5, the standby and unavailable
    /// states).
    pub(crate) fn refused_by_port(&self, nexus: Nexus, row: &Row) -> Option<Sense> {
        if !self.access.restricted {
            return None;
        }
        match self.group_state(self.port_of(nexus)?.group) {
            AccessState::Standby if !row.in_standby => Some(Sense::NOT_READY_TARGET_PORT_IN_STANDBY),
            AccessState::Unavailable if !row.in_unavailable => Some(Sense::NOT_READY_TARGET_PORT_UNAVAILABLE),
            _ => None,
        }
    }
}

/// The groups, ascending, each once.
fn groups(ports: &[TargetPort]) -> impl Iterator<Item = u16> {
    let mut groups: Vec<u16> = ports.iter().map(|port| port.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups.into_iter()
}

/// What any group may be in: U_SUP, S_SUP, AN_SUP, AO_SUP.
const SUPPORTED: u8 = 0x0f;

/// REPORT TARGET PORT GROUPS, SPC-5.
pub(crate) fn report(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let allocation = call.cdb.u32(6) as usize;
    let extended = match call.cdb.byte(1) >> 5 {
        0b000 => false,
        0b001 => true,
        _ => return Err(Sense::cdb_bit(1, 7)),
    };
    let mut data = Vec::from([0; 4]);
    if extended {
        // FORMAT TYPE; IMPLICIT TRANSITION TIME zero: none is given.
        data.extend_from_slice(&[0x10, 0, 0, 0]);
    }
    for group in groups(&unit.ports) {
        let state = unit.group_state(group);
        // PREF: by this group the owner wants the unit to be reached.
        let preferred = owners(&unit.ports, group) == Some(AccessState::ActiveOptimized);
        let status = unit.access.find(group).map_or(NO_STATUS, |choice| choice.status);
        let ports: Vec<_> = unit.ports.iter().filter(|port| port.group == group).take(255).collect();
        let [high, low] = group.to_be_bytes();
        let first = u8::from(preferred) << 7 | state as u8;
        data.extend_from_slice(&[first, SUPPORTED, high, low, 0, status, 0, ports.len() as u8]);
        for port in ports {
            let [high, low] = port.id.0.to_be_bytes();
            data.extend_from_slice(&[0, 0, high, low]);
        }
    }
    let length = (data.len() - 4) as u32;
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(call.reply(allocation, &data))
}

/// SET TARGET PORT GROUPS, SPC-5.
pub(crate) fn set(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    /// One descriptor for each group that there can be.
    const LIST_MAX_BYTES: u32 = 4 + 4 * CHOICES_MAX as u32;
    let length = call.cdb.u32(6);
    if length == 0 {
        return Ok(Verdict::Respond(Response::GOOD));
    }
    if !(4..=LIST_MAX_BYTES).contains(&length) || !length.is_multiple_of(4) {
        return Err(Sense::PARAMETER_LIST_LENGTH_ERROR);
    }
    let length = length as usize;
    let Some(list) = call.parameters else { return Ok(Verdict::Parameters(length)) };
    let list = list.get(..length).ok_or(Sense::PARAMETER_LIST_LENGTH_ERROR)?;
    let mut choices = Vec::new();
    for (index, descriptor) in list[4..].chunks_exact(4).enumerate() {
        let at = (4 + 4 * index) as u16; // at most LIST_MAX_BYTES
        if descriptor[0] & 0xf0 != 0 {
            return Err(Sense::parameter_bit(at, (descriptor[0] & 0xf0).ilog2() as u8));
        }
        let state = AccessState::from_code(descriptor[0]).ok_or(Sense::parameter_bit(at, 3))?;
        let group = u16::from_be_bytes([descriptor[2], descriptor[3]]);
        let owner = owners(&unit.ports, group).ok_or(Sense::parameter_byte(at + 2))?;
        choices.push(Choice { group, owner, state, status: BY_COMMAND });
    }
    let mut changed = false;
    for choice in choices {
        changed |= unit.group_state(choice.group) != choice.state;
        unit.access.put(choice);
    }
    unit.update_restricted();
    if changed {
        unit.attend_all(Condition::ACCESS_STATE, Some(call.nexus));
    }
    unit.dirty = true;
    Ok(Verdict::Respond(Response { data_out: length as u64, ..Response::GOOD }))
}
