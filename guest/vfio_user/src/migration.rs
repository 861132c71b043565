//! A device on its way to another host: DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE.

use alloc::vec::Vec;

use crate::device::Device;
use crate::fault::Fault;
use crate::numbers::*;
use crate::session::{Effect, Outcome, Session, at_least};
use crate::state::{INCOMING_MAX, LOG_END, LOG_RANGES_MAX, LogState};
use crate::wire::{Header, Reader, put_error, put_reply};

/// Pages of the log by eights that one message may ask about: 8 GiB, a bitmap's worth of pages of 64 KiB.
const LOOKED_AT_MAX: u64 = 16 * offer::MAX_BITMAP_SIZE;

/// `enum vfio_device_mig_state`, without the peer-to-peer states that the protocol does not use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum MigrationState {
    /// Only a reset helps.
    Error = 0,
    Stop = 1,
    #[default]
    Running = 2,
    StopCopy = 3,
    Resuming = 4,
    PreCopy = 6,
}

impl MigrationState {
    pub fn from_number(number: u32) -> Option<Self> {
        [Self::Error, Self::Stop, Self::Running, Self::StopCopy, Self::Resuming, Self::PreCopy]
            .into_iter()
            .find(|state| *state as u32 == number)
    }

    /// The device works.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::PreCopy)
    }

    /// The device's state can be read.
    pub fn is_saving(self) -> bool {
        matches!(self, Self::StopCopy | Self::PreCopy)
    }
}

/// A way from one state to another, over whatever states lie between; what is to be done on it, in
/// this order: `stops`, `loads`, `starts`, `saves`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub from: MigrationState,
    pub to: MigrationState,
}

impl Transition {
    /// `None`: there is no such way. The direct arcs are those of the specification; a way has no
    /// saving state in its middle. ERROR is neither asked for nor left but by a reset, and a copy
    /// that was stopped is not taken up again.
    pub fn find(from: MigrationState, to: MigrationState) -> Option<Self> {
        use MigrationState::{Error, PreCopy, StopCopy};
        let possible = from != Error && to != Error && (from, to) != (StopCopy, PreCopy);
        possible.then_some(Self { from, to })
    }

    /// The device is to end what it does, and to do nothing more.
    pub fn stops(self) -> bool {
        self.from.is_running() && !self.to.is_running()
    }

    /// The state that came is to be taken up.
    pub fn loads(self) -> bool {
        self.from == MigrationState::Resuming && self.to != MigrationState::Resuming
    }

    pub fn starts(self) -> bool {
        !self.from.is_running() && self.to.is_running()
    }

    /// The device's state is to be made ready: see `Session::saved`.
    pub fn saves(self) -> bool {
        self.to == MigrationState::StopCopy && self.from != MigrationState::StopCopy
    }
}

impl Session {
    pub(crate) fn reset_migration(&mut self) {
        self.state.migration = MigrationState::Running;
        self.state.incoming = Vec::new();
        (self.state.saved_len, self.state.saved_read) = (0, 0);
    }

    /// The device's state is ready to be read, in so many bytes: to be called when a transition
    /// [saves](Transition::saves), before its reply goes out.
    pub fn saved(&mut self, len: usize) {
        self.state.saved_len = u32::try_from(len).unwrap_or(u32::MAX);
        self.state.saved_read = 0;
    }

    /// What a transition asks for could not be done: the reply that began at `start` becomes an
    /// error, and only a reset brings the device back.
    pub fn migration_failed(&mut self, header: &Header, start: usize, reply: &mut Vec<u8>) {
        self.reset_migration();
        self.state.migration = MigrationState::Error;
        reply.truncate(start);
        if header.wants_reply() {
            put_error(reply, header, EIO);
        }
    }

    /// A transition could not be begun: the reply that began at `start` becomes an error, and the
    /// device is where it was.
    pub fn migration_refused(
        &mut self,
        transition: Transition,
        header: &Header,
        start: usize,
        reply: &mut Vec<u8>,
    ) {
        self.reset_migration();
        self.state.migration = transition.from;
        self.refused(header, start, reply);
    }

    /// Dirty pages cannot be noted: the reply that began at `start` becomes an error.
    pub fn log_refused(&mut self, header: &Header, start: usize, reply: &mut Vec<u8>) {
        self.state.log = None;
        self.refused(header, start, reply);
    }

    fn refused(&self, header: &Header, start: usize, reply: &mut Vec<u8>) {
        reply.truncate(start);
        if header.wants_reply() {
            put_error(reply, header, EBUSY);
        }
    }

