//! What stands in an emulated slot.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use control::Problem;
use control::site::{LunAddress, NicModel as NicKind};
use control::step::{Device as DeviceSpec, SlotSpec};
use frame::Nic;
use guest_memory::{Memory, Window};
use pci::{Bar, Cap, Function, Layout, Pages};
use pvscsi::Adapter;
use request::{Instant, Mac};
use switch::PortId;
use vfio_user::Device as Described;

use super::super::device::Lun;
use super::super::scsi::View;
use super::super::unit::sas_address;

/// The largest option ROM that is read: what SeaBIOS has room for many times over.
const ROM_MAX: u64 = 1 << 20;

/// A NIC and its place in a network.
pub struct NicModel {
    pub nic: Box<dyn Nic>,
    pub network: u32,
    pub port: PortId,
    pub malformed: u64,
}

/// A SCSI controller: a volume is LUN 0 of the target of its number.
pub struct ScsiModel {
    pub adapter: Box<Adapter>,
    luns: BTreeMap<u16, Lun>,
    /// By target: what commands of it may see.
    views: BTreeMap<u8, Rc<View>>,
    /// A dead worker's commands may come again.
    pub resuming: bool,
    pub task_management: u64,
    pub no_unit: u64,
    /// The name that its devices' names are made of.
    slot: String,
}

impl ScsiModel {
    pub fn new(slot: &str, hot: Window, luns: Vec<(u16, Lun)>) -> Self {
        let mut model = Self {
            adapter: Box::new(Adapter::new(pvscsi::Config::default(), hot)),
            luns: luns.into_iter().collect(),
            views: BTreeMap::new(),
            resuming: true,
            task_management: 0,
            no_unit: 0,
            slot: slot.to_owned(),
        };
        model.refresh();
        model
    }

    fn renew(&mut self, hot: Window) {
        *self.adapter = Adapter::new(pvscsi::Config::default(), hot);
        self.resuming = true;
        self.refresh();
    }

    pub fn luns(&self) -> &BTreeMap<u16, Lun> {
        &self.luns
    }

    pub fn insert(&mut self, target: u16, lun: Lun) {
        self.luns.insert(target, lun);
        self.refresh();
    }

    pub fn remove(&mut self, target: u16) -> Option<Lun> {
        let lun = self.luns.remove(&target);
        self.refresh();
        lun
    }

    pub fn view(&self, target: u8) -> Option<&Rc<View>> {
        self.views.get(&target)
    }

    /// Each target shows its own volume as LUN 0; a copy command finds the others behind it.
    fn refresh(&mut self) {
        let mut config = pvscsi::Config {
            wwn: u64::from_be_bytes(sas_address(&self.slot, "/initiator")),
            ..pvscsi::Config::default()
        };
        let places = self.luns.iter().map(|(target, lun)| {
            // Fewer than TARGETS_MAX.
            (LunAddress::new(*target as u8, 0), lun.volume, lun.nexus)
        });
        self.views = View::by_target(places);
        self.views.retain(|_, view| !view.numbers.is_empty());
        for target in self.luns.keys() {
            if let Some(device) = config.devices.get_mut(usize::from(*target)) {
                *device = u64::from_be_bytes(sas_address(&self.slot, "/target"));
            }
        }
        self.adapter.change(config);
    }
}

pub enum Model {
    Nic(NicModel),
    Scsi(Box<ScsiModel>),
}

