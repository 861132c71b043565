//! Data-out: immediate, unsolicited, and asked for by R2T (RFC 7143 11.7, 11.8, 4.2.5).
//!
//! All data comes in order (DataPDUInOrder and DataSequenceInOrder are Yes), so that one number, how
//! much has come, says where the next PDU must begin. A PDU that breaks the rules ends its task with
//! sense data and is no reason to lose the session.

use request::Span;

use crate::bits::{RESERVED_TAG, scsi};
use crate::connection::{Connection, Event};
use crate::fault::Fault;
use crate::pdu::Header;
use crate::task::{Kind, State, Tag, Task, is};

/// What became of a wish for data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collected {
    /// It is there: as much as was asked for, or all that the initiator offers.
    Ready,
    /// [`Event::DataOut`] will tell.
    Later,
    /// It was lost. Whatever the response to this command is, it will say so.
    Never,
}

/// Reasons for [`is::BROKEN`], as saved.
mod broken {
    pub const UNSOLICITED: u8 = 1;
    pub const AMOUNT: u8 = 2;
    pub const DIGEST: u8 = 3;
    pub const ORDER: u8 = 4;
}

impl Task {
    /// The sense data of a task whose data-out broke a rule.
    pub fn broken_sense(&self) -> &'static [u8; 18] {
        match self.broken {
            broken::UNSOLICITED => &scsi::UNEXPECTED_UNSOLICITED_DATA,
            broken::AMOUNT => &scsi::INCORRECT_AMOUNT_OF_DATA,
            broken::DIGEST => &scsi::PROTOCOL_SERVICE_CRC_ERROR,
            _ => &scsi::DATA_PHASE_ERROR,
        }
    }

    /// Nothing more can come for it, so that a response may go.
    pub fn is_quiet(&self) -> bool {
        self.has(is::BROKEN) || (!self.has(is::UNSOLICITED) && self.received >= self.requested)
    }
}

impl Connection {
    /// A new command's immediate data and announced unsolicited data against what was negotiated.
    pub(crate) fn check_unsolicited(&mut self, slot: u16) {
        let Some(task) = self.tasks.get(slot) else { return };
        let (len, expected) = (task.header.data_bytes(), task.header.expected_length());
        let parameters = self.negotiated();
        let allowed = parameters.first_burst.min(expected);
        let unsolicited = task.has(is::UNSOLICITED);
        if (len > 0 && !parameters.immediate_data) || (unsolicited && parameters.initial_r2t) {
            self.break_task(slot, Fault::UnsolicitedData, broken::UNSOLICITED);
        } else if len > allowed {
            self.break_task(slot, Fault::UnsolicitedData, broken::AMOUNT);
        }
    }

    fn break_task(&mut self, slot: u16, fault: Fault, reason: u8) {
        self.count(fault);
        let Some(task) = self.tasks.get(slot) else { return };
        let (collecting, answered) = (task.has(is::COLLECTING), task.state == State::Answered);
        self.tasks.change(slot, |task| {
            task.flags = (task.flags | is::BROKEN) & !is::COLLECTING;
            task.broken = reason;
        });
        self.soliciting.retain(|other| *other != slot);
        if collecting {
            self.events.push_back(Event::DataOut(self.tasks.tag(slot)));
        }
        if answered {
            self.set_broken_answer(slot);
            self.enqueue_if_quiet(slot);
        }
    }

    /// The header of a Data-Out PDU. `Some`: its data goes to this task.
    pub(crate) fn data_out(&mut self, header: &Header) -> Option<u16> {
        let solicited = header.ttt() != RESERVED_TAG;
        let found =
            if solicited { self.tasks.of_transfer_tag(header.ttt()) } else { self.tasks.find(header.itt()) };
        let slot = found.filter(|slot| {
            self.tasks.get(*slot).is_some_and(|task| {
                task.itt() == header.itt()
                    && task.kind == Kind::Command
                    && task.is_write()
                    && !task.has(is::DROPPED)
                    && matches!(task.state, State::Held | State::Queued | State::Delivered | State::Answered)
            })
        });
        let Some(slot) = slot else {
            // Its task was aborted, or has ended for another reason: drop it.
            self.count(Fault::DataForNoTask);
            return None;
        };
        let task = self.tasks.get(slot)?;
        if task.has(is::BROKEN) {
            return None;
        }
        let parameters = self.negotiated();
        let (len, last) = (header.data_bytes(), header.is_final());
        let end = task.received.saturating_add(len);
        let in_order = header.buffer_offset() == task.received && header.data_sn() == task.data_out_sn;
        let fault = if solicited {
            let burst = parameters.burst();
            let number = task.received.saturating_sub(task.solicit_from) / burst;
            let due = task.solicit_sn.wrapping_add(number);
            let burst_end = task
                .solicit_from
                .saturating_add(number.saturating_add(1).saturating_mul(burst.get()))
                .min(task.requested);
            if task.received >= task.requested
                || self.tasks.transfer_tag(slot, due) != header.ttt()
                || !in_order
            {
                Some((Fault::DataOutOfOrder, broken::ORDER))
            } else if end > burst_end || last != (end == burst_end) {
                Some((Fault::DataAmount, broken::AMOUNT))
            } else {
                None
            }
        } else if !task.has(is::UNSOLICITED) {
            Some((Fault::UnsolicitedData, broken::UNSOLICITED))
        } else if !in_order {
            Some((Fault::DataOutOfOrder, broken::ORDER))
        } else if end > parameters.first_burst.min(task.header.expected_length()) {
            Some((Fault::UnsolicitedData, broken::AMOUNT))
        } else {
            None
        };
        if let Some((fault, reason)) = fault {
            self.break_task(slot, fault, reason);
            return None;
        }
        Some(slot)
    }

