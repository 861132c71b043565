//! A connection, which is a session as well (MaxConnections is 1): its state, and how that is kept.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use guest_memory::{Memory, Window};
use request::{Address, Instant, Span};

use crate::codec::{Decoder, Encoder};
use crate::config::Directory;
use crate::fault::Fault;
use crate::keys::Parameters;
use crate::layout::{
    COLD_AT, COLD_COPY_BYTES, COLD_MAX_BYTES, COMMIT_AT, CREATED_AT, HOT_WORDS, LOCAL_AT, LOCAL_MAX_BYTES,
    Layout, MAGIC, MAGIC_AT, PORTAL_AT, VERSION, VERSION_AT,
};
use crate::limits::Limits;
use crate::login::Login;
use crate::receive::{self, Receive};
use crate::sessions::{Claim, ConnectionId, Sessions};
use crate::task::{Kind, State, Tag, Tasks, is};
use crate::textual::Texts;
use crate::transmit::{Marks, Transmit};

/// What a connection is given to go on.
pub struct Turn<'a> {
    pub now: Instant,
    pub directory: &'a Directory,
    pub sessions: &'a mut Sessions,
    /// Fills with bytes that nobody can foresee: CHAP challenges.
    pub random: &'a mut dyn FnMut(&mut [u8]),
    /// PDUs, and data segments behind them, that are still to be followed. Most bring no event, so a
    /// caller that has others to serve sets a bound; at 0 there may be more.
    pub steps: u32,
}

/// Where the kernel says that the streams stand, in bytes since the connection was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    pub received: u64,
    pub sent: u64,
}

/// Why memory cannot be that of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupError {
    /// What [`Limits::check`] said.
    Limits(&'static str),
    /// Not one region at address 0 that is long enough.
    Memory,
    NotAConnection,
    Version(u64),
    /// The state contradicts itself, or the positions.
    State,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    LoggedOut,
    /// The login was refused.
    LoginFailed,
    /// The initiator broke a rule that leaves no way to go on; the counter says which.
    Protocol(Fault),
    HungUp,
    Timeout(Fault),
    /// Another connection has its place.
    Displaced,
    /// TARGET COLD RESET.
    ColdReset,
}

/// What the caller has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The login has named its target: [`Connection::claim`].
    Target,
    /// That connection is to be ended first; then go on here.
    Displace(ConnectionId),
    /// The login is done.
    Established,
    /// A SCSI command.
    Command(Tag),
    /// What [`Connection::collect`] asked for is there, or will never be.
    DataOut(Tag),
    /// A task management function.
    Manage(Tag),
    /// No more input is looked at. Tasks that are still out are to be dropped.
    Ended(End),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Login,
    Full,
    Ending(End),
}

/// State that changes with every turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hot {
    pub phase: Phase,
    pub exp_cmd_sn: u32,
    pub stat_sn: u32,
    /// Counts deliveries.
    pub order: u64,
    pub tsih: u16,
    /// Instants in nanoseconds; 0: none.
    pub login_by: u64,
    pub heard: u64,
    pub nop_by: u64,
    pub nop_ttt: u32,
    pub logout_by: u64,
    pub close_by: u64,
}

/// One connection of one initiator.
pub struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) memory: Arc<Memory>,
    pub(crate) window: Window,
    pub(crate) layout: Layout,
    pub(crate) portal: u16,
    pub(crate) local: String,
    pub(crate) hot: Hot,
    pub(crate) hot_dirty: bool,
    pub(crate) login: Login,
    pub(crate) texts: Texts,
    pub(crate) cold_dirty: bool,
    cold_copy: usize,
    pub(crate) tasks: Tasks,
    pub(crate) receive: Receive,
    pub(crate) transmit: Transmit,
    /// In order, waiting for memory.
    pub(crate) queued: VecDeque<u16>,
    /// Ahead of ExpCmdSN.
    pub(crate) held: Vec<u16>,
    /// With an answer to be sent; and with R2Ts to be sent.
    pub(crate) answered: VecDeque<u16>,
    pub(crate) soliciting: VecDeque<u16>,
    /// In the transmit queue with their data, by the position of their end.
    pub(crate) sending: VecDeque<u16>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) announced: bool,
    /// Who the caller was told of, while that request is not yet taken.
    pub(crate) named: Option<Claim>,
    pub(crate) hung_up: bool,
    pub(crate) blocked: bool,
    pub(crate) now: Instant,
    pub(crate) faults: [u64; Fault::COUNT],
    commit: u64,
}

