//! Initiators that keep no rule, against a target that also has a healthy session: noise, mutated
//! logins, mutated requests behind a real login, halves of PDUs, readers that do not read, sessions
//! thrown away with work under way.
//!
//! What they may do is bounded by a [`Leash`]: a target need not protect a session from what an
//! initiator with the same rights may do to the same unit.

mod mutator;
mod siege;

use std::time::{Duration, Instant};

use crate::driver::error::{Error, Result};
use crate::driver::iscsi::pdu::{IMMEDIATE, Pdu, request, response};
use crate::driver::iscsi::{Initiator, Options, Wire, text};
use crate::load::random::Random;

use mutator::Mutator;

pub use mutator::Leash;
pub use siege::{Siege, SiegeLoad, besiege};

/// How long a target may take for a login that is right, and to take what we send.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long we look for an answer before the next blow.
const GLANCE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone)]
pub struct HostileLoad {
    /// A login that the target accepts, if there is one.
    pub options: Options,
    pub leash: Leash,
    pub seed: u64,
    /// Connections that are held open meanwhile, without an end.
    pub held: usize,
}

/// What was done, and what came of it. Each is an end or an answer that a target may give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostileFigures {
    pub connections: u64,
    pub pdus: u64,
    pub bytes: u64,
    pub logins: u64,
    pub login_refusals: u64,
    pub answers: u64,
    pub rejects: u64,
    pub check_conditions: u64,
    /// Connections that the target ended.
    pub closed_by_target: u64,
    /// Logins without a mutation that were not answered in time: the target's fault.
    pub stalled: u64,
    /// Connections that were not accepted.
    pub not_connected: u64,
}

pub struct Hostile<'a> {
    load: &'a HostileLoad,
    mutator: Mutator,
    held: Vec<Wire>,
    pub figures: HostileFigures,
}

