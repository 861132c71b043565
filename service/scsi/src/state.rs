//! What of a unit outlives the process.
//!
//! Version 2: the version, then sections, each a tag (u16), a length (u32) and so many bytes; all
//! little-endian. A section that is not known is skipped, one that is missing means the default, so
//! that a later release can go back to an earlier one. A section that makes no sense is dropped
//! alone.

use alloc::vec::Vec;
use request::{Blocks, Facts};

use crate::alua::AccessStates;
use crate::attention::{Attentions, Condition};
use crate::copy::Copies;
use crate::diagnostic::BufferMemory;
use crate::identifying::Identifying;
use crate::journal::{JOURNAL_MAX, Line, Note};
use crate::mode::Values;
use crate::nexus::{Nexus, Peer, PortId, TransportId};
use crate::profile::Profile;
use crate::removable::Removable;
use crate::reservation::{Reservations, Stored};
use crate::task_set::TASKS_MAX;
use crate::timestamp::Clock;
use crate::unit::{Counts, Unit};

const VERSION: u32 = 2;

/// The sections.
mod tag {
    pub const CAPACITY: u16 = 1;
    pub const FLAGS: u16 = 2;
    pub const NEXUSES: u16 = 3;
    pub const JOURNAL: u16 = 4;
    pub const RESERVATIONS: u16 = 5;
    /// From 16 on: of the commands on the medium.
    pub const ERASING: u16 = 16;
    pub const THRESHOLD: u16 = 17;
    /// From 32 on: of how the unit is set.
    pub const MODES: u16 = 32;
    pub const REMOVABLE: u16 = 33;
    pub const ACCESS_STATES: u16 = 34;
    pub const IDENTIFYING: u16 = 35;
    pub const CLOCK: u16 = 36;
    pub const COUNTS: u16 = 37;
    pub const BUFFERS: u16 = 38;
    /// From 48 on: of copies.
    pub const COPIES: u16 = 48;
}

const WRITE_CACHE_OFF: u8 = 1 << 0;
const DESCRIPTOR_SENSE: u8 = 1 << 1;
const STOPPED: u8 = 1 << 2;

/// Writes a section.
fn section(into: &mut Vec<u8>, tag: u16, bytes: &[u8]) {
    into.extend_from_slice(&tag.to_le_bytes());
    into.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    into.extend_from_slice(bytes);
}

/// Reads from the front of stored bytes; `None` where they end too early.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn peer(&mut self) -> Option<Peer> {
        let port = PortId(self.u16()?);
        let len = usize::from(self.u16()?);
        let bytes = self.take(len)?;
        let (initiator, used) = TransportId::parse(bytes)?;
        (used == len).then_some(Peer { initiator, port })
    }
}

pub(crate) fn write_peer(into: &mut Vec<u8>, peer: &Peer) {
    let id = peer.initiator.as_bytes();
    into.extend_from_slice(&peer.port.0.to_le_bytes());
    into.extend_from_slice(&(id.len() as u16).to_le_bytes()); // TRANSPORT_ID_MAX_BYTES at most
    into.extend_from_slice(id);
}

impl Unit {
    /// Everything that a successor of this process has to know.
    pub fn state(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let mut flags = 0;
        for (set, flag) in [
            (self.values.write_cache_off, WRITE_CACHE_OFF),
            (self.values.descriptor_sense, DESCRIPTOR_SENSE),
            (self.stopped, STOPPED),
        ] {
            if set {
                flags |= flag;
            }
        }
        section(&mut bytes, tag::FLAGS, &[flags]);
        let mut text = Vec::new();
        for (nexus, peer) in self.nexuses.iter() {
            let word = self.attentions.word(nexus) | self.told.word(nexus);
            text.extend_from_slice(&nexus.0.to_le_bytes());
            text.extend_from_slice(&word.to_le_bytes());
            write_peer(&mut text, peer);
        }
        section(&mut bytes, tag::NEXUSES, &text);
        if !self.journal.lines.is_empty() {
            text.clear();
            for line in &self.journal.lines {
                write_line(&mut text, line);
            }
            section(&mut bytes, tag::JOURNAL, &text);
        }
        if let Some(text) = self.erasing_state() {
            section(&mut bytes, tag::ERASING, &text);
        }
        if self.threshold_told {
            section(&mut bytes, tag::THRESHOLD, &[1]);
        }
        if *self.reservations != Reservations::new() {
            section(&mut bytes, tag::RESERVATIONS, self.reservations.encoded());
        }
        if !self.copies.is_empty() {
            section(&mut bytes, tag::COPIES, &self.copies.encode());
        }
        if self.saved != Values::default() || self.values.write_protect {
            section(&mut bytes, tag::MODES, &[self.values.to_bits(), self.saved.to_bits()]);
        }
        for (tag, text) in [
            (tag::REMOVABLE, self.removable.state()),
            (tag::ACCESS_STATES, self.access.state()),
            (tag::IDENTIFYING, self.identifying.state()),
            (tag::CLOCK, self.clock.state()),
            (tag::COUNTS, self.counts.state()),
            (tag::BUFFERS, self.buffers.state()),
        ] {
            if let Some(text) = text {
                section(&mut bytes, tag, &text);
            }
        }
        // Behind the nexuses, who are told when it has changed.
        section(&mut bytes, tag::CAPACITY, &self.facts.blocks.0.to_le_bytes());
        bytes
    }

