//! What each request does to a session.

use alloc::vec::Vec;

use crate::bits::*;
use crate::state::{InflightState, LogState, QueueState, RegionState, State};
use crate::wire::{InflightDescription, RegionDescription, Reply, Request};

/// What the device behind the session is, for as long as a request is looked at.
pub struct Device<'a> {
    /// Features of the device model, without the transport's own.
    pub features: u64,
    /// Protocol features beyond [`PROTOCOL_FEATURES`].
    pub protocol_features: u64,
    /// Queues that GET_QUEUE_NUM answers.
    pub queues: u16,
    /// The configuration space.
    pub config: &'a [u8],
    /// The base of a ring that runs or ran: GET_VRING_BASE's answer. `None`: it never ran.
    pub base: &'a dyn Fn(u32) -> Option<u32>,
    /// Bytes of in-flight region for one queue of this size (and ring layout).
    pub inflight_bytes: &'a dyn Fn(u16) -> u64,
}

/// What has to end before a request may be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    Nothing,
    Queue(u32),
    All,
}

/// What the lane has to do after a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    /// The memory map or its dirty log changed.
    Memory,
    /// A ring may have to be started or stopped, or got another descriptor.
    Queue(u32),
    /// As for every ring.
    Queues,
    /// The driver wrote to the configuration space.
    Config {
        offset: u32,
        bytes: Vec<u8>,
    },
    /// Announce this address on the network.
    Rarp([u8; 6]),
    Mtu(u16),
    /// A region for requests in flight is wanted; the reply carries its descriptor.
    CreateInflight(InflightDescription),
    /// The region for requests in flight came from the front end.
    Inflight,
    BackendChannel,
    /// Rings are stopped; the device model goes back to its initial state.
    Reset,
}

/// A request that was not followed, by name: the operator's counter, and an error in the reply if
/// the front end asked for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    UnknownRequest,
    Malformed,
    BadQueue,
    BadRingSize,
    MissingDescriptor,
    KickWithoutDescriptor,
    BadRegions,
    NoSuchRegion,
    BadFeatures,
    BadConfig,
    BadInflight,
    BadMtu,
}

impl Fault {
    pub const ALL: [Fault; 12] = [
        Fault::UnknownRequest,
        Fault::Malformed,
        Fault::BadQueue,
        Fault::BadRingSize,
        Fault::MissingDescriptor,
        Fault::KickWithoutDescriptor,
        Fault::BadRegions,
        Fault::NoSuchRegion,
        Fault::BadFeatures,
        Fault::BadConfig,
        Fault::BadInflight,
        Fault::BadMtu,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Fault::UnknownRequest => "vhost_user_unknown_request",
            Fault::Malformed => "vhost_user_malformed",
            Fault::BadQueue => "vhost_user_bad_queue",
            Fault::BadRingSize => "vhost_user_bad_ring_size",
            Fault::MissingDescriptor => "vhost_user_missing_descriptor",
            Fault::KickWithoutDescriptor => "vhost_user_kick_without_descriptor",
            Fault::BadRegions => "vhost_user_bad_regions",
            Fault::NoSuchRegion => "vhost_user_no_such_region",
            Fault::BadFeatures => "vhost_user_bad_features",
            Fault::BadConfig => "vhost_user_bad_config",
            Fault::BadInflight => "vhost_user_bad_inflight",
            Fault::BadMtu => "vhost_user_bad_mtu",
        }
    }
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub effect: Effect,
    pub reply: Option<Reply>,
    /// Generations for the descriptors that came along, in their order; the rest is closed.
    pub kept: Vec<u32>,
    pub fault: Option<Fault>,
}

impl Outcome {
    fn of(effect: Effect) -> Self {
        Self { effect, reply: None, kept: Vec::new(), fault: None }
    }

    fn reply(reply: Reply) -> Self {
        Self { reply: Some(reply), ..Self::of(Effect::Nothing) }
    }

    fn fault(fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::of(Effect::Nothing) }
    }

    fn keeping(effect: Effect, kept: Vec<u32>) -> Self {
        Self { kept, ..Self::of(effect) }
    }
}

/// The back end's side of one slot's connection.
#[derive(Clone, Debug)]
pub struct Session {
    pub state: State,
}

