//! A session with one connection, one call a command.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::login::{self, Negotiated, Numbers};
use super::options::Options;
use super::pdu::{FINAL, IMMEDIATE, NO_TAG, Pdu, lun_field, request, response};
use super::task::{Answer, Command, Data, Rules, Task};
use super::text;
use super::wire::Wire;
use crate::driver::error::{Error, Result};

/// Names a command that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u32);

/// What a target says without being asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// An asynchronous event (RFC 7143 11.9): its code, vendor code, parameters, sense data.
    Async { event: u8, vendor_code: u8, parameters: [u16; 3], lun: [u8; 8], data: Vec<u8> },
    /// A PDU of ours was rejected for this reason; its header.
    Reject { reason: u8, header: Vec<u8> },
    /// A NOP-In that asked for an answer. It was answered.
    Ping,
    /// A NOP-In that did not.
    Nop,
}

/// A target that SendTargets named: its iSCSI name, and its portals with their group tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub portals: Vec<(String, u16)>,
}

/// A session. Calls wait; commands may be started ahead of waiting for them.
#[derive(Debug)]
pub struct Initiator {
    wire: Wire,
    negotiated: Negotiated,
    rules: Rules,
    timeout: Duration,
    next_tag: u32,
    cmd_sn: u32,
    /// The next StatSN to come.
    stat_sn: u32,
    exp_cmd_sn: u32,
    max_cmd_sn: u32,
    tasks: BTreeMap<u32, Task>,
    /// Tasks that task management ended: an answer may come for them, or not.
    aborted: BTreeMap<u32, Task>,
    answers: BTreeMap<u32, Answer>,
    /// Responses to what is no command, by their tag.
    replies: BTreeMap<u32, Pdu>,
    asked: Vec<u32>,
    messages: Vec<Message>,
}

impl Initiator {
    pub fn login(options: &Options) -> Result<Initiator> {
        Initiator::over(Wire::connect(&options.portal, options.timeout)?, options)
    }

    /// Logs in over a connection that is there already.
    pub fn over(mut wire: Wire, options: &Options) -> Result<Initiator> {
        let (negotiated, Numbers { cmd_sn, stat_sn, max_cmd_sn }) = login::login(&mut wire, options)?;
        let rules = Rules {
            our_max_segment: negotiated.our_max_segment,
            target_max_segment: negotiated.target_max_segment,
            max_burst: negotiated.max_burst_length,
            first_burst: negotiated.first_burst_length,
            immediate_data: negotiated.immediate_data,
            initial_r2t: negotiated.initial_r2t,
            in_order: negotiated.data_pdu_in_order && negotiated.data_sequence_in_order,
            tolerant: options.tolerant,
        };
        Ok(Initiator {
            wire,
            negotiated,
            rules,
            timeout: options.timeout,
            next_tag: 1,
            cmd_sn,
            stat_sn,
            exp_cmd_sn: cmd_sn,
            max_cmd_sn,
            tasks: BTreeMap::new(),
            aborted: BTreeMap::new(),
            answers: BTreeMap::new(),
            replies: BTreeMap::new(),
            asked: Vec::new(),
            messages: Vec::new(),
        })
    }

    /// The targets that the portal names to us.
    pub fn discover(options: &Options) -> Result<Vec<Target>> {
        let options = Options { target_name: None, ..options.clone() };
        let mut session = Initiator::login(&options)?;
        let targets = session.send_targets("All")?;
        session.logout()?;
        Ok(targets)
    }

    pub fn negotiated(&self) -> &Negotiated {
        &self.negotiated
    }

    /// How many commands the target takes now.
    pub fn window(&self) -> u32 {
        let window = self.max_cmd_sn.wrapping_sub(self.cmd_sn).wrapping_add(1);
        if (window as i32) < 0 { 0 } else { window }
    }

    /// What the target said without being asked, since the last call.
    pub fn messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    /// The connection, for what a session would not send.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// The numbers that a PDU sent by [`Initiator::wire`] should have: CmdSN and ExpStatSN.
    pub fn numbers(&self) -> (u32, u32) {
        (self.cmd_sn, self.stat_sn)
    }

    /// A CmdSN that a PDU sent by [`Initiator::wire`] has used.
    pub fn skip_cmd_sn(&mut self) {
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
    }

