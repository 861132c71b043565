//! What a libvirt domain must say to plug a VM into its slots. libvirt has
//! elements for vhost-user disks and interfaces, but none for vhost-user-scsi
//! and vfio-user: those go through its QEMU pass-through.

use super::args::LibvirtXml;
use super::qemu::{chardev, emulated_device, scsi_device, specs};
use super::{Outcome, Screen};
use crate::client::Client;
use crate::problem::Problem;
use crate::site::Site;
use crate::step::Device;
use std::fmt::Write;
use std::path::Path;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}

fn source(out: &mut String, path: &Path, mode: &str) {
    let path = escaped(&path.display().to_string());
    // Writing to a string cannot fail.
    let _ = writeln!(out, "      <source type='unix' path='{path}'{mode}>");
    out.push_str("        <reconnect enabled='yes' timeout='1'/>\n      </source>\n");
}

fn boot_order(out: &mut String, boot_index: Option<u16>) {
    if let Some(index) = boot_index {
        let _ = writeln!(out, "      <boot order='{index}'/>");
    }
}

/// `vda`, `vdb`, …, `vdz`, `vdaa`, …
fn target(mut index: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'a' + (index % 26) as u8));
        if index < 26 {
            break;
        }
        index = index / 26 - 1;
    }
    letters.iter().rev().collect()
}

/// The elements, each in the parent that it belongs to.
pub fn xml(site: &Site, vm: &str) -> Result<String, Problem> {
    let mut devices = String::new();
    let mut arguments = Vec::new();
    let mut disks = 0;
    let declared = site.vm.get(vm);
    for spec in specs(site, vm)? {
        let queues = spec.queues;
        let boot_index = site.slot(&spec.id).and_then(|slot| slot.boot_index);
        match &spec.device {
            Device::VirtioScsi { .. } => {
                arguments.extend(["-chardev".to_owned(), chardev(&spec)]);
                arguments.extend(["-device".to_owned(), scsi_device(&spec, boot_index)]);
            }
            Device::Pvscsi { .. } | Device::Nic { .. } => {
                arguments.extend(["-device".to_owned(), emulated_device(&spec, boot_index)]);
            }
            Device::VirtioBlk { .. } => {
                devices.push_str("    <disk type='vhostuser' device='disk'>\n");
                let _ = writeln!(devices, "      <driver name='qemu' type='raw' queues='{queues}'/>");
                source(&mut devices, &spec.socket, "");
                let dev = target(disks);
                disks += 1;
                let _ = writeln!(devices, "      <target dev='vd{dev}' bus='virtio'/>");
                boot_order(&mut devices, boot_index);
                devices.push_str("    </disk>\n");
            }
            Device::VirtioNet { network, mac, .. } => {
                devices.push_str("    <interface type='vhostuser'>\n");
                let _ = writeln!(devices, "      <mac address='{mac}'/>");
                source(&mut devices, &spec.socket, " mode='client'");
                devices.push_str("      <model type='virtio'/>\n");
                if queues > 1 {
                    let _ = writeln!(devices, "      <driver queues='{queues}'/>");
                }
                if let Some(network) = site.network.get(network).filter(|n| n.mtu != 1500) {
                    let _ = writeln!(devices, "      <mtu size='{}'/>", network.mtu);
                }
                boot_order(&mut devices, boot_index);
                devices.push_str("    </interface>\n");
            }
        }
    }
    let mut size = String::new();
    if let Some(memory) = declared.and_then(|vm| vm.memory) {
        let _ = writeln!(size, "  <memory unit='b'>{}</memory>", memory.0);
    }
    if let Some(cpus) = declared.and_then(|vm| vm.cpus) {
        let _ = writeln!(size, "  <vcpu>{cpus}</vcpu>");
    }
    let mut text = format!(
        "<!-- Merge this into the domain of {vm}; keep what else is in each element. -->\n\
         <domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n{size}\
         \x20 <memoryBacking>\n\
         \x20   <source type='memfd'/>\n\
         \x20   <access mode='shared'/>\n\
         \x20 </memoryBacking>\n\
         \x20 <devices>\n{devices}  </devices>\n"
    );
    if !arguments.is_empty() {
        text.push_str("  <qemu:commandline>\n");
        for argument in arguments {
            let _ = writeln!(text, "    <qemu:arg value='{}'/>", escaped(&argument));
        }
        text.push_str("  </qemu:commandline>\n");
    }
    text.push_str("</domain>\n");
    Ok(text)
}

pub(super) fn print(client: &Client, args: &LibvirtXml, screen: &mut Screen<'_>) -> Outcome {
    let site: Site = client.get("/v1/site")?;
    let text = xml(&site, &args.name)?;
    screen.show(&text, |out, text| write!(out, "{text}"))
}