impl Session {
    pub fn new(queues: usize) -> Self {
        Self { state: State::new(queues.min(QUEUES_MAX)) }
    }

    pub fn resume(mut state: State, queues: usize) -> Self {
        state.queues.resize(queues.min(QUEUES_MAX), QueueState::default());
        Self { state }
    }

    /// A ring was disabled and goes on from here when it is enabled again.
    pub fn paused(&mut self, index: u32, base: u32) {
        if let Some(queue) = self.queue(index)
            && queue.started
        {
            queue.base = base;
        }
    }

    /// The client left: everything but the generation counter starts anew.
    pub fn disconnected(&mut self) {
        let generation = self.state.generation;
        self.state = State::new(self.state.queues.len());
        self.state.generation = generation;
    }

    pub fn has_feature(&self, bit: u64) -> bool {
        self.state.features & bit != 0
    }

    pub fn has_protocol_feature(&self, bit: u64) -> bool {
        self.state.protocol_features & bit != 0
    }

    /// Writes to guest memory are to be noted in the dirty log.
    pub fn is_logging(&self) -> bool {
        self.has_feature(F_LOG_ALL) && self.state.log.is_some()
    }

    /// A ring that is to be served.
    pub fn is_running(&self, index: u32) -> bool {
        self.state.queues.get(index as usize).is_some_and(|queue| {
            queue.started
                && queue.placed
                && queue.size != 0
                && (queue.enabled || !self.has_feature(F_PROTOCOL_FEATURES))
        })
    }

    /// What must have ended before this request may be applied.
    pub fn drain(&self, request: &Request) -> Drain {
        match request {
            Request::GetVringBase { index } => Drain::Queue(*index),
            Request::SetVringEnable { index, enable: false } => Drain::Queue(*index),
            Request::SetVringNum { index, .. }
            | Request::SetVringBase { index, .. }
            | Request::SetVringAddr { index, .. }
                if self.is_running(*index) =>
            {
                Drain::Queue(*index)
            }
            // Requests under way would not note in the log what they write.
            Request::SetFeatures(features) if (features ^ self.state.features) & F_LOG_ALL != 0 => Drain::All,
            Request::SetLogBase { .. } if self.has_feature(F_LOG_ALL) => Drain::All,
            Request::SetMemTable(_)
            | Request::RemMemReg(_)
            | Request::ResetDevice
            | Request::ResetOwner
            | Request::SetInflightFd(_)
            | Request::GetInflightFd(_)
            | Request::SetStatus(0) => Drain::All,
            _ => Drain::Nothing,
        }
    }

    fn next_generation(&mut self) -> u32 {
        self.state.generation = self.state.generation.wrapping_add(1).max(1);
        self.state.generation
    }

    fn queue(&mut self, index: u32) -> Option<&mut QueueState> {
        self.state.queues.get_mut(index as usize)
    }

    /// Follows a request that came with `fds` descriptors.
    pub fn apply(
        &mut self,
        device: &Device<'_>,
        request: &Request,
        fds: usize,
        needs_reply: bool,
    ) -> Outcome {
        let mut outcome = self.follow(device, request, fds);
        let acknowledged = needs_reply && self.has_protocol_feature(PROTOCOL_F_REPLY_ACK);
        if outcome.reply.is_none() && acknowledged && !matches!(outcome.effect, Effect::CreateInflight(_)) {
            outcome.reply = Some(Reply::U64(u64::from(outcome.fault.is_some())));
        }
        outcome
    }

