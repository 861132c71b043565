//! The login phase (RFC 7143 6.3): security, then operational parameters, then full feature phase.

use super::chap::Algorithm;
use super::options::{Credentials, Options};
use super::pdu::{FINAL, IMMEDIATE, Pdu, request, response};
use super::text;
use super::wire::Wire;
use crate::driver::error::{Error, Result};

const CONTINUE: u8 = 0x40;
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;
/// What either side takes in one PDU until it says otherwise (RFC 7143 13.12): also during login.
const SEGMENT_DEFAULT_BYTES: usize = 8192;
/// More exchanges than any negotiation needs.
const EXCHANGES_MAX: usize = 40;

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    pub tsih: u16,
    pub target_portal_group: Option<u16>,
    pub target_alias: Option<String>,
    pub header_digest: bool,
    pub data_digest: bool,
    pub max_connections: u16,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// What the target takes in one PDU.
    pub target_max_segment: u32,
    /// What we take in one PDU.
    pub our_max_segment: u32,
    pub max_burst_length: u32,
    pub first_burst_length: u32,
    pub default_time2wait: u16,
    pub default_time2retain: u16,
    pub max_outstanding_r2t: u16,
    pub data_pdu_in_order: bool,
    pub data_sequence_in_order: bool,
    pub error_recovery_level: u8,
    /// The hash that we answered with, if the target asked who we are.
    pub chap_algorithm: Option<Algorithm>,
    /// The target proved who it is.
    pub target_authenticated: bool,
    /// Every key that the target sent, in order.
    pub answers: Vec<(String, String)>,
}

/// The numbers that the session goes on with.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    pub cmd_sn: u32,
    /// The next StatSN to come.
    pub stat_sn: u32,
    pub max_cmd_sn: u32,
}

pub fn login(wire: &mut Wire, options: &Options) -> Result<(Negotiated, Numbers)> {
    let mut login = Login {
        wire,
        options,
        stage: if options.skip_security { OPERATIONAL } else { SECURITY },
        cmd_sn: 1,
        stat_sn: None,
        max_cmd_sn: 0,
        tsih: options.tsih,
        answers: Vec::new(),
        chap_algorithm: None,
        challenge: None,
        target_authenticated: false,
    };
    login.run()
}

struct Login<'a> {
    wire: &'a mut Wire,
    options: &'a Options,
    stage: u8,
    cmd_sn: u32,
    stat_sn: Option<u32>,
    max_cmd_sn: u32,
    tsih: u16,
    answers: Vec<(String, String)>,
    chap_algorithm: Option<Algorithm>,
    /// What we set the target, if anything: identifier and challenge.
    challenge: Option<(u8, Vec<u8>)>,
    target_authenticated: bool,
}

type Pairs = Vec<(String, String)>;

fn pair(key: &str, value: impl ToString) -> (String, String) {
    (key.to_owned(), value.to_string())
}

fn yes(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

fn wrong<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::Session(what.into()))
}

