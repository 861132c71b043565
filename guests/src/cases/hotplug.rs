//! Emulated devices come and go while their guest runs.

use crate::cases::emulated::behind_ports;
use crate::cases::net::{ONE, OTHER, address, reach};
use crate::guest::{COMMAND_MAX, Guest};
use crate::load::VerifiedWrites;
use crate::site::{DiskModel, NicModel};
use crate::world::{Bench, World, eventually};
use crate::{During, Result, ensure};
use serde_json::json;
use std::time::Duration;

const STEP_MAX: Duration = Duration::from_secs(120);

/// Every NIC there is; station 1 and above, since web2 has the last.
const NICS: [NicModel; 7] = [
    NicModel::E1000,
    NicModel::E1000Em,
    NicModel::E1000e,
    NicModel::Vlance,
    NicModel::Flexible,
    NicModel::Am79c973,
    NicModel::Vmxnet3,
];
const WEB2: u8 = 99;

/// The interface of a MAC address; none: "".
fn interface(guest: &Guest, station: usize) -> Result<String> {
    let found = guest.run(
        &format!("grep -l '^52:54:00:5d:00:{station:02x}' /sys/class/net/*/address | cut -d/ -f5"),
        COMMAND_MAX,
    )?;
    Ok(found.stdout.trim().to_string())
}

/// Every model is plugged in over QMP, as `qemu-args` names it, is used, and is plugged out again; those that
/// have MSI-X without it, since QEMU aborts otherwise.
pub fn every_model(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "emulated-hotplug", |site| {
        let mut site = site.volume("data", 64).network("lan", 1500, None);
        for (at, model) in NICS.into_iter().enumerate() {
            let slot = format!("nic{at}");
            site = site.nic_of(model, "web1", &slot, "lan", at as u8 + 1);
            if matches!(model, NicModel::E1000e | NicModel::Vmxnet3) {
                site = site.without_msix("web1", &slot);
            }
        }
        site.disk("web1", "disk0", DiskModel::Pvscsi, &["data"])
            .without_msix("web1", "disk0")
            .nic("web2", "nic0", "lan", WEB2, 1)
    })?;
    let mut spec = world.spec("web1")?;
    let devices = behind_ports(&mut spec);
    ensure!(devices.len() == NICS.len() + 1, "qemu-args names these devices in JSON: {devices:?}");
    let one = Guest::start(&bench.image, spec)?;
    let other = world.boot("web2")?;
    one.wait_ready()?;
    one.check("modprobe -a e1000 e1000e pcnet32 vmxnet3 vmw_pvscsi sd_mod")?;
    address(&other, OTHER, 1500)?;
    let worker = world.worker()?;
    let rounds = if bench.long { 20 } else { 2 };
    for _ in 0..rounds {
        for device in &devices {
            one.qmp(json!({"execute": "device_add", "arguments": device}))?;
        }
        for (at, model) in NICS.into_iter().enumerate() {
            let name = model.name();
            eventually(&format!("the guest has the {name}"), STEP_MAX, || {
                Ok(!interface(&one, at + 1)?.is_empty())
            })?;
            let nic = interface(&one, at + 1)?;
            let driver = one.check(&format!("basename $(readlink /sys/class/net/{nic}/device/driver)"))?;
            ensure!(driver.trim() == model.driver(), "{driver} has the {name}");
            one.check(&format!("ip addr add {ONE}/24 dev {nic}; ip link set {nic} up"))?;
            reach(&one, OTHER).during(format!("reaching the other by the {name}"))?;
            one.check(&format!("ip addr flush dev {nic}"))?;
        }
        eventually("the guest has the disk", STEP_MAX, || {
            Ok(one.run("test -b /dev/sda", COMMAND_MAX)?.status == 0)
        })?;
        let load = VerifiedWrites { device: "/dev/sda".into(), region_mib: 2, depth: 8, passes: 1 };
        let verdict = load.run(&one, STEP_MAX)?;
        ensure!(verdict.clean(), "fio found {verdict:?}");
        for device in &devices {
            one.qmp(json!({"execute": "device_del", "arguments": {"id": device["id"]}}))?;
        }
        for _ in &devices {
            one.wait_event("DEVICE_DELETED", STEP_MAX)?;
        }
        let left = one.check("ls /sys/class/net; ls /sys/block | grep '^sd' || true")?;
        ensure!(left.trim() == "lo", "after the unplug there is {left}");
    }
    ensure!(one.alive(), "QEMU says that the guest does not run");
    world.unmoved(worker)?;
    Ok(format!("rounds={rounds} devices={}", devices.len()))
}