impl Model {
    /// A NIC of the site, on its hot state.
    pub fn nic(spec: &SlotSpec, network: u32, port: PortId, hot: Window) -> Option<Model> {
        let DeviceSpec::Nic { model, mac, .. } = &spec.device else { return None };
        let mac = Mac(mac.0);
        let intel =
            |model, hot| -> Box<dyn Nic> { Box::new(e1000::E1000::new(e1000::Config { model, mac }, hot)) };
        let amd =
            |chip, hot| -> Box<dyn Nic> { Box::new(pcnet::Pcnet::new(pcnet::Config { mac, chip }, hot)) };
        let nic: Box<dyn Nic> = match model {
            NicKind::E1000 => intel(e1000::Model::I82540em, hot),
            NicKind::E1000Em => intel(e1000::Model::I82545em, hot),
            NicKind::E1000e => intel(e1000::Model::I82574l, hot),
            NicKind::Vlance => amd(pcnet::Chip::Am79C970A, hot),
            NicKind::Flexible => amd(pcnet::Chip::Flexible, hot),
            NicKind::Am79c973 => amd(pcnet::Chip::Am79C973, hot),
            NicKind::Vmxnet3 => {
                let queues = u8::try_from(spec.queues).unwrap_or(u8::MAX).clamp(1, 8);
                let config = vmxnet3::Config {
                    mac,
                    transmit_queues: queues,
                    receive_queues: queues,
                    ..vmxnet3::Config::default()
                };
                Box::new(vmxnet3::Vmxnet3::new(config, hot))
            }
        };
        Some(Model::Nic(NicModel { nic, network, port, malformed: 0 }))
    }

    /// The same device on a hot state that is as another left it; the rest of it is as after power on.
    pub fn renew(&mut self, spec: &SlotSpec, hot: Window) {
        match self {
            Model::Nic(model) => {
                if let Some(Model::Nic(new)) = Model::nic(spec, model.network, model.port, hot) {
                    model.nic = new.nic;
                }
            }
            Model::Scsi(model) => model.renew(hot),
        }
    }

    pub fn function(&self) -> &dyn Function {
        match self {
            Model::Nic(model) => model.nic.as_ref(),
            Model::Scsi(model) => model.adapter.as_ref(),
        }
    }

    pub fn function_mut(&mut self) -> &mut dyn Function {
        match self {
            Model::Nic(model) => model.nic.as_mut(),
            Model::Scsi(model) => model.adapter.as_mut(),
        }
    }

    /// Something was posted that was not taken.
    pub fn has_work(&self) -> bool {
        match self {
            Model::Nic(model) => model.nic.waiting() != 0,
            Model::Scsi(model) => model.adapter.has_work(),
        }
    }

    /// Orders are not through that a driver may wait for by reading a register.
    pub fn is_settling(&self) -> bool {
        match self {
            Model::Nic(_) => false,
            Model::Scsi(model) => model.adapter.settling(),
        }
    }

    /// Nothing is under way that [`hot_of`] does not count.
    pub fn is_at_rest(&self) -> bool {
        match self {
            Model::Nic(_) => true,
            Model::Scsi(model) => model.adapter.is_at_rest(),
        }
    }

    pub fn set_doorbells(&mut self, now: Instant, memory: &Memory, wanted: bool) {
        match self {
            Model::Nic(model) => model.nic.set_doorbells(now, memory, wanted),
            Model::Scsi(model) if wanted => model.adapter.want_kicks(now, memory),
            Model::Scsi(model) => model.adapter.forgo_kicks(memory),
        }
    }

    pub fn publish(&mut self, now: Instant, memory: &Memory) {
        match self {
            Model::Nic(model) => model.nic.publish(now, memory),
            Model::Scsi(model) => model.adapter.publish(now, memory),
        }
    }

