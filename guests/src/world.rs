//! A site, its server and its guests. The same site can be built from QEMU's own devices instead: a
//! case that fails on those is wrong itself, or asks for what a stock kernel cannot do.

use crate::guest::{Accel, Guest, GuestSpec, tail};
use crate::place::{Image, Scratch};
use crate::server::Server;
use crate::site::{Device, DiskModel, Kind, NicModel, Site};
use crate::{During, Failure, Result};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Standpipe's devices, by vhost-user and vfio-user.
    Standpipe,
    /// QEMU's own devices.
    Qemu,
}

/// What every case gets: the image, how to run it, and against what.
#[derive(Debug, Clone)]
pub struct Bench {
    pub image: Image,
    pub accel: Accel,
    pub against: Against,
    /// Longer runs and more kills.
    pub long: bool,
}

pub struct World {
    pub bench: Bench,
    pub site: Site,
    server: Option<Server>,
    // Last, so that it is dropped when nothing uses it any more.
    pub scratch: Scratch,
}

impl World {
    /// Builds a site in a scratch folder of its own and starts the server on it.
    pub fn open(bench: &Bench, name: &str, describe: impl FnOnce(Site) -> Site) -> Result<World> {
        let scratch = Scratch::new(name)?;
        let site = describe(Site::new(&scratch.files.join("volumes"), &scratch.sockets.join("s")));
        let server = match bench.against {
            Against::Standpipe => Some(Server::start(&scratch, &site).inspect_err(|_| scratch.keep())?),
            Against::Qemu => {
                std::fs::create_dir_all(&site.store).during("creating the folder of the volumes")?;
                for volume in &site.volumes {
                    // A file that the case has put there keeps its bytes.
                    let file = std::fs::OpenOptions::new()
                        .create(true)
                        .truncate(false)
                        .write(true)
                        .open(site.file(&volume.name))
                        .during("creating a volume")?;
                    file.set_len(volume.bytes).during("sizing a volume")?;
                }
                None
            }
        };
        Ok(World { bench: bench.clone(), site, server, scratch })
    }