    /// What has to survive a loss of power: [`Verdict::Settle`](crate::Verdict::Settle) says when it
    /// has to be on stable storage.
    pub fn persistent(&self) -> Vec<u8> {
        let mut bytes = Vec::from(VERSION.to_le_bytes());
        section(&mut bytes, tag::RESERVATIONS, &self.reservations.kept());
        self.persist_settings(&mut bytes);
        bytes
    }

    /// How initiators set the unit for good.
    fn persist_settings(&self, bytes: &mut Vec<u8>) {
        if self.saved != Values::default() {
            section(bytes, tag::MODES, &[self.saved.to_bits(); 2]);
        }
        if let Some(text) = self.identifying.state() {
            section(bytes, tag::IDENTIFYING, &text);
        }
    }

    /// As after power on, with what [`Unit::persistent`] gave before. What is there and cannot be read
    /// may have been somebody's reservation: the unit says that it is lost.
    pub fn recover(facts: Facts, profile: Profile, persistent: &[u8]) -> Unit {
        let mut unit = Unit::new(facts, profile);
        // Until they are found.
        unit.reservations = Reservations::lost().into();
        unit.stored = Stored::new(true);
        let mut reader = Reader(persistent);
        if reader.u32() == Some(VERSION) {
            while let Some((tag, text)) = next_section(&mut reader) {
                let _ = unit.take_section(tag, Reader(text));
            }
        }
        unit
    }

    /// As it was when `state` was stored. A capacity that changed meanwhile is told to everybody.
    pub fn restore(facts: Facts, profile: Profile, state: &[u8]) -> Unit {
        let mut unit = Unit::new(facts, profile);
        unit.stored = Stored::new(true);
        let mut reader = Reader(state);
        match reader.u32() {
            Some(VERSION) => {}
            Some(1) => {
                // A word of flags follows; the conditions of version 1 were of nexuses that had no names.
                let flags = reader.u8().unwrap_or(0);
                unit.take_flags(flags);
                return unit;
            }
            _ => return unit,
        }
        while let Some((tag, text)) = next_section(&mut reader) {
            // A section that is cut short leaves what was read of it.
            let _ = unit.take_section(tag, Reader(text));
        }
        unit.keep_unfinished();
        unit.reservations_changed();
        unit
    }

    /// A state without its reservations, for a unit that nobody can use now: as
    /// [`Unit::clear_reservations`] leaves them. `None`: it is no state of this version.
    pub fn clear_reservations_of(state: &[u8]) -> Option<Vec<u8>> {
        let mut reader = Reader(state);
        if reader.u32() != Some(VERSION) {
            return None;
        }
        let mut sections = Vec::new();
        let mut registered = Vec::new();
        while let Some((tag, text)) = next_section(&mut reader) {
            match tag {
                tag::RESERVATIONS => {
                    registered =
                        Reservations::restore(text).map(|mut table| table.clear()).unwrap_or_default();
                }
                _ => sections.push((tag, text)),
            }
        }
        let mut bytes = Vec::from(VERSION.to_le_bytes());
        for (tag, text) in sections {
            if tag != tag::NEXUSES {
                section(&mut bytes, tag, text);
                continue;
            }
            let (mut told, mut text) = (Vec::with_capacity(text.len()), Reader(text));
            while let (Some(number), Some(word), Some(peer)) = (text.u32(), text.u32(), text.peer()) {
                let mut conditions = Attentions::none();
                conditions.set_word(Nexus(0), word);
                if registered.contains(&peer) {
                    conditions.establish(Nexus(0), Condition::RESERVATIONS_PREEMPTED);
                }
                told.extend_from_slice(&number.to_le_bytes());
                told.extend_from_slice(&conditions.word(Nexus(0)).to_le_bytes());
                write_peer(&mut told, &peer);
            }
            section(&mut bytes, tag, &told);
        }
        Some(bytes)
    }

