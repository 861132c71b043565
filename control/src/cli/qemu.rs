//! What QEMU must be told to plug a VM into its slots.

use super::args::QemuArgs;
use super::{Outcome, Screen};
use crate::client::Client;
use crate::controller::no_such;
use crate::problem::Problem;
use crate::site::{Model, Site, Size, SlotId};
use crate::step::{Device, SlotSpec};
use std::path::Path;

/// How often QEMU tries to reach a daemon that is away.
const RECONNECT_MS: u32 = 100;
/// Any other MTU is told to the guest.
const MTU_USUAL: u32 = 1500;

/// In QEMU's option syntax a comma within a value is doubled.
pub(super) fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The `-chardev` of a slot, which both the netdev and the disks refer to.
pub(super) fn chardev(spec: &SlotSpec) -> String {
    format!("socket,id=sp-{},path={},reconnect-ms={RECONNECT_MS}", spec.id.slot, escaped(&spec.socket))
}

fn boot_option(boot_index: Option<u16>) -> String {
    boot_index.map_or_else(String::new, |index| format!(",bootindex={index}"))
}

pub(super) fn scsi_device(spec: &SlotSpec, boot_index: Option<u16>) -> String {
    let slot = &spec.id.slot;
    let boot = boot_option(boot_index);
    format!("vhost-user-scsi-pci,id={slot},chardev=sp-{slot},num_queues={}{boot}", spec.queues)
}

/// How long QEMU waits for an answer before it gives the device up for good, and the VM with it. It
/// would be 5 s, which a host that is short of processors may need to start the next worker.
const PATIENCE_MS: u32 = 60_000;

/// In JSON: its socket is an object, which the option syntax has no words for. The shell hands
/// `$(standpipe qemu-args VM)` on as it is printed, after it has split it at blanks and looked for
/// patterns, so that neither may be in a word; JSON has another way to write both.
pub(super) fn emulated_device(spec: &SlotSpec, boot_index: Option<u16>) -> String {
    let mut path = String::new();
    for character in spec.socket.display().to_string().chars() {
        if character.is_ascii_alphanumeric() || "/._-+:,=@%".contains(character) || !character.is_ascii() {
            path.push(character);
        } else {
            path.push_str(&format!("\\u{:04x}", u32::from(character)));
        }
    }
    let boot = boot_index.map_or_else(String::new, |index| format!(",\"bootindex\":{index}"));
    // VMware's drivers take a command as carried out when the write that gives it returns: they free
    // what it names, and read what it leaves in memory. PCnet's registers are in I/O space, where PCI
    // posts no write: drivers stop the chip and free its buffers. So QEMU has to wait for such writes.
    let waits = match spec.device.model() {
        Model::Pvscsi | Model::Vmxnet3 | Model::Vlance | Model::Flexible | Model::Am79c973 => {
            ",\"x-no-posted-writes\":true"
        }
        _ => "",
    };
    format!(
        "{{\"driver\":\"vfio-user-pci\",\"id\":\"{}\",\"socket\":{{\"type\":\"unix\",\"path\":\"{path}\"}},\"x-msg-timeout\":{PATIENCE_MS}{waits}{boot}}}",
        spec.id.slot
    )
}

/// For `-m`, which must say the same as the memory object.
fn megabytes(memory: Size) -> String {
    if memory.0.is_multiple_of(1 << 20) {
        format!("{}M", memory.0 >> 20)
    } else {
        format!("{}k", memory.0 >> 10)
    }
}

/// The VM's slots with their resolved specs.
pub(super) fn specs(site: &Site, vm: &str) -> Result<Vec<SlotSpec>, Problem> {
    let declared = site.vm.get(vm).ok_or_else(|| no_such("VM", vm, "vm list"))?;
    let specs = declared.slots.keys();
    Ok(specs.filter_map(|slot| site.slot_spec(&SlotId::new(vm, slot))).collect())
}

/// What a guest has about which nothing is said.
const MEMORY_USUAL: Size = Size(1 << 30);

/// The arguments, each option followed by its value. `memory` is asked for in place of the site's.
pub fn arguments(site: &Site, vm: &str, memory: Option<Size>) -> Result<Vec<String>, Problem> {
    let specs = specs(site, vm)?;
    let declared = site.vm.get(vm);
    let memory = memory.or(declared.and_then(|vm| vm.memory)).unwrap_or(MEMORY_USUAL);
    let mut list = Vec::new();
    let mut option = |name: &str, value: String| list.extend([format!("-{name}"), value]);
    option("object", format!("memory-backend-memfd,id=mem,size={},share=on", memory.0));
    option("machine", "memory-backend=mem".to_owned());
    option("m", megabytes(memory));
    if let Some(cpus) = declared.and_then(|vm| vm.cpus) {
        option("smp", cpus.to_string());
    }
    for spec in specs {
        let slot = &spec.id.slot;
        let queues = spec.queues;
        let boot_index = site.slot(&spec.id).and_then(|slot| slot.boot_index);
        let boot = boot_option(boot_index);
        if !spec.device.model().is_emulated() {
            option("chardev", chardev(&spec));
        }
        match &spec.device {
            Device::VirtioScsi { .. } => option("device", scsi_device(&spec, boot_index)),
            Device::VirtioBlk { .. } => option(
                "device",
                format!("vhost-user-blk-pci,id={slot},chardev=sp-{slot},num-queues={queues}{boot}"),
            ),
            Device::Pvscsi { .. } | Device::Nic { .. } => {
                option("device", emulated_device(&spec, boot_index))
            }
            Device::VirtioNet { network, mac, .. } => {
                option("netdev", format!("vhost-user,id=net-{slot},chardev=sp-{slot},queues={queues}"));
                let mut device = format!("virtio-net-pci,id={slot},netdev=net-{slot},mac={mac}");
                if queues > 1 {
                    // A vector for each queue of each pair, the control queue
                    // and the configuration.
                    let vectors = 2 * u32::from(queues) + 2;
                    device.push_str(&format!(",mq=on,vectors={vectors}"));
                }
                let mtu = site.network.get(network).map_or(MTU_USUAL, |n| n.mtu);
                if mtu != MTU_USUAL {
                    device.push_str(&format!(",host_mtu={mtu}"));
                }
                device.push_str(&boot);
                option("device", device);
            }
        }
    }
    Ok(list)
}

pub(super) fn print(client: &Client, args: &QemuArgs, screen: &mut Screen<'_>) -> Outcome {
    let site: Site = client.get("/v1/site")?;
    let list = arguments(&site, &args.name, args.memory)?;
    screen.show(&list, |out, list| list.chunks(2).try_for_each(|pair| writeln!(out, "{}", pair.join(" "))))
}
