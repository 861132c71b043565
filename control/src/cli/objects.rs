//! `standpipe vm`, `disk`, `network` and `nic`.

use super::args::{Disk, DiskCreate, Network, NetworkAdd, Nic, NicText, Vm, VmAdd};
use super::progress::Progress;
use super::show::{human, join, reservation_text, table, users};
use super::{Failure, Outcome, Screen};
use crate::api::{
    Attach, DiskChange, DiskView, Export, Import, NetworkView, NewDisk, NewNetwork, NewVm, SlotChange, VmView,
};
use crate::client::{Client, segment};
use crate::controller::Applied;
use crate::import::image::vmdk_beside;
use crate::problem::Problem;
use crate::site::{self, LunAddress, Model, PathState, Site, Slot, SlotId, SlotLuns, Volume};
use crate::step::{Device, Tagging};
use crate::transfer::{Target, Transferred};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub(super) fn vm(client: &Client, command: Vm, screen: &mut Screen<'_>) -> Outcome {
    match command {
        Vm::Add(args) => {
            let new = NewVm { name: args.name.clone(), vm: new_vm(&args)?, disks: BTreeMap::new() };
            let applied: Applied = client.post("/v1/vms", &new)?;
            screen.applied(&applied)
        }
        Vm::Import(args) => super::import::import(client, &args, screen),
        Vm::Rm { name } => {
            let applied: Applied = client.delete(&format!("/v1/vms/{}", segment(&name)))?;
            screen.applied(&applied)
        }
        Vm::List => {
            let vms: BTreeMap<String, VmView> = client.get("/v1/vms")?;
            screen.show(&vms, |out, vms| {
                let rows: Vec<Vec<String>> = vms.values().map(vm_row).collect();
                table(out, &["VM", "STATE", "SLOTS"], &rows)
            })
        }
        Vm::Show { name } => {
            let vm: VmView = client.get(&format!("/v1/vms/{}", segment(&name)))?;
            screen.show(&vm, |out, vm| {
                let user = vm.vm.user.as_deref().unwrap_or("the daemon's user");
                writeln!(out, "{}: sockets belong to {user}\n", vm.name)?;
                let rows: Vec<Vec<String>> = vm.slots.values().map(slot_row).collect();
                table(out, &["SLOT", "STATE", "QUEUES", "DEVICE", "SOCKET"], &rows)
            })
        }
    }
}

fn new_vm(args: &VmAdd) -> Result<site::Vm, Problem> {
    let mut vm =
        site::Vm { user: args.user.clone(), memory: args.memory, cpus: args.cpus, ..site::Vm::default() };
    let mut add = |name: String, mut slot: Slot| {
        // Models without a choice have what their specification says.
        if slot.model.queues_max() > 1 {
            slot.queues = args.queues;
        }
        vm.slots.insert(name, slot);
    };
    let mut disks = 0..;
    let scsi = args.scsi.iter().map(|list| (Model::VirtioScsi, list));
    let pvscsi = args.pvscsi.iter().map(|list| (Model::Pvscsi, list));
    for (model, list) in scsi.chain(pvscsi) {
        let mut slot = Slot::new(model);
        let names = list.split(',').filter(|name| !name.is_empty());
        let luns = (0..).map(LunAddress::from).zip(names.map(str::to_owned)).collect();
        slot.volumes = Some(SlotLuns(luns));
        add(format!("disk{}", disks.next().unwrap_or(0)), slot);
    }
    for volume in &args.blk {
        let mut slot = Slot::new(Model::VirtioBlk);
        slot.volume = Some(volume.clone());
        add(format!("disk{}", disks.next().unwrap_or(0)), slot);
    }
    for (index, text) in args.nic.iter().enumerate() {
        let nic: NicText = text.parse().map_err(|what: String| {
            Problem::invalid(what)
                .at(format!("--nic {text}"))
                .hint("write --nic NETWORK[,model=MODEL][,vlan=ID][,mac=ADDRESS], such as --nic lan,vlan=10")
        })?;
        let mut slot = Slot::new(nic.model);
        slot.network = Some(nic.network);
        slot.vlan = nic.vlan;
        slot.mac = nic.mac;
        add(format!("nic{index}"), slot);
    }
    Ok(vm)
}