    /// What an earlier release kept of a unit with its only controller (version 1): its modes.
    pub fn inherit(&mut self, state: &[u8]) {
        let mut reader = Reader(state);
        if reader.u32() == Some(1)
            && let Some(flags) = reader.u8()
        {
            self.take_flags(flags);
            self.dirty = true;
        }
    }

    fn take_flags(&mut self, flags: u8) {
        self.values = Values {
            write_cache_off: flags & WRITE_CACHE_OFF != 0,
            descriptor_sense: flags & DESCRIPTOR_SENSE != 0,
            write_protect: false,
        };
        self.stopped = flags & STOPPED != 0;
        self.update_hindered();
    }

    fn take_section(&mut self, tag: u16, mut text: Reader<'_>) -> Option<()> {
        match tag {
            tag::CAPACITY => {
                let blocks = Blocks(text.u64()?);
                if blocks != self.facts.blocks {
                    self.attend_all(Condition::CAPACITY, None);
                }
            }
            tag::FLAGS => {
                let flags = text.u8()?;
                self.take_flags(flags);
            }
            tag::NEXUSES => {
                // In the order of their numbers, so that they have the same again.
                while !text.is_empty() {
                    let (number, word) = (text.u32()?, text.u32()?);
                    let peer = text.peer()?;
                    let nexus = self.nexuses.put(Nexus(number), peer)?;
                    self.attentions.set_word(nexus, word);
                }
            }
            tag::COPIES => self.copies = Copies::decode(&mut text),
            tag::JOURNAL => {
                // Answers that did not come again may stand beside as many new ones.
                while !text.is_empty() && self.journal.lines.len() < 2 * JOURNAL_MAX + TASKS_MAX {
                    let (nexus, id, note) = read_line(&mut text)?;
                    self.journal.restore(nexus, id, note);
                }
            }
            tag::RESERVATIONS => {
                // Whoever was shut out must not come in by damage.
                let found = Reservations::restore(text.0);
                self.reservations = found.unwrap_or_else(|_| Reservations::lost()).into();
            }
            tag::ERASING => self.take_erasing(&mut text)?,
            tag::MODES => {
                self.values = Values::of_bits(text.u8()?);
                self.saved = Values::of_bits(text.u8()?);
            }
            tag::REMOVABLE => {
                self.removable = Removable::restore(&mut text)?;
                self.update_hindered();
            }
            tag::ACCESS_STATES => self.access = AccessStates::restore(&mut text)?,
            tag::IDENTIFYING => self.identifying = Identifying::restore(&mut text)?,
            tag::COUNTS => self.counts = Counts::restore(&mut text)?,
            tag::BUFFERS => self.buffers = BufferMemory::restore(&mut text)?,
            tag::CLOCK => self.clock = Clock::restore(&mut text)?,
            tag::THRESHOLD => self.threshold_told = text.u8()? != 0,
            _ => {}
        }
        Some(())
    }
}

fn next_section<'a>(reader: &mut Reader<'a>) -> Option<(u16, &'a [u8])> {
    let tag = reader.u16()?;
    let len = reader.u32()? as usize;
    Some((tag, reader.take(len)?))
}

fn write_line(into: &mut Vec<u8>, line: &Line) {
    into.extend_from_slice(&line.nexus.0.to_le_bytes());
    into.extend_from_slice(&line.id.to_le_bytes());
    match &line.note {
        Note::Begun { note, first, end } => {
            into.push(0);
            into.extend_from_slice(&note.to_le_bytes());
            into.extend_from_slice(&first.to_le_bytes());
            into.extend_from_slice(&end.to_le_bytes());
        }
        Note::Ended { status, sense, data_out } => {
            into.push(1);
            into.push(*status);
            let (key, asc, ascq) = sense.unwrap_or((0xff, 0, 0));
            into.extend_from_slice(&[key, asc, ascq]);
            into.extend_from_slice(&data_out.to_le_bytes());
        }
    }
}

fn read_line(text: &mut Reader<'_>) -> Option<(Nexus, u64, Note)> {
    let nexus = Nexus(text.u32()?);
    let id = text.u64()?;
    let note = match text.u8()? {
        0 => Note::Begun { note: text.u32()?, first: text.u64()?, end: text.u64()? },
        _ => {
            let status = text.u8()?;
            let sense = (text.u8()?, text.u8()?, text.u8()?);
            let sense = (sense.0 != 0xff).then_some(sense);
            Note::Ended { status, sense, data_out: text.u64()? }
        }
    };
    Some((nexus, id, note))
}
