//! The turn of a session, from its socket to its tasks and back.

use std::collections::BTreeMap;

use iscsi_target::{ConnectionId, Event, Turn};

use super::super::{BURST_MAX, Lane, SPIN_NANOS};
use super::portal::{ACCEPT_BURST_MAX, Portal};
use super::session::{Input, Phase, Session};
use super::{Iscsi, LOGINS_MAX};
use crate::blame;

/// PDUs and data segments of one session that are followed in a turn: more than a burst of commands with
/// their data has, and a bound for those that bring nothing to do.
const STEPS_MAX: u32 = 8 * BURST_MAX as u32;

impl Lane {
    pub(in super::super) fn on_portal(&mut self, index: u32) {
        if !self.iscsi.open || self.quiet {
            return;
        }
        for _ in 0..ACCEPT_BURST_MAX {
            let Some(Some(portal)) = self.iscsi.portals.get_mut(index as usize) else { return };
            let Some((stream, _)) = portal.accept(index, self.now, &self.wait) else {
                let deadline = portal.deadline();
                self.iscsi.expect(deadline);
                return;
            };
            let name = portal.spec.name.clone();
            self.crowd_out(index);
            // A stream that is dropped here was never kept, so the peer hears of it.
            let Some(at) = self.iscsi.free_index() else {
                self.count(index, |portal| portal.counters.no_room += 1);
                continue;
            };
            let id = ConnectionId(self.iscsi.next_id);
            self.iscsi.next_id += 1;
            let (tag, limits) = (self.iscsi.tag_of(&name), self.iscsi.limits);
            let begun = Session::begin(stream, at, id, (&name, tag), &limits, &self.vault, self.now)
                .and_then(|session| session.watch(&self.wait).map(|()| session));
            match begun {
                Ok(session) => {
                    let deadline = session.link.next_deadline();
                    self.iscsi.table[at as usize] = Some(Box::new(session));
                    self.iscsi.expect(deadline);
                    self.iscsi.activate(at, self.now);
                }
                Err(error) => {
                    tracing::debug!(portal = name, %error, "a connection cannot be served");
                    self.count(index, |portal| portal.counters.no_room += 1);
                }
            }
        }
    }

    fn count(&mut self, portal: u32, count: impl FnOnce(&mut Portal)) {
        if let Some(Some(portal)) = self.iscsi.portals.get_mut(portal as usize) {
            count(portal);
        }
    }