fn vm_row(vm: &VmView) -> Vec<String> {
    let connected = |view: &&crate::api::SlotView| view.status.as_ref().is_some_and(|s| s.connected);
    let running = vm.slots.values().filter(connected).count();
    let state = match running {
        0 => "off".to_owned(),
        n if n == vm.slots.len() => "running".to_owned(),
        n => format!("{n} of {} slots connected", vm.slots.len()),
    };
    vec![vm.name.clone(), state, join(vm.slots.keys())]
}

fn slot_row(view: &crate::api::SlotView) -> Vec<String> {
    let spec = &view.spec;
    let state = match &view.status {
        Some(status) if status.connected => "connected",
        Some(_) => "waiting",
        None => "absent",
    };
    let model = spec.device.model();
    let device = match &spec.device {
        Device::VirtioScsi { luns, path, .. } | Device::Pvscsi { luns, path, .. } => {
            let luns = luns.iter().map(|lun| format!("{}={}", lun.lun, lun.volume));
            let path = if *path == PathState::Active { String::new() } else { format!(" ({path} path)") };
            format!("{model} {}{path}", join(luns))
        }
        Device::VirtioBlk { volume } => format!("{model} {volume}"),
        Device::VirtioNet { network, mac, tagging } | Device::Nic { network, mac, tagging, .. } => {
            format!("{model} {network} {mac} {}", tagging_text(tagging))
        }
    };
    vec![
        spec.id.slot.clone(),
        state.to_owned(),
        spec.queues.to_string(),
        device,
        spec.socket.display().to_string(),
    ]
}

fn tagging_text(tagging: &Tagging) -> String {
    let comma = |vlans: &[u16]| vlans.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    match tagging {
        Tagging::Access(vlan) => format!("vlan {vlan}"),
        Tagging::Trunk { vlans, native } => match native {
            Some(native) => format!("trunk {} native {native}", comma(vlans)),
            None => format!("trunk {}", comma(vlans)),
        },
    }
}

pub(super) fn disk(client: &Client, command: Disk, screen: &mut Screen<'_>) -> Outcome {
    let path = |name: &str| format!("/v1/disks/{}", segment(name));
    match command {
        Disk::Create(args) => {
            let applied: Applied = client.post("/v1/disks", &new_disk(args)?)?;
            screen.applied(&applied)
        }
        Disk::List => {
            let disks: BTreeMap<String, DiskView> = client.get("/v1/disks")?;
            screen.show(&disks, |out, disks| {
                let rows: Vec<Vec<String>> = disks.values().map(disk_row).collect();
                let head = ["VOLUME", "SIZE", "ALLOCATED", "BLOCK", "USERS", "PLACE"];
                table(out, &head, &rows)
            })
        }
        Disk::Resize { name, size } => {
            let change = DiskChange { size: Some(size), ..DiskChange::default() };
            let applied: Applied = client.patch(&path(&name), &change)?;
            screen.applied(&applied)
        }
        Disk::Set(args) => {
            let change = DiskChange {
                shared: args.shared,
                thin_threshold: args.thin_threshold,
                ..DiskChange::default()
            };
            let applied: Applied = client.patch(&path(&args.name), &change)?;
            screen.applied(&applied)
        }
        Disk::Path { slot, state } => {
            let change = SlotChange { path: Some(state), ..SlotChange::default() };
            let applied: Applied = client.patch(&format!("/v1/slots/{slot}"), &change)?;
            screen.applied(&applied)
        }
        Disk::ClearReservations { name } => {
            let before: DiskView = client.get(&path(&name))?;
            client.command(&format!("{}/clear-reservations", path(&name)))?;
            let was = before.status.and_then(|status| status.reservation);
            screen.show(&was, |out, was| match was {
                None => writeln!(out, "there were no reservations on {name}"),
                Some(was) => writeln!(out, "cleared: {}", reservation_text(was)),
            })
        }
        Disk::Rm { name, delete_data } => {
            let url = format!("{}?delete_data={delete_data}", path(&name));
            let applied: Applied = client.delete(&url)?;
            screen.applied(&applied)
        }
        Disk::Import { name, file, on_server } => {
            let moved = import(client, &name, &file, on_server)?;
            screen.show(&moved, |out, moved| {
                writeln!(out, "imported {} into {name} ({})", human(moved.bytes), data(moved))
            })
        }
        Disk::Export { name, file, on_server } => export(client, &name, &file, on_server, screen),
        Disk::Attach { slot, volume, lun } => {
            let luns = format!("/v1/slots/{slot}/luns");
            let attach = Attach { volume };
            let applied: Applied = match lun {
                Some(lun) => client.put(&format!("{luns}/{lun}"), &attach)?,
                None => client.post(&luns, &attach)?,
            };
            screen.applied(&applied)
        }
        Disk::Detach { slot, volume } => {
            let lun = lun_of(client, &slot, &volume)?;
            let applied: Applied = client.delete(&format!("/v1/slots/{slot}/luns/{lun}"))?;
            screen.applied(&applied)
        }
    }
}

