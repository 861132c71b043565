//! The login phase, RFC 7143 6.3 and 11.12: stages, names, authentication, keys.
//!
//! ```text
//!            T, NSG=1                T, NSG=3
//!  security ──────────► operational ──────────► full feature
//!      │                                             ▲
//!      └───────────────── T, NSG=3 ──────────────────┘
//! ```
//!
//! A login may begin in either stage, and leaves the security stage only when what the access list
//! asks for is proven. Each request changes a copy of [`Login`]; whoever drives it keeps the copy
//! once it may, so that a request that has to wait (for a session that is displaced) is looked at
//! again as if it had just come.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bits::{flag, login_status as status, stage};
use crate::chap::{self, Algorithm};
use crate::codec::{Decoder, Encoder};
use crate::config::{Access, Allow, Directory};
use crate::fault::Fault;
use crate::keys::{Key, Parameters, is_name};
use crate::limits::{LOGIN_REQUESTS_MAX, LOGIN_SEGMENT_BYTES, Limits};
use crate::negotiate::{Negotiation, Phase};
use crate::pdu::Header;
use crate::text::{self, Text};

/// How far CHAP has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Proof {
    /// Nothing was said.
    #[default]
    Open,
    /// AuthMethod=None was agreed on, and is enough.
    NotNeeded,
    /// AuthMethod=CHAP was agreed on; CHAP_A comes next.
    Method,
    /// Our challenge is out.
    Challenged { algorithm: Algorithm, identifier: u8, challenge: Vec<u8> },
    /// Answered right.
    Proven,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Fields that may not change between the requests of a login.
    pub isid: [u8; 6],
    pub tsih: u16,
    pub cid: u16,
    pub itt: u32,
    pub cmd_sn: u32,
    pub requests: u32,
    stage: u8,
    /// Of a request that goes on in the next PDU (C bit).
    text: Text,
    pub negotiation: Negotiation,
    pub initiator: String,
    /// Empty: none was named.
    pub target: String,
    named: bool,
    proof: Proof,
}

/// A refusal: Status-Class and Status-Detail, and its counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16, pub Fault);

/// What to answer to one request.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// T, C, CSG and NSG of the response.
    pub flags: u8,
    pub text: Text,
    /// With this response the login is over.
    pub done: bool,
}

/// What surrounds a login.
pub struct Scene<'a> {
    pub directory: &'a Directory,
    pub limits: &'a Limits,
    /// Tag of the portal that the connection came to.
    pub portal: u16,
    pub random: &'a mut dyn FnMut(&mut [u8]),
}

const MALFORMED: Refusal = Refusal(status::INITIATOR_ERROR, Fault::LoginMalformed);
const INVALID: Refusal = Refusal(status::INVALID_DURING_LOGIN, Fault::LoginMalformed);
const UNPROVEN: Refusal = Refusal(status::AUTHENTICATION_FAILURE, Fault::LoginAuthentication);

