//! A site description as the tests build it, and its TOML. It is written apart from the server's own
//! types on purpose: the tests speak to the server the way a person does.

use std::fmt::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskModel {
    Scsi,
    Blk,
    Pvscsi,
}

impl DiskModel {
    pub fn name(self) -> &'static str {
        match self {
            DiskModel::Scsi => "virtio-scsi",
            DiskModel::Blk => "virtio-blk",
            DiskModel::Pvscsi => "pvscsi",
        }
    }

    /// The guest's name of the first disk of this model.
    pub fn device(self) -> &'static str {
        match self {
            DiskModel::Scsi | DiskModel::Pvscsi => "/dev/sda",
            DiskModel::Blk => "/dev/vda",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicModel {
    Virtio,
    E1000,
    E1000Em,
    E1000e,
    Vlance,
    Flexible,
    Am79c973,
    Vmxnet3,
}

impl NicModel {
    pub fn name(self) -> &'static str {
        match self {
            NicModel::Virtio => "virtio-net",
            NicModel::E1000 => "e1000",
            NicModel::E1000Em => "e1000-82545em",
            NicModel::E1000e => "e1000e",
            NicModel::Vlance => "vlance",
            NicModel::Flexible => "flexible",
            NicModel::Am79c973 => "am79c973",
            NicModel::Vmxnet3 => "vmxnet3",
        }
    }

    /// QEMU's own device.
    pub fn qemu(self) -> &'static str {
        match self {
            NicModel::Virtio => "virtio-net-pci",
            // The one PCnet that it has.
            NicModel::Vlance | NicModel::Flexible | NicModel::Am79c973 => "pcnet",
            _ => self.name(),
        }
    }

    /// Linux's driver.
    pub fn driver(self) -> &'static str {
        match self {
            NicModel::Virtio => "virtio_net",
            NicModel::E1000 | NicModel::E1000Em => "e1000",
            NicModel::E1000e => "e1000e",
            NicModel::Vlance | NicModel::Flexible | NicModel::Am79c973 => "pcnet32",
            NicModel::Vmxnet3 => "vmxnet3",
        }
    }
}

#[derive(Debug, Clone)]
pub enum Device {
    /// The volumes are LUN 0, 1, ..., or targets for pvscsi; virtio-blk has one.
    Disk { model: DiskModel, volumes: Vec<String>, queues: u16 },
    Nic {
        model: NicModel,
        network: String,
        mac: String,
        queues: u16,
        /// VLANs that pass tagged, beside those without a tag.
        vlans: Vec<u16>,
    },
}

#[derive(Debug, Clone)]
pub struct Slot {
    /// `disk0`, `nic0`.
    pub name: String,
    pub device: Device,
    /// An option ROM from which the VM boots.
    pub rom: Option<PathBuf>,
    /// `false`: MSI-X is taken from a device that has it.
    pub msix: bool,
}

#[derive(Debug, Clone)]
pub struct Vm {
    pub name: String,
    pub slots: Vec<Slot>,
}

#[derive(Debug, Clone)]
pub struct Network {
    pub name: String,
    pub mtu: u32,
    /// A TAP device of the host.
    pub tap: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Volume {
    pub name: String,
    pub bytes: u64,
    pub kind: Kind,
    /// Several slots and targets may use it.
    pub shared: bool,
    pub removable: bool,
    pub read_only: bool,
    /// Initiators are told when so much of it has a place in the store.
    pub thin_threshold: Option<&'static str>,
}

/// What a volume is to those who use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A disk with blocks of 512 bytes, physically as the store says.
    Store,
    /// A disk with blocks of so many bytes, logical and physical.
    Disk(u32, u32),
    Cdrom,
    /// What is written is gone, and all reads are zeroes.
    Null,
}

/// An address that the iSCSI target listens at.
#[derive(Debug, Clone)]
pub struct Portal {
    pub name: String,
    pub listen: String,
}

/// An iSCSI target for one initiator, with CHAP both ways.
#[derive(Debug, Clone)]
pub struct Target {
    pub iqn: String,
    pub initiator: String,
    /// Portals, with the state that they have for the initiator.
    pub portals: Vec<(String, &'static str)>,
    pub luns: Vec<String>,
    /// User names, and files with their secrets.
    pub chap: (String, PathBuf),
    pub mutual: (String, PathBuf),
}

#[derive(Debug, Clone, Default)]
pub struct Site {
    pub lanes: Option<u32>,
    pub sockets: PathBuf,
    pub store: PathBuf,
    pub volumes: Vec<Volume>,
    pub networks: Vec<Network>,
    pub vms: Vec<Vm>,
    pub portals: Vec<Portal>,
    pub target: Option<Target>,
    /// VM, slot, and how the slot's doorbells reach the server.
    pub doorbells: Vec<(String, String, &'static str)>,
}

pub const MIB: u64 = 1 << 20;

impl Site {
    pub fn new(store: &Path, sockets: &Path) -> Site {
        Site { store: store.to_path_buf(), sockets: sockets.to_path_buf(), ..Site::default() }
    }

