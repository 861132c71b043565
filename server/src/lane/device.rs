//! What stands in a slot: one of the device models, and what belongs to it in this lane.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::scsi::View;
use control::site::LunAddress;
use request::Facts;
use scsi::Nexus;
use switch::PortId;
use virtio_net::v1::{STATE_BYTES as NIC_STATE_BYTES, State as NicState};
use virtio_scsi::QueueKind;
use virtqueue::Order;

use vhost_user::bits::{PROTOCOL_F_CONFIG, PROTOCOL_F_MTU, PROTOCOL_F_RARP, PROTOCOL_F_STATUS};

/// Data segments of one request that are told to drivers: with the header and the response they fit
/// into the smallest ring that QEMU makes by default (128).
const SEGMENTS_MAX: u32 = 126;
/// Commands that a driver keeps in flight for one LUN, as QEMU's own virtio-scsi says.
const COMMANDS_PER_LUN: u32 = 128;
/// Of one request, in sectors of 512 bytes: QEMU's own default.
const SECTORS_MAX: u32 = 0xffff;
/// LUNs of one controller, whichever target they are of.
pub const LUNS_MAX: usize = control::site::SLOT_VOLUMES_MAX;

/// A logical unit as a controller has it.
#[derive(Clone, Copy)]
pub struct Lun {
    pub volume: u32,
    /// The controller, as the volume's unit knows it.
    pub nexus: Nexus,
}

/// A virtio-scsi controller: as many targets as have LUNs, and target 0.
///
/// They are one target port with one name and one relative identifier, that of the controller, since
/// the identifiers are given to slots, for good, before there are targets; and a volume, which is in
/// one place of a controller only, has one path through it either way.
pub struct ScsiDevice {
    pub config: virtio_scsi::Config,
    pub events: virtio_scsi::Events,
    luns: BTreeMap<LunAddress, Lun>,
    /// The same by target, as commands want it.
    views: BTreeMap<u8, Rc<View>>,
    /// Target 0's.
    pub view: Rc<View>,
    /// Units as an earlier release kept them, by LUN: taken over by units that have no state yet.
    pub bequest: Vec<(u16, Vec<u8>)>,
    pub dirty: bool,
    pub faults: [u64; virtio_scsi::Fault::ALL.len()],
    pub task_management: u64,
    pub no_unit: u64,
}

/// A virtio-blk disk.
pub struct BlkDevice {
    pub config: virtio_blk::Config,
    pub mode: virtio_blk::Mode,
    pub volume: u32,
    pub facts: Facts,
    pub faults: [u64; virtio_blk::Fault::ALL.len()],
    negotiated: u64,
    queues: u16,
    dirty: bool,
}

/// A NIC and its place in a network.
pub struct NetDevice {
    pub nic: virtio_net::Nic,
    pub network: u32,
    pub port: PortId,
    pub malformed: u64,
    dirty: bool,
}

pub enum Device {
    Scsi(Box<ScsiDevice>),
    Blk(Box<BlkDevice>),
    Net(Box<NetDevice>),
}

impl ScsiDevice {
    pub fn new(request_queues: u16) -> Self {
        Self {
            config: virtio_scsi::Config::new(
                u32::from(request_queues),
                SEGMENTS_MAX,
                SECTORS_MAX,
                COMMANDS_PER_LUN,
            ),
            events: virtio_scsi::Events::default(),
            luns: BTreeMap::new(),
            views: BTreeMap::new(),
            view: Rc::default(),
            bequest: Vec::new(),
            dirty: false,
            faults: [0; virtio_scsi::Fault::ALL.len()],
            task_management: 0,
            no_unit: 0,
        }
    }

    pub fn luns(&self) -> &BTreeMap<LunAddress, Lun> {
        &self.luns
    }

    pub fn insert(&mut self, at: LunAddress, lun: Lun) {
        self.luns.insert(at, lun);
        self.refresh();
    }

    /// All at once, as a controller begins.
    pub fn insert_all(&mut self, luns: Vec<(LunAddress, Lun)>) {
        self.luns.extend(luns);
        self.refresh();
    }

    pub fn remove(&mut self, at: LunAddress) -> Option<Lun> {
        let lun = self.luns.remove(&at);
        self.refresh();
        lun
    }

    fn refresh(&mut self) {
        self.views = View::by_target(self.luns.iter().map(|(at, lun)| (*at, lun.volume, lun.nexus)));
        self.view = self.views.get(&0).map(Rc::clone).unwrap_or_default();
    }

    /// What is behind a target, if there is one of that number.
    pub fn target(&self, target: u8) -> Option<&Rc<View>> {
        if target == 0 { Some(&self.view) } else { self.views.get(&target) }
    }

