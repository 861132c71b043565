//! What a well-formed site can still get wrong. All problems are found, not
//! only the first; each knows the key that it is about.

use super::{
    Kind, Model, SLOT_VOLUMES_MAX, Site, Slot, SlotId, Uplink, Vm, Volume, is_name, is_slot_name, is_vm_name,
};
use crate::problem::Problem;
use crate::step::Backing;
use std::collections::{BTreeMap, HashSet};
use std::path::{Component, Path};

/// Queues of one uplink. More than the host has cores is of no use; the bound
/// keeps a slip of the pen from asking for thousands of descriptors.
const QUEUES_MAX: u16 = 64;
/// Threads. As above.
const LANES_MAX: u32 = 256;
/// Linux refuses interface names of 16 bytes and more (IFNAMSIZ with the zero).
const INTERFACE_NAME_MAX: usize = 15;
/// virtio-blk's identity has 20 bytes (virtio 1.2, 5.2.6, VIRTIO_BLK_T_GET_ID).
const SERIAL_MAX: usize = 20;

/// A problem and the key that it is about, before it has a place in a text.
pub(super) struct Finding {
    pub keys: Vec<String>,
    pub what: String,
    pub hint: String,
}

impl Finding {
    fn problem(self) -> Problem {
        Problem::invalid(self.what).at(dotted(&self.keys)).hint(self.hint)
    }
}

/// `vm.web1.disk0.volume`, with quotes where TOML wants them.
pub(super) fn dotted(keys: &[String]) -> String {
    let quoted = keys.iter().map(|key| {
        let bare = key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if bare && !key.is_empty() { key.clone() } else { format!("{key:?}") }
    });
    quoted.collect::<Vec<_>>().join(".")
}

/// The candidate that is nearest to a mistyped word, if one is near.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |other: &str| -> usize {
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in word.chars().enumerate() {
            let mut diagonal = row[0];
            row[0] = i + 1;
            for (j, b) in other.iter().enumerate() {
                let cost = usize::from(a != *b);
                let next = (diagonal + cost).min(row[j] + 1).min(row[j + 1] + 1);
                diagonal = std::mem::replace(&mut row[j + 1], next);
            }
        }
        row[other.len()]
    };
    // A word of thousands of letters is no slip of the pen.
    if word.len() > 256 {
        return None;
    }
    let allowed = ((word.chars().count() + 1) / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(d, _)| *d <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

struct Checker<'a> {
    site: &'a Site,
    findings: Vec<Finding>,
}

macro_rules! keys {
    ($($key:expr),* $(,)?) => { vec![$($key.to_string()),*] };
}

mod export;

impl Site {
    /// Everything that is wrong with the site; nothing if it can be planned for.
    pub fn check(&self) -> Vec<Problem> {
        self.findings().into_iter().map(Finding::problem).collect()
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut checker = Checker { site: self, findings: Vec::new() };
        checker.server();
        checker.stores();
        checker.volumes();
        checker.networks();
        checker.vms();
        checker.portals();
        checker.targets();
        checker.users();
        checker.identity();
        checker.findings
    }
}

/// The key below a table.
fn child(here: &[String], last: &str) -> Vec<String> {
    let mut keys = here.to_vec();
    keys.push(last.to_owned());
    keys
}