    pub fn volume(mut self, name: &str, mib: u64) -> Site {
        self.volumes.push(Volume {
            name: name.into(),
            bytes: mib * MIB,
            kind: Kind::Store,
            shared: false,
            removable: false,
            read_only: false,
            thin_threshold: None,
        });
        self
    }

    /// Changes the volume that was added last.
    pub fn with(mut self, change: impl FnOnce(&mut Volume)) -> Site {
        change(self.volumes.last_mut().expect("a volume was added before"));
        self
    }

    pub fn network(mut self, name: &str, mtu: u32, tap: Option<&str>) -> Site {
        self.networks.push(Network { name: name.into(), mtu, tap: tap.map(String::from) });
        self
    }

    /// Adds a disk slot to a VM, which is made when it is not there.
    pub fn disk(self, vm: &str, slot: &str, model: DiskModel, volumes: &[&str]) -> Site {
        let volumes = volumes.iter().map(|v| v.to_string()).collect();
        self.slot(vm, slot, Device::Disk { model, volumes, queues: 1 })
    }

    /// Adds a virtio-net to a VM; its MAC address ends with `station`.
    pub fn nic(self, vm: &str, slot: &str, network: &str, station: u8, queues: u16) -> Site {
        self.add_nic(vm, slot, NicModel::Virtio, network, station, queues)
    }

    /// The same with a NIC of any model, and as many queues as it has without being asked.
    pub fn nic_of(self, model: NicModel, vm: &str, slot: &str, network: &str, station: u8) -> Site {
        self.add_nic(vm, slot, model, network, station, 1)
    }

    fn add_nic(self, vm: &str, slot: &str, model: NicModel, network: &str, station: u8, queues: u16) -> Site {
        let mac = format!("52:54:00:5d:00:{station:02x}");
        self.slot(vm, slot, Device::Nic { model, network: network.into(), mac, queues, vlans: Vec::new() })
    }

    /// Lets frames of these VLANs pass a NIC with their tags.
    pub fn tagged(mut self, vm: &str, slot: &str, tags: &[u16]) -> Site {
        let slots = self.vms.iter_mut().filter(|v| v.name == vm).flat_map(|v| &mut v.slots);
        for slot in slots.filter(|s| s.name == slot) {
            if let Device::Nic { vlans, .. } = &mut slot.device {
                *vlans = tags.to_vec();
            }
        }
        self
    }

    /// `trapped` or `mapped`.
    pub fn doorbells(mut self, vm: &str, slot: &str, how: &'static str) -> Site {
        self.doorbells.push((vm.to_owned(), slot.to_owned(), how));
        self
    }

    /// Gives every slot of a VM this many pairs or request queues.
    pub fn queues(mut self, vm: &str, count: u16) -> Site {
        let slots = self.vms.iter_mut().filter(|v| v.name == vm).flat_map(|v| &mut v.slots);
        for slot in slots {
            match &mut slot.device {
                Device::Disk { queues, .. } | Device::Nic { queues, .. } => *queues = count,
            }
        }
        self
    }

    /// Gives the slot that was added last an option ROM, and the first place in the order of booting.
    pub fn boots_from(mut self, rom: &Path) -> Site {
        let slot = self.vms.last_mut().and_then(|vm| vm.slots.last_mut());
        slot.expect("a slot was added before").rom = Some(rom.to_path_buf());
        self
    }

    /// Takes MSI-X from a slot, so that QEMU can unplug it.
    pub fn without_msix(mut self, vm: &str, slot: &str) -> Site {
        let slots = self.vms.iter_mut().filter(|v| v.name == vm).flat_map(|v| &mut v.slots);
        slots.filter(|s| s.name == slot).for_each(|s| s.msix = false);
        self
    }

    fn slot(mut self, vm: &str, slot: &str, device: Device) -> Site {
        if self.find(vm).is_none() {
            self.vms.push(Vm { name: vm.into(), slots: Vec::new() });
        }
        let found = self.vms.iter_mut().find(|v| v.name == vm).expect("it was added above");
        found.slots.push(Slot { name: slot.into(), device, rom: None, msix: true });
        self
    }

    pub fn find(&self, vm: &str) -> Option<&Vm> {
        self.vms.iter().find(|v| v.name == vm)
    }

    /// Where the server keeps a volume's bytes.
    pub fn file(&self, volume: &str) -> PathBuf {
        self.store.join(format!("{volume}.raw"))
    }

    pub fn disk_model(&self, vm: &str, slot: &str) -> Option<DiskModel> {
        match &self.find(vm)?.slots.iter().find(|s| s.name == slot)?.device {
            Device::Disk { model, .. } => Some(*model),
            Device::Nic { .. } => None,
        }
    }

    /// The volumes of a SCSI controller, to be changed.
    pub fn luns(&mut self, vm: &str, slot: &str) -> Option<&mut Vec<String>> {
        let vm = self.vms.iter_mut().find(|v| v.name == vm)?;
        match &mut vm.slots.iter_mut().find(|s| s.name == slot)?.device {
            Device::Disk { volumes, .. } => Some(volumes),
            Device::Nic { .. } => None,
        }
    }

