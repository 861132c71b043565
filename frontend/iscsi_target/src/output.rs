//! Making PDUs: as many as the transmit queue has room for.

use request::Span;

use crate::bits::{DIGEST_BYTES, RESERVED_TAG, event, flag, opcode, scsi};
use crate::connection::{Connection, End, Phase};
use crate::digest;
use crate::limits::SENSE_MAX_BYTES;
use crate::pdu::{Header, Place, padding};
use crate::task::{Kind, State, Tag, Task, is};
use crate::textual;
use crate::transmit::BLOCK_MAX_BYTES;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// SCSI status.
    pub status: u8,
    /// At most [`SENSE_MAX_BYTES`]; empty unless the status is CHECK CONDITION.
    pub sense: &'a [u8],
    /// Valid bytes at the beginning of [`Connection::buffer`].
    pub data_in: u32,
    /// Bytes that the command moves by its CDB: what it has more or less than the initiator expects
    /// is told as a residual. Of a command that fails: what it did move.
    pub moves: u64,
}

impl Connection {
    /// Ends a command. The response leaves when all data that the initiator was asked for has come.
    pub fn respond(&mut self, tag: Tag, outcome: &Outcome<'_>) {
        let Some((slot, task)) = self.tasks.of(tag) else { return };
        if task.state != State::Delivered || task.kind != Kind::Command {
            return;
        }
        let task = *task;
        let expected = u64::from(task.header.expected_length());
        let expected = if task.is_read() || task.is_write() { expected } else { 0 };
        // No more than the initiator has room for, and than there is memory.
        let data_in = if task.is_read() {
            outcome.data_in.min(task.header.expected_length()).min(self.tasks.capacity(slot))
        } else {
            0
        };
        let moved = if task.is_read() { u64::from(data_in) } else { outcome.moves.min(expected) };
        let (residual, direction) = if outcome.moves > expected {
            (outcome.moves.wrapping_sub(expected), is::OVERFLOW)
        } else if moved < expected {
            (expected.wrapping_sub(moved), is::UNDERFLOW)
        } else {
            (0, 0)
        };
        let sense = outcome.sense.get(..outcome.sense.len().min(SENSE_MAX_BYTES)).unwrap_or_default();
        self.window.write_bytes(self.layout.sense(slot), sense);
        self.tasks.change(slot, |task| {
            task.state = State::Answered;
            task.status = outcome.status;
            task.sense_bytes = sense.len() as u16; // at most 252
            task.data_in = data_in;
            task.residual = u32::try_from(residual).unwrap_or(u32::MAX);
            task.flags = (task.flags | direction) & !is::COLLECTING;
            // No more is asked for.
            task.wanted = task.requested;
        });
        self.soliciting.retain(|other| *other != slot);
        if task.has(is::BROKEN) {
            self.set_broken_answer(slot);
        }
        self.enqueue_if_quiet(slot);
    }

    /// A command that never got to its unit, because of its data.
    pub(crate) fn answer_broken(&mut self, slot: u16) {
        self.set_broken_answer(slot);
        self.enqueue_if_quiet(slot);
    }

    pub(crate) fn set_broken_answer(&mut self, slot: u16) {
        let Some(task) = self.tasks.get(slot) else { return };
        let sense = task.broken_sense();
        self.window.write_bytes(self.layout.sense(slot), sense);
        self.tasks.change(slot, |task| {
            task.state = State::Answered;
            task.status = scsi::CHECK_CONDITION;
            task.sense_bytes = sense.len() as u16; // 18
            task.data_in = 0;
            task.flags = (task.flags | is::UNDERFLOW) & !is::OVERFLOW;
            task.residual = task.header.expected_length();
        });
    }

    pub(crate) fn enqueue_if_quiet(&mut self, slot: u16) {
        if self.tasks.get(slot).is_some_and(|task| task.is_quiet() && !task.has(is::IN_QUEUE)) {
            self.enqueue(slot);
        }
    }

    /// The task's answer is known; it is sent in its turn.
    pub(crate) fn enqueue(&mut self, slot: u16) {
        self.tasks.change(slot, |task| {
            task.state = State::Answered;
            task.flags |= is::IN_QUEUE;
        });
        self.answered.push_back(slot);
    }

