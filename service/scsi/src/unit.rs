//! One logical unit.

use alloc::vec::Vec;
use request::{Facts, Operation, Status};

use crate::attention::{Attentions, Condition, Nexus, Reset};
use crate::cdb::Cdb;
use crate::mode::Values;
use crate::plan::Plan;
use crate::rows::{self, Row};
use crate::sense::{Format, Sense, SenseData};
use crate::state::State;

/// Status codes, SAM-5.
pub mod status {
    pub const GOOD: u8 = 0x00;
    pub const CHECK_CONDITION: u8 = 0x02;
    pub const BUSY: u8 = 0x08;
    pub const TASK_SET_FULL: u8 = 0x28;
    pub const TASK_ABORTED: u8 = 0x40;
}

/// A command as it came.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    pub nexus: Nexus,
    /// At least as long as the operation code asks for; bytes behind that are not looked at.
    pub cdb: &'a [u8],
    /// The logical units that this nexus may see, ascending; each below 16,384 (flat space
    /// addressing has 14 bits).
    pub luns: &'a [u16],
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// One of [`status`].
    pub status: u8,
    /// Why, with CHECK CONDITION.
    pub sense: Option<Sense>,
    /// How the unit lays out sense data now (D_SENSE).
    pub format: Format,
    /// Bytes of the initiator's data that the command took, for the residual count.
    pub data_out: u64,
}

impl Response {
    pub(crate) const GOOD: Response =
        Response { status: status::GOOD, sense: None, format: Format::Fixed, data_out: 0 };

    pub(crate) fn check(sense: Sense, format: Format) -> Response {
        Response { status: status::CHECK_CONDITION, sense: Some(sense), format, data_out: 0 }
    }

    /// Sense data to be sent with the status.
    pub fn sense_data(&self) -> Option<SenseData> {
        self.sense.map(|sense| sense.encode(self.format))
    }
}

/// What a command needs next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: this is its end. Its data-in bytes were appended to `out`, cut to the allocation
    /// length.
    Respond(Response),
    /// So many bytes of the initiator's data; call again with them.
    Parameters(usize),
    /// Work on the medium; [`Unit::finish`] makes the response of its end.
    Medium(Plan),
}

/// A command on its way through its decode function.
pub(crate) struct Call<'a> {
    pub nexus: Nexus,
    pub cdb: Cdb,
    pub luns: &'a [u16],
    pub parameters: Option<&'a [u8]>,
    pub out: &'a mut Vec<u8>,
}

impl Call<'_> {
    /// Appends data-in bytes, cut to the allocation length (SPC-4).
    pub fn reply(&mut self, allocation: usize, data: &[u8]) -> Verdict {
        self.out.extend_from_slice(&data[..data.len().min(allocation)]);
        Verdict::Respond(Response::GOOD)
    }
}

