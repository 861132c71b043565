//! One slot: its listener, its link, its guest's memory, its rings and its device.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use control::Problem;
use control::step::SlotSpec;
use guest_memory::{Log, Memory, Region, Window};
use host::event::PeerEvent;
use host::given::Given;
use host::map::{Account, Mapping, Refused};
use host::wait::{Interest, Wait};
use vhost_user::{Device as Described, Drain, Effect, Fault, InflightDescription};
use virtqueue::{Order, Queue, Setup};

use super::device::Device;
use super::link::{Head, INFLIGHT, LISTENER, Link, Message};
use super::listener::listen;
use super::ring::RingSlot;
use super::token::Token;
use crate::blame;
use crate::vault::{self, Vault};

/// Our own region for requests in flight has room for the largest ring; untouched pages cost nothing.
const INFLIGHT_STRIDE: usize = Queue::inflight_bytes(virtqueue::SIZE_MAX, true).next_multiple_of(4096);

/// A slot as its lane has it.
pub struct Slot {
    pub index: u32,
    pub spec: SlotSpec,
    pub link: Link,
    pub device: Device,
    pub memory: Arc<Memory>,
    pub rings: Vec<RingSlot>,
    pub certificate: Window,
    pub quarantined: bool,
    /// Requests at the disks, those of rings that were stopped included.
    pub outstanding: u32,
    /// Rings left alone because the slot has as many requests out as it may.
    pub throttled: bool,
    /// Some ring may have requests left that a dead worker had begun.
    resuming: bool,
    listener: UnixListener,
    mappings: HashMap<u32, Arc<Mapping>>,
    account: Arc<Account>,
    own_inflight: Arc<Mapping>,
    own_inflight_fd: OwnedFd,
    /// What the front end is waiting for at the moment.
    waiting: Option<Drain>,
    /// What the lane's wait is told of the link's socket.
    interest: Interest,
    faults: [u64; Fault::ALL.len()],
    /// Regions whose descriptor is no file of that size.
    regions_unmapped: u64,
    /// Rings that the guest broke, by how.
    ring_faults: [u64; virtqueue::Fault::ALL.len()],
    /// Rings that could not be served as they were described.
    rings_refused: u64,
}

/// What the lane has to do after a look at a slot's socket.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct After {
    /// Rings started or stopped.
    pub rings: bool,
    /// Send this address around, as the guest did after a migration (RARP).
    pub announce: Option<[u8; 6]>,
    /// The driver turned its disk to write-through: what lies in the cache of this volume has to be
    /// flushed.
    pub flush: Option<u32>,
    /// The driver or its machine was reset.
    pub reset: bool,
    /// The front end left.
    pub gone: bool,
}

/// Why a front end is thrown out.
pub const HELD_UP: &str = "a descriptor that it gave for interrupts made us wait";
pub const FLOODED: &str = "it brings descriptors that are neither memory, nor eventfds, nor unix sockets";

/// Messages that one front end may send before others have their turn.
const MESSAGES_MAX: usize = 16;