impl core::fmt::Debug for Connection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("phase", &self.hot.phase)
            .field("initiator", &self.login.initiator)
            .field("target", &self.login.target)
            .finish_non_exhaustive()
    }
}

/// How long what is left to say may take after a connection has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

impl Connection {
    /// A connection that was just accepted, in memory of zeroes. `local`: its own address and port,
    /// for portals that listen on any address.
    pub fn create(
        memory: Arc<Memory>,
        limits: &Limits,
        id: ConnectionId,
        local: &str,
        portal: u16,
        now: Instant,
    ) -> Result<Connection, SetupError> {
        limits.check().map_err(SetupError::Limits)?;
        let layout = Layout::new(*limits);
        let window = open(&memory, &layout)?;
        limits.save(&window);
        window.store_u64(PORTAL_AT, u64::from(portal));
        window.store_u64(CREATED_AT, now.nanos());
        let local = local.get(..local.len().min(LOCAL_MAX_BYTES)).unwrap_or("");
        // At most 63.
        window.store_u8(LOCAL_AT, local.len() as u8);
        window.write_bytes(LOCAL_AT.wrapping_add(1), local.as_bytes());
        window.store_u64(VERSION_AT, VERSION);
        let mut connection = Self::empty(memory, window, layout, id, portal, String::from(local), now);
        connection.hot.login_by = now.after(Duration::from_secs(u64::from(limits.login_seconds))).nanos();
        connection.hot_dirty = true;
        connection.commit();
        connection.window.store_release_u64(MAGIC_AT, MAGIC);
        Ok(connection)
    }

    fn empty(
        memory: Arc<Memory>,
        window: Window,
        layout: Layout,
        id: ConnectionId,
        portal: u16,
        local: String,
        now: Instant,
    ) -> Connection {
        let tasks = usize::from(layout.tasks());
        Connection {
            id,
            memory,
            window,
            layout,
            portal,
            local,
            hot: Hot {
                phase: Phase::Login,
                exp_cmd_sn: 0,
                stat_sn: 0,
                order: 0,
                tsih: 0,
                login_by: 0,
                heard: now.nanos(),
                nop_by: 0,
                nop_ttt: 0,
                logout_by: 0,
                close_by: 0,
            },
            hot_dirty: false,
            login: Login::default(),
            texts: Texts::default(),
            cold_dirty: false,
            cold_copy: 0,
            tasks: Tasks::new(layout),
            receive: Receive::new(&layout),
            transmit: Transmit::new(layout),
            queued: VecDeque::with_capacity(tasks),
            held: Vec::with_capacity(tasks),
            answered: VecDeque::with_capacity(tasks),
            soliciting: VecDeque::with_capacity(tasks),
            sending: VecDeque::with_capacity(tasks),
            events: VecDeque::with_capacity(tasks),
            announced: false,
            named: None,
            hung_up: false,
            blocked: false,
            now,
            faults: [0; Fault::COUNT],
            commit: 0,
        }
    }