    /// Makes PDUs as long as there are some to be made, and room.
    pub(crate) fn pump(&mut self) {
        while let Some(slot) = self.soliciting.front().copied() {
            if !self.transmit.has_room(4, 2) {
                return;
            }
            if !self.next_r2t(slot) {
                self.soliciting.pop_front();
                // What waits for data asks again when a burst has come in.
            }
        }
        while let Some(slot) = self.answered.front().copied() {
            if !self.generate(slot) {
                return;
            }
            self.answered.pop_front();
        }
    }

    /// The PDUs of one answer. `false`: there is no room for the rest.
    fn generate(&mut self, slot: u16) -> bool {
        loop {
            let Some(task) = self.tasks.get(slot).copied() else { return true };
            if !self.transmit.has_room(8, 4) {
                return false;
            }
            match task.kind {
                Kind::Command if task.generated < task.data_in => {
                    if self.put_data_in(slot, &task) {
                        self.sent_all(slot, true);
                        return true;
                    }
                }
                Kind::Command => {
                    self.put_response(slot, &task);
                    self.sent_all(slot, task.data_in > 0);
                    return true;
                }
                Kind::Manage => {
                    self.finish_numbers(slot);
                    let header = Header::new(opcode::TASK_MANAGEMENT_RESPONSE)
                        .with_byte(2, task.status)
                        .with_itt(task.itt());
                    let header = self.numbered(header);
                    self.put_small(header, &[]);
                    self.sent_all(slot, false);
                    return true;
                }
                Kind::Nop | Kind::Text => {
                    self.finish_numbers(slot);
                    let header = if task.kind == Kind::Nop {
                        Header::new(opcode::NOP_IN).with_ttt(RESERVED_TAG)
                    } else {
                        Header::new(opcode::TEXT_RESPONSE).with_flags(task.status).with_ttt(task.residual)
                    };
                    let header = header
                        .with_bytes(8, &task.header.lun())
                        .with_itt(task.itt())
                        .with_data_bytes(task.data_in);
                    let header = self.numbered(header);
                    let at = if task.kind == Kind::Text { textual::REPLY_AT } else { 0 };
                    self.put(header, self.tasks.place(slot, at, task.data_in));
                    self.sent_all(slot, task.data_in > 0);
                    return true;
                }
                Kind::Logout => {
                    self.finish_numbers(slot);
                    // Time2Wait and Time2Retain: log in again when you like; nothing is retained.
                    let header =
                        Header::new(opcode::LOGOUT_RESPONSE).with_byte(2, task.status).with_itt(task.itt());
                    let header = self.numbered(header);
                    self.put_small(header, &[]);
                    self.sent_all(slot, false);
                    return true;
                }
                Kind::Skip => {
                    self.tasks.release(slot);
                    return true;
                }
            }
        }
    }

    /// Gives the task's place in the window back, so that its own last PDU tells of it.
    fn finish_numbers(&mut self, slot: u16) {
        self.tasks.change(slot, |task| task.state = State::Sending);
    }

    fn sent_all(&mut self, slot: u16, keeps_memory: bool) {
        if keeps_memory {
            let end = self.transmit.end();
            self.tasks.change(slot, |task| (task.state, task.end) = (State::Sending, end));
            self.sending.push_back(slot);
        } else {
            // Everything of it was copied.
            self.tasks.release(slot);
        }
    }

    /// A header with the next StatSN, and the window.
    fn numbered(&mut self, header: Header) -> Header {
        let stat_sn = self.hot.stat_sn;
        self.hot.stat_sn = stat_sn.wrapping_add(1);
        self.hot_dirty = true;
        header.with_numbers(stat_sn, self.hot.exp_cmd_sn, self.max_cmd_sn())
    }

    /// A header with the current StatSN, which does not pass.
    fn unnumbered(&self, header: Header) -> Header {
        header.with_numbers(self.hot.stat_sn, self.hot.exp_cmd_sn, self.max_cmd_sn())
    }