fn lun_of(client: &Client, slot: &SlotId, volume: &str) -> Result<LunAddress, Problem> {
    let site: Site = client.get("/v1/site")?;
    let users = site.users_of(volume);
    if let Some((_, lun)) = users.iter().find(|(id, _)| id == slot) {
        return Ok(*lun);
    }
    let hint = match users.first() {
        Some((id, _)) => format!("it is attached to {id}"),
        None => format!("`standpipe vm show {}` shows its volumes", slot.vm),
    };
    Err(Problem::not_found(format!("volume `{volume}` is not attached to {slot}"))
        .at(slot.to_string())
        .hint(hint))
}

/// The daemon has another current directory.
pub(super) fn absolute(path: PathBuf) -> Result<PathBuf, Problem> {
    std::path::absolute(&path).map_err(|error| {
        Problem::invalid(format!("cannot make the path absolute: {error}"))
            .at(path.display().to_string())
            .hint("give the whole path from `/`")
    })
}

fn new_disk(args: DiskCreate) -> Result<NewDisk, Problem> {
    Ok(NewDisk {
        name: args.name,
        volume: Volume {
            store: args.store,
            path: args.path.map(absolute).transpose()?,
            null: args.null,
            size: args.size,
            kind: args.kind,
            block_size: args.block_size,
            physical_block_size: args.physical_block_size,
            read_only: args.read_only,
            shared: args.shared,
            removable: args.removable,
            thin_threshold: args.thin_threshold,
            ..Volume::default()
        },
    })
}

fn disk_row(disk: &DiskView) -> Vec<String> {
    let status = disk.status.as_ref();
    let size = status.map(|s| s.size).or(disk.volume.size.map(|s| s.0));
    vec![
        disk.name.clone(),
        size.map_or("-".to_owned(), human),
        status.map_or("-".to_owned(), |s| human(s.allocated)),
        disk.volume.block_size().to_string(),
        join(users(&disk.used_by, &disk.targets)),
        match status.and_then(|s| s.fault.as_ref()) {
            Some(fault) => format!("{} (fault: {fault})", disk.place),
            None => disk.place.clone(),
        },
    ]
}

fn data(moved: &Transferred) -> String {
    format!("{} of data, the rest holes", human(moved.data))
}

fn import(client: &Client, name: &str, file: &Path, on_server: bool) -> Result<Transferred, Problem> {
    let dash = file == Path::new("-");
    if on_server {
        if dash {
            return Err(
                Problem::invalid("the daemon cannot read your standard input").hint("leave --on-server out")
            );
        }
        if vmdk_beside(file)?.is_some() {
            return Err(Problem::invalid("the daemon reads raw images only, and this is a VMDK")
                .at(file.display().to_string())
                .hint("leave --on-server out"));
        }
        let path = absolute(file.to_path_buf())?;
        let url = format!("/v1/disks/{}/import", segment(name));
        return client.post(&url, &Import { path });
    }
    // Refused now, before a byte is sent, where it will be refused anyway.
    let disk: DiskView = client.get(&format!("/v1/disks/{}", segment(name)))?;
    let vmdk = if dash { None } else { vmdk_beside(file)? };
    let mut progress = Progress::new("importing");
    let (image, length): (Box<dyn Read + Send>, Option<u64>) = if dash {
        (Box::new(std::io::stdin()), None)
    } else if let Some(vmdk) = vmdk {
        let length = vmdk.length();
        (Box::new(vmdk), Some(length))
    } else {
        let problem = |error: std::io::Error| {
            Problem::invalid(format!("cannot read the image: {error}"))
                .at(file.display().to_string())
                .hint("give a raw image that you may read")
        };
        let image = File::open(file).map_err(problem)?;
        let found = image.metadata().map_err(problem)?;
        let length = found.is_file().then_some(found.len());
        (Box::new(image), length)
    };
    if let (Some(length), Some(status)) = (length, &disk.status)
        && length > status.size
    {
        return Err(crate::transfer::too_long(Path::new(&disk.place), status.size, Some(length)));
    }
    client.import(name, image, length, |done| progress.at(done, length))
}