    /// Goes on where a predecessor was when it died, or was left. What was never committed is as if
    /// it had not been, and bytes that the predecessor had received for it are followed again.
    pub fn resume(
        memory: Arc<Memory>,
        id: ConnectionId,
        positions: Positions,
        now: Instant,
    ) -> Result<Connection, SetupError> {
        let head = memory.window(Address(0), 4096).ok_or(SetupError::Memory)?;
        if head.load_acquire_u64(MAGIC_AT) != MAGIC {
            return Err(SetupError::NotAConnection);
        }
        match head.load_u64(VERSION_AT) {
            VERSION => {}
            other => return Err(SetupError::Version(other)),
        }
        let limits = Limits::load(&head).ok_or(SetupError::State)?;
        limits.check().map_err(SetupError::Limits)?;
        let layout = Layout::new(limits);
        let window = open(&memory, &layout)?;
        let portal = u16::try_from(window.load_u64(PORTAL_AT)).map_err(|_| SetupError::State)?;
        let mut bytes = [0; LOCAL_MAX_BYTES];
        let len = usize::from(window.load_u8(LOCAL_AT)).min(LOCAL_MAX_BYTES);
        window.read_bytes(LOCAL_AT.wrapping_add(1), &mut bytes);
        let local = bytes.get(..len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("");
        let mut connection = Self::empty(memory, window, layout, id, portal, String::from(local), now);
        connection.load(positions).ok_or(SetupError::State)?;
        Ok(connection)
    }

    fn load(&mut self, positions: Positions) -> Option<()> {
        let commit = self.window.load_acquire_u64(COMMIT_AT);
        self.commit = commit;
        let at = Layout::hot(commit);
        let word = |index: usize| self.window.load_u64(at.wrapping_add(index.wrapping_mul(8)));
        let low = |word: u64| (word & 0xffff_ffff) as u32;
        let followed = word(0);
        let body = receive::load_body(&self.window, at.wrapping_add(8));
        let marks = Marks {
            first: word(9),
            first_at: word(10),
            next: word(11),
            end: word(12),
            headers: word(13),
            headers_over: word(14),
        };
        self.hot = Hot {
            phase: decode_phase(word(17))?,
            exp_cmd_sn: low(word(15)),
            stat_sn: low(word(15) >> 32),
            order: word(16),
            tsih: (word(17) >> 48) as u16,
            login_by: word(18),
            heard: word(19),
            nop_by: word(20),
            nop_ttt: low(word(21)),
            logout_by: word(22),
            close_by: word(23),
        };
        self.tasks = Tasks::load(self.layout, &self.window, commit);
        self.load_cold(commit)?;
        self.transmit = Transmit::resume(self.layout, marks, positions.sent, &self.window)?;
        self.receive.followed = followed;
        self.receive.body = body;
        self.receive.received = followed;
        self.receive.committed(self.body_place());
        if positions.received < followed || positions.received.wrapping_sub(followed) > self.receive.room() {
            return None;
        }
        self.receive.received = positions.received;
        self.receive.inherited = positions.received;
        self.receive.noticed = positions.received;
        // The time that nobody was here is not held against the initiator.
        let from_now = |time: u64, seconds: u16| match time {
            0 => 0,
            time => time.max(self.now.after(Duration::from_secs(u64::from(seconds))).nanos()),
        };
        let limits = self.layout.limits;
        self.hot.login_by = from_now(self.hot.login_by, limits.login_seconds);
        self.hot.nop_by = from_now(self.hot.nop_by, limits.nop_answer_seconds);
        self.hot.heard = self.now.nanos();
        self.restore_queues();
        if let Phase::Ending(end) = self.hot.phase {
            self.events.push_back(Event::Ended(end));
        }
        Some(())
    }

    /// The queues follow from the states of the tasks.
    fn restore_queues(&mut self) {
        let mut slots: Vec<u16> = self.tasks.slots().collect();
        slots.sort_by_key(|slot| self.tasks.get(*slot).map(|task| (task.order, task.end)));
        for slot in slots {
            let Some(task) = self.tasks.get(slot).copied() else { continue };
            self.tasks.change(slot, |task| task.flags |= is::RESUMED);
            match task.state {
                State::Free => {}
                // Only the task whose data segment is under way arrives.
                State::Arriving => {
                    if self.receive.body.and_then(|body| body.slot) != Some(slot) {
                        self.tasks.release(slot);
                    }
                }
                State::Held => self.held.push(slot),
                State::Queued => self.queued.push_back(slot),
                State::Delivered if task.kind == Kind::Manage => {
                    self.events.push_back(Event::Manage(self.tasks.tag(slot)));
                }
                State::Delivered => {
                    self.tasks.change(slot, |task| task.flags &= !is::COLLECTING);
                    self.events.push_back(Event::Command(self.tasks.tag(slot)));
                    if task.requested < task.wanted {
                        self.soliciting.push_back(slot);
                    }
                }
                State::Answered if task.has(is::IN_QUEUE) => self.answered.push_back(slot),
                State::Answered => {}
                State::Sending => self.sending.push_back(slot),
            }
        }
        let tasks = &self.tasks;
        self.sending.make_contiguous().sort_by_key(|slot| tasks.get(*slot).map(|task| task.end));
        self.release_sent();
    }

    /// Where the rest of the segment that is being taken goes.
    fn body_place(&self) -> [Span; 2] {
        match self.receive.body {
            Some(body) => match body.slot {
                Some(slot) => self.tasks.place(slot, body.offset.wrapping_add(body.done), body.left()),
                None => [Span::default(); 2],
            },
            None => [Span::default(); 2],
        }
    }

    fn load_cold(&mut self, commit: u64) -> Option<()> {
        let mut best = (0, 0usize);
        for copy in 0..2usize {
            let at = cold_at(copy);
            let number = self.window.load_u64(at);
            if number > commit {
                self.window.store_u64(at, 0);
            } else if number > best.0 {
                best = (number, copy);
            }
        }
        self.cold_copy = best.1;
        if best.0 == 0 {
            return Some(());
        }
        let at = cold_at(best.1);
        let len = usize::try_from(self.window.load_u64(at.wrapping_add(8))).ok()?.min(COLD_MAX_BYTES);
        let mut bytes = alloc::vec![0; len];
        self.window.read_bytes(at.wrapping_add(16), &mut bytes);
        let mut decoder = Decoder(&bytes);
        self.login = Login::decode(&mut decoder)?;
        self.texts = Texts::decode(&mut decoder)?;
        Some(())
    }

    fn save_cold(&mut self, commit: u64) {
        let mut encoder = Encoder::default();
        self.login.encode(&mut encoder);
        self.texts.encode(&mut encoder);
        assert!(encoder.0.len() <= COLD_MAX_BYTES, "texts are bounded well below their place");
        self.cold_copy ^= 1;
        let at = cold_at(self.cold_copy);
        self.window.store_u64(at, commit);
        self.window.store_u64(at.wrapping_add(8), encoder.0.len() as u64);
        self.window.write_bytes(at.wrapping_add(16), &encoder.0);
    }

    /// Makes everything that was done the truth, by one store. `false`: nothing was to be done.
    ///
    /// What is in the transmit queue may be sent from now on.
    pub fn commit(&mut self) -> bool {
        self.pump();
        if !self.is_dirty() {
            return false;
        }
        let next = self.commit.wrapping_add(1);
        self.tasks.save(&self.window, next);
        if self.cold_dirty {
            self.save_cold(next);
            self.cold_dirty = false;
        }
        let marks = self.transmit.marks();
        let mut words = [0; HOT_WORDS];
        words[0] = self.receive.followed;
        words[1..9].copy_from_slice(&receive::save_body(self.receive.body.as_ref()));
        words[9] = marks.first;
        words[10] = marks.first_at;
        words[11] = marks.next;
        words[12] = marks.end;
        words[13] = marks.headers;
        words[14] = marks.headers_over;
        words[15] = u64::from(self.hot.exp_cmd_sn) | u64::from(self.hot.stat_sn) << 32;
        words[16] = self.hot.order;
        words[17] = encode_phase(self.hot.phase) | u64::from(self.hot.tsih) << 48;
        words[18] = self.hot.login_by;
        words[19] = self.hot.heard;
        words[20] = self.hot.nop_by;
        words[21] = u64::from(self.hot.nop_ttt);
        words[22] = self.hot.logout_by;
        words[23] = self.hot.close_by;
        let at = Layout::hot(next);
        for (index, word) in words.iter().enumerate().take(24) {
            self.window.store_u64(at.wrapping_add(index.wrapping_mul(8)), *word);
        }
        self.window.store_release_u64(COMMIT_AT, next);
        self.commit = next;
        self.hot_dirty = false;
        self.tasks.committed();
        self.transmit.committed();
        self.receive.committed(self.body_place());
        true
    }

    fn is_dirty(&self) -> bool {
        self.hot_dirty || self.cold_dirty || self.tasks.is_dirty() || self.transmit.is_dirty()
    }

    /// Where the next bytes go, in the order of `readv`: at most [`crate::RECEIVE_PIECES_MAX`]
    /// pieces. 0: there is no room; commit, and if that does not help go on when something was sent
    /// or has ended.
    ///
    /// This follows from the last commit, so receive after it: a data segment goes straight to its
    /// task only then.
    pub fn receive_into(&self, into: &mut [Span]) -> usize {
        match self.hot.phase {
            Phase::Ending(_) => 0,
            _ if self.hung_up => 0,
            _ => self.receive.plan(into),
        }
    }

    /// So many bytes came.
    pub fn received(&mut self, bytes: u32) {
        let bytes = u64::from(bytes).min(self.receive.room());
        self.receive.received = self.receive.received.wrapping_add(bytes);
    }

    /// The peer has closed its side, or the connection is broken.
    pub fn hung_up(&mut self) {
        self.hung_up = true;
    }

    /// What is to be sent now, in the order of `sendmsg`: committed bytes only.
    pub fn transmit(&self, into: &mut [Span]) -> usize {
        self.transmit.pieces(into, &self.window)
    }

    /// The socket has taken so many bytes.
    pub fn sent(&mut self, bytes: u32) {
        if bytes > 0 && !self.transmit.has_room(8, 4) {
            // The queue was full and moves: somebody reads, however slowly.
            self.hot.heard = self.now.nanos();
            self.hot.nop_by = 0;
            self.hot_dirty = true;
        }
        self.transmit.sent(bytes, &self.window);
        self.release_sent();
    }

    fn release_sent(&mut self) {
        while let Some(slot) = self.sending.front().copied() {
            match self.tasks.get(slot) {
                Some(task) if task.end > self.transmit.sent_to() => break,
                _ => {}
            }
            self.sending.pop_front();
            self.tasks.release_sent(slot);
        }
    }

    /// Bytes that came wait for room that a commit, a send or the end of a task makes: call `next`
    /// again after it.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Committed or not yet committed output is there.
    pub fn wants_to_send(&self) -> bool {
        !self.transmit.is_flushed() || !self.answered.is_empty()
    }

    /// The time at which `next` is to be called even if nothing happens. None that it has seen pass:
    /// an ended connection may wait long for a task, and nobody should ask all the while.
    pub fn next_deadline(&self) -> Option<Instant> {
        let hot = &self.hot;
        let nop_seconds = u64::from(self.layout.limits.nop_seconds);
        let silence = if nop_seconds == 0 || hot.nop_by != 0 {
            0
        } else {
            Instant::from_nanos(hot.heard).after(Duration::from_secs(nop_seconds)).nanos()
        };
        let times = match hot.phase {
            Phase::Login => [hot.login_by, 0, 0],
            Phase::Full => [hot.nop_by, hot.logout_by, silence],
            Phase::Ending(_) => [hot.close_by, 0, 0],
        };
        times.into_iter().filter(|time| *time > self.now.nanos()).min().map(Instant::from_nanos)
    }

    /// Ends the connection: no more input is looked at.
    pub(crate) fn end(&mut self, end: End) {
        if let Phase::Ending(_) = self.hot.phase {
            return;
        }
        self.hot.phase = Phase::Ending(end);
        self.hot.close_by = self.now.after(LAST_WORDS).nanos();
        self.hot_dirty = true;
        // A logout is answered behind what was answered before it; otherwise nobody listens.
        if end != End::LoggedOut && end != End::ColdReset {
            for slot in core::mem::take(&mut self.answered) {
                self.tasks.release(slot);
            }
        }
        for slot in core::mem::take(&mut self.queued).into_iter().chain(core::mem::take(&mut self.held)) {
            self.tasks.release(slot);
        }
        self.soliciting.clear();
        // What the caller was never told of is nobody's.
        for event in core::mem::take(&mut self.events) {
            if let Event::Command(tag) | Event::Manage(tag) = event {
                self.tasks.release(tag.slot());
            }
        }
        self.events.push_back(Event::Ended(end));
    }

    pub(crate) fn end_by(&mut self, fault: Fault) {
        self.count(fault);
        self.end(match fault {
            Fault::LoginTimeout | Fault::NopTimeout | Fault::LogoutTimeout => End::Timeout(fault),
            Fault::HungUp => End::HungUp,
            Fault::Displaced => End::Displaced,
            _ => End::Protocol(fault),
        });
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        if let Some(counter) = self.faults.get_mut(fault as usize) {
            *counter = counter.wrapping_add(1);
        }
    }

    /// Everything is over: the socket may be closed and the memory given away.
    pub fn is_over(&self) -> bool {
        let Phase::Ending(_) = self.hot.phase else { return false };
        let quiet = self.hung_up
            || (self.transmit.is_flushed() && self.answered.is_empty())
            || self.now.nanos() >= self.hot.close_by;
        quiet && self.events.is_empty() && self.tasks().next().is_none()
    }

    /// Nothing is under way and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.transmit.is_flushed() && self.receive.available() == 0
    }

