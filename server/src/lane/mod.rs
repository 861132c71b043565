//! A lane: one thread, and everything that its slots need. No locks; other threads send it commands.
//!
//! # A turn
//!
//! 1. Commands and sockets, when the last look at the wait named some.
//! 2. Every active ring is served, a burst at most, so that one guest cannot hold the lane.
//! 3. Disks are polled, requests end, and their used elements are staged.
//! 4. Rings with staged elements publish them, with one interrupt each.
//! 5. What the disks were given goes to the kernel, in one call.
//!
//! # Awake and asleep
//!
//! A ring is *active* from its kick until it has had nothing for [`SPIN_NANOS`]; meanwhile its guest
//! need not kick. Then kicks are asked for again, with one more look against the race. When no ring is
//! active the lane sleeps in one epoll for everything: kicks, sockets, the io_uring, TAPs, commands.
//! While it is busy it looks at the epoll now and then without waiting.

mod block;
mod device;
mod emulated;
pub mod iscsi;
mod link;
mod listener;
mod luns;
mod machine;
mod net;
pub mod objects;
mod requests;
mod rest;
mod ring;
pub mod scratch;
mod scsi;
mod slot;
pub mod stable;
mod token;
pub mod unit;
pub mod volume;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use control::Problem;
use crossbeam_channel::{Receiver, Sender};
use host::event::Event;
use host::ring::{Client, Ring};
use host::wait::{Interest, Wait};
use request::{Instant, Status};

use crate::blame;
use crate::engine::Report;
use crate::vault::Vault;
use emulated::Emulated;
use iscsi::Iscsi;
use net::Networks;
use requests::Requests;
use scratch::Scratch;
use slot::Slot;
use stable::Stable;
use token::Token;
use volume::Volumes;

/// The name under which the fences of lanes' io_urings are kept.
pub const LANE_FENCE: &str = "fence";

/// The name under which a slot's listener is kept, behind `SLOT/`.
pub use link::LISTENER;

/// The name under which the queues of uplinks are kept.
pub const UPLINK: &str = "uplink";

/// A ring that had nothing for this long is left to its kicks. About what a kick and a wake-up cost
/// together, so that waiting costs at most twice the best choice (the ski-rental bound).
const SPIN_NANOS: u64 = 50_000;
/// Requests that one ring may start in a turn.
const BURST_MAX: usize = 64;
/// Turns between two looks at the wait while rings are active.
const LOOK_EVERY: u32 = 32;
/// Requests at the disks of one lane.
const REQUESTS_MAX: usize = 16_384;
/// Of these one slot may have so many out, so that a store that hangs does not take all of them.
/// QEMU's largest ring by default is 256; the rest waits in the guest's rings.
const OUTSTANDING_MAX: u32 = 2048;
const RING_ENTRIES: u32 = 4096;

type Command = Box<dyn FnOnce(&mut Lane) + Send>;

/// How other threads speak to a lane.
#[derive(Debug)]
pub struct LaneHandle {
    commands: Sender<Command>,
    wake: Event,
}

impl LaneHandle {
    /// Starts a lane's thread.
    pub fn start(index: u32, vault: Vault, stable: Stable) -> Result<Self, Problem> {
        let failed = |error: std::io::Error| {
            Problem::failed(format!("cannot start lane {index}: {error}"))
                .hint("io_uring and epoll_pwait2 are needed: Linux 5.11 or newer, and io_uring not forbidden (kernel.io_uring_disabled)")
        };
        let (commands, received) = crossbeam_channel::unbounded::<Command>();
        let wake = Event::new().map_err(failed)?;
        let woken = wake.try_clone().map_err(failed)?;
        let (made, is_made) = crossbeam_channel::bounded(1);
        std::thread::Builder::new()
            .name(format!("lane{index}"))
            .spawn(move || match Lane::new(index, vault, stable, received, woken) {
                Ok(mut lane) => {
                    blame::this_is_a_lane();
                    // Looks at silent slots are 25 us apart, and a timer may be 50 us late.
                    host::process::be_punctual();
                    let _ = made.send(Ok(()));
                    lane.run();
                }
                Err(error) => {
                    let _ = made.send(Err(error));
                }
            })
            .map_err(failed)?;
        match is_made.recv() {
            Ok(Ok(())) => Ok(Self { commands, wake }),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Problem::failed(format!("lane {index} ended as it started"))),
        }
    }

    /// The same lane for another thread.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self { commands: self.commands.clone(), wake: self.wake.try_clone()? })
    }

    /// Has the lane do something.
    pub fn tell(&self, run: impl FnOnce(&mut Lane) + Send + 'static) {
        // A lane that has ended needs nothing.
        if self.commands.send(Box::new(run)).is_ok() {
            self.wake.signal();
        }
    }

    /// Has the lane do something, and waits for the answer.
    pub fn call<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut Lane) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let (answer, answered) = crossbeam_channel::bounded(1);
        let gone = || Problem::failed("a lane of the server has stopped");
        self.commands
            .send(Box::new(move |lane| {
                let _ = answer.send(run(lane));
            }))
            .map_err(|_| gone())?;
        self.wake.signal();
        answered.recv().map_err(|_| gone())
    }
}