    /// A Data-Out PDU is there in full.
    pub(crate) fn data_out_done(&mut self, slot: u16, header: &Header, good: bool) {
        if !good {
            self.break_task(slot, Fault::DataOutOfOrder, broken::DIGEST);
            return;
        }
        let last = header.is_final();
        let solicited = header.ttt() != RESERVED_TAG;
        self.tasks.change(slot, |task| {
            task.received = task.received.saturating_add(header.data_bytes());
            task.requested = task.requested.max(task.received);
            task.data_out_sn = if last { 0 } else { task.data_out_sn.wrapping_add(1) };
            if last && !solicited {
                task.flags &= !is::UNSOLICITED;
            }
        });
        let Some(task) = self.tasks.get(slot).copied() else { return };
        match task.state {
            State::Answered => self.enqueue_if_quiet(slot),
            State::Delivered if task.has(is::COLLECTING) && task.received >= task.wanted => {
                self.tasks.change(slot, |task| task.flags &= !is::COLLECTING);
                self.events.push_back(Event::DataOut(self.tasks.tag(slot)));
            }
            State::Delivered if task.has(is::COLLECTING) && last => self.solicit(slot),
            _ => {}
        }
    }

    /// Asks for the first `bytes` of a command's data-out. It comes into [`Connection::buffer`].
    pub fn collect(&mut self, tag: Tag, bytes: u32) -> Collected {
        let Some((slot, task)) = self.tasks.of(tag) else { return Collected::Never };
        let task = *task;
        if task.has(is::BROKEN) || task.state != State::Delivered {
            return Collected::Never;
        }
        let offered = if task.is_write() { task.header.expected_length() } else { 0 };
        let wanted = bytes.min(offered).min(self.tasks.capacity(slot));
        if task.received >= wanted {
            return Collected::Ready;
        }
        self.tasks.change(slot, |task| {
            task.wanted = task.wanted.max(wanted);
            task.flags |= is::COLLECTING;
        });
        if !task.has(is::UNSOLICITED) {
            self.solicit(slot);
        }
        Collected::Later
    }

    fn solicit(&mut self, slot: u16) {
        let waits = self.tasks.get(slot).is_some_and(|task| task.requested < task.wanted);
        if waits && !self.soliciting.contains(&slot) {
            self.soliciting.push_back(slot);
        }
    }

    /// The next R2T of a task. `false`: none may go now.
    pub(crate) fn next_r2t(&mut self, slot: u16) -> bool {
        let Some(task) = self.tasks.get(slot).copied() else { return false };
        if task.requested >= task.wanted || task.has(is::UNSOLICITED) || !task.may_solicit() {
            return false;
        }
        let burst = self.negotiated().burst();
        let most = self.negotiated().max_outstanding_r2t;
        let mut from = task.solicit_from;
        let mut sn = task.solicit_sn;
        let issued = task.requested.saturating_sub(from);
        if task.received >= task.requested {
            // Nothing is outstanding: a new row of bursts begins here.
            from = task.requested;
            sn = task.r2t_sn;
        } else {
            // A row whose last burst is short must come in before another begins.
            let done = task.received.saturating_sub(from) / burst;
            let outstanding = (issued / burst).saturating_sub(done);
            if issued % burst != 0 || outstanding >= most {
                return false;
            }
        }
        let offset = task.requested;
        let len = task.wanted.saturating_sub(offset).min(burst.get());
        let number = task.r2t_sn;
        self.tasks.change(slot, |task| {
            (task.solicit_from, task.solicit_sn) = (from, sn);
            task.requested = offset.saturating_add(len);
            task.r2t_sn = number.wrapping_add(1);
            if task.received == offset {
                task.data_out_sn = 0;
            }
        });
        self.put_r2t(slot, number, offset, len);
        true
    }

    /// Data-out bytes that are there, from the first one on.
    pub fn collected(&self, tag: Tag) -> u32 {
        self.tasks.of(tag).map_or(0, |(_, task)| task.received)
    }

    /// The memory of a task's data: as much as its expected length, as far as there is room.
    pub fn buffer(&self, tag: Tag) -> [Span; 2] {
        match self.tasks.of(tag) {
            Some((slot, task)) if task.is_read() || task.is_write() => {
                self.tasks.place(slot, 0, task.header.expected_length())
            }
            _ => [Span::default(); 2],
        }
    }
}

impl Task {
    fn may_solicit(&self) -> bool {
        self.state == State::Delivered && !self.has(is::BROKEN)
    }
}