impl Slot {
    /// Makes the slot, or takes it up where the last worker left it. If that fails, all of that is still
    /// in `estate`.
    pub fn new(
        index: u32,
        spec: SlotSpec,
        device: Device,
        estate: &mut HashMap<String, OwnedFd>,
        vault: &Vault,
        wait: &Wait,
    ) -> Result<Self, Problem> {
        let name = spec.id.to_string();
        let failed = |what: &str, error: std::io::Error| {
            Problem::failed(format!("{what}: {error}")).at(format!("vm.{name}"))
        };
        let listener = listen(&spec, estate, vault)?;
        let queues = device.queues() as usize;
        let no_table = |error| failed("cannot make the table of requests in flight", error);
        if !estate.contains_key(INFLIGHT) {
            let len = (queues * INFLIGHT_STRIDE) as u64;
            let fd = host::memfd::create(&format!("standpipe-{name}-inflight"), len).map_err(no_table)?;
            vault.keep(&vault::name(&name, INFLIGHT), fd.as_fd());
            estate.insert(INFLIGHT.to_owned(), fd);
        }
        let own = estate[INFLIGHT].try_clone().map_err(no_table)?;
        let own_len = host::memfd::size(&own).unwrap_or(0) as usize;
        let own_inflight = Mapping::of_file(own.as_fd(), 0, own_len)
            .map_err(|error| failed("cannot map the table of requests in flight", error))?;
        wait.add(listener.as_fd(), Token::Listener(index).into(), Interest::READ)
            .map_err(|error| failed("cannot wait for connections", error))?;
        let link = Link::resume(&name, queues, estate, vault).map_err(|error| {
            let _ = wait.delete(listener.as_fd());
            failed("cannot make the slot's ledger", error)
        })?;
        let certificate = link.ledger.death_certificate();
        let quarantined = blame::is_quarantined(&certificate, host::process::now_nanos());
        blame::enroll(index, certificate.clone());
        let mut slot = Self {
            index,
            certificate,
            link,
            device,
            memory: Memory::empty(),
            rings: (0..queues).map(|_| RingSlot::default()).collect(),
            quarantined,
            outstanding: 0,
            throttled: false,
            resuming: false,
            listener,
            mappings: HashMap::new(),
            account: Arc::default(),
            own_inflight: Arc::new(own_inflight),
            own_inflight_fd: own,
            waiting: None,
            interest: Interest::READ,
            faults: [0; Fault::ALL.len()],
            regions_unmapped: 0,
            ring_faults: [0; virtqueue::Fault::ALL.len()],
            rings_refused: 0,
            spec,
        };
        if slot.quarantined {
            tracing::error!(
                slot = name,
                "this device brought the server down {} times; it is left alone",
                blame::DEATHS_MAX
            );
            return Ok(slot);
        }
        slot.resume_link(wait);
        Ok(slot)
    }

    /// What the last worker left half-way, then everything that its session says is there.
    fn resume_link(&mut self, wait: &Wait) {
        if !self.link.is_connected() {
            return;
        }
        blame::turn_to(self.index);
        if !self.link.finish_reply() {
            self.disconnect(wait);
            return;
        }
        self.device.restore(&self.link.ledger.model.load());
        self.device.set_features(self.link.session.state.features);
        if let Err(error) = self.rebuild_memory() {
            tracing::error!(slot = self.link.name, ?error, "the guest's memory cannot be mapped again");
        }
        self.memory.mark_all();
        for ring in 0..self.rings.len() as u32 {
            self.sync_ring(ring, true, wait);
            // An interrupt may have been lost with the worker; one too many does no harm.
            self.signal(ring);
        }
        self.interest = Interest::READ;
        if let Some(stream) = &self.link.stream {
            let _ = wait.add(stream.as_fd(), Token::Link(self.index).into(), self.interest);
        }
    }

    /// Tells the guest of used elements; a front end that holds us up by that is thrown out.
    pub fn signal(&mut self, ring: u32) {
        if !self.rings[ring as usize].signal() {
            self.link.expel(HELD_UP);
        }
    }

    /// A front end wants to connect.
    pub fn accept(&mut self, wait: &Wait) {
        if !self.link.is_connected()
            && !self.quarantined
            && blame::is_quarantined(&self.certificate, host::process::now_nanos())
        {
            self.quarantined = true;
            tracing::error!(
                slot = self.link.name,
                "this slot's front end held the server up; it is left alone"
            );
        }
        if self.link.is_connected() || self.quarantined || self.outstanding > 0 {
            // One at a time: the next one waits in the listener's queue until this one has left and
            // the last of its requests has ended, lest an old write overtake a new one.
            let _ = wait.modify(self.listener.as_fd(), Token::Listener(self.index).into(), Interest::NONE);
            return;
        }
        let Ok((stream, _)) = self.listener.accept() else { return };
        if let Err(error) = self.link.connect(stream) {
            tracing::warn!(slot = self.link.name, %error, "a connection was lost as it came");
            return;
        }
        self.interest = Interest::READ;
        if let Some(stream) = &self.link.stream {
            let _ = wait.add(stream.as_fd(), Token::Link(self.index).into(), self.interest);
        }
    }