    fn follow(&mut self, device: &Device<'_>, request: &Request, fds: usize) -> Outcome {
        let offered = device.features | TRANSPORT_FEATURES;
        let protocol_offered = device.protocol_features | PROTOCOL_FEATURES;
        match request {
            Request::GetFeatures => Outcome::reply(Reply::U64(offered)),
            Request::SetFeatures(features) => {
                self.state.features = features & offered;
                // The log may have been switched; enabled-ness of rings depends on a feature too.
                let mut outcome = Outcome::of(Effect::Memory);
                outcome.fault = (features & !offered != 0).then_some(Fault::BadFeatures);
                outcome
            }
            Request::SetOwner => Outcome::of(Effect::Nothing),
            Request::ResetOwner | Request::ResetDevice => {
                self.stop_rings();
                Outcome::of(Effect::Reset)
            }
            Request::GetProtocolFeatures => Outcome::reply(Reply::U64(protocol_offered)),
            Request::SetProtocolFeatures(features) => {
                self.state.protocol_features = features & protocol_offered;
                Outcome::of(Effect::Nothing)
            }
            Request::GetQueueNum => Outcome::reply(Reply::U64(u64::from(device.queues))),
            Request::SetMemTable(regions) => self.set_memory_table(regions, fds),
            Request::AddMemReg(region) => self.add_region(region, fds),
            Request::RemMemReg(region) => self.remove_region(region),
            Request::GetMaxMemSlots => Outcome::reply(Reply::U64(MEM_SLOTS_MAX as u64)),
            Request::SetLogBase { size, offset } => self.set_log(*size, *offset, fds),
            // Progress of the log is polled by every front end we know.
            Request::SetLogFd => Outcome::of(Effect::Nothing),
            Request::SetVringNum { index, size } => {
                let packed = self.has_feature(F_RING_PACKED);
                let Some(queue) = self.queue(*index) else { return Outcome::fault(Fault::BadQueue) };
                if *size == 0 || *size > RING_SIZE_MAX || (!packed && !size.is_power_of_two()) {
                    return Outcome::fault(Fault::BadRingSize);
                }
                queue.size = *size;
                Outcome::of(Effect::Queue(*index))
            }
            Request::SetVringAddr { index, addresses } => {
                let Some(queue) = self.queue(*index) else { return Outcome::fault(Fault::BadQueue) };
                queue.addresses = *addresses;
                queue.placed = true;
                Outcome::of(Effect::Queue(*index))
            }
            Request::SetVringBase { index, base } => {
                let Some(queue) = self.queue(*index) else { return Outcome::fault(Fault::BadQueue) };
                queue.base = *base;
                Outcome::of(Effect::Queue(*index))
            }
            Request::GetVringBase { index } => self.stop_ring(device, *index),
            Request::SetVringKick { index, has_fd } => self.set_kick(*index, *has_fd, fds),
            Request::SetVringCall { index, has_fd } => {
                self.set_ring_fd(*index, *has_fd, fds, |queue, generation| queue.call = generation)
            }
            // A ring that breaks is counted and waits for its driver; nobody is signalled.
            Request::SetVringErr { index, .. } => match self.queue(*index) {
                Some(_) => Outcome::of(Effect::Nothing),
                None => Outcome::fault(Fault::BadQueue),
            },
            Request::SetVringEnable { index, enable } => {
                let Some(queue) = self.queue(*index) else { return Outcome::fault(Fault::BadQueue) };
                queue.enabled = *enable;
                Outcome::of(Effect::Queue(*index))
            }
            Request::SendRarp(mac) => Outcome::of(Effect::Rarp(*mac)),
            Request::NetSetMtu(mtu) => match u16::try_from(*mtu) {
                Ok(mtu) if mtu >= 68 => {
                    self.state.mtu = mtu;
                    Outcome::of(Effect::Mtu(mtu))
                }
                _ => Outcome::fault(Fault::BadMtu),
            },
            Request::SetBackendReqFd => {
                if fds == 0 {
                    return Outcome::fault(Fault::MissingDescriptor);
                }
                self.state.backend_channel = self.next_generation();
                Outcome::keeping(Effect::BackendChannel, alloc::vec![self.state.backend_channel])
            }
            Request::GetConfig { offset, size, flags } => {
                let mut bytes = alloc::vec![0; *size as usize];
                let from = (*offset as usize).min(device.config.len());
                let len = bytes.len().min(device.config.len() - from);
                bytes[..len].copy_from_slice(&device.config[from..from + len]);
                Outcome::reply(Reply::Config { offset: *offset, flags: *flags, bytes })
            }
            Request::SetConfig { offset, bytes, .. } => {
                if *offset as usize + bytes.len() > device.config.len() {
                    return Outcome::fault(Fault::BadConfig);
                }
                Outcome::of(Effect::Config { offset: *offset, bytes: bytes.clone() })
            }
            Request::GetInflightFd(asked) => self.get_inflight(device, asked),
            Request::SetInflightFd(given) => {
                if fds == 0 {
                    return Outcome::fault(Fault::MissingDescriptor);
                }
                let each = (device.inflight_bytes)(given.queue_size);
                let need = each.saturating_mul(u64::from(given.queues));
                if given.queues == 0 || given.queue_size == 0 || given.mmap_size < need {
                    return Outcome::fault(Fault::BadInflight);
                }
                let fd = self.next_generation();
                self.state.inflight = Some(InflightState { description: *given, fd });
                Outcome::keeping(Effect::Inflight, alloc::vec![fd])
            }
            Request::SetStatus(status) => {
                self.state.status = *status as u8;
                if self.state.status == 0 {
                    self.stop_rings();
                    return Outcome::of(Effect::Reset);
                }
                Outcome::of(Effect::Nothing)
            }
            Request::GetStatus => Outcome::reply(Reply::U64(u64::from(self.state.status))),
            Request::Unknown(_) => Outcome::fault(Fault::UnknownRequest),
            // Somebody waits for an answer: an empty one says that there is none.
            Request::Malformed(GET_CONFIG) => {
                Outcome { fault: Some(Fault::Malformed), ..Outcome::reply(Reply::Empty) }
            }
            Request::Malformed(_) => Outcome::fault(Fault::Malformed),
        }
    }

