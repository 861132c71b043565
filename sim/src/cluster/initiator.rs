//! An initiator of the cluster: it writes, reads, swaps, reserves and fences, and looks at answers
//! when it likes.

use super::auditor::{Auditor, COMMON, Change, Changed, OWN, REGISTERS};
use super::table::{Action, Answer, INITIATORS, Key, kind};
use super::wire::{Answered, DEPTH, Life, Wire};
use crate::dice::Dice;
use crate::oracle::{BLOCK, BeforeFlush, Version, fill};

/// What an initiator has out.
enum Asked {
    Write { version: Version },
    ReadCommon,
    ReadOwn,
    Register { first: u64 },
    Swap { version: Version },
    Flush(BeforeFlush),
    Out(Action),
    Keys,
    Reservation,
}

struct Out {
    name: u64,
    asked: Asked,
}

pub struct Initiator {
    number: usize,
    out: [Option<Out>; DEPTH],
    /// The key that it believes it has registered.
    key: Key,
    /// Its next key; keys of different initiators differ.
    keys: u64,
    /// What it read of each register last.
    registers: [Option<Version>; REGISTERS.len()],
    pub sent: u64,
    pub ends: std::collections::BTreeMap<String, u64>,
}

/// Numbers that the whole cluster draws from.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub version: u64,
    pub name: u64,
}

impl Initiator {
    pub fn new(number: usize, counters: &mut Counters) -> Self {
        counters.name += 1;
        Self {
            number,
            out: [const { None }; DEPTH],
            key: 0,
            // Not those of a life before the power cut.
            keys: counters.name << 8,
            registers: [None; REGISTERS.len()],
            sent: 0,
            ends: std::collections::BTreeMap::new(),
        }
    }

    pub fn outstanding(&self) -> usize {
        self.out.iter().flatten().count()
    }

    fn is_out(&self, which: impl Fn(&Asked) -> bool) -> bool {
        self.out.iter().flatten().any(|out| which(&out.asked))
    }

    /// Posts a command, if there is room.
    pub fn ask(&mut self, wire: &mut Wire, auditor: &mut Auditor, counters: &mut Counters, dice: &mut Dice) {
        let free = |at: &usize| self.out[*at].is_none() && wire.life(self.number * DEPTH + *at) == Life::Free;
        let Some(at) = (0..DEPTH).find(free) else { return };
        counters.name += 1;
        let name = counters.name;
        let me = self.number;
        let mut out_bytes = Vec::new();
        let (asked, cdb, in_bytes) = match dice.below(20) {
            0..=5 => {
                let own = dice.one_in(3);
                if own && self.is_out(|asked| matches!(asked, Asked::Write { .. } | Asked::ReadOwn)) {
                    return;
                }
                let (first, count) = if own {
                    (OWN + me as u64, 1)
                } else {
                    let count = 1 + dice.below(4);
                    (COMMON.start + dice.below(COMMON.end - count), count)
                };
                let fua = dice.one_in(4);
                let version = self.version(counters);
                out_bytes = data(first, count, version);
                auditor.sent_change(me, first, version, Change::Write { fua });
                auditor.sent_access(name, me, true);
                (Asked::Write { version }, cdb16(0x8a, u8::from(fua) << 3, first, count), 0)
            }
            6 | 7 => {
                let count = 1 + dice.below(4);
                let first = dice.below(COMMON.end - count);
                auditor.sent_access(name, me, false);
                (Asked::ReadCommon, cdb16(0x88, 0, first, count), count as u32 * BLOCK as u32)
            }
            8 => {
                if self.is_out(|asked| matches!(asked, Asked::Write { .. })) {
                    return;
                }
                auditor.sent_access(name, me, false);
                (Asked::ReadOwn, cdb16(0x88, 0, OWN + me as u64, 1), BLOCK as u32)
            }
            9 | 10 => {
                let (first, count) = REGISTERS[dice.index(REGISTERS.len())];
                auditor.sent_access(name, me, false);
                (Asked::Register { first }, cdb16(0x88, 0, first, count), (count as usize * BLOCK) as u32)
            }
            11..=13 => {
                let which = dice.index(REGISTERS.len());
                let (first, count) = REGISTERS[which];
                let Some(from) = self.registers[which] else { return };
                let version = self.version(counters);
                out_bytes = data(first, count, from);
                out_bytes.extend(data(first, count, version));
                auditor.sent_change(me, first, version, Change::Swap { from });
                auditor.sent_access(name, me, true);
                let fua = u8::from(dice.one_in(4)) << 3;
                let mut cdb = vec![0x89, fua];
                cdb.extend(first.to_be_bytes());
                cdb.extend([0, 0, 0, count as u8, 0, 0]);
                (Asked::Swap { version }, cdb, 0)
            }
            14 => (Asked::Flush(auditor.flush_begins()), cdb16(0x91, 0, 0, 0), 0),
            15 => {
                auditor.sent_question(name);
                (Asked::Keys, vec![0x5e, 0x00, 0, 0, 0, 0, 0, 0x01, 0x00, 0], 256)
            }
            16 => {
                auditor.sent_question(name);
                (Asked::Reservation, vec![0x5e, 0x01, 0, 0, 0, 0, 0, 0x01, 0x00, 0], 256)
            }
            _ => {
                if self.is_out(|asked| matches!(asked, Asked::Out(_))) {
                    return;
                }
                let action = self.action(auditor, dice);
                auditor.sent_action(name, me, action);
                let (cdb, list) = encode(action);
                out_bytes = list;
                (Asked::Out(action), cdb, 0)
            }
        };
        self.sent += 1;
        wire.post(me * DEPTH + at, &cdb, &out_bytes, in_bytes, name);
        self.out[at] = Some(Out { name, asked });
    }

