//! The configuration: what the server has on offer, and to whom. Plain data that the caller keeps.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A CHAP secret. It never shows in `Debug` output.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(Vec::from(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl Drop for Secret {
    /// Freed memory does not keep it.
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|byte| *byte = 0);
        // The compiler must assume that somebody looks.
        core::hint::black_box(&self.0);
    }
}

/// Who somebody says to be, and how it is proven: CHAP_N and the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub secret: Secret,
}

/// A network portal. Each is a target port and a portal group of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Portal {
    /// `192.0.2.1:3260` or `[2001:db8::1]:3260`, as TargetAddress has it. If the host part is
    /// unspecified (`0.0.0.0`, `[::]`), initiators are told the address that they came by.
    pub address: String,
    /// Target portal group tag, and relative target port identifier: 1 to 65,535.
    pub tag: u16,
}

/// An initiator that may log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow {
    /// iSCSI name; compared without regard to case. `*`: everybody.
    pub initiator: String,
    /// LUNs of the target that it sees; `None`: all.
    pub luns: Option<Vec<u16>>,
    /// What it must prove.
    pub chap: Option<Credentials>,
    /// What it may ask us to prove.
    pub mutual: Option<Credentials>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: String,
    pub alias: Option<String>,
    /// Tags of the portals that it is offered by.
    pub portals: Vec<u16>,
    /// LUNs, ascending, each below 16,384.
    pub luns: Vec<u16>,
    pub allow: Vec<Allow>,
    /// Initiators that are in no `allow` may log in, without authentication.
    pub open: bool,
    pub sessions_max: u32,
    /// Going away: logins are answered "target removed".
    pub leaving: bool,
}

impl Target {
    /// What this initiator may do here. Its own entry goes before `*`.
    pub fn access(&self, initiator: &str) -> Access<'_> {
        let entry = self
            .allow
            .iter()
            .find(|allow| allow.initiator.eq_ignore_ascii_case(initiator))
            .or_else(|| self.allow.iter().find(|allow| allow.initiator == "*"));
        match entry {
            Some(allow) => Access::Allowed(Some(allow)),
            None if self.open => Access::Allowed(None),
            None => Access::Denied,
        }
    }

    /// The LUNs that it sees, ascending.
    pub fn visible(&self, initiator: &str) -> Vec<u16> {
        match self.access(initiator) {
            Access::Denied => Vec::new(),
            Access::Allowed(Some(Allow { luns: Some(mask), .. })) => {
                self.luns.iter().copied().filter(|lun| mask.contains(lun)).collect()
            }
            Access::Allowed(_) => self.luns.clone(),
        }
    }
}

/// What an access list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access<'a> {
    Denied,
    Allowed(Option<&'a Allow>),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    pub portals: Vec<Portal>,
    pub targets: Vec<Target>,
    /// Who may ask for the list of targets. Without any entry: everybody, unauthenticated. What is
    /// listed are in any case only targets whose access list has the initiator.
    pub discovery: Vec<Allow>,
}

impl Directory {
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.iter().find(|target| target.name.eq_ignore_ascii_case(name))
    }

    pub fn portal(&self, tag: u16) -> Option<&Portal> {
        self.portals.iter().find(|portal| portal.tag == tag)
    }

    /// Whether an initiator proves itself by this secret.
    pub fn is_initiators(&self, secret: &Secret) -> bool {
        let entries = self.targets.iter().flat_map(|target| &target.allow).chain(&self.discovery);
        let mut found = false;
        for chap in entries.filter_map(|entry| entry.chap.as_ref()) {
            found |= crate::chap::same(chap.secret.as_bytes(), secret.as_bytes());
        }
        found
    }

    /// What this initiator may do in a discovery session.
    pub fn discovery_access(&self, initiator: &str) -> Access<'_> {
        if self.discovery.is_empty() {
            return Access::Allowed(None);
        }
        let entry = self
            .discovery
            .iter()
            .find(|allow| allow.initiator.eq_ignore_ascii_case(initiator))
            .or_else(|| self.discovery.iter().find(|allow| allow.initiator == "*"));
        entry.map_or(Access::Denied, |allow| Access::Allowed(Some(allow)))
    }
}