pub(crate) type Decode = fn(&mut Unit, &mut Call<'_>) -> Result<Verdict, Sense>;

/// A logical unit: the volume's facts, the mode parameters, the conditions that wait.
#[derive(Clone, Debug)]
pub struct Unit {
    pub(crate) facts: Facts,
    pub(crate) values: Values,
    pub(crate) attentions: Attentions,
    /// What initiators were told and may not have seen yet.
    told: Attentions,
    pub(crate) stopped: bool,
    pub(crate) dirty: bool,
}

impl Unit {
    /// As after power on.
    pub fn new(facts: Facts) -> Unit {
        Unit {
            facts,
            values: Values::default(),
            attentions: Attentions::power_on(),
            told: Attentions::none(),
            stopped: false,
            dirty: true,
        }
    }

    /// As it was when `state` was stored. A capacity that changed meanwhile is told to everybody.
    pub fn restore(facts: Facts, state: &State) -> Unit {
        let mut unit = Unit {
            facts,
            values: Values {
                write_cache_off: state.write_cache_off,
                descriptor_sense: state.descriptor_sense,
            },
            attentions: Attentions::from_words(state.attentions),
            told: Attentions::none(),
            stopped: state.stopped,
            dirty: false,
        };
        if unit.facts.blocks.0 != state.blocks {
            unit.attentions.establish_all(Condition::CAPACITY);
            unit.dirty = true;
        }
        unit
    }

    pub fn state(&self) -> State {
        State {
            write_cache_off: self.values.write_cache_off,
            descriptor_sense: self.values.descriptor_sense,
            stopped: self.stopped,
            blocks: self.facts.blocks.0,
            attentions: self.attentions.with(&self.told).words(),
        }
    }

    /// The initiators can see every answer that was given: what those told is told.
    pub fn seen(&mut self) {
        self.told = Attentions::none();
    }

    /// The next condition for this nexus. Until `seen`, the state still has it, so that a successor
    /// of a process that dies before the answer is seen tells it again.
    pub(crate) fn tell(&mut self, nexus: Nexus) -> Option<Sense> {
        let before = self.attentions.clone();
        let sense = self.attentions.take(nexus)?;
        self.told = self.told.with(&before.without(&self.attentions));
        self.dirty = true;
        Some(sense)
    }

    /// True once after the state changed: store it when the guest can see the response.
    pub fn take_dirty(&mut self) -> bool {
        core::mem::take(&mut self.dirty)
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The decision about a command. `parameters`: what [`Verdict::Parameters`] asked for, or less
    /// if the initiator offered less.
    pub fn execute(
        &mut self,
        command: &Command<'_>,
        parameters: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Verdict {
        match self.decide(command, parameters, out) {
            Ok(Verdict::Respond(response)) => {
                Verdict::Respond(Response { format: self.values.format(), ..response })
            }
            Ok(verdict) => verdict,
            Err(sense) => Verdict::Respond(Response::check(sense, self.values.format())),
        }
    }

    fn decide(
        &mut self,
        command: &Command<'_>,
        parameters: Option<&[u8]>,
        out: &mut Vec<u8>,
    ) -> Result<Verdict, Sense> {
        let cdb = Cdb::new(command.cdb);
        let found = rows::find(command.cdb, &self.facts);
        // SAM-5: a pending condition comes before whatever else the command would have met.
        let past_attention = found.as_ref().is_ok_and(|row| row.past_attention);
        if !past_attention && let Some(sense) = self.tell(command.nexus) {
            return Err(sense);
        }
        let row: &Row = found?;
        row.check(&cdb)?;
        if self.stopped && row.needs_start {
            return Err(Sense::NOT_READY_INITIALIZING_COMMAND_REQUIRED);
        }
        if self.facts.read_only && row.writes {
            return Err(Sense::WRITE_PROTECTED);
        }
        let mut call = Call { nexus: command.nexus, cdb, luns: command.luns, parameters, out };
        (row.decode)(self, &mut call)
    }

    /// The response of a command whose plan ended so. The caller fills in `data_out` from the plan
    /// where its transport counts residuals.
    pub fn finish(&mut self, _nexus: Nexus, status: Status) -> Response {
        let format = self.values.format();
        match sense_of(status) {
            None => Response { format, ..Response::GOOD },
            Some(sense) => Response::check(sense, format),
        }
    }

    /// The volume's facts changed. A new capacity becomes a unit attention of every nexus.
    pub fn resized(&mut self, facts: Facts) {
        if facts.blocks != self.facts.blocks {
            self.attentions.establish_all(Condition::CAPACITY);
        }
        self.facts = facts;
        self.dirty = true;
    }

    /// The set of the target's logical units changed.
    pub fn luns_changed(&mut self) {
        self.attentions.establish_all(Condition::LUNS);
        self.dirty = true;
    }

    /// Mode parameters go back to their defaults, the unit starts, and every nexus is told.
    pub fn reset(&mut self, cause: Reset) {
        self.values = Values::default();
        self.stopped = false;
        self.attentions.establish_all(cause.into());
        self.dirty = true;
    }

    /// An initiator went away; whoever has this number next is told.
    pub fn nexus_lost(&mut self, nexus: Nexus) {
        self.attentions.establish(nexus, Condition::NEXUS_LOSS);
        self.dirty = true;
    }

    /// Each write has to be durable when it ends, since an initiator cleared WCE. A volume without
    /// a volatile cache needs nothing said.
    pub(crate) fn writes_through(&self) -> bool {
        self.facts.write_cache && self.values.write_cache_off
    }

    /// WCE: writes may end in a volatile cache.
    pub(crate) fn caches_writes(&self) -> bool {
        self.facts.write_cache && !self.values.write_cache_off
    }
}

/// TEST UNIT READY. That the medium can be reached at all is known to the backend alone, which
/// answers each operation with it; here a unit is ready unless it was stopped.
pub(crate) fn test_unit_ready(unit: &mut Unit, _call: &mut Call<'_>) -> Result<Verdict, Sense> {
    if unit.facts.blocks.0 == 0 {
        return Err(Sense::MEDIUM_NOT_PRESENT);
    }
    Ok(Verdict::Respond(Response::GOOD))
}

/// START STOP UNIT, SBC-3. Stopping flushes first, unless NO_FLUSH says not to. IMMED is accepted;
/// the answer comes when the work is done, which promises more.
pub(crate) fn start_stop_unit(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let stopped = !call.cdb.bit(4, 0);
    let no_flush = call.cdb.bit(4, 2);
    if unit.stopped != stopped {
        unit.stopped = stopped;
        unit.dirty = true;
    }
    if stopped && !no_flush {
        return Ok(Verdict::Medium(Plan::one(Operation::Flush)));
    }
    Ok(Verdict::Respond(Response::GOOD))
}

/// PREVENT ALLOW MEDIUM REMOVAL, SBC-3: the medium cannot be removed in any case.
pub(crate) fn prevent_allow(_unit: &mut Unit, _call: &mut Call<'_>) -> Result<Verdict, Sense> {
    Ok(Verdict::Respond(Response::GOOD))
}

/// REQUEST SENSE, SPC-4: a pending condition is told, and thereby cleared, as parameter data.
pub(crate) fn request_sense(unit: &mut Unit, call: &mut Call<'_>) -> Result<Verdict, Sense> {
    let sense = match unit.tell(call.nexus) {
        Some(sense) => sense,
        None if unit.stopped => Sense::NOT_READY_INITIALIZING_COMMAND_REQUIRED,
        None => Sense::NO_ADDITIONAL_SENSE_INFORMATION,
    };
    Ok(reply_sense(call, sense))
}

/// REQUEST SENSE chooses the layout itself, by its DESC bit.
pub(crate) fn reply_sense(call: &mut Call<'_>, sense: Sense) -> Verdict {
    let format = if call.cdb.bit(1, 0) { Format::Descriptor } else { Format::Fixed };
    call.reply(usize::from(call.cdb.byte(4)), &sense.encode(format))
}

/// How the backend's ends are told to an initiator.
fn sense_of(status: Status) -> Option<Sense> {
    match status {
        Status::Good => None,
        Status::MediumRead => Some(Sense::UNRECOVERED_READ_ERROR),
        Status::MediumWrite => Some(Sense::WRITE_ERROR),
        // SBC-3, resource exhaustion of thin provisioning: Linux makes ENOSPC of it, and the guest
        // goes on when there is space.
        Status::NoSpace => Some(Sense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT),
        Status::WriteProtected => Some(Sense::WRITE_PROTECTED),
        Status::NotReady => Some(Sense::NOT_READY_CAUSE_NOT_REPORTABLE),
        // Linux stops sending a command that ends so, which is what is wanted.
        Status::Unsupported => Some(Sense::INVALID_COMMAND_OPERATION_CODE),
        Status::Aborted => Some(Sense::IO_PROCESS_TERMINATED),
    }
}
