//! iSCSI in a lane: portals, targets and sessions. All of one group are in one lane.
//!
//! # A turn
//!
//! Every active session receives once, follows a burst of PDUs and starts their tasks
//! (`Lane::serve_sessions`). When the disks have been asked and the units' states are saved, all
//! sessions that changed are committed (`Lane::commit_sessions`), and then each sends what it has, in
//! one call (`Lane::send_sessions`). So nothing is sent that a successor would not know of.
//!
//! A session is *active* as a ring is: from an event of its socket until it has had nothing for a
//! while. Its socket is watched by edges, so that it costs nothing meanwhile.
//!
//! # Life and death
//!
//! Socket and memory of a connection lie in one envelope in the keeper. A successor finds it when its
//! portal is added, and holds it until its target is there; then the session goes on. Nobody new is
//! let in until the whole site is there (`Lane::open_portals`), as an initiator that is told "target
//! not found" may not ask again.

mod admin;
mod file;
mod portal;
mod session;
mod tasks;
mod turn;

use std::collections::BTreeMap;

use control::status::TargetStatus;
use control::step::TargetSpec;
use iscsi_target::{Allow, ConnectionId, Directory, Fault, Limits, Sessions};
use request::Instant;

pub use admin::{TargetPlan, allowed};
use portal::Portal;
pub use portal::{connection_prefix, listener_name};
use session::{Phase, Session};

use super::scsi::View;

/// Connections of one lane, logged in or not.
const CONNECTIONS_MAX: usize = 1024;
/// Connections that are not logged in; the oldest makes room for the newest, so that nobody can keep
/// others out by holding all of them.
const LOGINS_MAX: usize = 128;

/// A target, as the lane serves it.
struct Target {
    spec: TargetSpec,
    allow: Vec<Allow>,
    /// Open volumes by LUN.
    volumes: BTreeMap<u16, u32>,
    counters: Counters,
}

/// What a target has seen, beyond the sessions that are there.
#[derive(Clone, Debug)]
struct Counters {
    sessions_opened: u64,
    sessions_ended: u64,
    commands: u64,
    /// A unit had no room for one more I_T nexus.
    nexus_refused: u64,
    faults: [u64; Fault::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            sessions_opened: 0,
            sessions_ended: 0,
            commands: 0,
            nexus_refused: 0,
            faults: [0; Fault::COUNT],
        }
    }
}

/// The iSCSI side of a lane.
pub struct Iscsi {
    portals: Vec<Option<Portal>>,
    /// By their names in the site.
    targets: BTreeMap<String, Target>,
    table: Vec<Option<Box<Session>>>,
    directory: Directory,
    registry: Sessions,
    /// Sessions that are looked at every turn.
    active: Vec<u32>,
    /// Sessions to commit, and then to send.
    touched: Vec<u32>,
    limits: Limits,
    next_id: u64,
    /// When a session wants a turn though nothing happens; never late, and early at most once.
    deadline: Option<Instant>,
    /// The site is complete: connections are accepted.
    open: bool,
    /// Faults of connections that ended without a target.
    faults: [u64; Fault::COUNT],
}

impl Default for Iscsi {
    fn default() -> Self {
        Self {
            portals: Vec::new(),
            targets: BTreeMap::new(),
            table: Vec::new(),
            directory: Directory::default(),
            registry: Sessions::new(CONNECTIONS_MAX as u32),
            active: Vec::new(),
            touched: Vec::new(),
            limits: Limits::default(),
            next_id: 1,
            deadline: None,
            open: false,
            faults: [0; Fault::COUNT],
        }
    }
}

impl Iscsi {
    fn session(&mut self, index: u32) -> Option<&mut Session> {
        self.table.get_mut(index as usize)?.as_deref_mut()
    }

    /// What a session sees.
    pub(super) fn view(&self, index: u32) -> Option<&View> {
        Some(&self.table.get(index as usize)?.as_ref()?.view)
    }