impl Login<'_> {
    fn run(&mut self) -> Result<(Negotiated, Numbers)> {
        let mut first = vec![pair("InitiatorName", &self.options.initiator_name)];
        if let Some(alias) = &self.options.initiator_alias {
            first.push(pair("InitiatorAlias", alias));
        }
        match &self.options.target_name {
            Some(name) => first.extend([pair("SessionType", "Normal"), pair("TargetName", name)]),
            None => first.push(pair("SessionType", "Discovery")),
        }
        let offers = self.operational_offers();
        if self.stage == SECURITY {
            self.authenticate(first)?;
            self.stage = OPERATIONAL;
            first = Vec::new();
        }
        first.extend(offers.iter().cloned());
        let mut answers = Vec::new();
        let mut next = first;
        for _ in 0..EXCHANGES_MAX {
            let (pairs, stage) = self.exchange(&next, FULL_FEATURE)?;
            answers.extend(pairs);
            if stage == FULL_FEATURE {
                let negotiated = self.settle(&offers, answers)?;
                let stat_sn = self.stat_sn.expect("an exchange has set it");
                return Ok((
                    negotiated,
                    Numbers { cmd_sn: self.cmd_sn, stat_sn, max_cmd_sn: self.max_cmd_sn },
                ));
            }
            // The target may ask for what we did not offer; we know all keys and offer them all.
            next = Vec::new();
        }
        wrong("the target does not let the operational stage end")
    }

    /// Sends keys with the wish to go on to `next`; the answer's keys, and the stage that follows.
    fn exchange(&mut self, pairs: &[(String, String)], next: u8) -> Result<(Pairs, u8)> {
        let bytes = text::encode(pairs);
        let mut parts: Vec<&[u8]> = bytes.chunks(SEGMENT_DEFAULT_BYTES).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let mut received = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let is_last = at + 1 == parts.len();
            let flags = if is_last { FINAL | self.stage << 2 | next } else { CONTINUE | self.stage << 2 };
            let answer = self.round(flags, part)?;
            if !is_last && !answer.data.is_empty() {
                return wrong("the target sent keys before ours were complete");
            }
            if is_last {
                received.push(answer);
            }
        }
        while received.last().is_some_and(|answer| answer.flags() & CONTINUE != 0) {
            if received.len() > EXCHANGES_MAX {
                return wrong("the target's keys do not end");
            }
            let answer = self.round(self.stage << 2, &[])?;
            received.push(answer);
        }
        let data: Vec<u8> = received.iter().flat_map(|answer| answer.data.iter().copied()).collect();
        let pairs = text::decode(&data).map_err(Error::Session)?;
        self.answers.extend(pairs.iter().cloned());
        let last = received.last().expect("there is an answer to the last part");
        let transits = last.flags() & FINAL != 0;
        if transits && last.flags() & 3 != next {
            return wrong(format!("the target goes on to stage {}, not {next}", last.flags() & 3));
        }
        Ok((pairs, if transits { next } else { self.stage }))
    }

    /// One login request and its response.
    fn round(&mut self, flags: u8, data: &[u8]) -> Result<Pdu> {
        let mut request = Pdu::new(request::LOGIN | IMMEDIATE).with_flags(flags).with_data(data);
        request.set(8, &self.options.isid);
        request.set(14, &self.tsih.to_be_bytes());
        request.set(20, &self.options.cid.to_be_bytes());
        request.set_word(24, self.cmd_sn);
        request.set_word(28, self.stat_sn.unwrap_or(0));
        self.wire.send(&request)?;
        let answer = self.wire.receive()?;
        if answer.opcode() != response::LOGIN {
            return wrong(format!("opcode {:02x}h answers a login", answer.opcode()));
        }
        let (class, detail) = (answer.byte(36), answer.byte(37));
        if class != 0 {
            return Err(Error::Refused { class, detail });
        }
        if answer.itt() != request.itt() || answer.bhs[8..14] != self.options.isid {
            return wrong("the login response is not of our request");
        }
        if answer.byte(3) != 0 {
            return wrong(format!("version {:02x}h is active, not 00h", answer.byte(3)));
        }
        if answer.flags() & FINAL != 0 && flags & FINAL == 0 {
            return wrong("the target goes on to a stage that we did not ask for");
        }
        if answer.flags() >> 2 & 3 != self.stage {
            return wrong(format!("the target is in stage {}, not {}", answer.flags() >> 2 & 3, self.stage));
        }
        if self.stat_sn.is_some_and(|expected| answer.stat_sn() != expected) {
            return wrong(format!("StatSN {:x}h in a login response", answer.stat_sn()));
        }
        if answer.exp_cmd_sn() != self.cmd_sn {
            return wrong("a login request is immediate and takes no CmdSN, ExpCmdSN says otherwise");
        }
        self.stat_sn = Some(answer.stat_sn().wrapping_add(1));
        self.max_cmd_sn = answer.max_cmd_sn();
        if answer.flags() & (FINAL | 3) == FINAL | FULL_FEATURE {
            self.tsih = answer.half(14);
            if self.tsih == 0 {
                return wrong("the session has no TSIH");
            }
        }
        Ok(answer)
    }

    /// The security stage; `first` are the keys that go with the first request.
    fn authenticate(&mut self, mut first: Pairs) -> Result<()> {
        let method = match (&self.options.chap, self.options.offer_none) {
            (None, _) => "None",
            (Some(_), false) => "CHAP",
            (Some(_), true) => "CHAP,None",
        };
        first.push(pair("AuthMethod", method));
        // With nothing to prove, the stage can end at once. With CHAP the target begins.
        let (mut pairs, mut stage) = match &self.options.chap {
            None => self.exchange(&first, OPERATIONAL)?,
            Some(_) => self.ask(&first)?,
        };
        let chosen = text::find(&pairs, "AuthMethod").map(str::to_owned);
        if text::find(&pairs, "TargetPortalGroupTag").is_none() && self.options.target_name.is_some() {
            return wrong("the first answer has no TargetPortalGroupTag (RFC 7143 13.9)");
        }
        match (chosen.as_deref(), &self.options.chap) {
            (Some("None"), _) if method != "CHAP" => {}
            (Some("CHAP"), Some(credentials)) => {
                let algorithms: Vec<String> = self
                    .options
                    .chap_algorithms
                    .iter()
                    .map(|algorithm| (*algorithm as u8).to_string())
                    .collect();
                pairs = self.ask(&[pair("CHAP_A", algorithms.join(","))])?.0;
                (pairs, stage) = self.prove(credentials, &pairs)?;
                self.check_target(&pairs)?;
            }
            (other, _) => return wrong(format!("AuthMethod={other:?} answers {method}")),
        }
        for _ in 0..EXCHANGES_MAX {
            if stage == OPERATIONAL {
                return Ok(());
            }
            stage = self.exchange(&[], OPERATIONAL)?.1;
        }
        wrong("the target does not let the security stage end")
    }

    /// An exchange that stays in the stage.
    fn ask(&mut self, pairs: &[(String, String)]) -> Result<(Pairs, u8)> {
        let answer = self.round(self.stage << 2, &text::encode(pairs))?;
        let pairs = text::decode(&answer.data).map_err(Error::Session)?;
        self.answers.extend(pairs.iter().cloned());
        Ok((pairs, self.stage))
    }

    /// Answers the target's challenge, and sets ours.
    fn prove(&mut self, credentials: &Credentials, pairs: &Pairs) -> Result<(Pairs, u8)> {
        let value = |key: &str| {
            text::find(pairs, key).ok_or_else(|| Error::Session(format!("the target sent no {key}")))
        };
        let algorithm = Algorithm::find(value("CHAP_A")?)
            .filter(|algorithm| self.options.chap_algorithms.contains(algorithm));
        let Some(algorithm) = algorithm else { return wrong("CHAP_A is none of ours") };
        let Ok(identifier) = value("CHAP_I")?.parse::<u8>() else {
            return wrong("CHAP_I is no number of 0 to 255");
        };
        let Some(challenge) = text::binary(value("CHAP_C")?).filter(|bytes| bytes.len() <= 1024) else {
            return wrong("CHAP_C is no binary value of at most 1024 bytes");
        };
        self.chap_algorithm = Some(algorithm);
        let proof = algorithm.response(identifier, &credentials.secret, &challenge);
        let mut answer = vec![pair("CHAP_N", &credentials.user), pair("CHAP_R", text::hexadecimal(&proof))];
        if self.options.mutual.is_some() {
            let challenge = self.fresh_challenge();
            answer.push(pair("CHAP_I", challenge[0]));
            answer.push(pair("CHAP_C", text::hexadecimal(&challenge)));
            self.challenge = Some((challenge[0], challenge));
        }
        self.exchange(&answer, OPERATIONAL)
    }

    /// What the target has to answer: other than any that it set us in this login.
    fn fresh_challenge(&self) -> Vec<u8> {
        let theirs = text::encode(&self.answers);
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = time.map_or(0, |time| time.as_nanos() as u64).to_be_bytes();
        Algorithm::Sha1.response(0, &seed, &theirs)[..16].to_vec()
    }

    fn check_target(&mut self, pairs: &Pairs) -> Result<()> {
        let Some(mutual) = &self.options.mutual else { return Ok(()) };
        let (Some(name), Some(proof)) = (text::find(pairs, "CHAP_N"), text::find(pairs, "CHAP_R")) else {
            return wrong("the target does not prove who it is");
        };
        let (identifier, challenge) = self.challenge.as_ref().expect("a mutual proof was asked for");
        let algorithm = self.chap_algorithm.expect("the target chose one before");
        let expected = algorithm.response(*identifier, &mutual.secret, challenge);
        if name != mutual.user || text::binary(proof) != Some(expected) {
            return wrong("the target's proof is wrong");
        }
        self.target_authenticated = true;
        Ok(())
    }

    fn operational_offers(&self) -> Pairs {
        let options = self.options;
        let mut offers = vec![
            pair("HeaderDigest", &options.header_digest),
            pair("DataDigest", &options.data_digest),
            pair("MaxRecvDataSegmentLength", options.max_recv_data_segment_length),
            pair("DefaultTime2Wait", options.default_time2wait),
            pair("DefaultTime2Retain", options.default_time2retain),
            pair("ErrorRecoveryLevel", options.error_recovery_level),
        ];
        if options.target_name.is_some() {
            offers.extend([
                pair("MaxConnections", options.max_connections),
                pair("InitialR2T", yes(options.initial_r2t)),
                pair("ImmediateData", yes(options.immediate_data)),
                pair("MaxBurstLength", options.max_burst_length),
                pair("FirstBurstLength", options.first_burst_length),
                pair("MaxOutstandingR2T", options.max_outstanding_r2t),
                pair("DataPDUInOrder", yes(options.data_pdu_in_order)),
                pair("DataSequenceInOrder", yes(options.data_sequence_in_order)),
            ]);
        }
        offers.extend(options.further_keys.iter().cloned());
        offers
    }

    /// What is agreed on, after checking that each answer is one that our offer allows.
    fn settle(&mut self, offers: &Pairs, answers: Pairs) -> Result<Negotiated> {
        let options = self.options;
        // Irrelevant: the key means nothing beside what else was agreed on (RFC 7143 6.2).
        let answer = |key: &str| text::find(&answers, key).filter(|value| *value != "Irrelevant");
        for (key, _) in offers {
            let is_declared = key == "MaxRecvDataSegmentLength";
            if answers.iter().filter(|(answered, _)| answered == key).count() > 1 {
                return wrong(format!("{key} is answered twice"));
            }
            if text::find(&answers, key).is_none() && !is_declared {
                return wrong(format!("{key} is not answered"));
            }
        }
        let digest = |key: &str, offer: &str| -> Result<bool> {
            let chosen = answer(key).unwrap_or("None");
            if !offer.split(',').any(|offered| offered == chosen) {
                return wrong(format!("{key}={chosen} answers {offer}"));
            }
            Ok(chosen == "CRC32C")
        };
        // The lesser (or greater) of both; a value beyond our offer is against the rule.
        let number = |key: &str, offer: u32, default: u32, is_maximum: bool| -> Result<u32> {
            let Some(value) = answer(key) else { return Ok(default) };
            match value.parse::<u32>() {
                Ok(value) if (is_maximum && value >= offer) || (!is_maximum && value <= offer) => Ok(value),
                _ => wrong(format!("{key}={value} answers {offer}")),
            }
        };
        // OR: Yes if one says so; AND: Yes if both do.
        let boolean = |key: &str, offer: bool, default: bool, is_or: bool| -> Result<bool> {
            match answer(key) {
                None => Ok(default),
                Some("Yes") if is_or || offer => Ok(true),
                Some("No") if !is_or || !offer => Ok(false),
                Some(value) => wrong(format!("{key}={value} answers {}", yes(offer))),
            }
        };
        let target_max_segment = match answer("MaxRecvDataSegmentLength").map(str::parse::<u32>) {
            None => SEGMENT_DEFAULT_BYTES as u32,
            Some(Ok(value @ 512..=0x00ff_ffff)) => value,
            Some(_) => return wrong("MaxRecvDataSegmentLength is not within 512 and 2^24-1"),
        };
        let half = |value: u32| value as u16; // not above our offer, or the default, which fit
        let negotiated = Negotiated {
            tsih: self.tsih,
            target_portal_group: text::find(&self.answers, "TargetPortalGroupTag")
                .and_then(|tag| tag.parse().ok()),
            target_alias: text::find(&self.answers, "TargetAlias").map(str::to_owned),
            header_digest: digest("HeaderDigest", &options.header_digest)?,
            data_digest: digest("DataDigest", &options.data_digest)?,
            max_connections: half(number("MaxConnections", options.max_connections.into(), 1, false)?),
            initial_r2t: boolean("InitialR2T", options.initial_r2t, true, true)?,
            immediate_data: boolean("ImmediateData", options.immediate_data, true, false)?,
            target_max_segment,
            our_max_segment: options.max_recv_data_segment_length,
            max_burst_length: number("MaxBurstLength", options.max_burst_length, 262_144, false)?,
            first_burst_length: number("FirstBurstLength", options.first_burst_length, 65_536, false)?,
            default_time2wait: number("DefaultTime2Wait", options.default_time2wait.into(), 2, true)?
                .min(3600) as u16,
            default_time2retain: half(number(
                "DefaultTime2Retain",
                options.default_time2retain.into(),
                20,
                false,
            )?),
            max_outstanding_r2t: half(number(
                "MaxOutstandingR2T",
                options.max_outstanding_r2t.into(),
                1,
                false,
            )?),
            data_pdu_in_order: boolean("DataPDUInOrder", options.data_pdu_in_order, true, true)?,
            data_sequence_in_order: boolean(
                "DataSequenceInOrder",
                options.data_sequence_in_order,
                true,
                true,
            )?,
            error_recovery_level: number("ErrorRecoveryLevel", options.error_recovery_level.into(), 0, false)?
                as u8,
            chap_algorithm: self.chap_algorithm,
            target_authenticated: self.target_authenticated,
            answers: std::mem::take(&mut self.answers),
        };
        // RFC 7143 13.14: it means nothing where no unsolicited data may be sent.
        let unsolicited = negotiated.immediate_data || !negotiated.initial_r2t;
        if unsolicited && negotiated.first_burst_length > negotiated.max_burst_length {
            return wrong("FirstBurstLength is above MaxBurstLength");
        }
        self.wire.header_digest = negotiated.header_digest;
        self.wire.data_digest = negotiated.data_digest;
        Ok(negotiated)
    }
}