/// What the lane did, for the operator.
#[derive(Default)]
struct Counters {
    turns: u64,
    sleeps: u64,
    wakes: u64,
}

/// One thread's world.
pub struct Lane {
    index: u32,
    vault: Vault,
    wait: Wait,
    ring: Rc<Ring>,
    commands: Receiver<Command>,
    wake: Event,
    slots: Vec<Option<Box<Slot>>>,
    /// Rings that are looked at every turn.
    active: Vec<(u32, u32)>,
    /// Rings with used elements that the guest does not see yet.
    staged: Vec<(u32, u32)>,
    requests: Requests,
    /// Requests that wait for other tasks to end.
    waiting: Vec<u32>,
    /// Volumes on whose units a task may go on that was held back.
    wakers: Vec<u32>,
    scratch: Scratch,
    /// Works of units that wait for scratch memory.
    background: Vec<(u32, Box<dyn ::scsi::Work>)>,
    /// A unit remembers as many answers as it can: nothing more is begun before they are seen.
    journal_full: bool,
    stable: Stable,
    volumes: Volumes,
    networks: Networks,
    iscsi: Iscsi,
    emulated: Emulated,
    /// Room that requests pass through: data of a reply, ends of a poll, clients of a reap.
    reply: Vec<u8>,
    ended: Vec<(u32, Status)>,
    clients: Vec<Client>,
    ready: Vec<Token>,
    now: Instant,
    /// Milliseconds since 1970 began, as commands want them; looked at with the wait.
    clock_millis: u64,
    /// What the last worker left of this lane's uplinks and nobody took up yet.
    estate: HashMap<String, OwnedFd>,
    quiet: bool,
    counters: Counters,
}

impl Lane {
    fn new(
        index: u32,
        vault: Vault,
        stable: Stable,
        commands: Receiver<Command>,
        wake: Event,
    ) -> std::io::Result<Self> {
        let wait = Wait::new(256)?;
        let ring = Rc::new(Ring::new(RING_ENTRIES)?);
        // The number of the process makes the name new: the fence of a dead worker's lane may still
        // be there.
        vault.keep(&format!("{LANE_FENCE}/{}.{index}", std::process::id()), ring.fence());
        wait.add(wake.as_fd(), Token::Command.into(), Interest::READ)?;
        wait.add(ring.as_fd(), Token::Ring.into(), Interest::READ)?;
        let volumes = Volumes::new(Rc::clone(&ring), vault.clone());
        Ok(Self {
            index,
            vault,
            wait,
            commands,
            wake,
            slots: Vec::new(),
            active: Vec::new(),
            staged: Vec::new(),
            requests: Requests::new(REQUESTS_MAX),
            volumes,
            ring,
            waiting: Vec::new(),
            wakers: Vec::new(),
            scratch: Scratch::default(),
            background: Vec::new(),
            journal_full: false,
            stable,
            networks: Networks::default(),
            iscsi: Iscsi::default(),
            emulated: Emulated::default(),
            reply: Vec::new(),
            ended: Vec::new(),
            clients: Vec::new(),
            ready: Vec::new(),
            now: Instant::from_nanos(host::process::now_nanos()),
            clock_millis: clock_millis(),
            estate: HashMap::new(),
            quiet: false,
            counters: Counters::default(),
        })
    }