    /// A login makes room for one more: the oldest of the address that has most, so that one that
    /// opens connections again and again is in its own way and not in others'.
    fn crowd_out(&mut self, portal: u32) {
        let logins: Vec<&Session> = self.iscsi.table.iter().flatten().map(Box::as_ref).collect();
        let logins: Vec<&Session> =
            logins.into_iter().filter(|session| session.phase == Phase::Login).collect();
        if logins.len() < LOGINS_MAX {
            return;
        }
        let mut by_address: BTreeMap<&str, usize> = BTreeMap::new();
        for session in &logins {
            *by_address.entry(session.address()).or_default() += 1;
        }
        let Some(most) = by_address.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address)
        else {
            return;
        };
        let of_it = logins.iter().filter(|session| session.address() == most);
        let Some(oldest) = of_it.min_by_key(|session| session.id).map(|session| session.index) else {
            return;
        };
        if let Some(session) = self.iscsi.session(oldest) {
            session.link.hung_up();
        }
        self.count(portal, |portal| portal.counters.crowded_out += 1);
        if self.follow(oldest) {
            self.iscsi.activate(oldest, self.now);
        }
        self.finish_session(oldest);
    }

    pub(in super::super) fn on_session(&mut self, index: u32) {
        if let Some(session) = self.iscsi.session(index) {
            session.look();
            if session.phase == Phase::Held && session.gone {
                // Its initiator did not wait for the target.
                session.phase = Phase::Login;
            }
        }
        self.iscsi.activate(index, self.now);
        // The event may be that the socket has room for what waits to be sent.
        self.iscsi.touch(index);
    }

    /// Every active session, once.
    pub(in super::super) fn serve_sessions(&mut self) {
        let mut at = 0;
        while at < self.iscsi.active.len() {
            let index = self.iscsi.active[at];
            if self.serve_session(index) {
                at += 1;
            } else {
                if let Some(session) = self.iscsi.session(index) {
                    session.active = false;
                }
                self.iscsi.active.swap_remove(at);
            }
        }
    }

    /// `false`: it has had nothing for long enough.
    fn serve_session(&mut self, index: u32) -> bool {
        let now = self.now;
        let Some(session) = self.iscsi.session(index) else { return false };
        if session.phase == Phase::Held {
            return false;
        }
        let certificate = session.certificate.clone();
        let input = session.receive(now);
        let stalled = std::mem::take(&mut session.stalled);
        // Whatever happens now is this connection's doing.
        blame::serving(certificate.as_ref());
        for task in stalled {
            self.begin_task(index, task);
        }
        let more = self.follow(index);
        if more || input != Input::None {
            self.iscsi.touch(index);
        }
        let Some(session) = self.iscsi.session(index) else { return false };
        more || input == Input::Some
            || !session.stalled.is_empty()
            || now.nanos().wrapping_sub(session.worked_at) < SPIN_NANOS
    }

    /// Follows what has come, a burst at most. `true`: there may be more.
    fn follow(&mut self, index: u32) -> bool {
        let mut steps = STEPS_MAX;
        for _ in 0..BURST_MAX {
            let mut random =
                |bytes: &mut [u8]| host::random::fill(bytes).expect("the kernel has random numbers");
            let Iscsi { table, directory, registry, .. } = &mut self.iscsi;
            let Some(Some(session)) = table.get_mut(index as usize) else { return false };
            let mut turn = Turn { now: self.now, directory, sessions: registry, random: &mut random, steps };
            let event = session.link.next(&mut turn);
            steps = turn.steps;
            let Some(event) = event else { return steps == 0 };
            self.iscsi.touch(index);
            match event {
                Event::Target => {}
                Event::Displace(other) => {
                    if let Some(session) = self.iscsi.session(index) {
                        session.waits_for = Some(other);
                    }
                    self.displace(other);
                    return false;
                }
                Event::Established => self.establish(index),
                Event::Command(task) => self.begin_task(index, task),
                Event::DataOut(task) => self.begin_task(index, task),
                Event::Manage(task) => self.begin_management(index, task),
                Event::Ended(_) => self.abort_session(index),
            }
        }
        true
    }

    /// Another login takes this one's place, or the owner does not want it any more.
    pub(super) fn displace(&mut self, id: ConnectionId) {
        let Some(index) = self.iscsi.find_id(id) else {
            self.iscsi.registry.remove(id);
            return;
        };
        if let Some(session) = self.iscsi.session(index) {
            session.link.displaced();
            if session.phase == Phase::Held {
                session.phase = Phase::Ending;
            }
        }
        self.iscsi.activate(index, self.now);
        self.iscsi.touch(index);
    }

    /// After the units' states were saved: what happened in this turn is the truth from now on. What
    /// is committed is sent, and what is over ends.
    pub(in super::super) fn publish_sessions(&mut self) {
        if self.iscsi.touched.is_empty() {
            return;
        }
        let mut touched = std::mem::take(&mut self.iscsi.touched);
        for &index in &touched {
            let now = self.now;
            let Some(session) = self.iscsi.session(index) else { continue };
            session.touched = false;
            session.link.commit();
            let before = session.worked_at;
            let more = session.transmit(now);
            let moved = more || session.worked_at != before || session.link.is_blocked();
            let deadline = session.link.next_deadline();
            self.iscsi.expect(deadline);
            // What was sent makes room for what waits, and what was committed for what comes.
            if moved {
                self.iscsi.activate(index, now);
            }
            if more {
                self.iscsi.touch(index);
            }
            self.finish_session(index);
        }
        if self.iscsi.touched.is_empty() {
            touched.clear();
            self.iscsi.touched = touched;
        }
    }

    /// Closes a connection that is over.
    fn finish_session(&mut self, index: u32) {
        let Some(session) = self.iscsi.session(index) else { return };
        if !session.link.is_over() {
            return;
        }
        self.leave_units(index);
        let Some(session) = self.iscsi.table[index as usize].take() else { return };
        self.iscsi.active.retain(|other| *other != index);
        self.iscsi.registry.remove(session.id);
        self.iscsi.add_up(&session);
        let id = session.id;
        self.blame_nobody();
        session.close(&self.wait, &self.vault);
        let mut waiting = Vec::new();
        for other in self.iscsi.table.iter_mut().flatten() {
            if other.waits_for == Some(id) {
                other.waits_for = None;
                waiting.push(other.index);
            }
        }
        for index in waiting {
            self.iscsi.activate(index, self.now);
        }
    }

    /// Sessions and portals whose time has come get a turn.
    pub(in super::super) fn age_sessions(&mut self) {
        let now = self.now;
        if self.iscsi.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        let mut next: Option<request::Instant> = None;
        let mut note = |deadline: Option<request::Instant>| {
            if let Some(deadline) = deadline {
                next = Some(next.map_or(deadline, |there| there.min(deadline)));
            }
        };
        for (index, portal) in self.iscsi.portals.iter_mut().enumerate() {
            if let Some(portal) = portal {
                portal.age(index as u32, now, &self.wait);
                note(portal.deadline());
            }
        }
        let mut due = Vec::new();
        for session in self.iscsi.table.iter().flatten().filter(|session| session.phase != Phase::Held) {
            match session.link.next_deadline() {
                Some(deadline) if deadline <= now => {
                    // Its initiator has been silent for a while: it is asked whether it is there.
                    if session.link.is_idle() {
                        session.give_back();
                    }
                    due.push(session.index);
                }
                deadline => note(deadline),
            }
        }
        self.iscsi.deadline = next;
        for index in due {
            self.iscsi.activate(index, now);
            // Its turn notes the next deadline.
            self.iscsi.touch(index);
        }
    }
}