    /// Ends the session's life here, and gives the connection to who goes on with it.
    pub fn into_parts(self) -> (Wire, Negotiated, Numbers) {
        let numbers = Numbers { cmd_sn: self.cmd_sn, stat_sn: self.stat_sn, max_cmd_sn: self.max_cmd_sn };
        (self.wire, self.negotiated, numbers)
    }

    /// A SIMPLE command and its end.
    pub fn command(&mut self, lun: u16, cdb: &[u8], data: Data) -> Result<Answer> {
        let tag = self.start(Command::new(lun, cdb, data))?;
        self.wait(tag)
    }

    /// Sends a command, with the data that needs no R2T; waits for room in the target's window.
    pub fn start(&mut self, command: Command) -> Result<Tag> {
        if !command.immediate {
            self.turn_until("a place in the target's window", |session| session.window() > 0)?;
        }
        let tag = self.tag();
        let cmd_sn = self.cmd_sn;
        if !command.immediate {
            self.skip_cmd_sn();
        }
        let task = Task::new(command);
        let pdus = task.requests(tag, cmd_sn, &self.rules);
        self.tasks.insert(tag, task);
        self.send_all(pdus)?;
        Ok(Tag(tag))
    }

    pub fn wait(&mut self, tag: Tag) -> Result<Answer> {
        self.turn_until("a command's end", |session| session.answers.contains_key(&tag.0))?;
        Ok(self.answers.remove(&tag.0).expect("it is there"))
    }

    /// The answer, if it comes in this time.
    pub fn wait_for(&mut self, tag: Tag, patience: Duration) -> Result<Option<Answer>> {
        let deadline = Instant::now() + patience;
        while !self.answers.contains_key(&tag.0) {
            if !self.turn(deadline)? {
                break;
            }
        }
        Ok(self.answers.remove(&tag.0))
    }

    /// Takes what comes in this time, with nothing in particular to wait for.
    pub fn listen(&mut self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.turn(deadline)? {}
        Ok(())
    }

    /// Commands whose end has not come, management aside.
    pub fn outstanding(&self) -> Vec<Tag> {
        self.tasks.keys().copied().map(Tag).collect()
    }

    /// Task management (RFC 7143 11.5.1): 1 ABORT TASK, 2 ABORT TASK SET, 3 CLEAR ACA, 4 CLEAR TASK
    /// SET, 5 LOGICAL UNIT RESET, 6 and 7 TARGET WARM and COLD RESET. Returns the response: 0 function
    /// complete. Tasks that the function ended are those that `abandon` then names.
    pub fn task_management(&mut self, function: u8, lun: u16, task: Option<Tag>) -> Result<u8> {
        let tag = self.tag();
        let mut pdu = Pdu::new(request::TASK_MANAGEMENT | IMMEDIATE).with_flags(FINAL | function);
        pdu.set(8, &lun_field(lun));
        pdu.set_word(16, tag);
        pdu.set_word(20, task.map_or(NO_TAG, |task| task.0));
        pdu.set_word(24, self.cmd_sn);
        // RefCmdSN is only looked at for a task that the target does not know.
        pdu.set_word(32, self.cmd_sn.wrapping_sub(1));
        Ok(self.ask(pdu, tag)?.byte(2))
    }

    /// Gives up waiting for a task that was aborted. Its late answer is no fault.
    pub fn abandon(&mut self, tag: Tag) {
        if let Some(task) = self.tasks.remove(&tag.0) {
            self.aborted.insert(tag.0, task);
        }
    }

    /// NOP-Out with data; returns what came back.
    pub fn ping(&mut self, data: &[u8]) -> Result<Vec<u8>> {
        let tag = self.tag();
        let mut pdu = Pdu::new(request::NOP_OUT | IMMEDIATE).with_flags(FINAL).with_data(data);
        pdu.set_word(16, tag);
        pdu.set_word(20, NO_TAG);
        pdu.set_word(24, self.cmd_sn);
        Ok(self.ask(pdu, tag)?.data)
    }