    pub fn toml(&self) -> String {
        let mut text = String::from("[server]\n");
        let mut line = |args: std::fmt::Arguments<'_>| {
            text.write_fmt(args).expect("writing to a string does not fail");
            text.push('\n');
        };
        if let Some(lanes) = self.lanes {
            line(format_args!("lanes = {lanes}"));
        }
        line(format_args!("socket_dir = {:?}\n", self.sockets));
        if !self.volumes.is_empty() {
            line(format_args!("[store.local]\ndirectory = {:?}\n", self.store));
        }
        for volume in &self.volumes {
            let place = if volume.kind == Kind::Null { "null = true" } else { "store = \"local\"" };
            line(format_args!("[disk.{}]\n{place}\nsize = {}", volume.name, volume.bytes));
            match volume.kind {
                Kind::Store | Kind::Null => {}
                Kind::Disk(logical, physical) => {
                    line(format_args!("block_size = {logical}\nphysical_block_size = {physical}"));
                }
                Kind::Cdrom => line(format_args!("kind = \"cdrom\"")),
            }
            let flags =
                [("shared", volume.shared), ("removable", volume.removable), ("read_only", volume.read_only)];
            if let Some(threshold) = volume.thin_threshold {
                line(format_args!("thin_threshold = {threshold:?}"));
            }
            for (flag, _) in flags.into_iter().filter(|(_, set)| *set) {
                line(format_args!("{flag} = true"));
            }
            line(format_args!(""));
        }
        for network in &self.networks {
            line(format_args!("[network.{}]\nmtu = {}\n", network.name, network.mtu));
            if let Some(tap) = &network.tap {
                line(format_args!("[network.{}.uplink.host]\ntap = {tap:?}\n", network.name));
            }
        }
        for portal in &self.portals {
            line(format_args!("[portal.{}]\nlisten = {:?}\n", portal.name, portal.listen));
        }
        if let Some(target) = &self.target {
            let portals: Vec<String> =
                target.portals.iter().map(|(name, state)| format!("{name} = {state:?}")).collect();
            line(format_args!(
                "[target.store]\niqn = {:?}\nportals = {{ {} }}\nluns = {:?}\n\n[[target.store.allow]]\ninitiator = {:?}",
                target.iqn,
                portals.join(", "),
                target.luns,
                target.initiator
            ));
            for (key, (user, file)) in [("chap", &target.chap), ("mutual", &target.mutual)] {
                line(format_args!("{key} = {{ user = {user:?}, secret_file = {file:?} }}"));
            }
            line(format_args!(""));
        }
        for vm in &self.vms {
            for slot in &vm.slots {
                line(format_args!("[vm.{}.{}]", vm.name, slot.name));
                if let Some(rom) = &slot.rom {
                    line(format_args!("rom = {rom:?}\nboot_index = 1"));
                }
                for (.., how) in self.doorbells.iter().filter(|(v, s, _)| *v == vm.name && *s == slot.name) {
                    line(format_args!("doorbells = {how:?}"));
                }
                if !slot.msix {
                    line(format_args!("msix = false"));
                }
                match &slot.device {
                    Device::Disk {
                        model: model @ (DiskModel::Scsi | DiskModel::Pvscsi),
                        volumes,
                        queues,
                    } => {
                        line(format_args!(
                            "model = {:?}\nvolumes = {volumes:?}\nqueues = {queues}\n",
                            model.name()
                        ));
                    }
                    Device::Disk { model: DiskModel::Blk, volumes, queues } => {
                        line(format_args!(
                            "model = \"virtio-blk\"\nvolume = {:?}\nqueues = {queues}\n",
                            volumes[0]
                        ));
                    }
                    Device::Nic { model, network, mac, queues, vlans } => {
                        line(format_args!(
                            "model = {:?}\nnetwork = {network:?}\nmac = {mac:?}\nqueues = {queues}",
                            model.name()
                        ));
                        if !vlans.is_empty() {
                            line(format_args!("trunk = {vlans:?}\nnative = 1"));
                        }
                        line(format_args!(""));
                    }
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_a_person_would() {
        let site = Site::new(Path::new("/x/volumes"), Path::new("/x/sockets"))
            .volume("root", 64)
            .network("lan", 1500, Some("tap7"))
            .disk("web1", "disk0", DiskModel::Scsi, &["root"])
            .nic("web1", "nic0", "lan", 1, 2);
        assert_eq!(
            site.toml(),
            "[server]\nsocket_dir = \"/x/sockets\"\n\n\
             [store.local]\ndirectory = \"/x/volumes\"\n\n\
             [disk.root]\nstore = \"local\"\nsize = 67108864\n\n\
             [network.lan]\nmtu = 1500\n\n\
             [network.lan.uplink.host]\ntap = \"tap7\"\n\n\
             [vm.web1.disk0]\nmodel = \"virtio-scsi\"\nvolumes = [\"root\"]\nqueues = 1\n\n\
             [vm.web1.nic0]\nmodel = \"virtio-net\"\nnetwork = \"lan\"\nmac = \"52:54:00:5d:00:01\"\nqueues = 2\n\n"
        );
    }
}
