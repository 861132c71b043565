//! What QEMU must be told to plug a VM into its slots.

use super::args::QemuArgs;
use super::{Outcome, Screen};
use crate::client::Client;
use crate::controller::no_such;
use crate::problem::Problem;
use crate::site::{Site, Size, SlotId};
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

pub(super) fn scsi_device(spec: &SlotSpec) -> String {
    let slot = &spec.id.slot;
    format!("vhost-user-scsi-pci,id={slot},chardev=sp-{slot},num_queues={}", spec.queues)
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

/// The arguments, each option followed by its value.
pub fn arguments(site: &Site, vm: &str, memory: Size) -> Result<Vec<String>, Problem> {
    let mut list = Vec::new();
    let mut option = |name: &str, value: String| list.extend([format!("-{name}"), value]);
    option("object", format!("memory-backend-memfd,id=mem,size={},share=on", memory.0));
    option("machine", "memory-backend=mem".to_owned());
    option("m", megabytes(memory));
    for spec in specs(site, vm)? {
        let slot = &spec.id.slot;
        let queues = spec.queues;
        option("chardev", chardev(&spec));
        match &spec.device {
            Device::VirtioScsi { .. } => option("device", scsi_device(&spec)),
            Device::VirtioBlk { .. } => option(
                "device",
                format!("vhost-user-blk-pci,id={slot},chardev=sp-{slot},num-queues={queues}"),
            ),
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
