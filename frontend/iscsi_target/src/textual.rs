//! Text requests in the full feature phase (RFC 7143 11.10): SendTargets, and what may be
//! declared again.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::bits::{RESERVED_TAG, flag};
use crate::codec::{Decoder, Encoder};
use crate::config::{Access, Directory, Target};
use crate::fault::Fault;
use crate::keys::{self, Key, is_name};
use crate::layout::COLD_MAX_BYTES;
use crate::limits::{Limits, TEXT_MAX_BYTES, TEXT_REQUESTS_MAX};
use crate::negotiate::{Negotiation, Phase};
use crate::pdu::Header;
use crate::text::{self, Text};

/// The longest list of targets that is given; what is behind it must be asked for by name.
const ANSWER_MAX_BYTES: usize = COLD_MAX_BYTES / 2;

/// The longest text of one response. It waits in its task's slot (64 KiB at least), behind the
/// request: a successor may have to take that again.
const REPLY_MAX_BYTES: u32 = 32 << 10;
pub(crate) const REPLY_AT: u32 = TEXT_MAX_BYTES as u32;
const _: () = assert!(REPLY_AT + REPLY_MAX_BYTES <= 64 << 10);

/// The one text negotiation that can be under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Texts {
    /// Initiator task tag; `None`: nothing is under way.
    itt: Option<u32>,
    /// What came so far of a text that goes on.
    came: Text,
    /// What is still to be said.
    answer: Vec<u8>,
    /// The initiator has said all that it has to say.
    last: bool,
    requests: u32,
    /// Target transfer tag that the next request has to bear.
    ttt: u32,
}

/// What surrounds a text request.
pub(crate) struct Scene<'a> {
    pub directory: &'a Directory,
    pub limits: &'a Limits,
    pub initiator: &'a str,
    /// The session's own target; empty in a discovery session.
    pub target: &'a str,
    /// Tag of the portal that the connection came by, and the address.
    pub portal: u16,
    pub local: &'a str,
}

/// One text response: flags, target transfer tag, and so many bytes of the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub flags: u8,
    pub ttt: u32,
    pub text: Vec<u8>,
}

impl Texts {
    /// Takes one request. A fault ends the negotiation; nothing of it is kept.
    pub fn take(
        &mut self,
        header: &Header,
        data: &[u8],
        negotiation: &mut Negotiation,
        scene: &Scene<'_>,
    ) -> Result<Reply, Fault> {
        let reply = self.step(header, data, negotiation, scene);
        if !matches!(&reply, Ok(reply) if reply.ttt != RESERVED_TAG) {
            *self = Texts::default();
        }
        reply
    }

    fn step(
        &mut self,
        header: &Header,
        data: &[u8],
        negotiation: &mut Negotiation,
        scene: &Scene<'_>,
    ) -> Result<Reply, Fault> {
        let goes_on = header.flags() & flag::CONTINUE != 0;
        if header.ttt() == RESERVED_TAG {
            // A new negotiation; it resets the one before (11.10.4).
            *self = Texts { itt: Some(header.itt()), ..Texts::default() };
        } else if self.itt != Some(header.itt()) || header.ttt() != self.ttt {
            return Err(Fault::TextMalformed);
        }
        self.requests = self.requests.saturating_add(1);
        if self.requests > TEXT_REQUESTS_MAX.saturating_add((ANSWER_MAX_BYTES / 512) as u32) {
            return Err(Fault::TextTooManyRequests);
        }
        if goes_on && header.is_final() {
            return Err(Fault::TextMalformed);
        }
        if !self.answer.is_empty() {
            // More of the answer is asked for; nothing may be said meanwhile.
            if !data.is_empty() {
                return Err(Fault::TextMalformed);
            }
            self.last |= header.is_final();
            return Ok(self.say(negotiation));
        }
        if self.requests > TEXT_REQUESTS_MAX {
            return Err(Fault::TextTooManyRequests);
        }
        self.came.append(data)?;
        self.last = header.is_final();
        if goes_on {
            return Ok(self.go_on(Vec::new(), 0));
        }
        let came = core::mem::take(&mut self.came);
        let mut answer = Text::default();
        // Nothing here that any standard knows, nor somebody's own key: this is no negotiation, and
        // is refused as a whole. (Among other keys, each is answered by itself.)
        let is_strange =
            |name: &str| keys::find(name).is_none() && !name.starts_with("X-") && !name.starts_with("X#");
        let mut pairs = text::pairs(&came.0)?.into_iter().map(|(name, _)| is_strange(name)).peekable();
        if pairs.peek().is_some() && pairs.all(|strange| strange) {
            return Err(Fault::TextMalformed);
        }
        // On a copy: a text with a fault in it changes nothing.
        let mut changed = *negotiation;
        let mut listed = false;
        for (key, value) in changed.take(Phase::FullFeature, scene.limits, &came.0, &mut answer)? {
            if key == Key::SendTargets {
                if !matches!(value, "All" | "") && !is_name(value) {
                    return Err(Fault::BadValue);
                }
                // A thousand of them fit a text, and each would go over all targets.
                if core::mem::replace(&mut listed, true) {
                    return Err(Fault::KeyRepeated);
                }
                send_targets(value, scene, changed.discovery, &mut answer);
            }
        }
        *negotiation = changed;
        self.answer = answer.0;
        Ok(self.say(negotiation))
    }

