//! One text of an initiator against the table of keys: answers, and what is settled by them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::fault::Fault;
use crate::keys::{self, Key, Parameters, ROWS, Row, Rule, Where};
use crate::limits::{Limits, VALUE_MAX_BYTES};
use crate::text::{self, Text};

/// When a text comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Security,
    Operational,
    FullFeature,
}

impl Phase {
    fn admits(self, place: Where) -> bool {
        match place {
            Where::Any => true,
            Where::Login => self != Phase::FullFeature,
            Where::Security => self == Phase::Security,
            Where::Operational => self == Phase::Operational,
            Where::OperationalAndLater => self != Phase::Security,
            Where::FullFeature => self == Phase::FullFeature,
        }
    }
}

/// What is settled so far; one bit a row of the table tells which keys were mentioned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiation {
    pub parameters: Parameters,
    pub seen: u64,
    /// We declared what is ours to declare.
    pub declared: bool,
    pub discovery: bool,
}

const fn bit(key: Key) -> u64 {
    1 << key as u64
}

impl Negotiation {
    pub fn has(&self, key: Key) -> bool {
        self.seen & bit(key) != 0
    }

    /// Takes a text. Answers go to `answer`; pairs that are not negotiated here (names, CHAP,
    /// SendTargets) are given back, in the table's order.
    pub fn take<'a>(
        &mut self,
        phase: Phase,
        limits: &Limits,
        text: &'a [u8],
        answer: &mut Text,
    ) -> Result<Vec<(Key, &'a str)>, Fault> {
        let mut known: Vec<(&'static Row, &str)> = Vec::new();
        for (name, value) in text::pairs(text)? {
            match keys::find(name) {
                // RFC 7143 6.2: a key that nobody here knows is answered with NotUnderstood.
                None => answer.put(name, "NotUnderstood"),
                Some(row) => known.push((row, value)),
            }
        }
        known.sort_by_key(|(row, _)| row.key);
        let mut others = Vec::new();
        for (row, value) in known {
            // 6.3: saying a key twice is an error. Security's own keys come in steps, and what may
            // be said in the full feature phase may be said again.
            let again = self.has(row.key) && phase != Phase::FullFeature && row.rule != Rule::Security;
            self.seen |= bit(row.key);
            if again {
                return Err(Fault::KeyRepeated);
            }
            // CHAP_C is the longest: 1,024 bytes of challenge.
            let longest = if row.rule == Rule::Security { 2 * 1024 + 2 } else { VALUE_MAX_BYTES };
            if value.len() > longest {
                return Err(Fault::TextMalformed);
            }
            if !phase.admits(row.place) {
                answer.put(row.name, "Reject");
            } else if self.discovery && !row.discovery {
                answer.put(row.name, "Irrelevant");
            } else {
                match row.rule {
                    Rule::DeclareText | Rule::Security | Rule::SendTargets => others.push((row.key, value)),
                    _ => self.settle(row, value, limits, answer)?,
                }
            }
        }
        Ok(others)
    }

    fn settle(&mut self, row: &Row, value: &str, limits: &Limits, answer: &mut Text) -> Result<(), Fault> {
        let reply = match row.rule {
            Rule::List(ours) => {
                let choice = value.split(',').find(|wanted| ours.contains(wanted));
                if let Some(choice) = choice {
                    self.set(row.key, u32::from(choice == "CRC32C"));
                }
                choice.map(String::from)
            }
            Rule::Or | Rule::And => match value {
                "Yes" | "No" => {
                    let theirs = value == "Yes";
                    // Ours: Data in order, which is all that error recovery level 0 can use; no
                    // R2T and immediate data as the initiator likes.
                    let ours = matches!(row.key, Key::DataPDUInOrder | Key::DataSequenceInOrder);
                    let result = if row.rule == Rule::Or { theirs || ours } else { theirs };
                    self.set(row.key, u32::from(result));
                    Some(String::from(if result { "Yes" } else { "No" }))
                }
                _ => None,
            },
            Rule::Minimum(low, high, ours) => in_range(value, low, high).map(|theirs| {
                let mut result = theirs.min(ours.value(limits));
                if row.key == Key::FirstBurstLength {
                    // 13.14: it must not exceed MaxBurstLength, and means nothing where no
                    // unsolicited data may be sent.
                    if self.parameters.initial_r2t && !self.parameters.immediate_data {
                        return String::from("Irrelevant");
                    }
                    result = result.min(self.parameters.max_burst);
                }
                self.set(row.key, result);
                result.to_string()
            }),
            Rule::Maximum(low, high) => in_range(value, low, high).map(|theirs| {
                self.set(row.key, theirs);
                theirs.to_string()
            }),
            Rule::DeclareNumber(low, high) => {
                // Nothing is answered to a declaration, so a bad one cannot be rejected alone.
                let number = in_range(value, low, high).ok_or(Fault::BadValue)?;
                self.set(row.key, number);
                return Ok(());
            }
            Rule::Obsolete(reply) => Some(String::from(reply)),
            Rule::TargetOnly => None,
            Rule::DeclareText | Rule::Security | Rule::SendTargets => return Ok(()),
        };
        answer.put(row.name, reply.as_deref().unwrap_or("Reject"));
        Ok(())
    }

    fn set(&mut self, key: Key, value: u32) {
        let to = &mut self.parameters;
        match key {
            Key::HeaderDigest => to.header_digest = value != 0,
            Key::DataDigest => to.data_digest = value != 0,
            Key::InitialR2T => to.initial_r2t = value != 0,
            Key::ImmediateData => to.immediate_data = value != 0,
            Key::MaxBurstLength => {
                to.max_burst = value;
                to.first_burst = to.first_burst.min(value);
            }
            Key::FirstBurstLength => to.first_burst = value,
            Key::MaxOutstandingR2T => to.max_outstanding_r2t = value,
            Key::MaxRecvDataSegmentLength => to.initiator_segment = value,
            Key::ProtocolLevel => to.protocol_level = value,
            Key::DefaultTime2Wait => to.time_to_wait = value,
            Key::DefaultTime2Retain => to.time_to_retain = value,
            _ => {}
        }
    }

    /// What we have to say of ourselves, once, in the operational stage.
    pub fn declare(&mut self, limits: &Limits, answer: &mut Text) {
        if !self.declared {
            self.declared = true;
            self.parameters.target_segment = limits.slot_bytes;
            answer.put("MaxRecvDataSegmentLength", &format!("{}", limits.slot_bytes));
        }
    }
}

fn in_range(value: &str, low: u32, high: u32) -> Option<u32> {
    let number = u32::try_from(text::number(value)?).ok()?;
    (low..=high).contains(&number).then_some(number)
}

const _: () = assert!(ROWS.len() <= 64, "one bit a row");
