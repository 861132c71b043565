//! A connection of an initiator, and its session once it has logged in: MaxConnections is 1.
//!
//! What must outlive the worker lies in the connection's file ([`File`]), where
//! `frontend/iscsi_target` keeps it. What stands here a successor finds out again.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use control::status::SessionStatus;
use guest_memory::{Memory, Window};
use host::tcp::{Patience, Received, Stream};
use host::wait::{Interest, Wait};
use iscsi_target::{Connection, ConnectionId, Limits, Positions, RECEIVE_PIECES_MAX, Tag};
use request::{Instant, Span};

use super::super::scsi::View;
use super::super::token::Token;
use super::file::File;
use super::portal::connection_prefix;
use crate::vault::{self, Seat, Vault, base36};

/// Pieces in one call: 64 commands that read, with their headers.
const SEND_PIECES_MAX: usize = 128;
/// Calls in one turn: a peer that reads as fast as we send must not hold the lane.
const SEND_BURST_MAX: usize = 4;

/// The kernel notices a peer that vanished, and sooner than the protocol's own questions would, which are
/// for a program that hangs; also while nothing is asked in a login.
const PATIENCE: Patience =
    Patience { idle: Duration::from_secs(20), unacknowledged: Duration::from_secs(30) };

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Taken over from a predecessor; the site does not have its target yet.
    Held,
    Login,
    Established,
    /// No more input is looked at; tasks and output come to their end.
    Ending,
}

/// Work that a turn left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    Some,
    None,
    /// The peer is gone, or will send no more.
    Over,
}

pub struct Session {
    pub index: u32,
    pub portal: String,
    /// The keeper's name of its envelope.
    name: String,
    stream: Stream,
    file: File,
    pub certificate: Option<Window>,
    pub link: Connection,
    pub id: ConnectionId,
    pub phase: Phase,
    /// It is looked at every turn.
    pub active: bool,
    pub worked_at: u64,
    /// It is to be committed, and to send.
    pub touched: bool,
    /// A login waits until this connection has ended.
    pub waits_for: Option<ConnectionId>,
    /// The name of its target in the site.
    pub target: Option<String>,
    /// What it sees.
    pub view: Rc<View>,
    /// Whether the task of a slot is at its unit: until then it only waits for data.
    pub begun: Vec<bool>,
    /// Tasks that found no room in the lane.
    pub stalled: Vec<Tag>,
    /// The peer is gone.
    pub gone: bool,
    peer: String,
    pub commands: u64,
    /// One of the connections that the keeper has room for.
    _seat: Seat,
}

/// What is left of one that could not be taken up, with the reason.
pub struct Untaken {
    pub why: String,
}

impl Session {
    /// A new connection. It is kept before its first byte is read.
    pub fn begin(
        stream: Stream,
        index: u32,
        id: ConnectionId,
        (portal, tag): (&str, u16),
        limits: &Limits,
        vault: &Vault,
        now: Instant,
    ) -> std::io::Result<Self> {
        let seat = vault.seat().ok_or_else(|| std::io::Error::other("the server has no room for more"))?;
        stream.set_up(PATIENCE)?;
        let file = File::create(limits.memory_bytes())?;
        let local = stream.local()?.to_string();
        let link = Connection::create(Arc::clone(file.memory()), limits, id, &local, tag, now)
            .map_err(|error| std::io::Error::other(format!("{error:?}")))?;
        let name = format!("{}{}", connection_prefix(portal), base36(id.0, 1));
        if vault.is_kept() {
            let envelope = vault::wrap_all(&[stream.as_fd(), file.as_fd()])?;
            vault.keep(&name, envelope.as_fd());
        }
        Ok(Self::of((stream, file, link, seat), index, id, portal, name, Phase::Login, now))
    }

    /// The number in a name that the keeper has a connection under.
    pub fn number_in(portal: &str, name: &str) -> Option<u64> {
        u64::from_str_radix(name.strip_prefix(&connection_prefix(portal))?, 36).ok()
    }

    /// A connection that a predecessor had. `name` is the keeper's.
    pub fn resume(
        envelope: &OwnedFd,
        index: u32,
        id: ConnectionId,
        (portal, name): (&str, &str),
        vault: &Vault,
        now: Instant,
    ) -> Result<Self, Untaken> {
        let untaken = |why: &str| Untaken { why: why.to_owned() };
        let failed = |error: std::io::Error| Untaken { why: error.to_string() };
        let mut fds = vault::unwrap_all(envelope).into_iter();
        let (Some(socket), Some(file)) = (fds.next(), fds.next()) else {
            return Err(untaken("its envelope does not hold a connection"));
        };
        let stream = Stream::adopt(socket).map_err(failed)?;
        let file = File::open(file).map_err(failed)?;
        if file.is_quarantined(now.nanos()) {
            let _ = stream.shut();
            return Err(untaken("it has ended the worker several times within a minute"));
        }
        let at = stream.position().map_err(failed)?;
        let positions = Positions { received: at.consumed, sent: at.given };
        let link = Connection::resume(Arc::clone(file.memory()), id, positions, now)
            .map_err(|error| untaken(&format!("{error:?}")))?;
        // It had one before; a smaller limit is for those who come.
        let seat = vault.seat_of_old();
        Ok(Self::of((stream, file, link, seat), index, id, portal, name.to_owned(), Phase::Held, now))
    }