    /// A text request and all of its answer, however many PDUs that takes.
    pub fn text(&mut self, pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>> {
        const ANSWERS_MAX: usize = 1000;
        let (tag, mut data, mut transfer, mut bytes) = (self.tag(), text::encode(pairs), NO_TAG, Vec::new());
        for _ in 0..ANSWERS_MAX {
            let mut pdu = Pdu::new(request::TEXT | IMMEDIATE).with_flags(FINAL).with_data(&data);
            pdu.set_word(16, tag);
            pdu.set_word(20, transfer);
            pdu.set_word(24, self.cmd_sn);
            let answer = self.ask(pdu, tag)?;
            bytes.extend_from_slice(&answer.data);
            transfer = answer.ttt();
            let is_final = answer.flags() & FINAL != 0;
            if is_final != (transfer == NO_TAG) || (is_final && answer.flags() & 0x40 != 0) {
                return Err(Error::Session(
                    "F, C and Target Transfer Tag of a text response disagree".into(),
                ));
            }
            if is_final {
                return text::decode(&bytes).map_err(Error::Session);
            }
            data.clear();
        }
        Err(Error::Session("a text response does not end".into()))
    }

    /// `what`: `All` in a discovery session, a target's name, or empty for the session's own.
    pub fn send_targets(&mut self, what: &str) -> Result<Vec<Target>> {
        let mut targets: Vec<Target> = Vec::new();
        for (key, value) in self.text(&[("SendTargets", what)])? {
            match (key.as_str(), targets.last_mut()) {
                ("TargetName", _) => targets.push(Target { name: value, portals: Vec::new() }),
                ("TargetAddress", Some(target)) => {
                    let portal = value
                        .rsplit_once(',')
                        .and_then(|(address, tag)| Some((address.to_owned(), tag.parse().ok()?)));
                    let Some(portal) = portal else {
                        return Err(Error::Session(format!("TargetAddress={value} has no group tag")));
                    };
                    target.portals.push(portal);
                }
                _ => return Err(Error::Session(format!("{key}={value} answers SendTargets"))),
            }
        }
        Ok(targets)
    }

    /// Closes the session; the target closes the connection.
    pub fn logout(&mut self) -> Result<()> {
        let tag = self.tag();
        let mut pdu = Pdu::new(request::LOGOUT | IMMEDIATE).with_flags(FINAL);
        pdu.set_word(16, tag);
        pdu.set_word(24, self.cmd_sn);
        match self.ask(pdu, tag)?.byte(2) {
            0 => {}
            response => return Err(Error::Session(format!("logout response {response:02x}h"))),
        }
        if self.rules.tolerant || self.wire.is_closed_within(self.timeout) {
            Ok(())
        } else {
            Err(Error::Stalled("the target does not close a connection that was logged out".into()))
        }
    }

    fn tag(&mut self) -> u32 {
        let tag = self.next_tag;
        // Far from NO_TAG for as long as any session lives.
        self.next_tag = (self.next_tag + 1) & 0x7fff_ffff;
        tag
    }

    /// Sends a PDU and waits for the response with its tag.
    fn ask(&mut self, pdu: Pdu, tag: u32) -> Result<Pdu> {
        self.asked.push(tag);
        self.send_all(vec![pdu])?;
        self.turn_until("a response", |session| session.replies.contains_key(&tag))?;
        self.asked.retain(|asked| *asked != tag);
        Ok(self.replies.remove(&tag).expect("it is there"))
    }

    fn send_all(&mut self, pdus: Vec<Pdu>) -> Result<()> {
        let mut bytes = Vec::new();
        for mut pdu in pdus {
            pdu.set_word(28, self.stat_sn); // ExpStatSN stands at the same place in all requests
            bytes.extend(pdu.encode(self.wire.header_digest, self.wire.data_digest));
        }
        self.wire.send_bytes(&bytes)
    }

    fn turn_until(&mut self, what: &str, done: impl Fn(&Initiator) -> bool) -> Result<()> {
        let deadline = Instant::now() + self.timeout;
        while !done(self) {
            if !self.turn(deadline)? {
                return Err(Error::Stalled(format!("{what} did not come within {:?}", self.timeout)));
            }
        }
        Ok(())
    }

    /// Takes one PDU. False: none came until `deadline`.
    fn turn(&mut self, deadline: Instant) -> Result<bool> {
        let Some(pdu) = self.wire.receive_until(deadline)? else { return Ok(false) };
        self.take(pdu)?;
        Ok(true)
    }

    /// The numbers that a response brings: StatSN by the rule, the window only forward
    /// (RFC 7143 3.2.2.1: older values are ignored).
    fn take_numbers(&mut self, pdu: &Pdu, has_status: bool) -> Result<()> {
        if has_status || matches!(pdu.opcode(), response::R2T | response::NOP_IN) {
            if pdu.stat_sn() != self.stat_sn {
                return Err(Error::Session(format!(
                    "StatSN {:x}h instead of {:x}h (opcode {:02x}h)",
                    pdu.stat_sn(),
                    self.stat_sn,
                    pdu.opcode()
                )));
            }
            if has_status {
                self.stat_sn = self.stat_sn.wrapping_add(1);
            }
        }
        let later = |new: u32, old: u32| new.wrapping_sub(old) as i32 > 0;
        if later(pdu.exp_cmd_sn(), self.cmd_sn) {
            return Err(Error::Session(format!(
                "ExpCmdSN {:x}h, and our next CmdSN is {:x}h",
                pdu.exp_cmd_sn(),
                self.cmd_sn
            )));
        }
        if later(pdu.exp_cmd_sn(), self.exp_cmd_sn) {
            self.exp_cmd_sn = pdu.exp_cmd_sn();
        }
        if later(pdu.max_cmd_sn(), self.max_cmd_sn) {
            self.max_cmd_sn = pdu.max_cmd_sn();
        }
        Ok(())
    }

    fn task(&mut self, pdu: &Pdu) -> Result<&mut Task> {
        let tag = pdu.itt();
        let task = self.tasks.get_mut(&tag).or_else(|| self.aborted.get_mut(&tag));
        task.ok_or_else(|| {
            Error::Session(format!("opcode {:02x}h for tag {tag:x}h, which has no task", pdu.opcode()))
        })
    }

    fn end(&mut self, tag: u32, answer: Answer) {
        if self.tasks.remove(&tag).is_some() {
            self.answers.insert(tag, answer);
        } else {
            self.aborted.remove(&tag);
        }
    }

    fn take(&mut self, pdu: Pdu) -> Result<()> {
        let rules = self.rules;
        match pdu.opcode() {
            response::DATA_IN => {
                self.take_numbers(&pdu, pdu.flags() & 0x01 != 0)?;
                if let Some(answer) = self.task(&pdu)?.data_in(&pdu, &rules)? {
                    self.end(pdu.itt(), answer);
                }
            }
            response::SCSI_RESPONSE => {
                self.take_numbers(&pdu, true)?;
                let answer = self.task(&pdu)?.response(&pdu, &rules)?;
                self.end(pdu.itt(), answer);
            }
            response::R2T => {
                self.take_numbers(&pdu, false)?;
                let pdus = self.task(&pdu)?.solicited(&pdu, &rules)?;
                self.send_all(pdus)?;
            }
            response::NOP_IN if pdu.itt() == NO_TAG => {
                self.take_numbers(&pdu, false)?;
                self.messages.push(if pdu.ttt() == NO_TAG { Message::Nop } else { Message::Ping });
                if pdu.ttt() != NO_TAG {
                    let mut pong = Pdu::new(request::NOP_OUT | IMMEDIATE).with_flags(FINAL);
                    pong.set(8, &pdu.bhs[8..16]);
                    pong.set_word(16, NO_TAG);
                    pong.set_word(20, pdu.ttt());
                    pong.set_word(24, self.cmd_sn);
                    self.send_all(vec![pong])?;
                }
            }
            response::NOP_IN | response::TASK_MANAGEMENT | response::TEXT | response::LOGOUT => {
                self.take_numbers(&pdu, true)?;
                if !self.asked.contains(&pdu.itt()) || self.replies.contains_key(&pdu.itt()) {
                    return Err(Error::Session(format!(
                        "opcode {:02x}h for tag {:x}h, which asked nothing",
                        pdu.opcode(),
                        pdu.itt()
                    )));
                }
                self.replies.insert(pdu.itt(), pdu);
            }
            response::ASYNC => {
                self.take_numbers(&pdu, true)?;
                self.messages.push(Message::Async {
                    event: pdu.byte(36),
                    vendor_code: pdu.byte(37),
                    parameters: [pdu.half(38), pdu.half(40), pdu.half(42)],
                    lun: pdu.bhs[8..16].try_into().expect("eight bytes"),
                    data: pdu.data,
                });
            }
            response::REJECT => {
                self.take_numbers(&pdu, true)?;
                self.messages.push(Message::Reject { reason: pdu.byte(2), header: pdu.data });
            }
            other => return Err(Error::Session(format!("opcode {other:02x}h is none of a target's"))),
        }
        Ok(())
    }
}