    fn stop_rings(&mut self) {
        for queue in &mut self.state.queues {
            *queue = QueueState { call: queue.call, err: queue.err, ..QueueState::default() };
        }
    }

    fn stop_ring(&mut self, device: &Device<'_>, index: u32) -> Outcome {
        let Some(queue) = self.queue(index) else {
            // The front end waits for an answer whatever it asked.
            let mut outcome = Outcome::reply(Reply::RingState { index, base: 0 });
            outcome.fault = Some(Fault::BadQueue);
            return outcome;
        };
        let base = (device.base)(index).unwrap_or(queue.base);
        queue.base = base;
        queue.started = false;
        queue.kick = 0;
        Outcome { reply: Some(Reply::RingState { index, base }), ..Outcome::of(Effect::Queue(index)) }
    }

    fn set_kick(&mut self, index: u32, has_fd: bool, fds: usize) -> Outcome {
        if !has_fd {
            // A ring without a kick would have to be polled for ever; no front end we know asks
            // for it.
            return Outcome::fault(Fault::KickWithoutDescriptor);
        }
        self.set_ring_fd(index, has_fd, fds, |queue, generation| {
            queue.kick = generation;
            queue.started = true;
        })
    }

    fn set_ring_fd(
        &mut self,
        index: u32,
        has_fd: bool,
        fds: usize,
        set: fn(&mut QueueState, u32),
    ) -> Outcome {
        if index as usize >= self.state.queues.len() {
            return Outcome::fault(Fault::BadQueue);
        }
        if has_fd && fds == 0 {
            return Outcome::fault(Fault::MissingDescriptor);
        }
        let generation = if has_fd { self.next_generation() } else { 0 };
        if let Some(queue) = self.queue(index) {
            set(queue, generation);
        }
        Outcome::keeping(Effect::Queue(index), if has_fd { alloc::vec![generation] } else { Vec::new() })
    }

    fn set_memory_table(&mut self, regions: &[RegionDescription], fds: usize) -> Outcome {
        if regions.len() > MEM_SLOTS_MAX || regions.iter().any(|region| region.size == 0) {
            return Outcome::fault(Fault::BadRegions);
        }
        if fds < regions.len() {
            return Outcome::fault(Fault::MissingDescriptor);
        }
        self.state.regions.clear();
        let mut kept = Vec::with_capacity(regions.len());
        for region in regions {
            let fd = self.next_generation();
            self.state.regions.push(RegionState { description: *region, fd });
            kept.push(fd);
        }
        Outcome::keeping(Effect::Memory, kept)
    }

    fn add_region(&mut self, region: &RegionDescription, fds: usize) -> Outcome {
        if fds == 0 {
            return Outcome::fault(Fault::MissingDescriptor);
        }
        let end = region.guest.checked_add(region.size);
        // The same region again (a request seen twice) takes the place of the first.
        let same = |known: &RegionState| {
            known.description.guest == region.guest && known.description.size == region.size
        };
        let overlaps = |known: &RegionState| {
            let from = known.description.guest;
            end.is_none_or(|end| from < end)
                && region.guest < from.saturating_add(known.description.size)
                && !same(known)
        };
        let room = self.state.regions.len() < MEM_SLOTS_MAX || self.state.regions.iter().any(same);
        if region.size == 0 || end.is_none() || !room || self.state.regions.iter().any(overlaps) {
            return Outcome::fault(Fault::BadRegions);
        }
        let fd = self.next_generation();
        self.state.regions.retain(|known| !same(known));
        self.state.regions.push(RegionState { description: *region, fd });
        Outcome::keeping(Effect::Memory, alloc::vec![fd])
    }