impl Checker<'_> {
    fn add(&mut self, keys: Vec<String>, what: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(Finding { keys, what: what.into(), hint: hint.into() });
    }

    fn name(&mut self, keys: Vec<String>, sort: &str, name: &str) {
        if !is_name(name) {
            self.add(
                keys,
                format!("`{name}` cannot be the name of a {sort}"),
                "use a to z, 0 to 9, `.`, `_` and `-`, begin with a letter or digit, 63 characters at most",
            );
        }
    }

    /// A reference to a name that is not there.
    fn unknown<'n>(
        &mut self,
        keys: Vec<String>,
        sort: &str,
        name: &str,
        table: &str,
        known: impl Iterator<Item = &'n String>,
    ) {
        let known: Vec<&str> = known.map(String::as_str).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Otherwise add [{table}.{name}]"),
            None => format!("add [{table}.{name}]"),
        };
        self.add(keys, format!("there is no {sort} `{name}`"), hint);
    }

    fn absolute(&mut self, keys: Vec<String>, path: &Path) {
        let plain = path.components().all(|part| !matches!(part, Component::ParentDir | Component::CurDir));
        if !path.is_absolute() || !plain {
            self.add(
                keys,
                format!("`{}` is not an absolute path", path.display()),
                "the daemon has no current directory: write the whole path from `/`, without `..`",
            );
        }
    }

    fn server(&mut self) {
        let server = &self.site.server;
        if server.lanes.is_some_and(|n| n == 0 || n > LANES_MAX) {
            self.add(
                keys!["server", "lanes"],
                "the number of lanes is out of range",
                format!("write 1 to {LANES_MAX}, or leave it out for one per core"),
            );
        }
        self.absolute(keys!["server", "socket_dir"], &server.socket_dir);
        // sun_path has 108 bytes with the zero (unix(7)); the names of the
        // slots are checked against the rest below.
        for (id, _) in self.site.slots() {
            let path = self.site.socket(&id);
            if path.as_os_str().len() > 107 {
                self.add(
                    keys!["vm", id.vm, id.slot],
                    format!(
                        "the socket's path `{}` is longer than the 107 bytes that Linux allows",
                        path.display()
                    ),
                    "choose a shorter server.socket_dir or VM name",
                );
            }
        }
    }

    fn stores(&mut self) {
        for (name, store) in &self.site.store {
            self.name(keys!["store", name], "store", name);
            self.absolute(keys!["store", name, "directory"], &store.directory);
        }
    }

    fn volumes(&mut self) {
        let mut paths = BTreeMap::new();
        let mut names = BTreeMap::new();
        for (name, volume) in &self.site.disk {
            let here = || keys!["disk", name];
            self.name(here(), "volume", name);
            self.volume(name, volume);
            if let Some(Backing::Path { path }) = self.site.backing(name)
                && let Some(other) = paths.insert(path.clone(), name)
            {
                self.add(
                    here(),
                    format!("volumes `{other}` and `{name}` are both at {}", path.display()),
                    "two volumes on one path destroy each other's data: give one another path, or remove it",
                );
            }
            if let Some(naa) = volume.naa
                && let Some(other) = names.insert(naa, name)
            {
                self.add(
                    keys!["disk", name, "naa"],
                    format!("volumes `{other}` and `{name}` have the same NAA name {naa}"),
                    "guests would take them for two paths to one disk: leave `naa` out of one of them",
                );
            }
        }
    }

    fn volume(&mut self, name: &str, volume: &Volume) {
        let key = |last: &str| keys!["disk", name, last];
        let given = usize::from(volume.store.is_some())
            + usize::from(volume.path.is_some())
            + usize::from(volume.null);
        if given != 1 {
            let what = if given == 0 {
                format!("volume `{name}` does not say where its bytes are")
            } else {
                format!("volume `{name}` says in more than one way where its bytes are")
            };
            self.add(
                keys!["disk", name],
                what,
                "write one of `store = \"NAME\"`, `path = \"/dev/…\"` and `null = true`",
            );
        }
        if let Some(store) = &volume.store
            && !self.site.store.contains_key(store)
        {
            self.unknown(key("store"), "store", store, "store", self.site.store.keys());
        }
        if let Some(path) = &volume.path {
            self.absolute(key("path"), path);
        }
        if volume.size.is_none() && volume.path.is_none() && given == 1 {
            self.add(
                keys!["disk", name],
                format!("volume `{name}` has no size"),
                "add a size, such as `size = \"20GiB\"`; only a volume with `path` can go without",
            );
        }
        let (sizes, hint): (&[u32], _) = match volume.kind {
            Kind::Disk => (&[512, 4096], "write 512 or 4096"),
            Kind::Cdrom => (&[2048], "a CD-ROM has blocks of 2048 bytes: leave `block_size` out"),
        };
        let block_size = volume.block_size();
        if !sizes.contains(&block_size) {
            self.add(key("block_size"), format!("{block_size} is not a block size"), hint);
        } else if let Some(size) = volume.size
            && (size.0 == 0 || size.0 % u64::from(block_size) != 0)
        {
            let block = u64::from(block_size);
            let fitting = size.0.div_ceil(block).max(1).saturating_mul(block);
            self.add(
                key("size"),
                format!("a size of {} bytes is not a whole number of blocks of {block} bytes", size.0),
                format!("write a multiple of {block}, such as {fitting}"),
            );
        }
        self.kind(name, volume);
        if let Some(serial) = &volume.serial
            && (serial.is_empty()
                || serial.len() > SERIAL_MAX
                || !serial.bytes().all(|b| b.is_ascii_graphic()))
        {
            self.add(
                key("serial"),
                format!("{serial:?} cannot be a serial number"),
                format!("write 1 to {SERIAL_MAX} printable ASCII characters without spaces, or leave it out and one is made"),
            );
        }
    }

    fn vlans(&mut self, here: &[String], vlan: Option<u16>, trunk: Option<&Vec<u16>>, native: Option<u16>) {
        let key = |last: &str| child(here, last);
        let range = "VLANs are 1 to 4094 (0 and 4095 are reserved by IEEE 802.1Q)";
        if vlan.is_some() && trunk.is_some() {
            self.add(
                key("trunk"),
                "a port has either `vlan` or `trunk`",
                "use `vlan` for a guest that knows nothing of VLANs, `trunk` (and `native` for its untagged frames) for one that tags",
            );
        }
        if native.is_some() && trunk.is_none() {
            self.add(
                key("native"),
                "`native` is of use only with `trunk`",
                "write `vlan` for the VLAN of a port without tags",
            );
        }
        if trunk.is_some_and(Vec::is_empty) {
            self.add(key("trunk"), "the trunk has no VLANs", "list them, such as `trunk = [10, 20]`");
        }
        let all = [
            ("vlan", vlan.as_slice()),
            ("trunk", trunk.map_or(&[], Vec::as_slice)),
            ("native", native.as_slice()),
        ];
        for (name, vlans) in all {
            for id in vlans.iter().filter(|id| !(1..=4094).contains(*id)) {
                self.add(key(name), format!("{id} is not a VLAN"), range);
            }
        }
    }

    fn queues(&mut self, keys: Vec<String>, queues: u16) {
        if queues == 0 || queues > QUEUES_MAX {
            self.add(
                keys,
                format!("{queues} queues are out of range"),
                format!("write 1 to {QUEUES_MAX}; one per lane is plenty"),
            );
        }
    }

    fn slot_queues(&mut self, keys: Vec<String>, slot: &Slot) {
        let max = slot.model.queues_max();
        if slot.queues == 0 || slot.queues > max {
            let (what, hint) = if max == 1 {
                let what = format!("the queues of {} cannot be chosen", slot.model.with_article());
                (what, "leave `queues` out".to_owned())
            } else {
                let what =
                    format!("{} queues are out of range for {}", slot.queues, slot.model.with_article());
                (what, format!("write 1 to {max}; one per vCPU is plenty"))
            };
            self.add(keys, what, hint);
        } else if slot.queues > 1 && slot.msix == Some(false) {
            self.add(
                keys,
                format!("{} queues want MSI-X, which `msix = false` takes away", slot.queues),
                "leave one of the two out: by MSI or INTx there is one queue",
            );
        }
    }

    fn networks(&mut self) {
        let mut taps = BTreeMap::new();
        for (name, network) in &self.site.network {
            self.name(keys!["network", name], "network", name);
            if !(68..=65535).contains(&network.mtu) {
                self.add(
                    keys!["network", name, "mtu"],
                    format!("an MTU of {} is out of range", network.mtu),
                    "write 68 to 65535; 1500 and 9000 are usual",
                );
            }
            if network.age_seconds == 0 {
                self.add(
                    keys!["network", name, "age_seconds"],
                    "addresses cannot age in 0 seconds",
                    "write 1 or more; 300 is usual",
                );
            }
            for (uplink_name, uplink) in &network.uplink {
                let here = keys!["network", name, "uplink", uplink_name];
                self.uplink(&here, uplink_name, uplink);
                let place = format!("{name}.{uplink_name}");
                if let Some(other) = taps.insert(&uplink.tap, place.clone()) {
                    self.add(
                        child(&here, "tap"),
                        format!("uplinks `{other}` and `{place}` both use the TAP device `{}`", uplink.tap),
                        "give each uplink a TAP device of its own",
                    );
                }
            }
        }
    }

    fn uplink(&mut self, here: &[String], name: &str, uplink: &Uplink) {
        let key = |last: &str| child(here, last);
        self.name(here.to_vec(), "uplink", name);
        let tap = &uplink.tap;
        // dev_valid_name() of Linux: no slash, colon or space, not `.` or `..`;
        // `%` would make it a pattern.
        let valid = !tap.is_empty()
            && tap.len() <= INTERFACE_NAME_MAX
            && tap.bytes().all(|b| b.is_ascii_graphic() && !b"/:%".contains(&b))
            && tap != "."
            && tap != "..";
        if !valid {
            self.add(
                key("tap"),
                format!("{tap:?} cannot be the name of a network interface"),
                format!("use 1 to {INTERFACE_NAME_MAX} characters without spaces, `/`, `:` and `%`"),
            );
        }
        self.queues(key("queues"), uplink.queues);
        self.vlans(here, uplink.vlan, uplink.trunk.as_ref(), uplink.native);
    }

    fn vms(&mut self) {
        let mut macs = BTreeMap::new();
        let site = self.site;
        for (name, vm) in &site.vm {
            self.boot_order(name, vm);
            if !is_vm_name(name) {
                self.add(
                    keys!["vm", name],
                    format!("`{name}` cannot be the name of a VM"),
                    "use a to z, 0 to 9, `_` and `-`, begin with a letter or digit, 63 characters at most, no dot",
                );
            }
            if vm.user.as_deref() == Some("") {
                self.add(
                    keys!["vm", name, "user"],
                    "the user's name is empty",
                    "name the user that runs the VM's QEMU, or leave `user` out",
                );
            }
            if vm.memory.is_some_and(|memory| memory.0 == 0 || !memory.0.is_multiple_of(4096)) {
                self.add(
                    keys!["vm", name, "memory"],
                    "a guest's memory is a whole number of pages of 4096 bytes",
                    "write a size such as \"4GiB\"",
                );
            }
            if vm.cpus == Some(0) {
                self.add(keys!["vm", name, "cpus"], "a guest has at least one CPU", "write 1 or more");
            }
            for (slot_name, slot) in &vm.slots {
                let id = SlotId::new(name, slot_name);
                let here = keys!["vm", name, slot_name];
                self.slot(&here, &id, slot);
                let mut seen = HashSet::new();
                for (lun, volume) in slot.luns() {
                    let key = if slot.volume.as_deref() == Some(volume) { "volume" } else { "volumes" };
                    let here = child(&here, key);
                    if !site.disk.contains_key(volume) {
                        self.unknown(here, "volume", volume, "disk", site.disk.keys());
                    } else if !seen.insert(volume) {
                        self.add(
                            here,
                            format!("volume `{volume}` is twice in slot {id}"),
                            format!("remove one; a second path to it at LUN {lun} is of no use"),
                        );
                    } else if slot.model == Model::VirtioBlk {
                        self.fits_blk(here, volume, &id);
                    }
                }
                if slot.model.is_nic()
                    && let Some(mac) = vm.mac(&id)
                    && let Some(other) = macs.insert(mac, id.clone())
                {
                    self.add(
                        child(&here, "mac"),
                        format!("slots {other} and {id} have the same MAC address {mac}"),
                        "give one of them another, or leave `mac` out and one is derived from the slot's name",
                    );
                }
            }
        }
    }

    fn boot_order(&mut self, name: &str, vm: &Vm) {
        let mut places = BTreeMap::new();
        for (slot_name, slot) in &vm.slots {
            let Some(index) = slot.boot_index else { continue };
            let here = keys!["vm", name, slot_name, "boot_index"];
            if index == 0 {
                self.add(here.clone(), "the boot order begins with 1", "write 1 for what is tried first");
            }
            if let Some(other) = places.insert(index, slot_name) {
                self.add(
                    here,
                    format!(
                        "slots `{other}` and `{slot_name}` have the same place {index} in the boot order"
                    ),
                    "QEMU refuses that: give each its own, or leave `boot_index` out of one",
                );
            }
        }
    }

    fn slot(&mut self, here: &[String], id: &SlotId, slot: &Slot) {
        let key = |last: &str| child(here, last);
        let is_nic = slot.model.is_nic();
        if !is_slot_name(&id.slot) || id.slot.starts_with("nic") != is_nic {
            let fits = if is_nic { "nic0, nic1, …" } else { "disk0, disk1, …" };
            self.add(
                here.to_vec(),
                format!("{} cannot be in a slot named `{}`", slot.model.with_article(), id.slot),
                format!("name it {fits}"),
            );
        }
        self.slot_queues(key("queues"), slot);
        let needs = if slot.model.is_nic() {
            Some(("network", slot.network.is_some()))
        } else if slot.model == Model::VirtioBlk {
            Some(("volume", slot.volume.is_some()))
        } else {
            None
        };
        if let Some((needed, false)) = needs {
            self.add(
                here.to_vec(),
                format!("slot {id} has no {needed}"),
                format!("add `{needed} = \"NAME\"`"),
            );
        }
        let given = [
            ("volume", slot.volume.is_some()),
            ("volumes", slot.volumes.is_some()),
            ("path", slot.path.is_some()),
            ("network", slot.network.is_some()),
            ("mac", slot.mac.is_some()),
            ("vlan", slot.vlan.is_some()),
            ("trunk", slot.trunk.is_some()),
            ("native", slot.native.is_some()),
            ("rom", slot.rom.is_some()),
            ("doorbells", slot.doorbells.is_some()),
            ("msix", slot.msix.is_some()),
        ];
        for (name, _) in given.iter().filter(|(_, given)| *given) {
            let (fits, instead) = match *name {
                "rom" => (
                    slot.model.is_emulated(),
                    "QEMU itself gives its own devices their ROM: use its `romfile`",
                ),
                "doorbells" => (
                    slot.model.has_doorbell_pages(),
                    "leave it out: only vmxnet3 and pvscsi have pages with nothing but doorbells",
                ),
                "msix" => (slot.model.has_msix(), "it is for e1000e, vmxnet3 and pvscsi: leave it out"),
                _ if slot.model.is_nic() => (
                    !["volume", "volumes", "path"].contains(name),
                    "it takes `network`, `mac`, `vlan`, `trunk` and `native`",
                ),
                _ if slot.model.is_scsi() => {
                    (["volumes", "path"].contains(name), "write `volumes = [\"NAME\"]`")
                }
                _ => (*name == "volume", "write `volume = \"NAME\"`"),
            };
            if !fits {
                self.add(key(name), format!("`{name}` is not for {}", slot.model.with_article()), instead);
            }
        }
        if let Some(rom) = &slot.rom {
            self.absolute(key("rom"), rom);
        }
        self.slot_places(key("volumes"), slot);
        if let Some(network) = &slot.network
            && !self.site.network.contains_key(network)
        {
            let known = self.site.network.keys();
            self.unknown(key("network"), "network", network, "network", known);
        }
        if slot.mac.is_some_and(|mac| mac.is_multicast() || mac.0 == [0; 6]) {
            self.add(
                key("mac"),
                "the MAC address is not a station's",
                "its first byte must be even, such as in 52:54:00:aa:bb:01",
            );
        }
        if is_nic {
            self.vlans(here, slot.vlan, slot.trunk.as_ref(), slot.native);
        }
    }

    /// Where a SCSI slot has its volumes.
    fn slot_places(&mut self, here: Vec<String>, slot: &Slot) {
        let (model, max) = (slot.model, slot.model.lun_max());
        let mut places = slot.luns().map(|(at, _)| at);
        if let Some(at) = places.find(|at| at.lun > max || at.target != 0 && !model.has_targets()) {
            let mend = if at.target != 0 && model == Model::Pvscsi {
                format!("its numbers are targets, each with LUN 0 only: write `{}`", at.target)
            } else {
                format!("write 0 to {max}, and add another slot for more volumes")
            };
            let place = if at.target == 0 { format!("number {at}") } else { format!("`{at}`") };
            self.add(here.clone(), format!("{} has no place for {place}", model.with_article()), mend);
        }
        let count = slot.luns().count();
        if count > SLOT_VOLUMES_MAX {
            self.add(
                here,
                format!("{count} volumes are too many for one slot, which takes {SLOT_VOLUMES_MAX}"),
                "add another slot for the others",
            );
        }
    }
}