    fn version(&mut self, counters: &mut Counters) -> Version {
        counters.version += 1;
        counters.version * 4 + self.number as u64
    }

    /// Mostly what makes sense, and now and then with a wrong key.
    fn action(&mut self, auditor: &Auditor, dice: &mut Dice) -> Action {
        self.keys += 1;
        let new = self.keys;
        let aptpl = dice.one_in(2);
        if self.key == 0 {
            let key = if dice.one_in(8) {
                Some(new)
            } else if dice.one_in(4) {
                None
            } else {
                Some(0)
            };
            return Action::Register { key, new, aptpl };
        }
        let key = if dice.one_in(12) { new } else { self.key };
        let kind = kind::ALL[dice.index(kind::ALL.len())];
        // What it could have found out by asking.
        let table = auditor.possible.tables().next().cloned().unwrap_or_default();
        match dice.below(16) {
            0 => Action::Register { key: Some(key), new: 0, aptpl },
            1 | 2 => Action::Register { key: if dice.one_in(2) { None } else { Some(key) }, new, aptpl },
            3..=6 => Action::Reserve { key, kind },
            7 | 8 => {
                let kind = table.held.filter(|_| !dice.one_in(4)).map_or(kind, |(kind, _)| kind);
                Action::Release { key, kind }
            }
            9 => Action::Clear { key },
            _ => {
                let others: Vec<usize> = (0..INITIATORS).filter(|other| *other != self.number).collect();
                let victim = match dice.one_in(8) {
                    true => 0,
                    false => table.keys[others[dice.index(others.len())]],
                };
                Action::Preempt { key, victim, kind, abort: dice.one_in(2) }
            }
        }
    }

    /// Takes the answers that are there.
    pub fn take(&mut self, wire: &mut Wire, auditor: &mut Auditor) {
        for at in 0..DEPTH {
            let Some((answered, bytes)) = wire.take(self.number * DEPTH + at) else { continue };
            let Some(Out { name, asked }) = self.out[at].take() else {
                auditor.wrong.push(format!("an answer to nothing: {answered:?}"));
                continue;
            };
            let end = end_of(&answered);
            *self.ends.entry(format!("cluster {} {end:?}", asked.name()).to_lowercase()).or_default() += 1;
            self.judge(name, asked, end, &answered, &bytes, auditor);
        }
    }

    fn judge(
        &mut self,
        name: u64,
        asked: Asked,
        end: End,
        answered: &Answered,
        bytes: &[u8],
        auditor: &mut Auditor,
    ) {
        let me = self.number;
        let good = end == End::Good;
        match asked {
            Asked::Write { version } | Asked::Swap { version } => {
                let changed = match end {
                    End::Good => Changed::Done,
                    End::Miscompare => Changed::Miscompared,
                    End::Conflict | End::NotRun => Changed::NotRun,
                    End::Aborted => Changed::Unknown,
                    End::Refused => {
                        auditor.wrong.push(format!("{} was refused: {answered:?}", asked.name()));
                        Changed::Unknown
                    }
                };
                auditor.answered_access(name, end == End::Conflict, good);
                auditor.answered_change(version, changed);
                if let Asked::Swap { .. } = asked {
                    // It reads again before it tries again.
                    self.registers = [None; REGISTERS.len()];
                }
            }
            Asked::ReadCommon | Asked::ReadOwn | Asked::Register { .. } => {
                auditor.answered_access(name, end == End::Conflict, good);
                if good && matches!(asked, Asked::ReadOwn) {
                    auditor.read_own(me, bytes);
                }
                if good && let Asked::Register { first } = asked {
                    let version = auditor.read_register(first, bytes);
                    let which = REGISTERS.iter().position(|(at, _)| *at == first).expect("one of them");
                    self.registers[which] = version;
                }
            }
            Asked::Flush(before) if good => auditor.flushed(&before),
            Asked::Flush(_) => {}
            Asked::Out(action) => {
                let answer = match end {
                    End::Good => Answer::Good,
                    End::Conflict => Answer::Conflict,
                    End::NotRun => Answer::NotRun,
                    End::Aborted => Answer::Unknown,
                    End::Refused | End::Miscompare => Answer::Refused,
                };
                auditor.answered_action(name, answer, &format!("{action:?} of {me}"));
                self.learn(auditor);
            }
            Asked::Keys if good => {
                let mut keys: Vec<Key> = bytes
                    .get(8..)
                    .unwrap_or(&[])
                    .chunks_exact(8)
                    .map(|key| u64::from_be_bytes(key.try_into().expect("eight bytes")))
                    .collect();
                keys.sort_unstable();
                auditor.answered_question(name, &format!("keys {keys:?}"), |table| table.visible().0 == keys);
                self.learn(auditor);
            }
            Asked::Reservation if good => {
                let held = reservation(bytes);
                auditor.answered_question(name, &format!("reservation {held:?}"), |table| {
                    table.visible().1 == held
                });
            }
            // It stands for nothing, and is forgotten.
            Asked::Keys | Asked::Reservation => auditor.answered_question(name, "nothing", |_| true),
        }
    }