impl Login {
    /// The names are known and were looked up.
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// Takes one request.
    pub fn step(&mut self, header: &Header, data: &[u8], scene: &mut Scene<'_>) -> Result<Step, Refusal> {
        let flags = header.flags();
        let (current, next) = (flags >> 2 & 3, flags & 3);
        let transit = flags & flag::FINAL != 0;
        let goes_on = flags & flag::CONTINUE != 0;
        // 11.12.4: we have version 0 only.
        if header.0[3] != 0 {
            return Err(Refusal(status::UNSUPPORTED_VERSION, Fault::LoginVersion));
        }
        if self.requests == 0 {
            self.isid = header.isid();
            self.tsih = header.tsih();
            self.cid = header.cid();
            self.itt = header.itt();
            self.cmd_sn = header.cmd_sn();
            self.stage = current;
        } else if (self.isid, self.tsih, self.cid, self.itt)
            != (header.isid(), header.tsih(), header.cid(), header.itt())
        {
            return Err(INVALID);
        }
        self.requests = self.requests.saturating_add(1);
        if self.requests > LOGIN_REQUESTS_MAX {
            return Err(Refusal(status::INITIATOR_ERROR, Fault::LoginTooManyRequests));
        }
        if !matches!(current, stage::SECURITY | stage::OPERATIONAL) || current != self.stage {
            return Err(MALFORMED);
        }
        // 11.12.2: T and C exclude each other; 11.12.3: NSG only goes forward.
        if transit
            && (goes_on || !matches!(next, stage::OPERATIONAL | stage::FULL_FEATURE) || next <= current)
        {
            return Err(MALFORMED);
        }
        self.text.append(data).map_err(|fault| Refusal(status::INITIATOR_ERROR, fault))?;
        if goes_on {
            // 6.2: an empty answer asks for the rest.
            return Ok(Step { flags: current << 2, text: Text::default(), done: false });
        }
        let text = core::mem::take(&mut self.text);
        let mut answer = Text::default();
        let phase = if current == stage::SECURITY { Phase::Security } else { Phase::Operational };
        // The type of the session decides about keys of the same text.
        if !self.named {
            self.negotiation.discovery = text::pairs(&text.0)
                .map_err(|fault| Refusal(status::INITIATOR_ERROR, fault))?
                .contains(&("SessionType", "Discovery"));
        }
        let others = self
            .negotiation
            .take(phase, scene.limits, &text.0, &mut answer)
            .map_err(|fault| Refusal(status::INITIATOR_ERROR, fault))?;
        self.names(&others, scene, &mut answer)?;
        self.security(&others, scene, &mut answer)?;
        // The access list may have changed since the last request: it is asked each time.
        if self.access(scene.directory) == Access::Denied {
            return Err(Refusal(status::AUTHORIZATION_FAILURE, Fault::LoginNotAllowed));
        }
        let proven = self.proof == Proof::Proven
            || (matches!(self.proof, Proof::Open | Proof::NotNeeded)
                && self.required(scene.directory).is_none());
        let asks = matches!(self.proof, Proof::Open | Proof::NotNeeded);
        if !proven && (phase == Phase::Operational || (transit && asks)) {
            return Err(UNPROVEN);
        }
        if phase == Phase::Operational {
            self.negotiation.declare(scene.limits, &mut answer);
        }
        if answer.0.len() > LOGIN_SEGMENT_BYTES as usize {
            return Err(Refusal(status::INITIATOR_ERROR, Fault::TextTooLong));
        }
        if !transit || !proven {
            return Ok(Step { flags: current << 2, text: answer, done: false });
        }
        self.stage = next;
        let done = next == stage::FULL_FEATURE;
        Ok(Step { flags: flag::FINAL | current << 2 | next, text: answer, done })
    }

    /// Who wants to go where: in the first text of a login (6.3, 13.4, 13.5, 13.21).
    fn names(&mut self, others: &[(Key, &str)], scene: &Scene<'_>, answer: &mut Text) -> Result<(), Refusal> {
        for (key, value) in others {
            match key {
                Key::InitiatorName | Key::TargetName | Key::SessionType if self.named => {
                    return Err(Refusal(status::INITIATOR_ERROR, Fault::KeyRepeated));
                }
                Key::InitiatorName => self.initiator = String::from(*value),
                Key::TargetName => self.target = String::from(*value),
                Key::SessionType if !matches!(*value, "Discovery" | "Normal") => {
                    return Err(Refusal(status::SESSION_TYPE_NOT_SUPPORTED, Fault::LoginSessionType));
                }
                _ => {}
            }
        }
        if self.named {
            return Ok(());
        }
        if self.initiator.is_empty() || (self.target.is_empty() && !self.negotiation.discovery) {
            return Err(Refusal(status::MISSING_PARAMETER, Fault::LoginMissingKey));
        }
        if !is_name(&self.initiator) {
            return Err(Refusal(status::INITIATOR_ERROR, Fault::BadValue));
        }
        self.named = true;
        if self.negotiation.discovery {
            // A discovery session has no target (6.3). One that it names it would be counted with,
            // and be taken for a nexus of, without having proven anything.
            self.target.clear();
            return match scene.directory.discovery_access(&self.initiator) {
                Access::Allowed(_) => Ok(()),
                Access::Denied => Err(Refusal(status::AUTHORIZATION_FAILURE, Fault::LoginNotAllowed)),
            };
        }
        let found = scene.directory.target(&self.target).filter(|t| t.portals.contains(&scene.portal));
        let Some(target) = found else {
            return Err(Refusal(status::NOT_FOUND, Fault::LoginNoTarget));
        };
        if target.leaving {
            return Err(Refusal(status::TARGET_REMOVED, Fault::LoginTargetRemoved));
        }
        if target.access(&self.initiator) == Access::Denied {
            return Err(Refusal(status::AUTHORIZATION_FAILURE, Fault::LoginNotAllowed));
        }
        // As we spell it, whatever case the initiator used.
        self.target.clone_from(&target.name);
        // 13.9: in the first response of a normal session.
        answer.put("TargetPortalGroupTag", &format!("{}", scene.portal));
        if let Some(alias) = &target.alias {
            answer.put("TargetAlias", alias);
        }
        Ok(())
    }