    /// The memory of data: while the connection is idle its pages may be given back.
    pub fn idle_span(&self) -> (u64, u64) {
        let at = self.layout.slots as u64;
        (at, (self.layout.end as u64).saturating_sub(at))
    }

    pub fn is_established(&self) -> bool {
        self.hot.phase == Phase::Full
    }

    pub fn end_reason(&self) -> Option<End> {
        match self.hot.phase {
            Phase::Ending(end) => Some(end),
            _ => None,
        }
    }

    pub fn id(&self) -> ConnectionId {
        self.id
    }

    pub fn limits(&self) -> &Limits {
        &self.layout.limits
    }

    /// Who is there, and where it wants to; `None` until it has said so.
    pub fn claim(&self) -> Option<Claim> {
        if self.login.is_named() { Some(self.claim_of(&self.login)) } else { self.named.clone() }
    }

    pub(crate) fn claim_of(&self, login: &Login) -> Claim {
        Claim {
            connection: self.id,
            target: login.target.clone(),
            initiator: login.initiator.clone(),
            isid: login.isid,
            portal: self.portal,
            tsih: if self.hot.tsih != 0 { self.hot.tsih } else { login.tsih },
            cid: login.cid,
            discovery: login.negotiation.discovery,
        }
    }

    pub fn negotiated(&self) -> &Parameters {
        &self.login.negotiation.parameters
    }