    pub fn counters(&self) -> Vec<(String, u64)> {
        let own: &[(&str, u64)] = match self {
            Model::Nic(model) => &[("transmit_malformed", model.malformed)],
            Model::Scsi(model) => {
                &[("task_management", model.task_management), ("no_such_lun", model.no_unit)]
            }
        };
        let all = self.function().counters().into_iter().chain(own.iter().copied());
        all.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// What a slot shows of its function.
pub fn shown(layout: &Layout, device: &DeviceSpec) -> Layout {
    if device.msix() { *layout } else { layout.without_msix() }
}

/// Added to a model's number: without MSI-X it is another piece of hardware.
const WITHOUT_MSIX: u32 = 0x100;

/// A number for the model and the form of its hot state, how much of that there is, and how much of it
/// counts while nothing is under way. A number is never used again for another form.
pub fn hot_of(device: &DeviceSpec) -> (u32, usize, usize) {
    let (number, bytes, at_rest) = hot_of_model(device);
    (if device.msix() { number } else { number | WITHOUT_MSIX }, bytes, at_rest)
}

fn hot_of_model(device: &DeviceSpec) -> (u32, usize, usize) {
    let whole = |number, bytes| (number, bytes, bytes);
    match device {
        DeviceSpec::Nic { model: NicKind::E1000, .. } => whole(1, e1000::HOT_BYTES),
        DeviceSpec::Nic { model: NicKind::E1000Em, .. } => whole(2, e1000::HOT_BYTES),
        DeviceSpec::Nic { model: NicKind::E1000e, .. } => whole(3, e1000::HOT_BYTES),
        DeviceSpec::Nic { model: NicKind::Vlance, .. } => whole(4, pcnet::HOT_BYTES),
        DeviceSpec::Nic { model: NicKind::Vmxnet3, .. } => whole(5, vmxnet3::HOT_BYTES),
        DeviceSpec::Pvscsi { .. } => (6, pvscsi::HOT_BYTES, pvscsi::HOT_AT_REST),
        DeviceSpec::Nic { model: NicKind::Flexible, .. } => whole(7, pcnet::HOT_BYTES),
        DeviceSpec::Nic { model: NicKind::Am79c973, .. } => whole(8, pcnet::HOT_BYTES),
        DeviceSpec::VirtioScsi { .. } | DeviceSpec::VirtioBlk { .. } | DeviceSpec::VirtioNet { .. } => {
            unreachable!("no emulated device")
        }
    }
}

/// Pages of doorbells that a device of this kind may have.
pub fn doorbells_of(device: &DeviceSpec) -> Option<Pages> {
    match device {
        DeviceSpec::Nic { model: NicKind::Vmxnet3, .. } => Some(vmxnet3::DOORBELLS),
        DeviceSpec::Pvscsi { .. } => Some(pvscsi::DOORBELLS),
        _ => None,
    }
}

/// What the client is told of a function.
pub fn describe(layout: &Layout, rom_bytes: u32, config_bytes: u64) -> Described {
    let (mut msi, mut msix) = (0, 0);
    for (_, cap) in layout.caps {
        match cap {
            Cap::Msi { vectors, .. } => msi = u32::from(*vectors),
            Cap::MsiX { vectors, .. } => msix = u32::from(*vectors),
            Cap::PowerManagement { .. } | Cap::Pcie { .. } => {}
        }
    }
    let bars = layout.bars.map(|bar: Bar| u64::from(bar.bytes()));
    let intx = layout.interrupt_pin != 0;
    let device = Described::new(bars, u64::from(rom_bytes), config_bytes, intx, msi, msix);
    Described { migration: true, ..device }
}

/// The bytes of an option ROM.
pub fn read_rom(path: &Path) -> Result<Vec<u8>, Problem> {
    let failed = |what: String| {
        Problem::failed(what)
            .at(path.display().to_string())
            .hint("name a file with an option ROM for this device in `rom`, or leave it out")
    };
    let size = std::fs::metadata(path)
        .map_err(|error| failed(format!("cannot read the option ROM: {error}")))?
        .len();
    if size == 0 || size > ROM_MAX {
        return Err(failed(format!("an option ROM of {size} bytes; it may have 1 to {ROM_MAX}")));
    }
    let rom = std::fs::read(path).map_err(|error| failed(format!("cannot read the option ROM: {error}")))?;
    match pci::rom_images(&rom) {
        Ok(_) => Ok(rom),
        Err(error) => Err(failed(format!("this is no option ROM: {error:?}"))),
    }
}