fn export(client: &Client, name: &str, file: &Path, on_server: bool, screen: &mut Screen<'_>) -> Outcome {
    let dash = file == Path::new("-");
    let url = format!("/v1/disks/{}/export", segment(name));
    if on_server {
        if dash {
            return Err(Problem::invalid("the daemon cannot write your standard output")
                .hint("leave --on-server out")
                .into());
        }
        let path = Some(absolute(file.to_path_buf())?);
        let moved: Transferred = client.post(&url, &Export { path })?;
        return screen.show(&moved, |out, moved| exported(out, moved, name, file));
    }
    let mut progress = Progress::new("exporting");
    let mut done = 0;
    if dash {
        let out = &mut screen.out;
        let mut failed = None;
        let result = client.export(name, |bytes, length| {
            out.write_all(bytes).map_err(|error| {
                let problem = Problem::failed(format!("cannot print: {error}"));
                failed = Some(error);
                problem
            })?;
            done += bytes.len() as u64;
            progress.at(done, length);
            Ok(())
        });
        if let Some(error) = failed {
            return Err(Failure::Output(error));
        }
        result?;
        screen.out.flush()?;
        return Ok(());
    }
    let mut target = None;
    let result = client.export(name, |bytes, length| {
        // Made only now, when the daemon has agreed.
        let target = match &mut target {
            Some(target) => target,
            none => {
                let length = length.ok_or_else(|| {
                    Problem::failed("the daemon did not say how long the image is")
                        .hint("use the same version of `standpipe` as the daemon")
                })?;
                none.insert(Target::create(file, length)?)
            }
        };
        target.write(bytes)?;
        done += bytes.len() as u64;
        progress.at(done, length);
        Ok(())
    });
    drop(progress);
    let moved = match (result, target) {
        (Ok(_), Some(target)) => target.finish()?,
        (Ok(_), None) => Target::create(file, 0)?.finish()?,
        (Err(problem), target) => {
            if target.is_some() {
                // Half an image is worse than none. The file is ours.
                let _ = std::fs::remove_file(file);
            }
            return Err(problem.into());
        }
    };
    screen.show(&moved, |out, moved| exported(out, moved, name, file))
}

fn exported(out: &mut dyn Write, moved: &Transferred, name: &str, file: &Path) -> std::io::Result<()> {
    writeln!(out, "exported {} of {name} to {} ({})", human(moved.bytes), file.display(), data(moved))
}

pub(super) fn network(client: &Client, command: Network, screen: &mut Screen<'_>) -> Outcome {
    match command {
        Network::Add(args) => {
            let applied: Applied = client.post("/v1/networks", &new_network(args))?;
            screen.applied(&applied)
        }
        Network::Rm { name } => {
            let applied: Applied = client.delete(&format!("/v1/networks/{}", segment(&name)))?;
            screen.applied(&applied)
        }
        Network::List => {
            let networks: BTreeMap<String, NetworkView> = client.get("/v1/networks")?;
            screen.show(&networks, |out, networks| {
                let rows: Vec<Vec<String>> = networks.values().map(network_row).collect();
                table(out, &["NETWORK", "MTU", "UPLINKS", "SLOTS"], &rows)
            })
        }
    }
}

fn new_network(args: NetworkAdd) -> NewNetwork {
    let uplink =
        args.tap.map(|tap| site::Uplink { tap, queues: 1, vlan: args.vlan, trunk: None, native: None });
    NewNetwork {
        name: args.name,
        network: site::Network {
            mtu: args.mtu,
            flood_limit_pps: args.flood_limit_pps,
            age_seconds: args.age_seconds,
            uplink: uplink.map(|uplink| ("host".to_owned(), uplink)).into_iter().collect(),
        },
    }
}

fn network_row(network: &NetworkView) -> Vec<String> {
    let uplinks = &network.network.uplink;
    vec![
        network.name.clone(),
        network.network.mtu.to_string(),
        join(uplinks.iter().map(|(name, uplink)| format!("{name}={}", uplink.tap))),
        join(&network.slots),
    ]
}

pub(super) fn nic(client: &Client, command: Nic, screen: &mut Screen<'_>) -> Outcome {
    let Nic::Set(args) = command;
    let change = SlotChange {
        network: args.network,
        vlan: args.vlan,
        trunk: args.trunk,
        native: args.native,
        ..SlotChange::default()
    };
    let applied: Applied = client.patch(&format!("/v1/slots/{}", args.slot), &change)?;
    screen.applied(&applied)
}
