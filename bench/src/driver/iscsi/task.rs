//! A command on its way: what is still to be sent, what has come, and whether it came by the rules.

use super::pdu::{self, NO_TAG, Pdu};
use crate::driver::error::{Error, Result};
use crate::driver::scsi::Sense;

/// Task attributes (RFC 7143 11.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    Untagged = 0,
    Simple = 1,
    Ordered = 2,
    HeadOfQueue = 3,
    Aca = 4,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    None,
    /// So many bytes at most come from the target.
    In(usize),
    /// These go to it.
    Out(Vec<u8>),
}

/// A command with everything that it can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub lun: [u8; 8],
    pub cdb: Vec<u8>,
    pub data: Data,
    pub attribute: Attribute,
    /// Takes no CmdSN and goes before others.
    pub immediate: bool,
}

impl Command {
    pub fn new(lun: u16, cdb: &[u8], data: Data) -> Command {
        let lun = pdu::lun_field(lun);
        Command { lun, cdb: cdb.to_vec(), data, attribute: Attribute::Simple, immediate: false }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residual {
    None,
    Underflow(u32),
    Overflow(u32),
}

/// A command's whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 00h: completed at target; otherwise there is no status.
    pub response: u8,
    pub status: u8,
    /// As it came, without its length field.
    pub sense: Vec<u8>,
    pub data: Vec<u8>,
    pub residual: Residual,
}

impl Answer {
    pub fn is_good(&self) -> bool {
        self.response == 0 && self.status == 0
    }

    /// Key and codes; zeroes without sense data.
    pub fn decoded_sense(&self) -> Sense {
        Sense::decode(&self.sense)
    }
}

/// What the rules of a session are, as far as a task must keep them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub our_max_segment: u32,
    pub target_max_segment: u32,
    pub max_burst: u32,
    pub first_burst: u32,
    pub immediate_data: bool,
    pub initial_r2t: bool,
    pub in_order: bool,
    pub tolerant: bool,
}

/// A task whose end has not come.
#[derive(Debug)]
pub(super) struct Task {
    pub command: Command,
    data: Vec<u8>,
    /// Bytes of the data-in buffer that came, and of the sequence since the last F bit.
    received: usize,
    sequence: usize,
    is_sequence_open: bool,
    data_sn: u32,
    r2t_sn: u32,
}

fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::Session(what.into()))
}

impl Task {
    pub fn new(command: Command) -> Task {
        let data = match command.data {
            Data::In(len) => vec![0; len],
            _ => Vec::new(),
        };
        Task { command, data, received: 0, sequence: 0, is_sequence_open: false, data_sn: 0, r2t_sn: 0 }
    }

    fn out(&self) -> &[u8] {
        match &self.command.data {
            Data::Out(bytes) => bytes,
            _ => &[],
        }
    }

    /// Expected Data Transfer Length.
    fn expected(&self) -> usize {
        match &self.command.data {
            Data::None => 0,
            Data::In(len) => *len,
            Data::Out(bytes) => bytes.len(),
        }
    }

    /// The command's PDU and the unsolicited data behind it.
    pub fn requests(&self, itt: u32, cmd_sn: u32, rules: &Rules) -> Vec<Pdu> {
        let command = &self.command;
        let immediate = if command.immediate { pdu::IMMEDIATE } else { 0 };
        let mut first = Pdu::new(pdu::request::SCSI_COMMAND | immediate);
        first.set(8, &command.lun);
        first.set_word(16, itt);
        first.set_word(20, self.expected() as u32);
        first.set_word(24, cmd_sn);
        let short = command.cdb.len().min(16);
        first.set(32, &command.cdb[..short]);
        if command.cdb.len() > 16 {
            first.ahs = pdu::extended_cdb(&command.cdb[16..]);
        }
        let out = self.out();
        let (mut flags, mut sent) = (command.attribute as u8, 0);
        if matches!(command.data, Data::In(_)) {
            flags |= 0x40;
        }
        if matches!(command.data, Data::Out(_)) {
            flags |= 0x20;
            if rules.immediate_data {
                sent = out.len().min(rules.first_burst as usize).min(rules.target_max_segment as usize);
                first.data = out[..sent].to_vec();
            }
        }
        let unsolicited =
            if rules.initial_r2t { sent } else { out.len().min(rules.first_burst as usize).max(sent) };
        first.bhs[1] = if unsolicited > sent { flags } else { flags | pdu::FINAL };
        let mut pdus = vec![first];
        pdus.extend(self.data_out(itt, NO_TAG, sent, unsolicited, rules));
        pdus
    }

    /// Data-Out PDUs for a part of the buffer, the last of them with the F bit.
    fn data_out(&self, itt: u32, ttt: u32, from: usize, to: usize, rules: &Rules) -> Vec<Pdu> {
        let step = rules.target_max_segment as usize;
        let mut pdus = Vec::new();
        for (number, at) in (from..to).step_by(step).enumerate() {
            let end = to.min(at + step);
            let mut data = Pdu::new(pdu::request::DATA_OUT).with_data(&self.out()[at..end]);
            data.bhs[1] = if end == to { pdu::FINAL } else { 0 };
            data.set(8, &self.command.lun);
            data.set_word(16, itt);
            data.set_word(20, ttt);
            data.set_word(36, number as u32);
            data.set_word(40, at as u32);
            pdus.push(data);
        }
        pdus
    }