    pub(crate) fn feature<'a>(
        &mut self,
        device: &Device,
        header: &Header,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        let mut from = Reader::of(payload, 8)?;
        let (argsz, flags) = (from.u32(), from.u32());
        let data = from.rest();
        let (feature, method) = (flags & FEATURE_MASK, flags & !FEATURE_MASK);
        let methods = match feature {
            FEATURE_MIGRATION | FEATURE_DMA_LOGGING_REPORT => FEATURE_GET,
            FEATURE_MIG_DEVICE_STATE => FEATURE_GET | FEATURE_SET,
            FEATURE_DMA_LOGGING_START | FEATURE_DMA_LOGGING_STOP => FEATURE_SET,
            _ => return Err(Fault::NoSuchFeature),
        };
        if !device.migration {
            return Err(Fault::NoSuchFeature);
        }
        at_least(argsz, 8)?;
        if method & !(FEATURE_GET | FEATURE_SET | FEATURE_PROBE) != 0 {
            return Err(Fault::Malformed);
        }
        if method & FEATURE_PROBE != 0 {
            if method & (FEATURE_GET | FEATURE_SET) & !methods != 0 {
                return Err(Fault::NoSuchFeature);
            }
            return echo(header, payload, reply);
        }
        match (feature, method) {
            (_, method) if !method.is_power_of_two() => Err(Fault::Malformed),
            (_, method) if method & methods == 0 => Err(Fault::NoSuchFeature),
            (FEATURE_MIGRATION, _) => {
                let offered = MIGRATION_STOP_COPY | MIGRATION_PRE_COPY;
                Ok(put_feature(header, argsz, flags, &offered.to_le_bytes(), reply))
            }
            (FEATURE_MIG_DEVICE_STATE, FEATURE_GET) => {
                let mut state = [0; 8];
                state[..4].copy_from_slice(&(self.state.migration as u32).to_le_bytes());
                // No descriptor: data goes by messages.
                state[4..].fill(0xff);
                Ok(put_feature(header, argsz, flags, &state, reply))
            }
            (FEATURE_MIG_DEVICE_STATE, _) => self.set_migration(header, payload, reply),
            (FEATURE_DMA_LOGGING_START, _) => self.start_log(header, payload, reply),
            (FEATURE_DMA_LOGGING_STOP, _) => {
                if self.state.log.is_none() {
                    return Err(Fault::BadLog);
                }
                let outcome = echo(header, payload, reply)?;
                self.state.log = None;
                Ok(Outcome { effect: Effect::LogStop, changed: true, ..outcome })
            }
            _ => self.report_log(header, argsz, flags, data, reply),
        }
    }

    fn set_migration<'a>(
        &mut self,
        header: &Header,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        if payload.len() < 16 {
            return Err(Fault::Malformed);
        }
        let to = MigrationState::from_number(Reader(&payload[8..]).u32()).ok_or(Fault::BadTransition)?;
        let transition = Transition::find(self.state.migration, to).ok_or(Fault::BadTransition)?;
        let outcome = echo(header, payload, reply)?;
        if transition.from == to {
            return Ok(outcome);
        }
        let incoming = core::mem::take(&mut self.state.incoming);
        self.reset_migration();
        self.state.migration = to;
        Ok(Outcome { effect: Effect::Migrate { transition, incoming }, changed: true, ..outcome })
    }

    fn start_log<'a>(
        &mut self,
        header: &Header,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        if payload.len() < 24 {
            return Err(Fault::Malformed);
        }
        if self.state.log.is_some() {
            return Err(Fault::BadLog);
        }
        let mut from = Reader(&payload[8..]);
        let (_, count, _) = (from.u64(), from.u32() as usize, from.u32());
        if count > LOG_RANGES_MAX {
            return Err(Fault::BadLog);
        }
        if from.rest().len() != count * 16 {
            return Err(Fault::Malformed);
        }
        let ranges: Vec<_> = (0..count).map(|_| (from.u64(), from.u64())).collect();
        let bad = |&(address, length): &(u64, u64)| {
            length == 0 || address.checked_add(length).is_none_or(|end| end > LOG_END)
        };
        if ranges.iter().any(bad) {
            return Err(Fault::BadLog);
        }
        let start = reply.len() + HEADER_LEN + 8;
        let outcome = echo(header, payload, reply)?;
        // Whatever size was hinted at, this is the one that pages are noted in.
        reply[start..start + 8].copy_from_slice(&offer::PGSIZES.to_le_bytes());
        self.state.log = Some(LogState { page_size: offer::PGSIZES, ranges });
        Ok(Outcome { effect: Effect::LogStart, changed: true, ..outcome })
    }

    fn report_log<'a>(
        &mut self,
        header: &Header,
        argsz: u32,
        flags: u32,
        data: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        if data.len() < 24 {
            return Err(Fault::Malformed);
        }
        let mut from = Reader(data);
        let (address, length, page_size) = (from.u64(), from.u64(), from.u64());
        if self.state.log.is_none()
            || length == 0
            || !page_size.is_power_of_two()
            || page_size < offer::PGSIZES
            || address.checked_add(length).is_none()
        {
            return Err(Fault::BadLog);
        }
        let bytes = length.div_ceil(page_size).div_ceil(64) * 8;
        // A page of the log is looked at for each bit, or for many of them if pages are larger than its own.
        if bytes > offer::MAX_BITMAP_SIZE || length.div_ceil(offer::PGSIZES) / 8 > LOOKED_AT_MAX {
            return Err(Fault::TooMuchData);
        }
        let mut answer = data[..24].to_vec();
        answer.resize(24 + bytes as usize, 0);
        let start = reply.len();
        let outcome = put_feature(header, argsz, flags, &answer, reply);
        let into = start + HEADER_LEN + 8 + 24..reply.len();
        if into.len() != bytes as usize || !header.wants_reply() {
            return Ok(outcome);
        }
        Ok(Outcome { effect: Effect::LogReport { address, length, page_size, into }, ..outcome })
    }

    pub(crate) fn read_saved<'a>(
        &mut self,
        device: &Device,
        header: &Header,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        let mut from = Reader::of(payload, 8)?;
        let (argsz, size) = (from.u32(), from.u32());
        if !device.migration || !self.state.migration.is_saving() {
            return Err(Fault::NotMigrating);
        }
        if !header.wants_reply() {
            return Err(Fault::PostedRead);
        }
        at_least(argsz, 8)?;
        // Less than was asked for means that there is no more: so a piece is never made shorter
        // than it has to be, and what is asked for has to fit.
        if size as usize > REPLY_MAX - HEADER_LEN - 8 && self.left() > REPLY_MAX - HEADER_LEN - 8 {
            return Err(Fault::TooMuchData);
        }
        let count = (size as usize).min(self.left());
        let from = self.state.saved_read as usize;
        put_reply(reply, header, 8 + count);
        reply.extend((8 + count as u32).to_le_bytes());
        reply.extend((count as u32).to_le_bytes());
        let into = reply.len()..reply.len() + count;
        reply.resize(into.end, 0);
        self.state.saved_read += count as u32;
        Ok(Outcome::changing(Effect::Saved { from, into }))
    }

    /// Bytes of the saved state that were not read. While the device still works there are none: all
    /// of its state is small, and goes when it has stopped.
    fn left(&self) -> usize {
        (self.state.saved_len - self.state.saved_read) as usize
    }

    pub(crate) fn write_incoming<'a>(
        &mut self,
        device: &Device,
        header: &Header,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        let mut from = Reader::of(payload, 8)?;
        let (_, size) = (from.u32(), from.u32());
        let data = from.rest();
        if data.len() != size as usize {
            return Err(Fault::Malformed);
        }
        if !device.migration || self.state.migration != MigrationState::Resuming {
            return Err(Fault::NotMigrating);
        }
        if data.len() > INCOMING_MAX - self.state.incoming.len() {
            return Err(Fault::StateTooLong);
        }
        self.state.incoming.extend(data);
        put_reply(reply, header, 0);
        Ok(Outcome::changing(Effect::Nothing))
    }
}

/// A reply with the payload of its request.
fn echo<'a>(header: &Header, payload: &[u8], reply: &mut Vec<u8>) -> Result<Outcome<'a>, Fault> {
    if payload.len() > REPLY_MAX - HEADER_LEN {
        return Err(Fault::TooMuchData);
    }
    put_reply(reply, header, payload.len());
    reply.extend(payload);
    Ok(Outcome::of(Effect::Nothing))
}

/// The reply to a GET: the data, if `argsz` has room for it, else how much room it wants.
fn put_feature<'a>(header: &Header, argsz: u32, flags: u32, data: &[u8], reply: &mut Vec<u8>) -> Outcome<'a> {
    let needed = 8 + data.len();
    let whole = argsz as usize >= needed;
    put_reply(reply, header, if whole { needed } else { 8 });
    reply.extend((needed as u32).to_le_bytes());
    reply.extend(flags.to_le_bytes());
    if whole {
        reply.extend(data);
    }
    Outcome::of(Effect::Nothing)
}

#[cfg(test)]
mod tests;