    /// One Data-In PDU, 11.7. `true`: the status was in it.
    fn put_data_in(&mut self, slot: u16, task: &Task) -> bool {
        let parameters = self.negotiated();
        let burst = parameters.burst();
        let to_burst_end = burst.get().wrapping_sub(task.generated % burst);
        let len =
            task.data_in.saturating_sub(task.generated).min(parameters.initiator_segment).min(to_burst_end);
        let done = task.generated.saturating_add(len);
        let last = done == task.data_in;
        let with_status = last && task.status == scsi::GOOD;
        if with_status {
            self.finish_numbers(slot);
        }
        let mut flags = if last || len == to_burst_end { flag::FINAL } else { 0 };
        let mut header = Header::new(opcode::DATA_IN)
            .with_data_bytes(len)
            .with_itt(task.itt())
            .with_ttt(RESERVED_TAG)
            .with_data_sn(task.data_in_sn)
            .with_buffer_offset(task.generated);
        if with_status {
            flags |= flag::STATUS | residual_flags(task);
            header = header.with_byte(3, task.status).with_residual(task.residual);
            header = self.numbered(header);
        } else {
            // StatSN is reserved in it.
            header = self.unnumbered(header).with_stat_sn(0);
        }
        self.tasks.change(slot, |task| {
            task.generated = done;
            task.data_in_sn = task.data_in_sn.wrapping_add(1);
        });
        let data = self.tasks.place(slot, task.generated, len);
        self.put(header.with_flags(flags), data);
        with_status
    }

    /// SCSI Response, 11.4.
    fn put_response(&mut self, slot: u16, task: &Task) {
        self.finish_numbers(slot);
        let mut data = [0; 2 + SENSE_MAX_BYTES];
        let sense_bytes = usize::from(task.sense_bytes).min(SENSE_MAX_BYTES);
        let mut len = 0;
        if sense_bytes > 0 {
            // SenseLength, then the sense data (11.4.7).
            let (head, sense) = data.split_at_mut(2);
            head.copy_from_slice(&task.sense_bytes.to_be_bytes());
            if let Some(sense) = sense.get_mut(..sense_bytes) {
                self.window.read_bytes(self.layout.sense(slot), sense);
            }
            len = sense_bytes.saturating_add(2);
        }
        // ExpDataSN: how many Data-In and R2T PDUs there were.
        let sent = if task.is_write() { task.r2t_sn } else { task.data_in_sn };
        let header = Header::new(opcode::SCSI_RESPONSE)
            .with_flags(flag::FINAL | residual_flags(task))
            .with_byte(3, task.status)
            .with_itt(task.itt())
            .with_data_sn(sent)
            .with_residual(task.residual);
        let header = self.numbered(header);
        self.put_small(header, data.get(..len).unwrap_or_default());
    }

    pub(crate) fn put_r2t(&mut self, slot: u16, number: u32, offset: u32, len: u32) {
        let Some(task) = self.tasks.get(slot) else { return };
        let header = Header::new(opcode::R2T)
            .with_bytes(8, &task.header.lun())
            .with_itt(task.itt())
            .with_ttt(self.tasks.transfer_tag(slot, number))
            .with_data_sn(number)
            .with_buffer_offset(offset)
            .with_residual(len);
        let header = self.unnumbered(header);
        self.put_small(header, &[]);
    }

    /// Reject, 11.17: with the header of the PDU that it is about.
    pub(crate) fn reject(&mut self, about: &Header, reason: u8) {
        let header = Header::new(opcode::REJECT).with_byte(2, reason).with_itt(RESERVED_TAG);
        let header = self.numbered(header);
        self.put_small(header, &about.0);
    }

    /// NOP-In that wants an answer, 11.19.
    pub(crate) fn put_nop(&mut self, ttt: u32) {
        let header = Header::new(opcode::NOP_IN).with_itt(RESERVED_TAG).with_ttt(ttt);
        let header = self.unnumbered(header);
        self.put_small(header, &[]);
    }

    /// Async Message, 11.9, with three parameters.
    pub(crate) fn put_async(&mut self, code: u8, lun: [u8; 8], parameters: [u16; 3], data: &[u8]) {
        let mut header = Header::new(opcode::ASYNC)
            .with_bytes(8, &lun)
            .with_bytes(16, &RESERVED_TAG.to_be_bytes())
            .with_byte(36, code);
        for (parameter, at) in parameters.into_iter().zip([38, 40, 42]) {
            header = header.with_bytes(at, &parameter.to_be_bytes());
        }
        let header = self.numbered(header);
        self.put_small(header, data);
    }