    /// Which key it has, as far as it can be known.
    fn learn(&mut self, auditor: &Auditor) {
        if let Some(table) = auditor.possible.tables().next() {
            self.key = table.keys[self.number];
        }
    }
}

impl Asked {
    fn name(&self) -> &'static str {
        match self {
            Asked::Write { .. } => "write",
            Asked::ReadCommon | Asked::ReadOwn | Asked::Register { .. } => "read",
            Asked::Swap { .. } => "compare and write",
            Asked::Flush(_) => "synchronize cache",
            Asked::Out(Action::Register { .. }) => "register",
            Asked::Out(Action::Reserve { .. }) => "reserve",
            Asked::Out(Action::Release { .. }) => "release",
            Asked::Out(Action::Clear { .. }) => "clear",
            Asked::Out(Action::Preempt { abort: false, .. }) => "preempt",
            Asked::Out(Action::Preempt { abort: true, .. }) => "preempt and abort",
            Asked::Keys => "read keys",
            Asked::Reservation => "read reservation",
        }
    }
}

/// What an answer means to its initiator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Good,
    Conflict,
    Miscompare,
    /// BUSY, TASK SET FULL, a unit attention.
    NotRun,
    Aborted,
    Refused,
}

/// PREEMPT AND ABORT hits the commands of who sends it too, where it takes all registrations; those
/// have no status, and no transport here says so otherwise.
pub const ABORTED_ITSELF: u8 = 0xff;

/// Codes typed from SAM-5 and SPC-4.
fn end_of(answered: &Answered) -> End {
    match (answered.status, answered.sense) {
        (0x00, _) => End::Good,
        (0x18, _) => End::Conflict,
        (0x08 | 0x28, _) => End::NotRun,
        (0x40 | ABORTED_ITSELF, _) => End::Aborted,
        (0x02, Some([0x06, ..])) => End::NotRun,
        (0x02, Some([0x0e, 0x1d, 0x00])) => End::Miscompare,
        (0x02, Some([0x0b | 0x04, ..])) => End::Aborted,
        _ => End::Refused,
    }
}

pub fn data(first: u64, count: u64, version: Version) -> Vec<u8> {
    let mut bytes = vec![0; count as usize * BLOCK];
    for (index, block) in bytes.chunks_exact_mut(BLOCK).enumerate() {
        fill(first + index as u64, version, block);
    }
    bytes
}

/// READ(16) and its kin.
fn cdb16(code: u8, flags: u8, first: u64, count: u64) -> Vec<u8> {
    let mut cdb = vec![code, flags];
    cdb.extend(first.to_be_bytes());
    cdb.extend((count as u32).to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

/// PERSISTENT RESERVE OUT, SPC-4 6.16: the CDB and the parameter list.
fn encode(action: Action) -> (Vec<u8>, Vec<u8>) {
    let (service, kind, key, new, aptpl) = match action {
        Action::Register { key: Some(key), new, aptpl } => (0x00, 0, key, new, aptpl),
        Action::Register { key: None, new, aptpl } => (0x06, 0, 0, new, aptpl),
        Action::Reserve { key, kind } => (0x01, kind, key, 0, false),
        Action::Release { key, kind } => (0x02, kind, key, 0, false),
        Action::Clear { key } => (0x03, 0, key, 0, false),
        Action::Preempt { key, victim, kind, abort: false } => (0x04, kind, key, victim, false),
        Action::Preempt { key, victim, kind, abort: true } => (0x05, kind, key, victim, false),
    };
    let cdb = vec![0x5f, service, kind, 0, 0, 0, 0, 0, 24, 0];
    let mut list = Vec::new();
    list.extend(key.to_be_bytes());
    list.extend(new.to_be_bytes());
    list.extend([0, 0, 0, 0, u8::from(aptpl), 0, 0, 0]);
    (cdb, list)
}

/// The key and the type in the data of READ RESERVATION, SPC-4 6.15.3.
pub fn reservation(bytes: &[u8]) -> Option<(Key, u8)> {
    if bytes.len() < 24 {
        return None;
    }
    let key = u64::from_be_bytes(bytes[8..16].try_into().expect("eight bytes"));
    Some((key, bytes[21] & 0x0f))
}