    fn access<'a>(&self, directory: &'a Directory) -> Access<'a> {
        if self.negotiation.discovery {
            directory.discovery_access(&self.initiator)
        } else {
            directory.target(&self.target).map_or(Access::Denied, |target| target.access(&self.initiator))
        }
    }

    fn entry<'a>(&self, directory: &'a Directory) -> Option<&'a Allow> {
        match self.access(directory) {
            Access::Allowed(entry) => entry,
            Access::Denied => None,
        }
    }

    fn required<'a>(&self, directory: &'a Directory) -> Option<&'a crate::config::Credentials> {
        self.entry(directory)?.chap.as_ref()
    }

    fn security(
        &mut self,
        others: &[(Key, &str)],
        scene: &mut Scene<'_>,
        answer: &mut Text,
    ) -> Result<(), Refusal> {
        let said = |wanted: Key| others.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
        let bad = Refusal(status::INITIATOR_ERROR, Fault::BadValue);
        if let Some(methods) = said(Key::AuthMethod) {
            if self.proof != Proof::Open {
                return Err(Refusal(status::INITIATOR_ERROR, Fault::KeyRepeated));
            }
            let needed = if self.required(scene.directory).is_some() { "CHAP" } else { "None" };
            if !methods.split(',').any(|method| method == needed) {
                return Err(UNPROVEN);
            }
            answer.put("AuthMethod", needed);
            self.proof = if needed == "CHAP" { Proof::Method } else { Proof::NotNeeded };
        }
        if let Some(algorithms) = said(Key::ChapA) {
            if self.proof != Proof::Method {
                return Err(UNPROVEN);
            }
            // The initiator's order is its order of preference.
            let algorithm = algorithms
                .split(',')
                .find_map(|number| Algorithm::decode(text::number(number)?))
                .ok_or(UNPROVEN)?;
            let mut identifier = [0; 1];
            let mut challenge = alloc::vec![0; algorithm.challenge_bytes()];
            (scene.random)(&mut identifier);
            (scene.random)(&mut challenge);
            answer.put("CHAP_A", &format!("{}", algorithm as u8));
            answer.put("CHAP_I", &format!("{}", identifier[0]));
            answer.put("CHAP_C", &text::to_hexadecimal(&challenge));
            self.proof = Proof::Challenged { algorithm, identifier: identifier[0], challenge };
        }
        let (name, response) = (said(Key::ChapN), said(Key::ChapR));
        let (back_identifier, back_challenge) = (said(Key::ChapI), said(Key::ChapC));
        if name.is_none() && response.is_none() && back_identifier.is_none() && back_challenge.is_none() {
            return Ok(());
        }
        let Proof::Challenged { algorithm, identifier, challenge } = &self.proof else {
            return Err(UNPROVEN);
        };
        let (Some(name), Some(response)) = (name, response) else { return Err(UNPROVEN) };
        let response = text::binary(response, chap::RESPONSE_MAX_BYTES).ok_or(bad)?;
        let entry = self.entry(scene.directory).ok_or(UNPROVEN)?;
        let wanted = entry.chap.as_ref().ok_or(UNPROVEN)?;
        let expected = algorithm.response(*identifier, wanted.secret.as_bytes(), challenge);
        // Both are compared in any case, so that the time does not tell which was wrong.
        let name_fits = chap::same(name.as_bytes(), wanted.user.as_bytes());
        if !(chap::same(&response, &expected) & name_fits) {
            return Err(UNPROVEN);
        }
        if back_identifier.is_some() || back_challenge.is_some() {
            let (Some(back_identifier), Some(back_challenge)) = (back_identifier, back_challenge) else {
                return Err(UNPROVEN);
            };
            let back_identifier =
                text::number(back_identifier).and_then(|n| u8::try_from(n).ok()).ok_or(bad)?;
            let back_challenge = text::binary(back_challenge, chap::CHALLENGE_MAX_BYTES).ok_or(bad)?;
            // 12.1.3: whoever gets its own challenge back must end the login, and so with one
            // secret for both directions, which would make such a reflection work. The secret may
            // be that of any initiator: this one could answer the other's challenge by asking us.
            let mutual = entry.mutual.as_ref().ok_or(UNPROVEN)?;
            let one_secret = scene.directory.is_initiators(&mutual.secret);
            if chap::same(&back_challenge, challenge) || one_secret {
                return Err(Refusal(status::AUTHENTICATION_FAILURE, Fault::ChapReflected));
            }
            let proof = algorithm.response(back_identifier, mutual.secret.as_bytes(), &back_challenge);
            answer.put("CHAP_N", &mutual.user);
            answer.put("CHAP_R", &text::to_hexadecimal(&proof));
        }
        self.proof = Proof::Proven;
        Ok(())
    }
}

