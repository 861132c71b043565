//! The way out of another hypervisor: a guest moves from the hardware that it knew to virtio while it works.

use crate::cases::emulated::behind_ports;
use crate::cases::initiator::MULTIPATH;
use crate::cases::net::{ONE, OTHER, address, reach};
use crate::guest::{COMMAND_MAX, Guest};
use crate::load::{Stream, VerifiedWrites};
use crate::site::{DiskModel, NicModel};
use crate::world::{Bench, World, eventually};
use crate::{During, Result, ensure};
use serde_json::json;
use std::time::Duration;

const STEP_MAX: Duration = Duration::from_secs(300);
const BYTES: usize = 4 << 20;

/// The paths that multipathd has of its one disk.
fn paths(guest: &Guest) -> Result<Vec<String>> {
    let text = guest.run("multipathd show paths format '%d %t' 2>&1", COMMAND_MAX)?.stdout;
    let active = text.lines().filter_map(|line| line.trim().strip_suffix(" active"));
    Ok(active.map(|disk| disk.trim().to_string()).collect())
}

/// One volume on both controllers: one name, the same bytes, one disk of the device mapper, which works on as
/// the volume leaves the emulated controller and comes back, and as that controller is unplugged.
pub fn disk(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "graduation", |site| {
        site.volume("data", 64)
            .with(|volume| volume.shared = true)
            .disk("web1", "disk0", DiskModel::Pvscsi, &["data"])
            .without_msix("web1", "disk0")
            .disk("web1", "disk1", DiskModel::Scsi, &["data"])
    })?;
    let mut spec = world.spec("web1")?;
    let devices = behind_ports(&mut spec);
    ensure!(devices.len() == 1, "qemu-args names these devices in JSON: {devices:?}");
    spec.qemu_args.extend(["-device".to_string(), devices[0].to_string()]);
    let guest = Guest::start(&bench.image, spec)?;
    guest.wait_ready()?;
    let worker = world.worker()?;

    // The disk of each driver.
    let disk_of = |driver: &str| -> Result<String> {
        let found = guest.check(&format!(
            "for host in /sys/class/scsi_host/host*; do
               grep -q {driver} $host/proc_name && ls $host/device/target*/*/block
             done; true"
        ))?;
        ensure!(found.trim().starts_with("sd"), "{driver} has no disk: {found}");
        Ok(found.trim().to_string())
    };
    let (old, new) = (disk_of("vmw_pvscsi")?, disk_of("virtio_scsi")?);
    let name_of = |disk: &str| -> Result<String> {
        let page = guest
            .check(&format!("sg_vpd -p di /dev/{disk} | grep -A6 'Addressed logical unit' | grep 0x"))?;
        Ok(page.trim().to_string())
    };
    let name = name_of(&old)?;
    ensure!(name == name_of(&new)?, "{old} and {new} have other names: {name}, {}", name_of(&new)?);
    for (from, to, seed) in [(&old, &new, 1), (&new, &old, 2)] {
        guest.check_within(
            &format!(
                "set -e; seq {seed} 1000000 | head -c {BYTES} >/tmp/bytes; [ $(wc -c </tmp/bytes) = {BYTES} ]
                 dd if=/tmp/bytes of=/dev/{from} bs=64k oflag=direct 2>/dev/null
                 dd if=/dev/{to} bs=64k count=64 iflag=direct 2>/dev/null | cmp - /tmp/bytes; rm /tmp/bytes"
            ),
            STEP_MAX,
        )?;
    }

    // Both paths at once.
    let multipath = MULTIPATH.replace("POLICY", "prio const\n  path_grouping_policy multibus");
    guest.check(&format!(
        "mkdir -p /etc/multipath /run/udev
         cat >/etc/multipath.conf <<'END'\n{multipath}END
         modprobe -a dm_multipath dm_service_time dm_round_robin
         systemd-udevd --daemon && udevadm trigger && udevadm settle; multipathd -v2"
    ))?;
    let has = |count: usize| {
        eventually(&format!("the device mapper has {count} paths"), STEP_MAX, || {
            Ok(paths(&guest)?.len() == count)
        })
    };
    has(2)?;
    let mapped = guest.check("ls /sys/block | grep '^dm-'")?;
    let mapped = mapped.trim();
    ensure!(!mapped.contains('\n'), "two paths have become several disks: {mapped}");
    let load = VerifiedWrites { device: format!("/dev/{mapped}"), region_mib: 8, depth: 16, passes: 100_000 };
    let done = |disk: &str| -> Result<u64> {
        let text = guest.check(&format!("awk '{{ print $1 + $5 }}' /sys/block/{disk}/stat"))?;
        text.trim().parse().during(format!("the statistics of {disk} say {text}"))
    };
    // multipathd's own checks are no reads.
    let works = |disk: &str| -> Result<()> {
        let before = done(disk)?;
        eventually(&format!("{disk} works"), STEP_MAX, || Ok(done(disk)? > before + 200))
    };
    let job = load.start(&guest)?;
    works(&old)?;
    works(&new)?;
    // The operator takes the volume from the emulated controller, and gives it back.
    let server = world.server();
    server.cli(&["disk", "detach", "web1.disk0", "data"])?;
    has(1)?;
    works(&new)?;
    server.cli(&["disk", "attach", "web1.disk0", "data"])?;
    has(2)?;
    let old = disk_of("vmw_pvscsi")?;
    works(&old)?;
    guest.qmp(json!({"execute": "device_del", "arguments": {"id": devices[0]["id"]}}))?;
    guest.wait_event("DEVICE_DELETED", STEP_MAX)?;
    has(1)?;
    works(&new)?;
    let gone = guest.run(&format!("test -e /sys/block/{old}"), COMMAND_MAX)?;
    ensure!(gone.status != 0, "{old} is still there");
    let verdict = load.stop(&guest, job)?;
    ensure!(verdict.clean(), "with the path pulled under it, the load came to {verdict:?}");
    let log =
        guest.check("dmesg | grep -E 'I/O error, dev dm-|BUG:|Call Trace|blocked for more than' || true")?;
    ensure!(log.trim().is_empty(), "the guest's kernel says: {log}");
    world.unmoved(worker)?;
    Ok(format!("name={name} requests={} io_errors=0 wrong_bytes=0", verdict.done))
}

/// A vmxnet3 and a virtio-net of one network as one NIC of the guest, and a connection goes on as the emulated
/// one is unplugged. The bond takes the MAC address of the one that works: the network gives nobody the frames
/// for the address of another's port.
pub fn nic(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "nic-handover", |site| {
        site.network("lan", 1500, None)
            .nic_of(NicModel::Vmxnet3, "web1", "nic0", "lan", 1)
            .without_msix("web1", "nic0")
            .nic("web1", "nic1", "lan", 3, 1)
            .nic("web2", "nic0", "lan", 2, 1)
    })?;
    let mut spec = world.spec("web1")?;
    let devices = behind_ports(&mut spec);
    ensure!(devices.len() == 1, "qemu-args names these devices in JSON: {devices:?}");
    spec.qemu_args.extend(["-device".to_string(), devices[0].to_string()]);
    let one = Guest::start(&bench.image, spec)?;
    let other = world.boot("web2")?;
    one.wait_ready()?;
    let worker = world.worker()?;
    address(&other, OTHER, 1500)?;
    let nic_of = |driver: &str| -> Result<String> {
        let found = one.check(&format!(
            "for nic in /sys/class/net/eth*; do
               [ $(basename $(readlink $nic/device/driver)) = {driver} ] && basename $nic
             done; true"
        ))?;
        ensure!(found.trim().starts_with("eth"), "{driver} has no NIC: {found}");
        Ok(found.trim().to_string())
    };
    let (old, new) = (nic_of("vmxnet3")?, nic_of("virtio_net")?);
    one.check(&format!(
        "set -e; modprobe bonding max_bonds=0
         ip link add bond0 type bond mode active-backup miimon 100 fail_over_mac active
         ip link set {old} down; ip link set {old} master bond0
         ip link set {new} down; ip link set {new} master bond0
         ip addr add {ONE}/24 dev bond0; ip link set bond0 up"
    ))?;
    let active = |wanted: &str| {
        eventually(&format!("{wanted} is the bond's"), COMMAND_MAX, || {
            let said = one.check("cat /sys/class/net/bond0/bonding/active_slave")?;
            Ok(said.trim() == wanted)
        })
    };
    active(&old)?;
    let is_of = |station: u8| -> Result<()> {
        let said = one.check("cat /sys/class/net/bond0/address")?;
        ensure!(said.trim() == format!("52:54:00:5d:00:{station:02x}"), "the bond's address is {said}");
        Ok(())
    };
    is_of(1)?;
    reach(&one, OTHER)?;
    let stream = Stream { mib: if bench.long { 64 } else { 4 }, port: 5001 };
    let mut bytes = stream.send(&other, &one, ONE, STEP_MAX)?.done;

    // A connection lives on: an answer for each line, before and after.
    let id = &devices[0]["id"];
    let count = 200;
    other.check("socat TCP-LISTEN:5002,reuseaddr EXEC:cat >/dev/null 2>&1 & sleep 1")?;
    let lines = one.spawn(&format!(
        "(for i in $(seq {count}); do echo $i; usleep 20000; done) | socat -t 30 - TCP:{OTHER}:5002 | wc -l"
    ))?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(!lines.finished(), "the connection ended before the NIC went");
    one.qmp(json!({"execute": "device_del", "arguments": {"id": id}}))?;
    one.wait_event("DEVICE_DELETED", STEP_MAX)?;
    active(&new)?;
    is_of(3)?;
    let answered = lines.wait(STEP_MAX)?.stdout;
    ensure!(answered.trim() == count.to_string(), "of {count} lines came back {answered}");
    reach(&one, OTHER)?;
    for (from, to, at) in [(&one, &other, OTHER), (&other, &one, ONE)] {
        let verdict = stream.send(from, to, at, STEP_MAX)?;
        ensure!(verdict.clean(), "{} to {}: {verdict:?}", from.name(), to.name());
        bytes += verdict.done;
    }
    world.unmoved(worker)?;
    Ok(format!("bytes={bytes} lines={count} wrong_bytes=0"))
}