    fn run(&mut self) {
        let mut turns_since_look = 0;
        loop {
            self.counters.turns += 1;
            self.now = Instant::from_nanos(host::process::now_nanos());
            self.serve_rings();
            self.serve_emulated();
            self.serve_sessions();
            self.end_requests();
            self.run_woken();
            self.publish();
            // After the disks were polled: they may have more for the kernel.
            let submitted = self.ring.submit().unwrap_or(false);
            turns_since_look += 1;
            let busy = !self.active.is_empty()
                || !self.staged.is_empty()
                || !self.wakers.is_empty()
                || self.iscsi.is_busy()
                || self.emulated.is_busy()
                || !submitted
                || self.volumes.has_unpolled();
            if busy && turns_since_look < LOOK_EVERY {
                continue;
            }
            turns_since_look = 0;
            let timeout = if busy { Some(0) } else { self.sleep_for() };
            if timeout != Some(0) {
                self.counters.sleeps += 1;
            }
            if !self.look(timeout) {
                return;
            }
        }
    }

    /// How long nobody needs us: until the next deadline of a disk, a network or a session.
    fn sleep_for(&self) -> Option<u64> {
        let deadlines = [
            self.volumes.next_deadline(),
            self.networks.next_deadline(),
            self.iscsi.next_deadline(),
            self.emulated.next_deadline(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        let now = Instant::from_nanos(host::process::now_nanos());
        Some(next.since(now).as_nanos().min(u128::from(u64::MAX)) as u64)
    }

    /// Looks at the wait, and follows what it names. `false`: the lane is to end.
    fn look(&mut self, timeout: Option<u64>) -> bool {
        // Some of it may be left of a wait that followed nothing.
        let mut ready = std::mem::take(&mut self.ready);
        let timeout = if ready.is_empty() { timeout } else { Some(0) };
        if let Err(error) = self.wait.wait(timeout) {
            tracing::error!(lane = self.index, %error, "cannot wait for events");
            return false;
        }
        ready.extend(self.wait.ready().map(|ready| Token::from(ready.token)));
        self.counters.wakes += u64::from(!ready.is_empty());
        self.clock_millis = clock_millis();
        self.now = Instant::from_nanos(host::process::now_nanos());
        for token in ready.drain(..) {
            match token {
                Token::Command => {
                    self.wake.clear();
                    loop {
                        match self.commands.try_recv() {
                            Ok(command) => command(self),
                            Err(crossbeam_channel::TryRecvError::Empty) => break,
                            Err(crossbeam_channel::TryRecvError::Disconnected) => return false,
                        }
                    }
                }
                Token::Ring => {}
                Token::Listener(slot) => {
                    let wait = &self.wait;
                    if let Some(Some(slot)) = self.slots.get_mut(slot as usize) {
                        slot.accept(wait);
                    }
                }
                Token::Link(slot) => self.on_link(slot),
                Token::Kick { slot, ring } => self.activate(slot, ring),
                Token::Uplink { uplink, queue } => self.on_uplink(uplink, queue),
                Token::EmulatedListener(slot) => self.accept_emulated(slot),
                Token::Emulated(slot) => self.on_emulated(slot),
                Token::Unmask(slot) => self.on_unmask(slot),
                Token::Portal(portal) => self.on_portal(portal),
                Token::Session(session) => self.on_session(session),
            }
        }
        ready.append(&mut self.ready);
        self.ready = ready;
        self.networks.age(self.now);
        self.age_sessions();
        true
    }

    fn on_link(&mut self, index: u32) {
        self.blame(index);
        let wait = &self.wait;
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        let after = slot.on_link(wait);
        if after.rings || after.gone {
            self.look_at_rings(index);
        }
        if let Some(volume) = after.flush {
            self.flush_volume(volume);
        }
        if after.reset {
            self.reset_nexuses(index);
        }
        if let Some(mac) = after.announce {
            self.announce(index, mac);
        }
    }

    /// Rings of a slot may have started: there may be work in them already.
    fn look_at_rings(&mut self, index: u32) {
        let Some(Some(slot)) = self.slots.get(index as usize) else { return };
        let served: Vec<u32> =
            (0..slot.rings.len() as u32).filter(|ring| slot.rings[*ring as usize].is_served()).collect();
        for ring in served {
            self.activate(index, ring);
        }
        self.rings_changed(index);
    }

    /// From now on the ring is looked at every turn.
    fn activate(&mut self, index: u32, ring: u32) {
        let now = self.now.nanos();
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        if !slot.device.is_polled(ring) {
            return;
        }
        let Some(served) = slot.rings.get_mut(ring as usize) else { return };
        if served.active || !served.is_served() {
            return;
        }
        served.active = true;
        served.worked_at = now;
        if let Some(queue) = &mut served.queue {
            queue.disable_kicks();
        }
        self.active.push((index, ring));
    }

    fn serve_rings(&mut self) {
        let mut at = 0;
        while at < self.active.len() {
            let (index, ring) = self.active[at];
            if self.serve_ring(index, ring) {
                at += 1;
            } else {
                self.active.swap_remove(at);
            }
        }
    }

    /// One look at one ring. `false`: it sleeps from now on.
    fn serve_ring(&mut self, index: u32, ring: u32) -> bool {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return false };
        let Some(served) = slot.rings.get_mut(ring as usize) else { return false };
        if !served.is_served() {
            served.active = false;
            return false;
        }
        if !slot.device.is_polled(ring) {
            // Events were waiting for buffers and are told: what is posted now is for later ones.
            served.active = false;
            return false;
        }
        if slot.outstanding >= OUTSTANDING_MAX {
            slot.throttled = true;
            served.active = false;
            return false;
        }
        let has_work = served.queue.as_ref().is_some_and(|queue| queue.has_work()) && !self.quiet;
        if has_work {
            served.worked_at = self.now.nanos();
            self.blame(index);
            self.serve_burst(index, ring);
            return true;
        }
        if self.now.nanos().wrapping_sub(served.worked_at) < SPIN_NANOS {
            return true;
        }
        if let Some(queue) = &mut served.queue
            && queue.enable_kicks()
            && !self.quiet
        {
            queue.disable_kicks();
            served.worked_at = self.now.nanos();
            return true;
        }
        served.active = false;
        false
    }

    /// A slot came or went: nobody is blamed until somebody is served again.
    fn blame_nobody(&mut self) {
        blame::serving(None);
    }

    fn blame(&mut self, index: u32) {
        blame::turn_to(index);
    }

    /// Notes that a ring has used elements to publish.
    fn stage(staged: &mut Vec<(u32, u32)>, slot: &mut Slot, ring: u32) {
        if let Some(served) = slot.rings.get_mut(ring as usize)
            && !served.staged
        {
            served.staged = true;
            staged.push((slot.index, ring));
        }
    }

    /// Makes everything that ended visible, with one interrupt a ring.
    ///
    /// What an answer tells must not be forgotten before its initiator can see it, nor be told twice
    /// behind that: so the units' states are saved before and after.
    fn publish(&mut self) {
        let changed = self.volumes.save_changed();
        self.publish_rings();
        self.publish_emulated();
        self.publish_sessions();
        self.volumes.seen(changed);
        self.journal_full = false;
    }

    fn publish_rings(&mut self) {
        while let Some((index, ring)) = self.staged.pop() {
            let Some(Some(slot)) = self.slots.get_mut(index as usize) else { continue };
            let Slot { memory, rings, device, link, .. } = &mut **slot;
            let Some(served) = rings.get_mut(ring as usize) else { continue };
            served.staged = false;
            // A mode that the guest is told of must not be forgotten.
            if let Some(state) = device.take_dirty_state() {
                link.ledger.model.save(&state);
            }
            if let Some(queue) = &mut served.queue
                && queue.publish(memory)
            {
                slot.signal(ring);
            }
            self.after_publish(index);
        }
    }

    /// A guest that can see the end of its requests may be waiting for nothing else.
    fn after_publish(&mut self, index: u32) {
        let Some(Some(slot)) = self.slots.get_mut(index as usize) else { return };
        if slot.is_waiting() && slot.has_drained() {
            self.on_link(index);
            self.look_at_rings(index);
        }
    }

    pub fn report(&mut self) -> Report {
        let mut report = Report::default();
        report.lane.cpu_microseconds = host::process::thread_cpu_nanos() / 1000;
        report.lane.slots = self.slots.iter().flatten().count() as u32;
        report.lane.counters = [
            ("turns", self.counters.turns),
            ("sleeps", self.counters.sleeps),
            ("wakes", self.counters.wakes),
            ("requests_in_flight", self.requests.in_use() as u64),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        self.report_objects(&mut report);
        self.report_emulated(&mut report);
        self.report_iscsi(&mut report);
        report
    }
}

/// The clock on the wall.
fn clock_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