    fn remove_region(&mut self, region: &RegionDescription) -> Outcome {
        let before = self.state.regions.len();
        self.state.regions.retain(|known| {
            let known = known.description;
            (known.guest, known.size, known.user) != (region.guest, region.size, region.user)
        });
        let mut outcome = Outcome::of(Effect::Memory);
        outcome.fault = (self.state.regions.len() == before).then_some(Fault::NoSuchRegion);
        outcome
    }

    fn set_log(&mut self, size: u64, offset: u64, fds: usize) -> Outcome {
        if fds == 0 || size == 0 {
            let mut outcome = Outcome::reply(Reply::U64(1));
            outcome.fault = Some(Fault::MissingDescriptor);
            return outcome;
        }
        let fd = self.next_generation();
        self.state.log = Some(LogState { size, offset, fd });
        Outcome { reply: Some(Reply::U64(0)), ..Outcome::keeping(Effect::Memory, alloc::vec![fd]) }
    }

    fn get_inflight(&mut self, device: &Device<'_>, asked: &InflightDescription) -> Outcome {
        let queues = u64::from(asked.queues);
        if queues == 0 || asked.queues as usize > QUEUES_MAX || asked.queue_size == 0 {
            let mut outcome = Outcome::reply(Reply::Inflight(InflightDescription::default()));
            outcome.fault = Some(Fault::BadInflight);
            return outcome;
        }
        let description = InflightDescription {
            mmap_size: (device.inflight_bytes)(asked.queue_size).saturating_mul(queues),
            mmap_offset: 0,
            ..*asked
        };
        let fd = self.next_generation();
        self.state.inflight = Some(InflightState { description, fd });
        Outcome {
            reply: Some(Reply::Inflight(description)),
            ..Outcome::of(Effect::CreateInflight(description))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_device<T>(run: impl FnOnce(&Device<'_>) -> T) -> T {
        let config = [7u8; 60];
        run(&Device {
            features: 1 << 9,
            protocol_features: PROTOCOL_F_CONFIG,
            queues: 4,
            config: &config,
            base: &|index| (index == 1).then_some(0x55),
            inflight_bytes: &|size| 64 + u64::from(size) * 16,
        })
    }

    fn apply(session: &mut Session, request: Request, fds: usize) -> Outcome {
        with_device(|device| session.apply(device, &request, fds, true))
    }

    #[test]
    fn features_are_bounded_by_the_offer() {
        let mut session = Session::new(4);
        let outcome = apply(&mut session, Request::SetFeatures(u64::MAX), 0);
        assert_eq!(outcome.fault, Some(Fault::BadFeatures));
        assert_eq!(session.state.features, (1 << 9) | TRANSPORT_FEATURES);
    }

    #[test]
    fn a_ring_runs_once_it_is_placed_sized_kicked_and_enabled() {
        let mut session = Session::new(4);
        apply(&mut session, Request::SetFeatures(F_PROTOCOL_FEATURES | F_VERSION_1), 0);
        apply(&mut session, Request::SetVringNum { index: 1, size: 256 }, 0);
        apply(&mut session, Request::SetVringAddr { index: 1, addresses: Default::default() }, 0);
        let outcome = apply(&mut session, Request::SetVringKick { index: 1, has_fd: true }, 1);
        assert_eq!((outcome.effect, outcome.kept), (Effect::Queue(1), alloc::vec![1]));
        assert!(!session.is_running(1));
        apply(&mut session, Request::SetVringEnable { index: 1, enable: true }, 0);
        assert!(session.is_running(1));
        let request = Request::GetVringBase { index: 1 };
        assert_eq!(session.drain(&request), Drain::Queue(1));
        let outcome = apply(&mut session, request, 0);
        assert_eq!(outcome.reply, Some(Reply::RingState { index: 1, base: 0x55 }));
        assert!(!session.is_running(1));
    }

    #[test]
    fn a_disabled_ring_keeps_its_place() {
        let mut session = Session::new(4);
        apply(&mut session, Request::SetVringKick { index: 2, has_fd: true }, 1);
        session.paused(2, 40);
        assert_eq!(session.state.queues[2].base, 40);
        let outcome = apply(&mut session, Request::GetVringBase { index: 2 }, 0);
        assert_eq!(outcome.reply, Some(Reply::RingState { index: 2, base: 40 }));
        session.paused(2, 41);
        assert_eq!(session.state.queues[2].base, 40, "a stopped ring has no place of its own");
    }

    #[test]
    fn switching_the_log_waits_for_requests_under_way() {
        let mut session = Session::new(1);
        apply(&mut session, Request::SetFeatures(F_VERSION_1), 0);
        assert_eq!(session.drain(&Request::SetFeatures(F_VERSION_1)), Drain::Nothing);
        assert_eq!(session.drain(&Request::SetFeatures(F_VERSION_1 | F_LOG_ALL)), Drain::All);
        assert_eq!(session.drain(&Request::SetLogBase { size: 1, offset: 0 }), Drain::Nothing);
        apply(&mut session, Request::SetFeatures(F_LOG_ALL), 0);
        assert_eq!(session.drain(&Request::SetLogBase { size: 1, offset: 0 }), Drain::All);
    }

    #[test]
    fn acknowledgements_are_given_when_asked_and_negotiated() {
        let mut session = Session::new(1);
        assert_eq!(apply(&mut session, Request::SetOwner, 0).reply, None);
        apply(&mut session, Request::SetProtocolFeatures(u64::MAX), 0);
        assert_eq!(apply(&mut session, Request::SetOwner, 0).reply, Some(Reply::U64(0)));
        assert_eq!(apply(&mut session, Request::Unknown(99), 0).reply, Some(Reply::U64(1)));
        let far = Request::SetVringNum { index: 7, size: 8 };
        assert_eq!(apply(&mut session, far, 0).fault, Some(Fault::BadQueue));
    }

    #[test]
    fn a_request_seen_twice_leaves_one_region() {
        let mut session = Session::new(1);
        let region = RegionDescription { guest: 0, size: 4096, user: 0x1000, mmap_offset: 0 };
        for generation in 1..3 {
            assert_eq!(apply(&mut session, Request::AddMemReg(region), 1).kept, [generation]);
        }
        assert_eq!(session.state.regions.len(), 1);
        let overlapping = RegionDescription { guest: 4000, ..region };
        assert_eq!(apply(&mut session, Request::AddMemReg(overlapping), 1).fault, Some(Fault::BadRegions));
        let wraps = RegionDescription { guest: u64::MAX, ..region };
        assert_eq!(apply(&mut session, Request::AddMemReg(wraps), 1).fault, Some(Fault::BadRegions));
        apply(&mut session, Request::RemMemReg(region), 0);
        assert!(session.state.regions.is_empty());
    }

    #[test]
    fn the_configuration_space_reads_as_zero_beyond_its_end() {
        let mut session = Session::new(1);
        let outcome = apply(&mut session, Request::GetConfig { offset: 58, size: 4, flags: 0 }, 0);
        assert_eq!(
            outcome.reply,
            Some(Reply::Config { offset: 58, flags: 0, bytes: alloc::vec![7, 7, 0, 0] })
        );
        let outcome =
            apply(&mut session, Request::SetConfig { offset: 59, flags: 0, bytes: alloc::vec![1, 2] }, 0);
        assert_eq!(outcome.fault, Some(Fault::BadConfig));
    }

    #[test]
    fn an_inflight_region_has_room_for_every_queue() {
        let mut session = Session::new(2);
        let asked = InflightDescription { queues: 2, queue_size: 8, ..Default::default() };
        let outcome = apply(&mut session, Request::GetInflightFd(asked), 0);
        let given = InflightDescription { mmap_size: 2 * (64 + 8 * 16), ..asked };
        assert_eq!(outcome.reply, Some(Reply::Inflight(given)));
        let short = InflightDescription { mmap_size: 10, ..given };
        assert_eq!(apply(&mut session, Request::SetInflightFd(short), 1).fault, Some(Fault::BadInflight));
    }
}