    /// As much of the answer as one PDU takes.
    fn say(&mut self, negotiation: &Negotiation) -> Reply {
        let most = negotiation.parameters.initiator_segment.min(REPLY_MAX_BYTES) as usize;
        if self.answer.len() > most {
            let rest = self.answer.split_off(most);
            let part = core::mem::replace(&mut self.answer, rest);
            return self.go_on(part, flag::CONTINUE);
        }
        let text = core::mem::take(&mut self.answer);
        if !self.last {
            return self.go_on(text, 0);
        }
        Reply { flags: flag::FINAL, ttt: RESERVED_TAG, text }
    }

    fn go_on(&mut self, text: Vec<u8>, flags: u8) -> Reply {
        // Each response has another tag, so that an old request is seen to be one.
        self.ttt = self.requests;
        Reply { flags, ttt: self.ttt, text }
    }

    pub fn encode(&self, to: &mut Encoder) {
        to.number(self.itt.map_or(u64::MAX, u64::from));
        to.bytes(&self.came.0);
        to.bytes(&self.answer);
        to.number(u64::from(self.last));
        to.number(u64::from(self.requests));
        to.number(u64::from(self.ttt));
    }

    pub fn decode(from: &mut Decoder<'_>) -> Option<Texts> {
        Some(Texts {
            itt: u32::try_from(from.number()?).ok(),
            came: Text(Vec::from(from.bytes()?)),
            answer: Vec::from(from.bytes()?),
            last: from.flag()?,
            requests: from.small()?,
            ttt: from.small()?,
        })
    }
}

/// SendTargets, RFC 7143 appendix C: `All` in a discovery session, a name, or nothing for the
/// target of this session.
fn send_targets(value: &str, scene: &Scene<'_>, discovery: bool, answer: &mut Text) {
    let listed = |target: &&Target| !target.leaving && target.access(scene.initiator) != Access::Denied;
    match value {
        "All" if discovery => {
            for target in scene.directory.targets.iter().filter(listed) {
                list(target, scene, answer);
            }
        }
        "" if discovery => answer.put("SendTargets", "Reject"),
        name => {
            // All that a session with a target may know of is this target (appendix C wants nothing
            // said of others); initiators that ask for all get that.
            let name = if matches!(name, "" | "All") { scene.target } else { name };
            // Other targets than its own are for discovery sessions.
            if !discovery && !name.eq_ignore_ascii_case(scene.target) {
                return;
            }
            if let Some(target) = scene.directory.target(name).filter(listed) {
                list(target, scene, answer);
            }
        }
    }
}

fn list(target: &Target, scene: &Scene<'_>, answer: &mut Text) {
    let mut lines = Text::default();
    lines.put("TargetName", &target.name);
    // A portal that is not there has no address to tell; the one that was come by goes first.
    let own = target.portals.iter().filter(|tag| **tag == scene.portal);
    let others = target.portals.iter().filter(|tag| **tag != scene.portal);
    for tag in own.chain(others) {
        if let Some(address) = address(*tag, scene) {
            lines.put("TargetAddress", &format!("{address},{tag}"));
        }
    }
    if answer.0.len().saturating_add(lines.0.len()) <= ANSWER_MAX_BYTES {
        answer.0.extend_from_slice(&lines.0);
    }
}

/// A portal's address as an initiator can use it. One that listens on any address is told by the
/// address that this connection came to, with its own port.
fn address(tag: u16, scene: &Scene<'_>) -> Option<String> {
    let told = &scene.directory.portal(tag)?.address;
    let (host, port) = told.rsplit_once(':')?;
    if !matches!(host, "0.0.0.0" | "[::]" | "*" | "") {
        return Some(told.clone());
    }
    let (host, _) = scene.local.rsplit_once(':')?;
    Some(format!("{host}:{port}"))
}
