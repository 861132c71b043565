//! Which sessions there are: TSIHs, reinstatement and limits (RFC 7143 6.3.5, 4.4.3.1).

use alloc::string::String;
use alloc::vec::Vec;

use crate::limits::DISCOVERIES_MAX;

/// The caller's name of a connection. With one connection a session it is the session's as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What makes a session the same one: RFC 7143 4.4.1 (I_T nexus).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The connection that asks.
    pub connection: ConnectionId,
    /// Empty in a discovery session.
    pub target: String,
    pub initiator: String,
    pub isid: [u8; 6],
    /// Target portal group tag.
    pub portal: u16,
    pub tsih: u16,
    pub cid: u16,
    pub discovery: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// In, with this TSIH.
    New(u16),
    /// In, in place of a connection of the same session that is gone by now.
    Reinstated(u16),
    /// This one must be ended first; ask again then.
    After(ConnectionId),
    /// 020Ah.
    NoSuchSession,
    /// 0206h: the session is there, and has its one connection.
    TooManyConnections,
    /// 0302h.
    Full,
}

/// All sessions of a server, or of one target group: whoever may clash with each other must be in
/// the same one.
#[derive(Debug)]
pub struct Sessions {
    entries: Vec<Claim>,
    /// Connections that take a session over when its old one is gone: (old, heir).
    heirs: Vec<(ConnectionId, Claim)>,
    max: u32,
    last: u16,
}

impl Sessions {
    pub fn new(max: u32) -> Sessions {
        Sessions { entries: Vec::new(), heirs: Vec::new(), max, last: 0 }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.entries.iter()
    }

    fn same(a: &Claim, b: &Claim) -> bool {
        a.discovery == b.discovery
            && a.isid == b.isid
            && a.portal == b.portal
            && a.initiator.eq_ignore_ascii_case(&b.initiator)
            && a.target.eq_ignore_ascii_case(&b.target)
    }

    /// A login that has proven everything asks to come in. `target_max`: sessions of its target.
    pub fn admit(&mut self, claim: &Claim, target_max: u32) -> Admission {
        if claim.tsih != 0
            && self
                .entries
                .iter()
                .any(|entry| entry.connection == claim.connection && entry.tsih == claim.tsih)
        {
            return Admission::Reinstated(claim.tsih);
        }
        let old = self.entries.iter().position(|entry| {
            entry.connection != claim.connection && !claim.discovery && Self::same(entry, claim)
        });
        if claim.tsih != 0 {
            let Some(at) = old.filter(|at| self.entries[*at].tsih == claim.tsih) else {
                return Admission::NoSuchSession;
            };
            // RFC 7143 6.3.4: the same CID replaces the connection; another one would be a second.
            if self.entries[at].cid != claim.cid {
                return Admission::TooManyConnections;
            }
            let old = self.entries[at].connection;
            self.heirs.retain(|(of, _)| *of != old);
            self.heirs.push((old, claim.clone()));
            return Admission::After(old);
        }
        if let Some(at) = old {
            return Admission::After(self.entries[at].connection);
        }
        if claim.discovery {
            // In the order in which they came.
            let mut discoveries = self.entries.iter().filter(|entry| entry.discovery);
            let oldest = discoveries.next().map(|entry| entry.connection);
            if let Some(oldest) = oldest
                && discoveries.count().saturating_add(1) >= DISCOVERIES_MAX
            {
                return Admission::After(oldest);
            }
        }
        let of_target = self
            .entries
            .iter()
            .filter(|entry| !entry.discovery && entry.target.eq_ignore_ascii_case(&claim.target))
            .count();
        if self.entries.len() >= self.max as usize || (!claim.discovery && of_target >= target_max as usize) {
            return Admission::Full;
        }
        let Some(tsih) = self.free_tsih() else { return Admission::Full };
        self.insert(Claim { tsih, ..claim.clone() });
        Admission::New(tsih)
    }

    fn free_tsih(&mut self) -> Option<u16> {
        for _ in 0..u16::MAX {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.entries.iter().any(|entry| entry.tsih == self.last) {
                return Some(self.last);
            }
        }
        None
    }

    /// A session that a predecessor let in (from [`crate::Connection::claim`]), with its TSIH.
    pub fn insert(&mut self, claim: Claim) {
        self.entries.retain(|entry| entry.connection != claim.connection);
        self.entries.push(claim);
    }

    /// The connection is gone, and with it its session, unless another connection has claimed it.
    pub fn remove(&mut self, connection: ConnectionId) {
        self.heirs.retain(|(_, heir)| heir.connection != connection);
        let was = self.entries.iter().any(|entry| entry.connection == connection);
        self.entries.retain(|entry| entry.connection != connection);
        if let Some(at) = self.heirs.iter().position(|(of, _)| *of == connection) {
            let (_, heir) = self.heirs.swap_remove(at);
            if was {
                self.entries.push(heir);
            }
        }
    }
}