impl Login {
    pub(crate) fn encode(&self, to: &mut Encoder) {
        let mut isid = [0; 8];
        isid[2..].copy_from_slice(&self.isid);
        to.number(u64::from_be_bytes(isid));
        for value in [u32::from(self.tsih), u32::from(self.cid), self.itt, self.cmd_sn, self.requests] {
            to.number(u64::from(value));
        }
        to.number(u64::from(self.stage));
        to.bytes(&self.text.0);
        to.bytes(self.initiator.as_bytes());
        to.bytes(self.target.as_bytes());
        to.number(u64::from(self.named));
        let (state, algorithm, identifier, challenge): (u64, u64, u8, &[u8]) = match &self.proof {
            Proof::Open => (0, 0, 0, &[]),
            Proof::NotNeeded => (1, 0, 0, &[]),
            Proof::Method => (2, 0, 0, &[]),
            Proof::Challenged { algorithm, identifier, challenge } => {
                (3, *algorithm as u64, *identifier, challenge)
            }
            Proof::Proven => (4, 0, 0, &[]),
        };
        to.number(state);
        to.number(algorithm);
        to.number(u64::from(identifier));
        to.bytes(challenge);
        let negotiation = &self.negotiation;
        to.number(negotiation.seen);
        to.number(u64::from(negotiation.declared));
        to.number(u64::from(negotiation.discovery));
        let p = &negotiation.parameters;
        for value in [p.header_digest, p.data_digest, p.initial_r2t, p.immediate_data] {
            to.number(u64::from(value));
        }
        for value in [
            p.max_burst,
            p.first_burst,
            p.max_outstanding_r2t,
            p.initiator_segment,
            p.target_segment,
            p.protocol_level,
            p.time_to_wait,
            p.time_to_retain,
        ] {
            to.number(u64::from(value));
        }
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Option<Login> {
        let mut isid = [0; 6];
        isid.copy_from_slice(&from.number()?.to_be_bytes()[2..]);
        let tsih = u16::try_from(from.number()?).ok()?;
        let cid = u16::try_from(from.number()?).ok()?;
        let (itt, cmd_sn, requests) = (from.small()?, from.small()?, from.small()?);
        let stage = u8::try_from(from.number()?).ok()?;
        let text = Text(Vec::from(from.bytes()?));
        let (initiator, target) = (from.string()?, from.string()?);
        let named = from.flag()?;
        let (state, algorithm) = (from.number()?, from.number()?);
        let identifier = u8::try_from(from.number()?).ok()?;
        let challenge = Vec::from(from.bytes()?);
        let proof = match state {
            0 => Proof::Open,
            1 => Proof::NotNeeded,
            2 => Proof::Method,
            3 => Proof::Challenged { algorithm: Algorithm::decode(algorithm)?, identifier, challenge },
            4 => Proof::Proven,
            _ => return None,
        };
        let (seen, declared, discovery) = (from.number()?, from.flag()?, from.flag()?);
        let parameters = Parameters {
            header_digest: from.flag()?,
            data_digest: from.flag()?,
            initial_r2t: from.flag()?,
            immediate_data: from.flag()?,
            max_burst: from.small()?,
            first_burst: from.small()?,
            max_outstanding_r2t: from.small()?,
            initiator_segment: from.small()?,
            target_segment: from.small()?,
            protocol_level: from.small()?,
            time_to_wait: from.small()?,
            time_to_retain: from.small()?,
        };
        let negotiation = Negotiation { parameters, seen, declared, discovery };
        Some(Login {
            isid,
            tsih,
            cid,
            itt,
            cmd_sn,
            requests,
            stage,
            text,
            negotiation,
            initiator,
            target,
            named,
            proof,
        })
    }
}