    fn find_id(&self, id: ConnectionId) -> Option<u32> {
        let sessions = self.table.iter().flatten();
        sessions.into_iter().find(|session| session.id == id).map(|session| session.index)
    }

    fn find_portal(&self, name: &str) -> Option<u32> {
        let same = |portal: &Option<Portal>| portal.as_ref().is_some_and(|portal| portal.spec.name == name);
        self.portals.iter().position(same).map(|index| index as u32)
    }

    /// The tag of a portal's group; 0 as long as no target is there by it.
    fn tag_of(&self, portal: &str) -> u16 {
        let ports = self.targets.values().flat_map(|target| &target.spec.portals);
        ports.into_iter().find(|port| port.portal == portal).map_or(0, |port| port.tpgt)
    }

    fn target_by_iqn(&self, iqn: &str) -> Option<&str> {
        let found =
            self.targets.iter().find(|(_, target)| target.spec.iqn.as_str().eq_ignore_ascii_case(iqn));
        found.map(|(name, _)| name.as_str())
    }

    /// A place for one more connection. Index and box stay together until it is closed.
    fn free_index(&mut self) -> Option<u32> {
        if let Some(free) = self.table.iter().position(Option::is_none) {
            return Some(free as u32);
        }
        if self.table.len() >= CONNECTIONS_MAX {
            return None;
        }
        self.table.push(None);
        Some(self.table.len() as u32 - 1)
    }

    /// From now on it is looked at every turn.
    fn activate(&mut self, index: u32, now: Instant) {
        if let Some(session) = self.table.get_mut(index as usize).and_then(Option::as_mut)
            && session.phase != Phase::Held
        {
            session.worked_at = now.nanos();
            if !session.active {
                session.active = true;
                self.active.push(index);
            }
        }
    }

    /// It has something to commit or to send.
    fn touch(&mut self, index: u32) {
        if let Some(session) = self.table.get_mut(index as usize).and_then(Option::as_mut)
            && !session.touched
        {
            session.touched = true;
            self.touched.push(index);
        }
    }

    fn expect(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.deadline = Some(self.deadline.map_or(deadline, |there| there.min(deadline)));
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub fn is_busy(&self) -> bool {
        !self.active.is_empty() || !self.touched.is_empty()
    }
}

impl Iscsi {
    /// What an ended connection counted is its target's from now on.
    fn add_up(&mut self, session: &Session) {
        let target = session.target.as_ref().and_then(|name| self.targets.get_mut(name));
        let faults = match target {
            Some(target) => {
                target.counters.sessions_ended += 1;
                target.counters.commands += session.commands;
                &mut target.counters.faults
            }
            None => &mut self.faults,
        };
        for (sum, count) in faults.iter_mut().zip(session.link.faults()) {
            *sum += count;
        }
    }

    fn target_status(&self, name: &str, target: &Target) -> TargetStatus {
        let sessions = self.table.iter().flatten();
        let own: Vec<&Session> =
            sessions.map(Box::as_ref).filter(|session| session.target.as_deref() == Some(name)).collect();
        let counters = &target.counters;
        let commands = own.iter().fold(counters.commands, |sum, session| sum + session.commands);
        let mut faults = counters.faults;
        for session in &own {
            for (sum, count) in faults.iter_mut().zip(session.link.faults()) {
                *sum += count;
            }
        }
        let counted = [
            ("sessions_opened", counters.sessions_opened),
            ("sessions_ended", counters.sessions_ended),
            ("nexus_refused", counters.nexus_refused),
            ("commands", commands),
        ];
        let counted = counted.into_iter().map(|(name, count)| (name.to_owned(), count));
        TargetStatus {
            sessions: own.iter().filter_map(|session| session.status()).collect(),
            fault: None,
            counters: counted.chain(named_faults(&faults)).collect(),
        }
    }
}

fn named_faults(faults: &[u64; Fault::COUNT]) -> impl Iterator<Item = (String, u64)> + '_ {
    Fault::ALL.iter().map(|fault| (format!("fault_{}", fault.name()), faults[*fault as usize]))
}