impl<'a> Hostile<'a> {
    pub fn new(load: &'a HostileLoad) -> Hostile<'a> {
        let mutator = Mutator { random: Random::new(load.seed) };
        Hostile { load, mutator, held: Vec::new(), figures: HostileFigures::default() }
    }

    /// One connection's life, or as much of it as we wait for. `Err`: nothing can be connected.
    pub fn strike(&mut self) -> Result<()> {
        let wire = match Wire::connect(&self.load.options.portal, PATIENCE) {
            Ok(wire) => wire,
            Err(Error::System { source, .. }) if source.kind() == std::io::ErrorKind::ConnectionReset => {
                self.figures.not_connected += 1;
                return Ok(());
            }
            Err(error) => {
                self.figures.not_connected += 1;
                return Err(error);
            }
        };
        self.figures.connections += 1;
        match self.mutator.below(10) {
            0 => self.noise(wire),
            1..4 => self.mutated_login(wire),
            4 => self.many_parts(wire),
            5 => self.stalling_reader(wire),
            _ => self.mutated_session(wire),
        }
        Ok(())
    }

    /// Sends, and now and then takes what answers come at once. False: the connection has ended.
    fn send(&mut self, wire: &mut Wire, bytes: &[u8]) -> bool {
        self.figures.bytes += bytes.len() as u64;
        if wire.send_bytes(bytes).is_err() {
            self.figures.closed_by_target += 1;
            return false;
        }
        !self.mutator.one_in(4) || self.glance(wire)
    }

    fn glance(&mut self, wire: &mut Wire) -> bool {
        let deadline = Instant::now() + GLANCE;
        loop {
            match wire.receive_until(deadline) {
                Ok(Some(pdu)) => self.count(&pdu),
                Ok(None) => return true,
                Err(Error::Closed(_)) => {
                    self.figures.closed_by_target += 1;
                    return false;
                }
                Err(_) => return false,
            }
        }
    }

    fn count(&mut self, pdu: &Pdu) {
        self.figures.answers += 1;
        match pdu.opcode() {
            response::REJECT => self.figures.rejects += 1,
            response::LOGIN if pdu.byte(36) != 0 => self.figures.login_refusals += 1,
            response::SCSI_RESPONSE if pdu.byte(3) == 2 => self.figures.check_conditions += 1,
            _ => {}
        }
    }

    /// Leaves a connection, closed or open; those that stay open take the place of older ones.
    fn leave(&mut self, wire: Wire) {
        if self.load.held > 0 && self.mutator.one_in(4) {
            if self.held.len() == self.load.held {
                let at = self.mutator.below(self.held.len());
                self.held.swap_remove(at);
            }
            self.held.push(wire);
        }
    }

    fn noise(&mut self, mut wire: Wire) {
        let bytes = self.mutator.noise(20_000);
        if self.send(&mut wire, &bytes) {
            self.leave(wire);
        }
    }

    fn first_login(&mut self) -> Pdu {
        let options = &self.load.options;
        let mut pairs = vec![("InitiatorName".to_owned(), options.initiator_name.clone())];
        match (&options.target_name, self.mutator.one_in(5)) {
            (Some(name), false) => pairs.push(("TargetName".into(), name.clone())),
            _ => pairs.push(("SessionType".into(), "Discovery".into())),
        }
        pairs.push(("AuthMethod".into(), ["None", "CHAP", "CHAP,None"][self.mutator.below(3)].into()));
        self.mutator.pairs(&mut pairs);
        let stages = [0x81, 0x87, 0x83, 0x00, 0x04][self.mutator.below(5)];
        let mut pdu = Pdu::new(request::LOGIN | IMMEDIATE).with_flags(stages);
        pdu.data = text::encode(&pairs);
        pdu.set(8, &[0x80]);
        pdu.set_word(9, self.mutator.random.word() as u32);
        pdu
    }

    /// Logins with keys and headers that are not right, more than one on a connection.
    fn mutated_login(&mut self, mut wire: Wire) {
        for _ in 0..1 + self.mutator.below(6) {
            let mut pdu = self.first_login();
            if self.mutator.one_in(3) {
                self.mutator.header(&mut pdu.bhs);
            }
            let mut bytes = pdu.encode(false, false);
            match self.mutator.below(4) {
                0 => self.mutator.bytes(&mut bytes),
                1 => self.mutator.header(&mut bytes[..48]),
                _ => {}
            }
            self.figures.pdus += 1;
            if !self.send(&mut wire, &bytes) {
                return;
            }
        }
        self.leave(wire);
    }

    /// A login in parts, with the C bit, and often without an end.
    fn many_parts(&mut self, mut wire: Wire) {
        let pdu = self.first_login();
        let mut data = pdu.data.clone();
        data.extend(text::encode(&[("X-org.example.long", "y".repeat(self.mutator.below(100_000)))]));
        for part in data.chunks(1 + self.mutator.below(8192)) {
            let request = Pdu { data: part.to_vec(), ..pdu.clone() }.with_flags(0x40);
            let bytes = request.encode(false, false);
            self.figures.pdus += 1;
            if !self.send(&mut wire, &bytes) {
                return;
            }
        }
        let bytes = pdu.encode(false, false);
        let cut = self.mutator.below(bytes.len());
        if self.send(&mut wire, &bytes[..cut]) {
            self.leave(wire);
        }
    }

    /// A session, if the target lets us in.
    fn session(&mut self, wire: Wire) -> Option<Initiator> {
        let mut options = self.load.options.clone();
        options.timeout = PATIENCE;
        // Few, so that sessions of the same name displace each other.
        options.isid = [0x80, 0, 0, 0, 0, self.mutator.below(6) as u8];
        options.initial_r2t = self.mutator.one_in(2);
        options.immediate_data = self.mutator.one_in(2);
        options.max_recv_data_segment_length = [512, 8192, 65536][self.mutator.below(3)];
        options.max_outstanding_r2t = 1 + self.mutator.below(4) as u16;
        if self.mutator.one_in(3) {
            (options.header_digest, options.data_digest) = ("CRC32C,None".into(), "CRC32C,None".into());
        }
        match Initiator::over(wire, &options) {
            Ok(session) => {
                self.figures.logins += 1;
                Some(session)
            }
            Err(error) => {
                match error {
                    Error::Refused { .. } => self.figures.login_refusals += 1,
                    Error::Closed(_) => self.figures.closed_by_target += 1,
                    _ => self.figures.stalled += 1,
                }
                None
            }
        }
    }

    /// Requests behind a real login: right ones, wrong ones, halves.
    fn mutated_session(&mut self, wire: Wire) {
        let Some(session) = self.session(wire) else { return };
        let (mut cmd_sn, mut exp_stat_sn) = session.numbers();
        let (mut wire, ..) = session.into_parts();
        for _ in 0..1 + self.mutator.below(40) {
            let mut pdu = self.mutator.request(&self.load.leash, cmd_sn, exp_stat_sn);
            let is_mutated = self.mutator.one_in(3);
            if is_mutated {
                self.mutator.header(&mut pdu.bhs);
            } else if pdu.byte(0) & IMMEDIATE == 0 && pdu.opcode() != request::DATA_OUT {
                cmd_sn = cmd_sn.wrapping_add(1);
            }
            self.load.leash.hold(&mut pdu.bhs);
            let lengths: [u8; 4] = pdu.bhs[4..8].try_into().expect("four bytes");
            let mut bytes = pdu.encode(wire.header_digest, wire.data_digest);
            if is_mutated && self.mutator.one_in(6) {
                bytes[4..8].copy_from_slice(&lengths);
            }
            if is_mutated && wire.data_digest && self.mutator.one_in(6) {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            if self.mutator.one_in(60) {
                bytes.truncate(self.mutator.below(bytes.len()));
            }
            self.figures.pdus += 1;
            let before = self.figures.answers;
            if !self.send(&mut wire, &bytes) {
                return;
            }
            exp_stat_sn = exp_stat_sn.wrapping_add((self.figures.answers - before) as u32);
        }
        self.leave(wire);
    }

    /// Asks for a lot and reads nothing, then goes or stays.
    fn stalling_reader(&mut self, wire: Wire) {
        let Some(session) = self.session(wire) else { return };
        let (mut cmd_sn, exp_stat_sn) = session.numbers();
        let (mut wire, ..) = session.into_parts();
        wire.patience = Duration::from_millis(50);
        for _ in 0..200 {
            let mut pdu = Pdu::new(request::SCSI_COMMAND).with_flags(0xc1);
            pdu.set(8, &crate::driver::iscsi::lun_field(self.load.leash.lun));
            pdu.set_word(16, cmd_sn);
            pdu.set_word(20, 256 * 512);
            pdu.set_word(24, cmd_sn);
            pdu.set_word(28, exp_stat_sn);
            pdu.set(32, &[0x28, 0, 0, 0, 0, 0, 0, 1, 0]);
            cmd_sn = cmd_sn.wrapping_add(1);
            let bytes = pdu.encode(wire.header_digest, wire.data_digest);
            (self.figures.pdus, self.figures.bytes) =
                (self.figures.pdus + 1, self.figures.bytes + bytes.len() as u64);
            if wire.send_bytes(&bytes).is_err() {
                break;
            }
        }
        self.leave(wire);
    }
}
