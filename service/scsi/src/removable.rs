//! Whether the medium is there and turning: START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, and the
//! operator's hand at the tray.
//!
//! # The picture
//!
//! ```text
//!   loaded ──START STOP UNIT, LOEJ 1 START 0──► ejected
//!     ▲    ──Unit::eject (the operator)──────►    │
//!     └────START STOP UNIT, LOEJ 1 START 1────────┤
//!     └────Unit::load ────────────────────────────┘   28h/00h for every other nexus
//! ```
//!
//! Each nexus may prevent both by itself, and what it prevents ends with it, with a reset, or with
//! its PREVENT 0. The tray stays as it is over a reset, and over a change of the process; after a loss
//! of power the medium is loaded.

use alloc::vec::Vec;
use request::Operation;

use crate::attention::Condition;
use crate::execute::Call;
use crate::nexus::Nexus;
use crate::plan::Plan;
use crate::rows::Row;
use crate::sense::Sense;
use crate::state::Reader;
use crate::unit::{Response, Unit, Verdict};

/// A power condition that START STOP UNIT chose; the next command to the medium ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Power {
    #[default]
    Active = 0,
    Idle = 1,
    Standby = 2,
}

/// MEDIA EVENT of GET EVENT STATUS NOTIFICATION, MMC-6: the last that happened, until it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum MediaEvent {
    #[default]
    NoChange = 0,
    EjectRequest = 1,
    NewMedia = 2,
    MediaRemoval = 3,
}

/// What becomes of the operator's wish to take the medium out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ejection {
    Done,
    /// An initiator prevents it. All were told that the operator asks.
    Prevented,
    /// The medium is fixed.
    Fixed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removable {
    pub ejected: bool,
    pub power: Power,
    /// One bit a nexus: it prevents removal.
    prevented: u128,
    /// By nexus, as far as one has been established: what GET EVENT STATUS NOTIFICATION tells next.
    events: Vec<MediaEvent>,
}

fn bit(nexus: Nexus) -> u128 {
    // Nexuses are numbered below NEXUS_MAX, 128.
    1u128.checked_shl(nexus.0).unwrap_or(0)
}

impl Removable {
    pub fn is_locked(&self) -> bool {
        self.prevented != 0
    }

    pub fn allow(&mut self, nexus: Nexus) {
        self.prevented &= !bit(nexus);
        if let Some(event) = self.events.get_mut(nexus.0 as usize) {
            *event = MediaEvent::NoChange;
        }
    }

    pub fn allow_all(&mut self) {
        self.prevented = 0;
    }

    pub fn take_event(&mut self, nexus: Nexus) -> MediaEvent {
        self.events.get_mut(nexus.0 as usize).map(core::mem::take).unwrap_or_default()
    }

    /// Bytes for the unit's state; `None` while everything is as after power on.
    pub fn state(&self) -> Option<Vec<u8>> {
        if *self == Removable::default() {
            return None;
        }
        let mut bytes = Vec::from([u8::from(self.ejected), self.power as u8]);
        bytes.extend_from_slice(&self.prevented.to_le_bytes());
        bytes.extend(self.events.iter().map(|event| *event as u8));
        Some(bytes)
    }

    pub fn restore(text: &mut Reader<'_>) -> Option<Removable> {
        let ejected = text.u8()? != 0;
        let power = match text.u8()? {
            1 => Power::Idle,
            2 => Power::Standby,
            _ => Power::Active,
        };
        let prevented = u128::from(text.u64()?) | u128::from(text.u64()?) << 64;
        let mut events = Vec::new();
        while let Some(event) = text.u8() {
            if events.len() >= crate::NEXUS_MAX {
                break;
            }
            events.push(match event {
                1 => MediaEvent::EjectRequest,
                2 => MediaEvent::NewMedia,
                3 => MediaEvent::MediaRemoval,
                _ => MediaEvent::NoChange,
            });
        }
        Some(Removable { ejected, power, prevented, events })
    }
}

impl Unit {
    /// After every change of what keeps commands from the medium: the common command looks at one
    /// flag.
    pub(crate) fn update_hindered(&mut self) {
        self.hindered = self.stopped || self.removable.ejected || self.removable.power != Power::Active;
    }