    /// The server; a case that needs it is not run against QEMU's own devices.
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("this case runs against Standpipe")
    }

    /// Ends keeper and worker at once, and starts them anew on what they left on the disk.
    pub fn power_cut(&mut self) -> Result<()> {
        self.server().kill();
        self.server = None;
        self.server = Some(Server::start(&self.scratch, &self.site)?);
        Ok(())
    }

    pub fn spec(&self, vm: &str) -> Result<GuestSpec> {
        self.spec_with_memory(vm, 256)
    }

    /// A guest with so many MiB of memory.
    pub fn spec_with_memory(&self, vm: &str, mib: u32) -> Result<GuestSpec> {
        let mut spec = GuestSpec::new(vm, self.bench.accel, &self.scratch.files, &self.scratch.sockets);
        spec.memory_mib = mib;
        spec.qemu_args = match &self.server {
            Some(server) => server.qemu_args(vm, spec.memory_mib)?,
            None => self.own_devices(vm)?,
        };
        Ok(spec)
    }

    pub fn start(&self, vm: &str) -> Result<Guest> {
        Guest::start(&self.bench.image, self.spec(vm)?)
    }

    pub fn boot(&self, vm: &str) -> Result<Guest> {
        let guest = self.start(vm)?;
        guest.wait_ready()?;
        Ok(guest)
    }

    /// Boots two guests side by side.
    pub fn boot_two(&self, one: &str, other: &str) -> Result<(Guest, Guest)> {
        let (one, other) = (self.start(one)?, self.start(other)?);
        one.wait_ready()?;
        other.wait_ready()?;
        Ok((one, other))
    }

    /// QEMU's own devices for a VM, as near to the server's as they come.
    fn own_devices(&self, name: &str) -> Result<Vec<String>> {
        let vm = self.site.find(name).during(format!("the site has no VM {name}"))?;
        let mut args = Vec::new();
        let mut add = |option: &str, value: String| args.extend([option.to_string(), value]);
        for slot in &vm.slots {
            match &slot.device {
                Device::Disk { model: model @ (DiskModel::Scsi | DiskModel::Pvscsi), volumes, queues } => {
                    add(
                        "-device",
                        match model {
                            DiskModel::Pvscsi => format!("pvscsi,id={}", slot.name),
                            _ => format!("virtio-scsi-pci,id={},num_queues={queues}", slot.name),
                        },
                    );
                    for (lun, volume) in volumes.iter().enumerate() {
                        add("-blockdev", self.own_blockdev(volume));
                        let found = self.site.volumes.iter().find(|v| v.name == *volume);
                        let found = found.during(format!("the site has no volume {volume}"))?;
                        let removable = if found.removable { "on" } else { "off" };
                        let device = match found.kind {
                            Kind::Cdrom => "scsi-cd".to_string(),
                            Kind::Store | Kind::Null => format!("scsi-hd,removable={removable}"),
                            Kind::Disk(logical, physical) => format!(
                                "scsi-hd,removable={removable},logical_block_size={logical},physical_block_size={physical}"
                            ),
                        };
                        add(
                            "-device",
                            format!(
                                "{device},id={volume},bus={}.0,{},drive={volume},serial={volume}",
                                slot.name,
                                address(*model, lun)
                            ),
                        );
                    }
                }
                Device::Disk { model: DiskModel::Blk, volumes, queues } => {
                    add("-blockdev", self.own_blockdev(&volumes[0]));
                    add(
                        "-device",
                        format!("virtio-blk-pci,id={},drive={},num-queues={queues}", slot.name, volumes[0]),
                    );
                }
                Device::Nic { model, network, mac, .. } => {
                    let device = model.qemu();
                    let found = self.site.networks.iter().find(|n| n.name == *network);
                    let found = found.during(format!("the site has no network {network}"))?;
                    let mtu = match model {
                        NicModel::Virtio => format!(",host_mtu={}", found.mtu),
                        _ => String::new(),
                    };
                    if let Some(tap) = &found.tap {
                        add("-netdev", format!("tap,id={},ifname={tap},script=no,downscript=no", slot.name));
                        add("-device", format!("{device},netdev={},mac={mac}{mtu}", slot.name));
                        continue;
                    }
                    let first = self.site.vms.first().is_some_and(|v| v.name == name);
                    let role = if first { "server=on" } else { "server=off,reconnect-ms=100" };
                    let cable = self.scratch.sockets.join(format!("{network}.cable"));
                    add(
                        "-netdev",
                        format!(
                            "stream,id={},{role},addr.type=unix,addr.path={}",
                            slot.name,
                            cable.display()
                        ),
                    );
                    add("-device", format!("{device},netdev={},mac={mac}{mtu}", slot.name));
                }
            }
        }
        Ok(args)
    }

    fn own_blockdev(&self, volume: &str) -> String {
        let file = self.site.file(volume);
        let sealed = self.site.volumes.iter().any(|v| v.name == volume && v.read_only);
        let read_only = if sealed { "on" } else { "off" };
        format!(
            "driver=raw,node-name={volume},read-only={read_only},discard=unmap,file.driver=file,file.cache.direct=on,file.filename={}",
            file.display()
        )
    }

    /// Changes a volume's size while its guest runs.
    pub fn resize(&mut self, guest: &Guest, volume: &str, bytes: u64) -> Result<()> {
        for known in self.site.volumes.iter_mut().filter(|v| v.name == volume) {
            known.bytes = bytes;
        }
        match &self.server {
            Some(server) => server.cli(&["disk", "resize", volume, &bytes.to_string()]).map(drop),
            None => {
                let arguments = json!({"node-name": volume, "size": bytes});
                guest.qmp(json!({"execute": "block_resize", "arguments": arguments})).map(drop)
            }
        }
    }

    /// Adds a volume as the next LUN of a SCSI controller while its guest runs.
    pub fn plug_lun(&mut self, guest: &Guest, slot: &str, volume: &str) -> Result<()> {
        let model = self.site.disk_model(guest.name(), slot).during("the slot is no SCSI controller")?;
        let luns = self.site.luns(guest.name(), slot).during("the slot is no SCSI controller")?;
        luns.push(volume.to_string());
        let lun = luns.len() - 1;
        match &self.server {
            Some(server) => server.apply(&self.site),
            None => {
                let file = self.site.file(volume);
                guest.qmp(json!({"execute": "blockdev-add", "arguments": {
                    "driver": "raw", "node-name": volume, "discard": "unmap",
                    "file": {"driver": "file", "filename": file.to_string_lossy(), "cache": {"direct": true}}}}))?;
                let mut device = json!({"driver": "scsi-hd", "id": volume, "bus": format!("{slot}.0"), "drive": volume, "serial": volume});
                match model {
                    DiskModel::Pvscsi => (device["scsi-id"], device["lun"]) = (json!(lun), json!(0)),
                    _ => device["lun"] = json!(lun),
                }
                guest.qmp(json!({"execute": "device_add", "arguments": device})).map(drop)
            }
        }
    }

    /// Takes the last LUN away while its guest runs.
    pub fn unplug_lun(&mut self, guest: &Guest, slot: &str) -> Result<()> {
        let luns = self.site.luns(guest.name(), slot).during("the slot is no SCSI controller")?;
        let volume = luns.pop().during("the controller has no LUN")?;
        match &self.server {
            Some(server) => server.apply(&self.site),
            None => {
                guest.qmp(json!({"execute": "device_del", "arguments": {"id": volume}}))?;
                guest.wait_event("DEVICE_DELETED", Duration::from_secs(60))?;
                guest.qmp(json!({"execute": "blockdev-del", "arguments": {"node-name": volume}})).map(drop)
            }
        }
    }

    /// Bytes that a volume takes on the host.
    pub fn allocated(&self, volume: &str) -> Result<u64> {
        let file = self.site.file(volume);
        let facts = std::fs::metadata(&file).during(format!("reading the size of {}", file.display()))?;
        // stat(2): st_blocks counts units of 512 bytes.
        Ok(facts.blocks() * 512)
    }

    /// The worker that served at the start still serves: nothing the guest did has ended it.
    pub fn unmoved(&self, worker: Option<u32>) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        let now = server.worker()?;
        if worker.is_some_and(|before| before != now) {
            return Err(Failure::new(format!(
                "the worker died and was restarted\n{}",
                tail(&server.log(), 20)
            )));
        }
        Ok(())
    }

    pub fn worker(&self) -> Result<Option<u32>> {
        self.server.as_ref().map(Server::worker).transpose()
    }
}

/// Where a volume is at QEMU's own controller.
fn address(model: DiskModel, number: usize) -> String {
    match model {
        DiskModel::Pvscsi => format!("scsi-id={number},lun=0"),
        _ => format!("lun={number}"),
    }
}

/// Repeats a question until its answer is yes.
pub fn eventually(what: &str, within: Duration, mut ask: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = std::time::Instant::now() + within;
    while !ask()? {
        if std::time::Instant::now() > deadline {
            return Err(Failure::new(format!("not within {} s: {what}", within.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