    /// Tells the initiator of something at a unit: sense data without a command (AsyncEvent 0).
    /// `false`: there is no session or no room now.
    pub fn async_scsi(&mut self, lun: u16, sense: &[u8]) -> bool {
        if self.hot.phase != Phase::Full
            || self.login.negotiation.discovery
            || sense.len() > SENSE_MAX_BYTES
            || !self.transmit.has_room(8, 4)
        {
            return false;
        }
        let mut data = alloc::vec::Vec::with_capacity(sense.len().saturating_add(2));
        data.extend_from_slice(&(sense.len() as u16).to_be_bytes()); // at most 252
        data.extend_from_slice(sense);
        self.put_async(event::SCSI, Place::encode(lun), [0; 3], &data);
        true
    }

    fn digests(&self) -> (bool, bool) {
        // Digests begin with the full feature phase, that is, behind the last login response.
        match self.hot.phase {
            Phase::Login | Phase::Ending(End::LoginFailed) => (false, false),
            _ => (self.negotiated().header_digest, self.negotiated().data_digest),
        }
    }

    /// A PDU whose data is small and lies here.
    pub(crate) fn put_small(&mut self, header: Header, data: &[u8]) {
        let (header_digest, data_digest) = self.digests();
        // At most some KiB.
        let header = header.with_data_bytes(data.len() as u32);
        let mut block = [0; BLOCK_MAX_BYTES];
        let mut len = 0usize;
        let mut add = |bytes: &[u8]| {
            let end = len.saturating_add(bytes.len());
            if let Some(to) = block.get_mut(len..end) {
                to.copy_from_slice(bytes);
                len = end;
            }
        };
        add(&header.0);
        if header_digest {
            add(&digest::bytes(crc32c::crc32c(&header.0)));
        }
        let pad = padding(data.len() as u32) as usize;
        let fill = [0; 3];
        let fill = fill.get(..pad).unwrap_or_default();
        if data.len() > BLOCK_MAX_BYTES / 2 {
            // Only a login response is as long as that, and has no digests.
            let head = block.get(..len).unwrap_or_default();
            self.transmit.put_bytes(head, &self.window);
            for part in data.chunks(BLOCK_MAX_BYTES) {
                self.transmit.put_bytes(part, &self.window);
            }
            self.transmit.put_bytes(fill, &self.window);
            return;
        }
        add(data);
        add(fill);
        if data_digest && !data.is_empty() {
            add(&digest::bytes(crc32c::crc32c_append(crc32c::crc32c(data), fill)));
        }
        self.transmit.put_bytes(block.get(..len).unwrap_or_default(), &self.window);
    }

    /// A PDU whose data lies in a task's memory.
    fn put(&mut self, header: Header, data: [Span; 2]) {
        let (header_digest, data_digest) = self.digests();
        let mut head = [0; 48 + DIGEST_BYTES];
        let (basic, digest) = head.split_at_mut(48);
        basic.copy_from_slice(&header.0);
        digest.copy_from_slice(&digest::bytes(crc32c::crc32c(&header.0)));
        let head_bytes = if header_digest { 48 + DIGEST_BYTES } else { 48 };
        self.transmit.put_bytes(head.get(..head_bytes).unwrap_or_default(), &self.window);
        for span in data {
            self.transmit.put(span, &self.window);
        }
        let len = header.data_bytes();
        if len == 0 {
            return;
        }
        let mut tail = [0; 3 + DIGEST_BYTES];
        let mut tail_bytes = padding(len) as usize;
        if data_digest {
            let crc = digest::append(0, &self.memory, &data);
            let crc = crc32c::crc32c_append(crc, tail.get(..tail_bytes).unwrap_or_default());
            let end = tail_bytes.saturating_add(DIGEST_BYTES);
            if let Some(to) = tail.get_mut(tail_bytes..end) {
                to.copy_from_slice(&digest::bytes(crc));
            }
            tail_bytes = end;
        }
        if tail_bytes > 0 {
            self.transmit.put_bytes(tail.get(..tail_bytes).unwrap_or_default(), &self.window);
        }
    }
}

fn residual_flags(task: &Task) -> u8 {
    if task.has(is::OVERFLOW) {
        flag::OVERFLOW
    } else if task.has(is::UNDERFLOW) {
        flag::UNDERFLOW
    } else {
        0
    }
}