    /// How often each rule was broken since this process has the connection.
    pub fn faults(&self) -> &[u64; Fault::COUNT] {
        &self.faults
    }

    /// The LUNs that this session sees, ascending.
    pub fn luns(&self, directory: &Directory) -> Vec<u16> {
        directory
            .target(&self.login.target)
            .map(|target| target.visible(&self.login.initiator))
            .unwrap_or_default()
    }

    /// Tasks that the caller has and has not answered.
    pub fn tasks(&self) -> impl Iterator<Item = Tag> + '_ {
        self.tasks
            .slots()
            .filter(|slot| self.tasks.get(*slot).is_some_and(|task| task.state == State::Delivered))
            .map(|slot| self.tasks.tag(slot))
    }

    /// Another connection takes the session over, or the server wants it gone.
    pub fn displaced(&mut self) {
        self.end_by(Fault::Displaced);
    }
}

fn open(memory: &Memory, layout: &Layout) -> Result<Window, SetupError> {
    let [region] = memory.regions() else { return Err(SetupError::Memory) };
    if region.guest != 0 || region.len < layout.end as u64 {
        return Err(SetupError::Memory);
    }
    let len = u32::try_from(layout.slots).map_err(|_| SetupError::Memory)?;
    memory.window(Address(0), len).ok_or(SetupError::Memory)
}