    /// The last request of a front end that left has ended.
    pub fn listen_again(&self, wait: &Wait) {
        if !self.link.is_connected() && !self.quarantined {
            let _ = wait.modify(self.listener.as_fd(), Token::Listener(self.index).into(), Interest::READ);
        }
    }

    /// Follows what the front end says, until there is nothing more or it has to wait.
    pub fn on_link(&mut self, wait: &Wait) -> After {
        let mut after = After::default();
        if self.waiting.is_some() {
            return after;
        }
        for _ in 0..MESSAGES_MAX {
            match self.link.flush_reply() {
                Ok(true) => {}
                Ok(false) => {
                    self.listen_for(wait, Interest { read: false, write: true, edge: false });
                    return after;
                }
                Err(_) => return self.gone(wait, "the socket failed"),
            }
            match self.link.peek() {
                Head::Nothing => {
                    self.listen_for(wait, Interest::READ);
                    return after;
                }
                Head::Part => {
                    // Told once for each piece that comes: half a message that is never finished
                    // would keep the lane awake otherwise.
                    self.listen_for(wait, Interest::READ_EDGE);
                    return after;
                }
                Head::Gone(why) => return self.gone(wait, why),
                Head::Message(message) => {
                    let drain = self.link.session.drain(&message.request);
                    if !self.is_drained(drain) {
                        self.hold(drain);
                        self.listen_for(wait, Interest::NONE);
                        return after;
                    }
                    self.follow(message, wait, &mut after);
                    if self.link.is_flooded() {
                        self.link.expel(FLOODED);
                    }
                    if after.gone {
                        return after;
                    }
                }
            }
        }
        // There may be more: the wait names the socket again.
        self.listen_for(wait, Interest::READ);
        after
    }

    fn listen_for(&mut self, wait: &Wait, interest: Interest) {
        if self.interest == interest {
            return;
        }
        self.interest = interest;
        if let Some(stream) = &self.link.stream {
            let _ = wait.modify(stream.as_fd(), Token::Link(self.index).into(), interest);
        }
    }

    fn rings_of(&mut self, drain: Drain) -> &mut [RingSlot] {
        match drain {
            Drain::Nothing => &mut [],
            Drain::Queue(index) => {
                let index = index as usize;
                self.rings.get_mut(index..=index).unwrap_or(&mut [])
            }
            Drain::All => &mut self.rings,
        }
    }

    fn is_drained(&mut self, drain: Drain) -> bool {
        let left = |ring: &RingSlot| ring.queue.as_ref().map_or(0, Queue::resubmits);
        self.rings_of(drain).iter().all(|ring| ring.in_flight == 0 && !ring.staged && left(ring) == 0)
    }

    fn hold(&mut self, drain: Drain) {
        for ring in self.rings_of(drain) {
            ring.draining = true;
        }
        self.waiting = Some(drain);
    }

    /// True once if the front end waited for requests to end and they have.
    pub fn has_drained(&mut self) -> bool {
        let Some(drain) = self.waiting else { return false };
        if !self.is_drained(drain) {
            return false;
        }
        self.waiting = None;
        for ring in &mut self.rings {
            ring.draining = false;
        }
        true
    }

    /// Whether another ring has requests that a dead worker had begun, and this one has none: what is
    /// new comes behind all of those, as a logical unit takes something new of a nexus for the sign that
    /// nothing begun comes any more.
    pub fn is_behind_resumed(&mut self, index: u32) -> bool {
        if !self.resuming || self.has_resumed_in(index) {
            return false;
        }
        self.resuming = self.has_resumed();
        self.resuming
    }

    /// Whether some ring has requests left that a dead worker had begun.
    pub fn has_resumed(&self) -> bool {
        (0..self.rings.len() as u32).any(|index| self.has_resumed_in(index))
    }