    fn of(
        (stream, file, link, seat): (Stream, File, Connection, Seat),
        index: u32,
        id: ConnectionId,
        portal: &str,
        name: String,
        phase: Phase,
        now: Instant,
    ) -> Self {
        let peer = stream.peer().map(|peer| peer.to_string()).unwrap_or_default();
        Self {
            index,
            portal: portal.to_owned(),
            name,
            certificate: file.death_certificate(),
            stream,
            file,
            link,
            id,
            phase,
            active: false,
            worked_at: now.nanos(),
            touched: false,
            waits_for: None,
            target: None,
            view: Rc::default(),
            begun: Vec::new(),
            stalled: Vec::new(),
            gone: false,
            peer,
            commands: 0,
            _seat: seat,
        }
    }

    /// Watches the socket: edges only, so that it costs nothing while it is polled, and nothing wakes
    /// for what is left in the socket until there is room for it.
    pub fn watch(&self, wait: &Wait) -> std::io::Result<()> {
        let interest = Interest { read: true, write: true, edge: true };
        wait.add(self.stream.as_fd(), Token::Session(self.index).into(), interest)
    }

    /// Gives it up as a dying worker would, for another lane.
    pub fn release(self, wait: &Wait) -> std::io::Result<(String, OwnedFd)> {
        let _ = wait.delete(self.stream.as_fd());
        Ok((self.name, vault::wrap_all(&[self.stream.as_fd(), self.file.as_fd()])?))
    }

    /// The end of the connection. What was sent arrives.
    pub fn close(self, wait: &Wait, vault: &Vault) {
        let _ = wait.delete(self.stream.as_fd());
        // The keeper has a duplicate: closing ours alone would not tell the peer.
        let _ = self.stream.finish();
        vault.forget(&self.name);
    }

    /// Where it comes from, without the port.
    pub fn address(&self) -> &str {
        self.peer.rsplit_once(':').map_or("", |(address, _)| address)
    }

    pub fn memory(&self) -> &Arc<Memory> {
        self.file.memory()
    }

    /// Whether the task is at its unit.
    pub fn has_begun(&self, task: Tag) -> bool {
        self.begun.get(usize::from(task.slot())).copied().unwrap_or(false)
    }

    pub fn set_begun(&mut self, task: Tag, begun: bool) {
        let slot = usize::from(task.slot());
        if self.begun.len() <= slot {
            self.begun.resize(slot + 1, false);
        }
        self.begun[slot] = begun;
    }

    /// All memory that a task has: what it moves beyond the initiator's own room for it is cut off
    /// by the answer.
    pub fn room(&self, task: Tag) -> [Span; 2] {
        let [mut own, pool] = self.link.buffer(task);
        if pool.len == 0 {
            own.len = own.len.max(self.link.limits().slot_bytes);
        }
        [own, pool]
    }

    /// Takes what has come, as far as there is room.
    pub fn receive(&mut self, now: Instant) -> Input {
        let mut spans = [Span::default(); RECEIVE_PIECES_MAX];
        let pieces = self.link.receive_into(&mut spans);
        if pieces == 0 {
            return Input::None;
        }
        match self.stream.receive(&**self.file.memory(), &spans[..pieces]) {
            Ok(Received::Bytes(bytes)) => {
                self.link.received(bytes as u32);
                self.worked_at = now.nanos();
                Input::Some
            }
            Ok(Received::Nothing) => Input::None,
            Ok(Received::End) | Err(_) => {
                self.link.hung_up();
                Input::Over
            }
        }
    }

    /// After an event of its socket: a peer that is gone is noticed even where there is no room to
    /// read.
    pub fn look(&mut self) {
        if self.stream.is_over() {
            self.gone = true;
            self.link.hung_up();
        }
    }

    /// Sends what is committed, as far as the socket takes it. `true`: there may be more to send at
    /// once.
    pub fn transmit(&mut self, now: Instant) -> bool {
        let mut spans = [Span::default(); SEND_PIECES_MAX];
        for _ in 0..SEND_BURST_MAX {
            let pieces = self.link.transmit(&mut spans);
            if pieces == 0 {
                return false;
            }
            let wanted = request::total(&spans[..pieces]);
            match self.stream.send(&**self.file.memory(), &spans[..pieces], false) {
                Ok(0) => return false,
                Ok(sent) => {
                    self.link.sent(sent as u32);
                    self.worked_at = now.nanos();
                    if (sent as u64) < wanted {
                        return false;
                    }
                }
                Err(_) => {
                    self.link.hung_up();
                    return false;
                }
            }
        }
        true
    }

    /// The pages of its data go back to the host.
    pub fn give_back(&self) {
        self.file.give_back(self.link.idle_span());
    }

    pub fn note_since(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        self.file.set_since(now.map_or(0, |time| time.as_secs()));
    }

    pub fn status(&self) -> Option<SessionStatus> {
        let claim = self.link.claim()?;
        let mut counters: std::collections::BTreeMap<String, u64> = iscsi_target::Fault::ALL
            .iter()
            .map(|fault| (format!("fault_{}", fault.name()), self.link.faults()[*fault as usize]))
            .filter(|(_, count)| *count > 0)
            .collect();
        counters.insert("commands".to_owned(), self.commands);
        counters.insert("tasks_in_flight".to_owned(), self.link.tasks().count() as u64);
        Some(SessionStatus {
            initiator: claim.initiator.clone(),
            isid: claim.isid.iter().map(|byte| format!("{byte:02x}")).collect(),
            tsih: claim.tsih,
            portal: self.portal.clone(),
            address: self.peer.clone(),
            logged_in_since: self.file.since(),
            counters,
        })
    }
}