    /// Whether a command that needs the medium can have it. It wakes a unit that sleeps.
    pub(crate) fn reach_medium(&mut self, row: &Row) -> Result<(), Sense> {
        if !row.needs_start {
            return Ok(());
        }
        if self.removable.ejected {
            return Err(Sense::MEDIUM_NOT_PRESENT_TRAY_OPEN);
        }
        if self.stopped {
            return Err(Sense::NOT_READY_INITIALIZING_COMMAND_REQUIRED);
        }
        // TEST UNIT READY does not need the active power condition (SPC-5, power conditions).
        if row.opcode != TEST_UNIT_READY && self.removable.power != Power::Active {
            self.removable.power = Power::Active;
            self.update_hindered();
            self.dirty = true;
        }
        Ok(())
    }

    fn tell_media(&mut self, event: MediaEvent) {
        let removable = &mut self.removable;
        for (nexus, _) in self.nexuses.iter() {
            let index = nexus.0 as usize;
            if removable.events.len() <= index {
                removable.events.resize(index + 1, MediaEvent::NoChange);
            }
            removable.events[index] = event;
        }
    }

    fn set_ejected(&mut self, ejected: bool, by: Option<Nexus>) {
        if self.removable.ejected == ejected {
            return;
        }
        self.removable.ejected = ejected;
        self.update_hindered();
        if ejected {
            self.tell_media(MediaEvent::MediaRemoval);
        } else {
            self.tell_media(MediaEvent::NewMedia);
            self.attend_all(Condition::MEDIUM, by);
        }
        self.dirty = true;
    }

    /// The operator takes the medium out. A volatile cache is for the caller to flush first.
    pub fn eject(&mut self) -> Ejection {
        if !self.profile.is_removable() {
            return Ejection::Fixed;
        }
        if self.removable.is_locked() {
            // MMC-6 and SPC-5: OPERATOR MEDIUM REMOVAL REQUEST, and the media class event.
            self.tell_media(MediaEvent::EjectRequest);
            self.attend_all(Condition::REMOVAL_REQUEST, None);
            return Ejection::Prevented;
        }
        self.set_ejected(true, None);
        Ejection::Done
    }

    /// The operator puts it back in, or another one, whose facts were given before.
    pub fn load(&mut self) {
        self.set_ejected(false, None);
    }

    pub fn is_ejected(&self) -> bool {
        self.removable.ejected
    }

    /// PREEMPT AND ABORT ends what the nexuses that it shuts out prevent (SPC-5).
    pub fn allow_removal(&mut self, nexus: Nexus) {
        if self.removable.prevented & bit(nexus) != 0 {
            self.removable.prevented &= !bit(nexus);
            self.dirty = true;
        }
    }
}

const TEST_UNIT_READY: u8 = 0x00;

/// START STOP UNIT, SBC-4 and MMC-6. What empties the cache comes first, unless NO_FLUSH says not
/// to. IMMED is accepted; the answer comes when the work is done, which promises more.
pub(crate) fn start_stop_unit(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let removable = unit.profile.is_removable();
    let condition = call.cdb.byte(4) >> 4;
    if condition != 0 {
        // START and LOEJ are ignored.
        return power_condition(unit, call, condition, removable);
    }
    if call.cdb.byte(3) & 0x0f != 0 {
        return Err(Sense::cdb_bit(3, 3)); // POWER CONDITION MODIFIER
    }
    let start = call.cdb.bit(4, 0);
    let load_eject = call.cdb.bit(4, 1);
    if load_eject && !removable {
        return Err(Sense::cdb_bit(4, 1));
    }
    if load_eject {
        // SBC-4, PREVENT: neither out nor in.
        if unit.removable.is_locked() {
            return Err(Sense::MEDIUM_REMOVAL_PREVENTED);
        }
        let was_out = unit.removable.ejected;
        unit.set_ejected(!start, Some(call.nexus));
        return Ok(if start || was_out { good() } else { flushed(unit, call) });
    }
    if start && unit.removable.ejected {
        return Err(Sense::MEDIUM_NOT_PRESENT_TRAY_OPEN);
    }
    // A removable medium that was stopped turns again as soon as somebody wants it, as discs do
    // (MMC-6); a disk waits to be started (SBC-4).
    let stopped = !start && !removable;
    if unit.stopped != stopped || unit.removable.power != Power::Active {
        unit.stopped = stopped;
        unit.removable.power = Power::Active;
        unit.update_hindered();
        unit.dirty = true;
    }
    Ok(if start || unit.removable.ejected { good() } else { flushed(unit, call) })
}