    /// Version 2: sizes, events. Version 1 had each unit behind that, under its number.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0];
        bytes.extend((self.config.sizes.cdb() as u32).to_le_bytes());
        bytes.extend((self.config.sizes.sense() as u32).to_le_bytes());
        bytes.extend(self.events.encode());
        bytes
    }

    fn restore(&mut self, bytes: &[u8]) {
        const HEAD: usize = 12;
        const UNIT_V1: usize = 144;
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return };
        if !matches!(head[..4], [1 | 2, 0, 0, 0]) {
            return;
        }
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        self.config.sizes = virtio_scsi::Sizes::new(word(4), word(8));
        let Some((events, units)) = rest.split_first_chunk() else { return };
        self.events = virtio_scsi::Events::decode(events).unwrap_or_default();
        let old = units.chunks_exact(2 + UNIT_V1);
        self.bequest =
            old.map(|entry| (u16::from_le_bytes([entry[0], entry[1]]), entry[2..].to_vec())).collect();
    }
}

impl BlkDevice {
    pub fn new(volume: u32, facts: Facts, queues: u16) -> Self {
        let config = virtio_blk::Config::new(&facts, virtio_blk::Limits { seg_max: SEGMENTS_MAX, queues });
        let mode = virtio_blk::Mode::new(&facts, 0, &config);
        let faults = [0; virtio_blk::Fault::ALL.len()];
        Self { config, mode, volume, facts, faults, negotiated: 0, queues, dirty: false }
    }

    fn refresh(&mut self) {
        self.mode = virtio_blk::Mode::new(&self.facts, self.negotiated, &self.config);
    }

    /// True: the driver sees another capacity and is to be told.
    pub fn resized(&mut self, facts: Facts) -> bool {
        self.facts = facts;
        let changed = self.config.resized(&self.facts);
        self.refresh();
        changed
    }
}

impl NetDevice {
    pub fn new(config: virtio_net::Config, network: u32, port: PortId) -> Self {
        Self { nic: virtio_net::Nic::new(config), network, port, malformed: 0, dirty: false }
    }
}

impl Device {
    /// Virtqueues that the device has.
    pub fn queues(&self) -> u32 {
        match self {
            Device::Scsi(device) => 2 + device.config.num_queues,
            Device::Blk(device) => u32::from(device.queues),
            Device::Net(device) => 2 * u32::from(device.nic.config().pairs_max) + 1,
        }
    }

    /// What GET_QUEUE_NUM answers. QEMU wants at least a NIC's ring pairs, Cloud Hypervisor at least
    /// its rings; a SCSI controller's is compared with its request queues and two more.
    pub fn queue_limit(&self) -> u16 {
        match self {
            Device::Net(device) => device.nic.config().pairs_max.saturating_mul(2),
            _ => self.queues() as u16,
        }
    }

    pub fn features(&self) -> u64 {
        match self {
            Device::Scsi(_) => virtio_scsi::features(),
            Device::Blk(device) => virtio_blk::features(&device.facts, device.queues),
            Device::Net(device) => device.nic.config().offered(),
        }
    }

    pub fn protocol_features(&self) -> u64 {
        match self {
            // QEMU keeps the configuration of a SCSI controller and of a NIC to itself, and warns of
            // back ends that offer theirs.
            Device::Scsi(_) => 0,
            Device::Blk(_) => PROTOCOL_F_CONFIG,
            Device::Net(_) => PROTOCOL_F_RARP | PROTOCOL_F_MTU | PROTOCOL_F_STATUS,
        }
    }

    pub fn config(&self) -> Vec<u8> {
        match self {
            Device::Scsi(device) => device.config.encode().to_vec(),
            Device::Blk(device) => device.config.encode().to_vec(),
            Device::Net(device) => device.nic.config_space().to_vec(),
        }
    }

    /// The driver writes to the configuration space. Some: this volume wants a flush.
    pub fn write_config(&mut self, offset: u32, bytes: &[u8]) -> Option<u32> {
        use virtio_blk::WritebackChange;
        match self {
            Device::Scsi(device) => {
                device.config.write(offset as usize, bytes);
                None
            }
            Device::Blk(device) => {
                let change = device.config.write(offset as usize, bytes);
                device.dirty |= change != WritebackChange::None;
                device.refresh();
                (change == WritebackChange::ToWriteThrough).then_some(device.volume)
            }
            // Its driver sets the address over the control queue.
            Device::Net(_) => None,
        }
    }

    pub fn order(&self, ring: u32) -> Order {
        match self {
            Device::Scsi(_) | Device::Blk(_) => Order::Any,
            Device::Net(_) => {
                let _ = ring;
                Order::InOrder
            }
        }
    }

    /// Whether the lane has to look into the ring for work. Buffers for events and for received
    /// frames are taken when there is something to put into them.
    pub fn is_polled(&self, ring: u32) -> bool {
        match self {
            Device::Scsi(device) => match virtio_scsi::queue_kind(ring as u16) {
                QueueKind::Event => device.events.is_waiting(),
                _ => true,
            },
            Device::Blk(_) => true,
            Device::Net(device) => ring % 2 == 1 || device.nic.control_queue().map(u32::from) == Some(ring),
        }
    }

