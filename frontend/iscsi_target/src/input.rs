//! Following the stream of PDUs.

use crate::bits::{DIGEST_BYTES, HEADER_BYTES, RESERVED_TAG, flag, opcode, reject};
use crate::connection::{Connection, End, Event, Phase, Turn};
use crate::digest;
use crate::fault::Fault;
use crate::limits::{CDB_MAX_BYTES, LOGIN_SEGMENT_BYTES};
use crate::pdu::{Header, before, padding};
use crate::receive::Body;
use crate::task::{Kind, State, is};

/// How one step of following went.
pub(crate) enum Progress {
    More,
    /// Nothing whole is there, or no room for what it would bring.
    Nothing,
    Event(Event),
}

/// Additional header segments, 11.2.2.
const AHS_EXTENDED_CDB: u8 = 1;
const AHS_BIDIRECTIONAL_LENGTH: u8 = 2;
const AHS_MAX_BYTES: usize = 255 * 4;

impl Connection {
    /// Goes on until there is something for the caller to do; `None`: nothing before more has come,
    /// was sent, or has ended, or no more than [`Turn::steps`] were to be followed.
    pub fn next(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            self.look_at_time(turn.now);
            self.pump();
            if let Some(event) = self.events.pop_front().or_else(|| self.deliver(turn)) {
                return Some(event);
            }
            if let Phase::Ending(_) = self.hot.phase {
                return None;
            }
            if turn.steps == 0 {
                return None;
            }
            turn.steps = turn.steps.saturating_sub(1);
            match self.follow(turn) {
                Progress::More => {}
                Progress::Event(event) => return Some(event),
                Progress::Nothing => {
                    if self.events.is_empty() {
                        if self.hung_up {
                            self.end_by(Fault::HungUp);
                            continue;
                        }
                        return None;
                    }
                }
            }
        }
    }

    fn follow(&mut self, turn: &mut Turn<'_>) -> Progress {
        // A PDU may bring a reject or an answer of its own. Without room for it the initiator has
        // to read first.
        self.blocked = false;
        if !self.transmit.has_room(8, 12) {
            self.blocked = self.receive.available() > 0;
            return Progress::Nothing;
        }
        if self.receive.body.is_some() {
            return self.follow_body();
        }
        if self.receive.available() < HEADER_BYTES as u64 {
            return Progress::Nothing;
        }
        let mut bytes = [0; HEADER_BYTES];
        self.receive.peek(0, &mut bytes, &self.memory);
        let header = Header(bytes);
        match self.hot.phase {
            Phase::Login => self.follow_login(&header, turn),
            Phase::Full => self.follow_full(&header),
            Phase::Ending(_) => Progress::Nothing,
        }
    }

    fn follow_login(&mut self, header: &Header, turn: &mut Turn<'_>) -> Progress {
        // Whoever does not begin with a login is not an initiator: 6.3, "drop the connection".
        if header.opcode() != opcode::LOGIN {
            self.end_by(Fault::NotALogin);
            return Progress::More;
        }
        let len = header.data_bytes();
        if header.ahs_bytes() != 0 || len > LOGIN_SEGMENT_BYTES {
            self.end_by(Fault::LoginMalformed);
            return Progress::More;
        }
        let whole =
            u64::from(len).saturating_add(u64::from(padding(len))).saturating_add(HEADER_BYTES as u64);
        if self.receive.available() < whole {
            return Progress::Nothing;
        }
        let mut data = alloc::vec![0; len as usize];
        self.receive.peek(HEADER_BYTES as u64, &mut data, &self.memory);
        match self.log_in(header, &data, turn) {
            Some(event) => Progress::Event(event),
            None => {
                self.advance(whole);
                Progress::More
            }
        }
    }

    /// The bytes were followed.
    pub(crate) fn advance(&mut self, bytes: u64) {
        self.receive.followed = self.receive.followed.wrapping_add(bytes);
        self.hot_dirty = true;
    }

    fn follow_full(&mut self, header: &Header) -> Progress {
        let parameters = self.negotiated();
        let (header_digest, segment) = (parameters.header_digest, parameters.target_segment);
        let ahs_bytes = header.ahs_bytes();
        let digest_bytes = if header_digest { DIGEST_BYTES } else { 0 };
        let head = HEADER_BYTES.wrapping_add(ahs_bytes).wrapping_add(digest_bytes);
        if self.receive.available() < head as u64 {
            return Progress::Nothing;
        }
        if header_digest {
            let covered = HEADER_BYTES.wrapping_add(ahs_bytes);
            let crc = digest::append(0, &self.memory, &self.receive.ring(0, covered as u32));
            let mut came = [0; DIGEST_BYTES];
            self.receive.peek(covered as u64, &mut came, &self.memory);
            if came != digest::bytes(crc) {
                // 7.7: the length of such a PDU cannot be trusted, so the stream is lost.
                self.end_by(Fault::HeaderDigest);
                return Progress::More;
            }
        }
        if header.data_bytes() > segment {
            self.end_by(Fault::SegmentTooLong);
            return Progress::More;
        }
        let mut more = [0; AHS_MAX_BYTES];
        let more = more.get_mut(..ahs_bytes).unwrap_or_default();
        if ahs_bytes > 0 {
            self.receive.peek(HEADER_BYTES as u64, more, &self.memory);
        }
        let head = head as u64;
        let kind = match header.opcode() {
            opcode::DATA_OUT => {
                let slot = self.data_out(header);
                self.take_body(header, head, slot.map(|slot| (slot, header.buffer_offset())));
                return Progress::More;
            }
            opcode::SCSI_COMMAND => Kind::Command,
            opcode::NOP_OUT if header.itt() == RESERVED_TAG => {
                self.nop_answer(header);
                self.take_body(header, head, None);
                return Progress::More;
            }
            opcode::NOP_OUT => Kind::Nop,
            opcode::TASK_MANAGEMENT => Kind::Manage,
            opcode::TEXT => Kind::Text,
            opcode::LOGOUT => Kind::Logout,
            opcode::SNACK => {
                // 11.16: error recovery level 0 has no SNACK.
                self.count(Fault::SnackRefused);
                self.reject(header, reject::SNACK);
                self.take_body(header, head, None);
                return Progress::More;
            }
            other => {
                let fault = if other == opcode::LOGIN { Fault::LoginMalformed } else { Fault::UnknownOpcode };
                self.count(fault);
                let reason =
                    if other == opcode::LOGIN { reject::PROTOCOL_ERROR } else { reject::NOT_SUPPORTED };
                self.reject(header, reason);
                self.take_body(header, head, None);
                return Progress::More;
            }
        };
        self.request(header, more, kind, head)
    }

    /// A request that becomes a task.
    fn request(&mut self, header: &Header, more: &[u8], kind: Kind, head: u64) -> Progress {
        let immediate = header.is_immediate();
        let refuse = |this: &mut Self, fault: Fault, reason: u8| {
            this.count(fault);
            // 11.17: the CmdSN of a rejected command counts as received.
            if !immediate && header.cmd_sn() == this.hot.exp_cmd_sn {
                this.next_cmd_sn();
            }
            this.reject(header, reason);
            this.take_body(header, head, None);
            Progress::More
        };
        if !immediate {
            let (cmd_sn, exp) = (header.cmd_sn(), self.hot.exp_cmd_sn);
            // 4.2.2.1: outside of the window a command is silently ignored.
            if before(cmd_sn, exp) || before(self.max_cmd_sn(), cmd_sn) {
                self.count(Fault::CommandOutsideWindow);
                self.take_body(header, head, None);
                return Progress::More;
            }
            let here = |slot: &u16| self.tasks.get(*slot).is_some_and(|task| task.header.cmd_sn() == cmd_sn);
            if self.held.iter().any(here) {
                self.count(Fault::CommandRepeated);
                self.take_body(header, head, None);
                return Progress::More;
            }
        }
        if header.itt() == RESERVED_TAG {
            return refuse(self, Fault::ReservedTag, reject::INVALID_FIELD);
        }
        if self.tasks.find(header.itt()).is_some() {
            return refuse(self, Fault::TagInUse, reject::INVALID_FIELD);
        }
        if self.hot.logout_by != 0 && kind == Kind::Text {
            return refuse(self, Fault::WaitingForLogout, reject::WAITING_FOR_LOGOUT);
        }
        if self.login.negotiation.discovery && matches!(kind, Kind::Command | Kind::Manage) {
            return refuse(self, Fault::NotInDiscovery, reject::PROTOCOL_ERROR);
        }
        if matches!(kind, Kind::Manage | Kind::Logout) && header.data_bytes() > 0 {
            return refuse(self, Fault::UnexpectedDataSegment, reject::PROTOCOL_ERROR);
        }
        let flags = header.flags();
        let (read, write) = (flags & flag::READ != 0, flags & flag::WRITE != 0);
        let mut cdb_more = [0; CDB_MAX_BYTES - 16];
        let mut cdb_bytes = 16u16;
        if kind == Kind::Command {
            if read && write {
                return refuse(self, Fault::BothDirections, reject::NOT_SUPPORTED);
            }
            if (!write && !header.is_final()) || flags & flag::ATTRIBUTE > 4 {
                return refuse(self, Fault::BadFlags, reject::INVALID_FIELD);
            }
            if !write && header.data_bytes() > 0 {
                return refuse(self, Fault::UnexpectedDataSegment, reject::INVALID_FIELD);
            }
            match extended_cdb(more) {
                Some(rest) => {
                    for (to, from) in cdb_more.iter_mut().zip(rest) {
                        *to = *from;
                    }
                    cdb_bytes = rest.len().saturating_add(16).min(CDB_MAX_BYTES) as u16;
                }
                None => return refuse(self, Fault::BadAdditionalHeader, reject::INVALID_FIELD),
            }
        } else if !more.is_empty() {
            return refuse(self, Fault::BadAdditionalHeader, reject::INVALID_FIELD);
        }
        if !self.tasks.has_room(immediate) {
            if immediate {
                return refuse(self, Fault::TooManyImmediate, reject::TOO_MANY_IMMEDIATE);
            }
            // Within the window there is always room, once what was sent has left and what has ended
            // is committed.
            self.blocked = true;
            return Progress::Nothing;
        }
        let mut task_flags = if immediate { is::IMMEDIATE } else { 0 };
        if self.receive.followed < self.receive.inherited {
            task_flags |= is::RESUMED;
        }
        if write && kind == Kind::Command && !header.is_final() {
            task_flags |= is::UNSOLICITED;
        }
        let Some(slot) = self.tasks.take(kind, task_flags, *header) else { return Progress::Nothing };
        if kind == Kind::Command {
            self.tasks.change(slot, |task| (task.cdb_more, task.cdb_bytes) = (cdb_more, cdb_bytes));
            self.check_unsolicited(slot);
        }
        let broken = self.tasks.get(slot).is_some_and(|task| task.has(is::BROKEN));
        if broken && header.data_bytes() > 0 {
            // Its data is dropped; the command itself arrives now.
            self.take_body(header, head, None);
            self.arrive(slot);
        } else {
            self.take_body(header, head, Some((slot, 0)));
        }
        Progress::More
    }

    /// The header is over and the data segment begins.
    fn take_body(&mut self, header: &Header, head: u64, to: Option<(u16, u32)>) {
        self.advance(head);
        let body = Body {
            header: *header,
            slot: to.map(|(slot, _)| slot),
            offset: to.map_or(0, |(_, offset)| offset),
            len: header.data_bytes(),
            done: 0,
        };
        self.receive.body = Some(body);
        if body.len == 0 {
            self.receive.body = None;
            self.body_done(&body, true);
        } else {
            // What is in the ring moves out at once: only then does the rest come straight.
            self.move_body();
        }
    }

    /// Counts what came in place, and moves what came into the ring.
    fn move_body(&mut self) {
        let Some(mut body) = self.receive.body else { return };
        let direct = self.receive.in_place().min(u64::from(body.left()));
        if body.slot.is_some() && direct > 0 {
            body.done = body.done.wrapping_add(direct as u32); // at most what is left
            self.advance(direct);
        }
        let here = self.receive.available().min(u64::from(body.left())) as u32;
        if here > 0 {
            if let Some(slot) = body.slot {
                let to = self.tasks.place(slot, body.offset.wrapping_add(body.done), here);
                self.memory.copy(&self.receive.ring(0, here), &self.memory, &to);
            }
            body.done = body.done.wrapping_add(here);
            self.advance(u64::from(here));
        }
        self.receive.body = Some(body);
    }

    fn follow_body(&mut self) -> Progress {
        self.move_body();
        let Some(body) = self.receive.body else { return Progress::More };
        if body.left() > 0 {
            return Progress::Nothing;
        }
        let pad = padding(body.len);
        let digested = self.negotiated().data_digest;
        let trailer = u64::from(pad).wrapping_add(if digested { DIGEST_BYTES as u64 } else { 0 });
        if self.receive.available() < trailer {
            return Progress::Nothing;
        }
        let mut good = true;
        if digested && let Some(slot) = body.slot {
            let data = self.tasks.place(slot, body.offset, body.len);
            let crc = digest::append(0, &self.memory, &data);
            let crc = digest::append(crc, &self.memory, &self.receive.ring(0, pad));
            let mut came = [0; DIGEST_BYTES];
            self.receive.peek(u64::from(pad), &mut came, &self.memory);
            good = came == digest::bytes(crc);
        }
        self.receive.body = None;
        self.advance(trailer);
        self.body_done(&body, good);
        Progress::More
    }

    fn body_done(&mut self, body: &Body, good: bool) {
        let Some(slot) = body.slot else { return };
        if self.tasks.get(slot).is_none_or(|task| task.has(is::DROPPED)) {
            self.tasks.release(slot);
            return;
        }
        if !good {
            self.count(Fault::DataDigest);
            // 7.7: such a PDU is as if it had not come, but for its CmdSN.
            if body.header.opcode() != opcode::DATA_OUT
                && !body.header.is_immediate()
                && body.header.cmd_sn() == self.hot.exp_cmd_sn
            {
                self.next_cmd_sn();
            }
            self.reject(&body.header, reject::DATA_DIGEST);
        }
        if body.header.opcode() == opcode::DATA_OUT {
            self.data_out_done(slot, &body.header, good);
        } else if good {
            if body.header.opcode() == opcode::SCSI_COMMAND {
                self.tasks.change(slot, |task| (task.received, task.requested) = (body.len, body.len));
            }
            self.arrive(slot);
        } else {
            self.tasks.release(slot);
        }
    }

    /// A request is there in full.
    fn arrive(&mut self, slot: u16) {
        let Some(task) = self.tasks.get(slot) else { return };
        let (immediate, cmd_sn) = (task.has(is::IMMEDIATE), task.header.cmd_sn());
        if immediate {
            self.accept(slot);
        } else if cmd_sn == self.hot.exp_cmd_sn {
            self.hot.exp_cmd_sn = cmd_sn.wrapping_add(1);
            self.accept(slot);
            self.accept_held();
        } else {
            self.tasks.change(slot, |task| task.state = State::Held);
            self.held.push(slot);
        }
    }

    /// One CmdSN is over without a task.
    pub(crate) fn next_cmd_sn(&mut self) {
        self.hot.exp_cmd_sn = self.hot.exp_cmd_sn.wrapping_add(1);
        self.hot_dirty = true;
        self.accept_held();
    }

    /// Those whose turn it is now.
    fn accept_held(&mut self) {
        while !self.held.is_empty() {
            let exp = self.hot.exp_cmd_sn;
            let next = |slot: &u16| self.tasks.get(*slot).is_some_and(|task| task.header.cmd_sn() == exp);
            let Some(at) = self.held.iter().position(next) else { return };
            let slot = self.held.swap_remove(at);
            self.hot.exp_cmd_sn = exp.wrapping_add(1);
            self.accept(slot);
        }
    }

    /// The request's turn has come.
    fn accept(&mut self, slot: u16) {
        self.hot.order = self.hot.order.wrapping_add(1);
        let order = self.hot.order;
        self.hot_dirty = true;
        self.tasks.change(slot, |task| (task.state, task.order) = (State::Queued, order));
        let Some(task) = self.tasks.get(slot) else { return };
        if let Phase::Ending(_) = self.hot.phase {
            self.tasks.release(slot);
            return;
        }
        match task.kind {
            Kind::Command => self.queued.push_back(slot),
            Kind::Manage => self.manage(slot),
            Kind::Nop => self.nop(slot),
            // With a directory at hand: in `deliver`'s turn.
            Kind::Text => self.queued.push_back(slot),
            Kind::Logout => self.log_out(slot),
            Kind::Skip => self.tasks.release(slot),
        }
    }

    pub(crate) fn max_cmd_sn(&self) -> u32 {
        let window = u32::from(self.layout.limits.commands);
        self.hot.exp_cmd_sn.wrapping_add(window).wrapping_sub(self.tasks.busy()).wrapping_sub(1)
    }

    pub(crate) fn end_login(&mut self) {
        self.end(End::LoginFailed);
    }
}

/// The rest of a CDB that has more than 16 bytes. `None`: the segments are malformed.
fn extended_cdb(mut segments: &[u8]) -> Option<&[u8]> {
    let mut found: &[u8] = &[];
    while let [high, low, kind, rest @ ..] = segments {
        // AHSLength counts what is behind AHSType; the whole is padded to four bytes.
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let content = rest.get(..len)?;
        match kind & 0x3f {
            AHS_EXTENDED_CDB => found = content.get(1..)?,
            AHS_BIDIRECTIONAL_LENGTH => {}
            _ => return None,
        }
        segments = segments.get(len.checked_add(3)?.next_multiple_of(4)..)?;
    }
    segments.is_empty().then_some(found)
}