fn good() -> Verdict {
    Verdict::Respond(Response::GOOD)
}

fn flushed(unit: &Unit, call: &Call<'_>) -> Verdict {
    let no_flush = call.cdb.bit(4, 2);
    if no_flush || unit.facts.read_only {
        return good();
    }
    Verdict::Medium(Plan::one(Operation::Flush))
}

/// SBC-4, POWER CONDITION and POWER CONDITION MODIFIER. There is no motor: what is chosen shows in
/// REQUEST SENSE, and ends with the next command to the medium. Of a removable medium any number is
/// taken, since initiators try them all to see that none of them ejects.
fn power_condition(
    unit: &mut Unit,
    call: &Call<'_>,
    condition: u8,
    removable: bool,
) -> Result<Verdict, Sense> {
    let modifier = call.cdb.byte(3) & 0x0f;
    let (power, modifier_max) = match condition {
        0x1 => (Some(Power::Active), 0),
        0x2 => (Some(Power::Idle), 2),
        0x3 => (Some(Power::Standby), 1),
        0x7 => (None, 0),              // LU_CONTROL: back to the timers, of which none runs
        0xa => (Some(Power::Idle), 2), // FORCE_IDLE_0
        0xb => (Some(Power::Standby), 1), // FORCE_STANDBY_0
        _ if removable => (None, 0x0f),
        _ => return Err(Sense::cdb_bit(4, 7)),
    };
    if modifier > modifier_max {
        return Err(Sense::cdb_bit(3, 3));
    }
    let power = power.unwrap_or(unit.removable.power);
    if power != unit.removable.power || unit.stopped {
        unit.stopped = false;
        unit.removable.power = power;
        unit.update_hindered();
        unit.dirty = true;
    }
    if power == Power::Standby && !unit.removable.ejected { Ok(flushed(unit, call)) } else { Ok(good()) }
}

/// PREVENT ALLOW MEDIUM REMOVAL, SBC-4. Of a medium that cannot be removed it is granted anyway.
pub(crate) fn prevent_allow(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if unit.profile.is_removable() {
        let before = unit.removable.prevented;
        if call.cdb.bit(4, 0) {
            unit.removable.prevented |= bit(call.nexus);
        } else {
            unit.removable.prevented &= !bit(call.nexus);
        }
        unit.dirty |= before != unit.removable.prevented;
    }
    Ok(good())
}

/// How a unit that does nothing is, for REQUEST SENSE (SPC-5, pollable sense data).
pub(crate) fn rest(unit: &Unit) -> Sense {
    if unit.removable.ejected {
        return Sense::MEDIUM_NOT_PRESENT_TRAY_OPEN;
    }
    if unit.stopped {
        return Sense::NOT_READY_INITIALIZING_COMMAND_REQUIRED;
    }
    match unit.removable.power {
        Power::Active => Sense::NO_ADDITIONAL_SENSE_INFORMATION,
        Power::Idle => Sense::IDLE_CONDITION_ACTIVATED_BY_COMMAND,
        Power::Standby => Sense::STANDBY_CONDITION_ACTIVATED_BY_COMMAND,
    }
}

/// TEST UNIT READY. That the medium can be reached at all is known to the backend alone, which
/// answers each operation with it; here a unit is ready unless it was stopped or its medium is out,
/// which [`Unit::reach_medium`] has seen.
pub(crate) fn test_unit_ready(unit: &mut Unit, _call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if unit.facts.blocks.0 == 0 {
        return Err(Sense::MEDIUM_NOT_PRESENT);
    }
    Ok(good())
}