    /// The data that an R2T asks for. It is sent at once, so there is never more than one open.
    pub fn solicited(&mut self, r2t: &Pdu, rules: &Rules) -> Result<Vec<Pdu>> {
        let (from, len) = (r2t.word(40) as usize, r2t.word(44) as usize);
        let Some(to) = from.checked_add(len).filter(|to| *to <= self.out().len()) else {
            return wrong(format!("R2T for {len} bytes at {from} of {}", self.out().len()));
        };
        if len == 0 || len > rules.max_burst as usize {
            return wrong(format!("R2T for {len} bytes, MaxBurstLength is {}", rules.max_burst));
        }
        if r2t.word(36) != self.r2t_sn {
            return wrong(format!("R2TSN {} instead of {}", r2t.word(36), self.r2t_sn));
        }
        if r2t.ttt() == NO_TAG {
            return wrong("R2T without a Target Transfer Tag");
        }
        self.r2t_sn += 1;
        Ok(self.data_out(r2t.itt(), r2t.ttt(), from, to, rules))
    }

    /// Data-In; its end if it brings the status.
    pub fn data_in(&mut self, pdu: &Pdu, rules: &Rules) -> Result<Option<Answer>> {
        let (at, len) = (pdu.word(40) as usize, pdu.data.len());
        if len > rules.our_max_segment as usize {
            return wrong(format!("Data-In of {len} bytes, we take {}", rules.our_max_segment));
        }
        if pdu.word(36) != self.data_sn {
            return wrong(format!("DataSN {} instead of {}", pdu.word(36), self.data_sn));
        }
        if at + len > self.data.len() {
            return wrong(format!("Data-In of {len} bytes at {at} of {}", self.data.len()));
        }
        if rules.in_order && at != self.received {
            return wrong(format!("Data-In at {at} instead of {}", self.received));
        }
        self.data_sn += 1;
        self.sequence += len;
        if self.sequence > rules.max_burst as usize && !rules.tolerant {
            return wrong(format!(
                "a sequence of {} bytes, MaxBurstLength is {}",
                self.sequence, rules.max_burst
            ));
        }
        self.data[at..at + len].copy_from_slice(&pdu.data);
        self.received = self.received.max(at + len);
        let is_final = pdu.flags() & pdu::FINAL != 0;
        self.is_sequence_open = !is_final;
        if is_final {
            self.sequence = 0;
        }
        if pdu.flags() & 0x01 == 0 {
            return Ok(None);
        }
        if !is_final {
            return wrong("Data-In with status, but not the last of its sequence");
        }
        let residual = self.residual(pdu)?;
        self.end(0, pdu.byte(3), Vec::new(), residual).map(Some)
    }

    pub fn response(&mut self, pdu: &Pdu, rules: &Rules) -> Result<Answer> {
        let sense = match pdu.data.as_slice() {
            [] => Vec::new(),
            [high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low]));
                match rest.get(..len) {
                    Some(sense) => sense.to_vec(),
                    None => return wrong(format!("SenseLength {len} of {} bytes", rest.len())),
                }
            }
            _ => return wrong("a data segment of one byte has no SenseLength"),
        };
        if self.is_sequence_open && !rules.tolerant {
            return wrong("the last Data-In before the response has no F bit");
        }
        // ExpDataSN (RFC 7143 11.4.8). Not every target counts R2T PDUs, and at ErrorRecoveryLevel 0
        // nobody uses it for a write.
        let response = pdu.byte(2);
        let counted = [self.data_sn, self.data_sn + self.r2t_sn].contains(&pdu.word(36));
        if response == 0 && !counted && !rules.tolerant {
            let (data, r2t) = (self.data_sn, self.r2t_sn);
            return wrong(format!("ExpDataSN {} after {data} Data-In and {r2t} R2T", pdu.word(36)));
        }
        let residual = if response == 0 { self.residual(pdu)? } else { Residual::None };
        self.end(response, pdu.byte(3), sense, residual)
    }

    fn residual(&self, pdu: &Pdu) -> Result<Residual> {
        let count = pdu.word(44);
        match pdu.flags() & 0x06 {
            0 if count == 0 => Ok(Residual::None),
            0x02 if count as usize <= self.expected() && count > 0 => Ok(Residual::Underflow(count)),
            0x04 if count > 0 => Ok(Residual::Overflow(count)),
            flags => wrong(format!("residual flags {flags:02x}h with a count of {count}")),
        }
    }

    fn end(&mut self, response: u8, status: u8, sense: Vec<u8>, residual: Residual) -> Result<Answer> {
        if let (Data::In(len), 0, 0) = (&self.command.data, response, status) {
            let missing = match residual {
                Residual::Underflow(count) => count as usize,
                _ => 0,
            };
            if self.received + missing != *len {
                return wrong(format!("{} bytes came of {len}, and {residual:?}", self.received));
            }
        }
        self.data.truncate(self.received);
        Ok(Answer { response, status, sense, data: std::mem::take(&mut self.data), residual })
    }
}