    fn has_resumed_in(&self, index: u32) -> bool {
        let Some(ring) = self.rings.get(index as usize) else { return false };
        // A ring of buffers for events has no requests.
        ring.is_served()
            && self.device.is_polled(index)
            && ring.queue.as_ref().is_some_and(|queue| queue.resubmits() > 0)
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    fn gone(&mut self, wait: &Wait, why: &str) -> After {
        tracing::info!(slot = self.link.name, why, "disconnected");
        self.disconnect(wait);
        After { gone: true, reset: true, ..After::default() }
    }

    /// Ends the connection. Requests at a disk go on, into memory that they hold; their ends find
    /// no ring.
    pub fn disconnect(&mut self, wait: &Wait) {
        for ring in 0..self.rings.len() as u32 {
            self.stop_ring(ring, wait);
        }
        if let Some(stream) = &self.link.stream {
            let _ = wait.delete(stream.as_fd());
        }
        self.link.ledger.model.save(&[]);
        self.link.disconnect();
        self.device.reset();
        self.memory = Memory::empty();
        self.mappings.clear();
        self.waiting = None;
        if self.outstanding == 0 {
            self.listen_again(wait);
        }
    }

    fn follow(&mut self, message: Message, wait: &Wait, after: &mut After) {
        let Message { header, request, fds } = message;
        let packed = |features: u64| features & vhost_user::bits::F_RING_PACKED != 0;
        let features = self.link.session.state.features;
        let config = self.device.config();
        let rings = &self.rings;
        let described = Described {
            features: self.device.features(),
            protocol_features: self.device.protocol_features(),
            queues: self.device.queue_limit(),
            config: &config,
            base: &|index| rings.get(index as usize)?.queue.as_ref().map(Queue::base),
            inflight_bytes: &|size| Queue::inflight_bytes(size, packed(features)) as u64,
        };
        let mut outcome = self.link.session.apply(&described, &request, fds.len(), header.wants_reply());
        tracing::trace!(slot = self.link.name, ?request, ?outcome, "followed");
        self.link.keep_fds(&outcome.kept, fds);
        if let Some(fault) = outcome.fault {
            self.faults[fault as usize] += 1;
            tracing::debug!(
                slot = self.link.name,
                ?request,
                fault = fault.name(),
                "a request was not followed"
            );
        }
        let mut reply_fd = None;
        let mut failed = false;
        match outcome.effect {
            Effect::Nothing => {}
            Effect::Memory => {
                self.device.set_features(self.link.session.state.features);
                failed = match self.rebuild_memory() {
                    Ok(unmapped) => {
                        let regions = &mut self.link.session.state.regions;
                        regions.retain(|region| !unmapped.contains(&region.fd));
                        !unmapped.is_empty()
                    }
                    Err(_) => true,
                };
                for ring in 0..self.rings.len() as u32 {
                    self.move_ring(ring);
                    self.sync_ring(ring, false, wait);
                }
                after.rings = true;
            }
            Effect::Queue(index) => {
                self.sync_ring(index, false, wait);
                after.rings = true;
            }
            Effect::Queues => {
                for ring in 0..self.rings.len() as u32 {
                    self.sync_ring(ring, false, wait);
                }
                after.rings = true;
            }
            Effect::Config { offset, bytes } => {
                after.flush = self.device.write_config(offset, &bytes).or(after.flush);
                self.link.ledger.model.save(&self.device.state());
            }
            Effect::Rarp(mac) => after.announce = Some(mac),
            Effect::Mtu(mtu) => self.device.set_mtu(mtu),
            Effect::CreateInflight(description) => {
                reply_fd = self.create_inflight(description);
                failed = reply_fd.is_none();
            }
            Effect::Inflight => {}
            // Written to when the configuration changes, never waited for.
            Effect::BackendChannel => {}
            Effect::Reset => {
                for ring in 0..self.rings.len() as u32 {
                    self.sync_ring(ring, false, wait);
                }
                self.device.reset();
                self.link.ledger.model.save(&self.device.state());
                after.reset = true;
                after.rings = true;
            }
        }
        if failed && let Some(vhost_user::Reply::U64(value)) = &mut outcome.reply {
            *value = 1;
        }
        if !self.link.finish(header, outcome.reply.as_ref(), reply_fd) {
            *after = self.gone(wait, "the socket failed");
        }
    }

    fn create_inflight(&mut self, description: InflightDescription) -> Option<u32> {
        let generation = self.link.session.state.inflight?.fd;
        let name = format!("standpipe-{}-inflight", self.link.name);
        match host::memfd::create(&name, description.mmap_size) {
            Ok(fd) => {
                self.link.keep_fds(&[generation], vec![Given::new(fd)]);
                Some(generation)
            }
            Err(error) => {
                tracing::warn!(slot = name, %error, "no memory for the table of requests in flight");
                self.link.session.state.inflight = None;
                None
            }
        }
    }

    /// Makes the snapshot that new requests see from the regions that the session names, without those
    /// that cannot be mapped: they are returned, by their descriptors.
    fn rebuild_memory(&mut self) -> Result<Vec<u32>, guest_memory::MapError> {
        let state = &self.link.session.state;
        let mut unmapped = Vec::new();
        let mut refused = None;
        let mut mappings = HashMap::new();
        let mut regions = Vec::new();
        for region in &state.regions {
            let mapping = self.mapping(region.fd, region.description.mmap_offset, region.description.size);
            let mapping = match mapping {
                Ok(mapping) => mapping,
                Err(why) => {
                    refused = Some(why);
                    unmapped.push(region.fd);
                    continue;
                }
            };
            regions.push(Region {
                guest: region.description.guest,
                len: region.description.size,
                user: region.description.user,
                offset: 0,
                mapping: Arc::clone(&mapping),
            });
            mappings.insert(region.fd, mapping);
        }
        let log = state.log.filter(|_| self.link.session.is_logging()).and_then(|log| {
            let mapping = self.mapping(log.fd, log.offset, log.size).ok()?;
            let len = mapping.len();
            mappings.insert(log.fd, Arc::clone(&mapping));
            Log::new(mapping, 0, len)
        });
        self.mappings = mappings;
        if let Some(why) = refused
            && self.regions_unmapped == 0
        {
            // Once: its front end may do this again and again.
            tracing::warn!(slot = self.link.name, %why, "memory of the guest cannot be mapped");
        }
        self.regions_unmapped += unmapped.len() as u64;
        match Memory::new(regions, log) {
            Ok(memory) => {
                self.memory = memory;
                Ok(unmapped)
            }
            Err(error) => {
                self.memory = Memory::empty();
                Err(error)
            }
        }
    }

    fn mapping(&self, generation: u32, offset: u64, len: u64) -> Result<Arc<Mapping>, Refused> {
        if let Some(mapping) = self.mappings.get(&generation) {
            return Ok(Arc::clone(mapping));
        }
        // One that did not even become ours was of another kind.
        let fd = self.link.fds.get(&generation).ok_or(Refused::NotMemory)?;
        Mapping::of_given(fd.as_fd(), offset, len, &self.account).map(Arc::new)
    }

    /// The table of requests in flight of one ring: the front end's if it gave or asked for one, so
    /// that it survives even the keeper; ours otherwise.
    fn inflight_window(&self, ring: u32, size: u16, packed: bool) -> Option<(Window, bool)> {
        let bytes = Queue::inflight_bytes(size, packed);
        if let Some(inflight) = self.link.session.state.inflight
            && ring < u32::from(inflight.description.queues)
            && size <= inflight.description.queue_size
        {
            let stride = Queue::inflight_bytes(inflight.description.queue_size, packed);
            let mapping =
                self.mapping(inflight.fd, inflight.description.mmap_offset, inflight.description.mmap_size);
            if let Ok(mapping) = mapping {
                return Window::new(mapping, ring as usize * stride, bytes).map(|window| (window, true));
            }
        }
        let at = ring as usize * INFLIGHT_STRIDE;
        Window::new(Arc::clone(&self.own_inflight), at, bytes).map(|window| (window, false))
    }

    /// Starts, stops or rewires a ring so that it is as the session says. `resume`: the last worker
    /// died while it served it.
    fn sync_ring(&mut self, index: u32, resume: bool, wait: &Wait) {
        let Some(state) = self.link.session.state.queues.get(index as usize).copied() else { return };
        if !self.link.session.is_running(index) {
            self.stop_ring(index, wait);
            self.sync_call(index, state.call);
            return;
        }
        self.sync_call(index, state.call);
        let ring = &mut self.rings[index as usize];
        if ring.kick.as_ref().map(|(generation, _)| *generation) != Some(state.kick) {
            if let Some((_, kick)) = ring.kick.take() {
                let _ = wait.delete(kick.as_fd());
            }
            if let Some(kick) = self.link.fds.get(&state.kick).and_then(|fd| fd.try_clone().ok())
                && let Ok(kick) = PeerEvent::from_fd(kick)
            {
                // Edge by edge: a kick that came while we polled costs nothing to ignore.
                let token = Token::Kick { slot: self.index, ring: index };
                let _ = wait.add(kick.as_fd(), token.into(), Interest::READ_EDGE);
                ring.kick = Some((state.kick, kick));
            }
        }
        if ring.queue.is_some() || ring.broken {
            return;
        }
        match self.set_up(index, state.base, resume) {
            Some(mut queue) => {
                let fault = queue.fault();
                self.resuming |= queue.resubmits() > 0;
                if !self.device.is_polled(index) {
                    // Its buffers are taken when there is something to put into them.
                    queue.disable_kicks();
                }
                self.rings[index as usize].queue = Some(queue);
                self.device.ring_started(index);
                if let Some(fault) = fault {
                    self.ring_broke(index, fault);
                }
            }
            None => self.rings_refused += 1,
        }
    }

    fn sync_call(&mut self, index: u32, generation: u32) {
        let ring = &mut self.rings[index as usize];
        if ring.call.as_ref().map_or(0, |(known, _)| *known) == generation {
            return;
        }
        let event = self.link.fds.get(&generation).and_then(|fd| fd.try_clone().ok());
        ring.call = event.and_then(|fd| PeerEvent::from_fd(fd).ok()).map(|event| (generation, event));
        // Used elements may have been published while nobody could be told.
        self.signal(index);
    }

    fn set_up(&self, index: u32, base: u32, resume: bool) -> Option<Queue> {
        use vhost_user::bits::{F_EVENT_IDX, F_INDIRECT_DESC, F_RING_PACKED};
        let session = &self.link.session;
        let state = session.state.queues.get(index as usize)?;
        let size = u16::try_from(state.size).ok()?;
        let packed = session.has_feature(F_RING_PACKED);
        let event = if session.has_feature(F_EVENT_IDX) { 2 } else { 0 };
        let entries = u32::from(size);
        let (driver_len, device_len) =
            if packed { (4, 4) } else { (4 + 2 * entries + event, 4 + 8 * entries + event) };
        let window = |user: u64, len: u32| self.memory.user_window(user, len);
        let (inflight, shared) = self.inflight_window(index, size, packed)?;
        // A front end that brings its own table wants what stands in it to be done.
        let resume = resume || (shared && self.device.order(index) == Order::Any);
        if !resume {
            // What another front end, or an earlier start, left in the table is nobody's any more.
            Queue::forget(&inflight);
        }
        let setup = Setup {
            size,
            packed,
            event_idx: event != 0,
            indirect: session.has_feature(F_INDIRECT_DESC),
            desc: window(state.addresses.descriptors, 16 * entries)?,
            driver: window(state.addresses.available, driver_len)?,
            device: window(state.addresses.used, device_len)?,
            // Where the device writes, whatever the flag says at this moment: it comes after the ring
            // has started, and without a log nothing is noted. For a packed ring the address that QEMU
            // gives is that of the event area, and the writes are to the descriptors.
            log: self.memory.guest_address(if packed {
                state.addresses.descriptors
            } else {
                state.addresses.used
            }),
            inflight: Some(inflight),
            order: self.device.order(index),
            base,
            resume,
        };
        match Queue::new(setup, &self.memory) {
            Ok(queue) => Some(queue),
            Err(error) => {
                tracing::debug!(slot = self.link.name, ring = index, ?error, "a ring cannot be served");
                None
            }
        }
    }

    /// After a change of the memory map: the same ring at the same place in another snapshot.
    fn move_ring(&mut self, index: u32) {
        let Some(ring) = self.rings.get_mut(index as usize) else { return };
        if ring.staged
            || ring.queue.as_ref().is_none_or(|queue| queue.in_flight() > 0 || queue.resubmits() > 0)
        {
            // A region was added, or nothing at all changed: the ring's windows stay good, as they
            // hold their mapping. What takes memory away waits until nothing is in flight.
            return;
        }
        let Some(queue) = ring.queue.take() else { return };
        let base = queue.base();
        drop(queue);
        // If the ring is not in memory any more, it goes on from here when it is again. It is in the
        // ledger before `set_up` empties the table that a successor would go by otherwise.
        self.link.session.paused(index, base);
        self.link.save();
        self.rings[index as usize].queue = self.set_up(index, base, false);
    }

    fn stop_ring(&mut self, index: u32, wait: &Wait) {
        let Some(ring) = self.rings.get_mut(index as usize) else { return };
        if let Some((_, kick)) = ring.kick.take() {
            let _ = wait.delete(kick.as_fd());
        }
        ring.broken = false;
        ring.draining = false;
        if let Some(queue) = ring.queue.take() {
            ring.epoch = ring.epoch.wrapping_add(1);
            ring.in_flight = 0;
            // Disabled, not stopped: it goes on here.
            self.link.session.paused(index, queue.base());
            if queue.in_flight() == 0 && queue.resubmits() == 0 {
                self.clear_inflight(index);
            }
            self.device.ring_stopped(index);
        }
        if !self.link.is_connected() {
            self.rings[index as usize].call = None;
        }
    }

    /// A ring that ended in order leaves no table: the next start, which may be at another place of a
    /// ring that was reset, goes by its base alone.
    fn clear_inflight(&self, index: u32) {
        let session = &self.link.session;
        let Some(state) = session.state.queues.get(index as usize) else { return };
        let Ok(size) = u16::try_from(state.size) else { return };
        let packed = session.has_feature(vhost_user::bits::F_RING_PACKED);
        if let Some((table, _)) = self.inflight_window(index, size, packed) {
            // First what takes its place: where the ring stopped.
            self.link.save();
            Queue::forget(&table);
        }
    }

    /// The guest broke a ring. Its device needs a reset by its driver.
    pub fn ring_broke(&mut self, index: u32, fault: virtqueue::Fault) {
        self.rings[index as usize].broken = true;
        let count = &mut self.ring_faults[fault as usize];
        *count += 1;
        // Once for each way: a guest could fill the log otherwise.
        if *count == 1 {
            // Its guest may do this again and again, so it is counted and not logged.
            tracing::debug!(
                slot = self.link.name,
                ring = index,
                fault = fault.name(),
                "the guest broke a ring"
            );
        }
    }

    /// Named ends of the link, for the operator.
    pub fn counters(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let faults = Fault::ALL.iter().map(|fault| (fault.name().to_owned(), self.faults[*fault as usize]));
        let broken = virtqueue::Fault::ALL
            .iter()
            .map(|fault| (format!("ring_{}", fault.name()), self.ring_faults[*fault as usize]));
        faults.chain(broken).chain([
            ("rings_broken".to_owned(), self.ring_faults.iter().sum()),
            ("rings_refused".to_owned(), self.rings_refused),
            ("regions_unmapped".to_owned(), self.regions_unmapped),
            ("descriptors_refused".to_owned(), self.link.descriptors_refused),
        ])
    }

    /// Leaves everything as a dying worker would, for another lane to take up: the descriptors, by the
    /// names under which the keeper has them.
    pub fn release(mut self, wait: &Wait) -> std::io::Result<HashMap<String, OwnedFd>> {
        let _ = wait.delete(self.listener.as_fd());
        if let Some(stream) = &self.link.stream {
            let _ = wait.delete(stream.as_fd());
        }
        for ring in &mut self.rings {
            if let Some((_, kick)) = ring.kick.take() {
                let _ = wait.delete(kick.as_fd());
            }
        }
        let mut left = self.link.release();
        left.insert(LISTENER.to_owned(), OwnedFd::from(self.listener));
        left.insert(INFLIGHT.to_owned(), self.own_inflight_fd);
        Ok(left)
    }

    /// The slot is removed for good.
    pub fn remove(mut self, wait: &Wait) {
        let _ = wait.delete(self.listener.as_fd());
        self.disconnect(wait);
        self.link.forget_all();
        let _ = std::fs::remove_file(&self.spec.socket);
    }
}