fn cold_at(copy: usize) -> usize {
    COLD_AT.wrapping_add((copy & 1).wrapping_mul(COLD_COPY_BYTES))
}

fn encode_phase(phase: Phase) -> u64 {
    match phase {
        Phase::Login => 0,
        Phase::Full => 1,
        Phase::Ending(End::LoggedOut) => 2,
        Phase::Ending(End::LoginFailed) => 3,
        Phase::Ending(End::HungUp) => 4,
        Phase::Ending(End::Displaced) => 5,
        Phase::Ending(End::ColdReset) => 6,
        Phase::Ending(End::Protocol(fault)) => 7 | (fault as u64) << 8,
        Phase::Ending(End::Timeout(fault)) => 8 | (fault as u64) << 8,
    }
}

fn decode_phase(word: u64) -> Option<Phase> {
    let fault = || Fault::ALL.get((word >> 8 & 0xff) as usize).copied();
    Some(match word & 0xff {
        0 => Phase::Login,
        1 => Phase::Full,
        2 => Phase::Ending(End::LoggedOut),
        3 => Phase::Ending(End::LoginFailed),
        4 => Phase::Ending(End::HungUp),
        5 => Phase::Ending(End::Displaced),
        6 => Phase::Ending(End::ColdReset),
        7 => Phase::Ending(End::Protocol(fault()?)),
        8 => Phase::Ending(End::Timeout(fault()?)),
        _ => return None,
    })
}