    /// The driver's features are known.
    pub fn set_features(&mut self, features: u64) {
        match self {
            Device::Scsi(_) => {}
            Device::Blk(device) => {
                device.negotiated = features;
                device.refresh();
            }
            Device::Net(device) => {
                let state = device.nic.state().clone();
                device.nic.resume(features, state);
            }
        }
    }

    pub fn set_mtu(&mut self, mtu: u16) {
        if let Device::Net(device) = self {
            let config = virtio_net::Config { mtu: Some(mtu), ..*device.nic.config() };
            device.nic.change(config);
        }
    }

    /// The driver is gone: everything that it set is as at power on.
    pub fn reset(&mut self) {
        match self {
            Device::Scsi(device) => {
                device.config.reset();
                device.events.reset();
                device.dirty = true;
            }
            Device::Blk(device) => {
                device.config.reset();
                device.refresh();
                device.dirty = true;
            }
            Device::Net(device) => {
                device.nic.reset();
                device.dirty = true;
            }
        }
    }

    /// Everything of the model that the next worker must know.
    pub fn state(&self) -> Vec<u8> {
        match self {
            Device::Scsi(device) => device.encode(),
            Device::Blk(device) => vec![1, u8::from(device.config.writeback())],
            Device::Net(device) => device.nic.state().encode().to_vec(),
        }
    }

    pub fn restore(&mut self, bytes: &[u8]) {
        match self {
            Device::Scsi(device) => device.restore(bytes),
            Device::Blk(device) => {
                if let [1, writeback] = *bytes {
                    device.config.restore_writeback(writeback != 0);
                    device.refresh();
                }
            }
            Device::Net(device) => {
                let state = <&[u8; NIC_STATE_BYTES]>::try_from(bytes).ok().and_then(NicState::decode);
                if let Some(state) = state {
                    device.nic.resume(u64::MAX, state);
                }
            }
        }
    }

    /// The state, if it changed since it was asked for last.
    pub fn take_dirty_state(&mut self) -> Option<Vec<u8>> {
        let dirty = match self {
            Device::Scsi(device) => std::mem::take(&mut device.dirty),
            Device::Blk(device) => std::mem::take(&mut device.dirty),
            Device::Net(device) => std::mem::take(&mut device.dirty),
        };
        dirty.then(|| self.state())
    }

    /// A ring is served from now on. A NIC whose control queue is QEMU's learns here how many pairs
    /// its driver uses.
    pub fn ring_started(&mut self, ring: u32) {
        if let Device::Net(device) = self {
            let pairs = (ring / 2 + 1) as u16;
            if pairs <= device.nic.config().pairs_max && pairs > device.nic.pairs() {
                device.nic.set_pairs(pairs);
            }
        }
    }

    pub fn ring_stopped(&mut self, ring: u32) {
        if let Device::Net(device) = self {
            let pairs = (ring / 2).max(1) as u16;
            if pairs < device.nic.pairs() {
                device.nic.set_pairs(pairs);
            }
        }
    }

    /// Named ends of the model, for the operator.
    pub fn counters(&self) -> Vec<(String, u64)> {
        match self {
            Device::Scsi(device) => {
                let faults = virtio_scsi::Fault::ALL
                    .iter()
                    .map(|fault| (fault.name().to_owned(), device.faults[*fault as usize]));
                faults
                    .chain([
                        ("task_management".to_owned(), device.task_management),
                        ("no_such_lun".to_owned(), device.no_unit),
                    ])
                    .collect()
            }
            Device::Blk(device) => {
                let faults = virtio_blk::Fault::ALL.iter();
                faults.map(|fault| (fault.name().to_owned(), device.faults[*fault as usize])).collect()
            }
            Device::Net(device) => {
                let counters = device.nic.counters();
                let drops = virtio_net::Drop::ALL
                    .iter()
                    .map(|drop| (format!("transmit_{}", drop.name()), counters.drops[*drop as usize]));
                let refused = virtio_net::Refused::ALL.iter().map(|refused| {
                    (format!("receive_{}", refused.name()), counters.refused[*refused as usize])
                });
                [
                    ("transmitted_frames", counters.transmitted_frames),
                    ("transmitted_bytes", counters.transmitted_bytes),
                    ("transmit_malformed", device.malformed),
                    ("received_frames", counters.received_frames),
                    ("received_bytes", counters.received_bytes),
                    ("received_buffers", counters.received_buffers),
                    ("commands", counters.commands),
                    ("commands_refused", counters.commands_refused),
                ]
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .chain(drops)
                .chain(refused)
                .collect()
            }
        }
    }
}
