//! What befalls a guest: drivers come and go, queues are reset, it reboots, panics, loses power, and
//! its memory map changes. The server is unmoved each time.

use crate::cases::net::{ONE, OTHER, address, reach, two_guests};
use crate::guest::{BOOT_MAX, COMMAND_MAX, Guest};
use crate::load::{Stream, VerifiedWrites};
use crate::site::DiskModel;
use crate::world::{Bench, World, eventually};
use crate::{During, Failure, Result, ensure};
use serde_json::json;
use std::time::Duration;

const STEP_MAX: Duration = Duration::from_secs(300);

/// A load of this many passes ends only when it is stopped.
const ENDLESS: u32 = 100_000;

pub fn agent(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "agent", |site| {
        site.volume("data", 64).disk("web1", "disk0", DiskModel::Blk, &["data"])
    })?;
    let guest = world.boot("web1")?;
    let slow = guest.spawn("sleep 1; echo slow")?;
    let wrong = guest.run("echo before; exit 7", COMMAND_MAX)?;
    ensure!(wrong.status == 7 && wrong.stdout == "before\n", "exit 7 came as {wrong:?}");
    ensure!(!slow.finished(), "a quick command waited for a slow one");
    let slow = slow.wait(COMMAND_MAX)?;
    ensure!(slow.stdout == "slow\n", "the slow command said {slow:?}");
    let long = guest.check("seq 1 100000")?;
    ensure!(
        long.lines().count() == 100_000 && long.ends_with("100000\n"),
        "a long output has {} lines",
        long.lines().count()
    );
    let jobs: Vec<_> = (0..20).map(|n| guest.spawn(&format!("echo job {n}"))).collect::<Result<_>>()?;
    for (n, job) in jobs.into_iter().enumerate() {
        let said = job.wait(COMMAND_MAX)?.stdout;
        ensure!(said == format!("job {n}\n"), "job {n} said {said}");
    }
    ensure!(guest.alive(), "QEMU says that the guest does not run");
    guest.shutdown()?;
    Ok("jobs=23".into())
}

fn disks(bench: &Bench, name: &str) -> Result<(World, Guest)> {
    let world =
        World::open(bench, name, |site| {
            site.volume("first", 64)
                .volume("second", 64)
                .disk("web1", "disk0", DiskModel::Scsi, &["first"])
                .disk("web1", "disk1", DiskModel::Blk, &["second"])
        })?;
    let guest = world.boot("web1")?;
    Ok((world, guest))
}

fn load(device: &str, passes: u32) -> VerifiedWrites {
    VerifiedWrites { device: device.into(), region_mib: 16, depth: 16, passes }
}

fn works(bench: &Bench, guest: &Guest) -> Result<()> {
    for device in ["/dev/sda", "/dev/vda"] {
        let load = VerifiedWrites { region_mib: if bench.long { 16 } else { 4 }, ..load(device, 1) };
        let verdict = load.run(guest, STEP_MAX)?;
        ensure!(verdict.clean(), "{device} came to {verdict:?}");
    }
    Ok(())
}

/// Starts writes on both disks that never end by themselves.
fn start_load(guest: &Guest) -> Result<()> {
    load("/dev/sda", ENDLESS).start(guest)?;
    load("/dev/vda", ENDLESS).start(guest)?;
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

pub fn driver_reload(bench: &Bench) -> Result<String> {
    let (world, guest) = disks(bench, "driver-reload")?;
    let worker = world.worker()?;
    let rounds = if bench.long { 20 } else { 2 };
    for (busy, driver, device) in [("/dev/vda", "virtio_scsi", "sda"), ("/dev/sda", "virtio_blk", "vda")] {
        let load = load(busy, ENDLESS);
        let job = load.start(&guest)?;
        for _ in 0..rounds {
            guest.check_within(
                &format!(
                    "set -e; dev=$(basename $(readlink -f /sys/bus/virtio/drivers/{driver}/virtio*))
                     echo $dev >/sys/bus/virtio/drivers/{driver}/unbind
                     [ ! -e /sys/block/{device} ]
                     echo $dev >/sys/bus/virtio/drivers/{driver}/bind
                     for i in $(seq 100); do [ -e /sys/block/{device} ] && break; usleep 100000; done
                     sg=$(dd if=/dev/{device} of=/dev/null bs=1M count=4 iflag=direct 2>&1) || {{ echo $sg; exit 1; }}
                     modprobe -r {driver} && [ ! -e /sys/block/{device} ] && modprobe {driver}
                     for i in $(seq 100); do [ -b /dev/{device} ] && break; usleep 100000; done
                     dd if=/dev/{device} of=/dev/null bs=1M count=4 iflag=direct 2>/dev/null"
                ),
                STEP_MAX,
            )?;
        }
        let verdict = load.stop(&guest, job).during(format!("stopping the load on {busy}"))?;
        ensure!(verdict.clean(), "{busy} came to {verdict:?} while {driver} was reloaded");
    }
    works(bench, &guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;

    let (world, one, other) = two_guests(bench, "nic-reload", 1500)?;
    let worker = world.worker()?;
    for _ in 0..rounds {
        one.check_within("modprobe -r virtio_net && modprobe virtio_net && for i in $(seq 100); do [ -e /sys/class/net/eth0 ] && exit 0; usleep 100000; done; exit 1", STEP_MAX)?;
        address(&one, ONE, 1500)?;
        reach(&one, OTHER)?;
    }
    let verdict = Stream { mib: 4, port: 5001 }.send(&one, &other, OTHER, STEP_MAX)?;
    ensure!(verdict.clean(), "after the driver's reload a stream came to {verdict:?}");
    world.unmoved(worker)?;
    Ok(format!("rounds={rounds} drivers=3"))
}

pub fn queue_reset(bench: &Bench) -> Result<String> {
    let (world, guest) = disks(bench, "queue-reset")?;
    let worker = world.worker()?;
    let load = load("/dev/sda", ENDLESS);
    let job = load.start(&guest)?;
    let resets = if bench.long { 50 } else { 5 };
    for _ in 0..resets {
        std::thread::sleep(Duration::from_millis(500));
        guest.check_within("sg_reset --device /dev/sda", STEP_MAX)?;
    }
    let verdict = load.stop(&guest, job).during("stopping the load")?;
    ensure!(verdict.clean(), "with LOGICAL UNIT RESET under it, the load came to {verdict:?}");
    works(bench, &guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;

    let (world, one, other) = two_guests(bench, "ring-reset", 1500)?;
    let worker = world.worker()?;
    // Ring sizes change by VIRTIO_F_RING_RESET where the device has it; otherwise the kernel says so
    // (Linux 6.12: ENOENT). QEMU tells no vhost-user back end of such a reset, so ours does not offer it.
    let rings = one.run(
        "ethtool -G eth0 rx 128 tx 128 && ping -n -q -c 3 -i 0.1 -W 5 10.9.0.2 && ethtool -G eth0 rx 64 && ping -n -q -c 3 -i 0.1 -W 5 10.9.0.2",
        COMMAND_MAX,
    )?;
    let unsupported =
        ["not supported", "No such file or directory"].iter().any(|why| rings.stdout.contains(why));
    ensure!(rings.status == 0 || unsupported, "changing the rings: {}", rings.stdout);
    one.check("for i in 1 2 3 4 5; do ip link set eth0 down; ip link set eth0 up; done")?;
    address(&one, ONE, 1500)?;
    reach(&one, OTHER)?;
    let verdict = Stream { mib: 4, port: 5001 }.send(&one, &other, OTHER, STEP_MAX)?;
    ensure!(verdict.clean(), "after the resets a stream came to {verdict:?}");
    world.unmoved(worker)?;
    Ok(format!("lun_resets={resets} ring_reset={}", if unsupported { "not offered" } else { "works" }))
}

pub fn reboot(bench: &Bench) -> Result<String> {
    again(bench, "reboot", "reboot -f")
}

pub fn panic(bench: &Bench) -> Result<String> {
    again(bench, "panic", "echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger")
}

/// The guest's end comes in the middle of writes, and QEMU starts it anew.
fn again(bench: &Bench, name: &str, end: &str) -> Result<String> {
    let (world, guest) = disks(bench, name)?;
    let worker = world.worker()?;
    let rounds = if bench.long { 10 } else { 1 };
    for round in 1..=rounds {
        start_load(&guest)?;
        guest.spawn(end)?;
        guest.wait_boots(round + 1, BOOT_MAX)?;
        world.unmoved(worker)?;
    }
    if name == "panic" {
        ensure!(guest.console().contains("Kernel panic"), "the console shows no panic");
    }
    works(bench, &guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("boots={}", rounds + 1))
}

pub fn power_cut(bench: &Bench) -> Result<String> {
    let (world, mut guest) = disks(bench, "power-cut")?;
    let worker = world.worker()?;
    let rounds = if bench.long { 10 } else { 1 };
    for _ in 0..rounds {
        start_load(&guest)?;
        guest.kill();
        world.unmoved(worker)?;
        guest = world.boot("web1")?;
    }
    works(bench, &guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("boots={}", rounds + 1))
}

/// Memory that the guest's kernel manages.
fn memory_kib(guest: &Guest) -> Result<u64> {
    let text = guest.check("awk '/^MemTotal/ { print $2 }' /proc/meminfo")?;
    text.trim().parse().during(format!("/proc/meminfo says {text}"))
}

pub fn memory_hotplug(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "memory-hotplug", |site| {
        site.volume("first", 64)
            .volume("second", 256)
            .disk("web1", "disk0", DiskModel::Scsi, &["first"])
            .disk("web1", "disk1", DiskModel::Blk, &["second"])
    })?;
    let mut spec = world.spec("web1")?;
    spec.pluggable_mib = 512;
    let guest = Guest::boot(&bench.image, spec)?;
    let worker = world.worker()?;
    let load = load("/dev/sda", ENDLESS);
    let job = load.start(&guest)?;
    std::thread::sleep(Duration::from_secs(2));
    let before = memory_kib(&guest)?;
    // A slot of its own for each round: the kernel takes an eject for incomplete when it looks at the
    // slot before QEMU has emptied it, and then ignores what is plugged there later.
    let rounds = if bench.long { 4 } else { 2 };
    for slot in 0..rounds {
        guest.qmp(json!({"execute": "object-add", "arguments": {"qom-type": "memory-backend-memfd", "id": "more", "size": 256 << 20, "share": true}}))?;
        guest.qmp(json!({"execute": "device_add", "arguments": {"driver": "pc-dimm", "id": "dimm", "memdev": "more", "slot": slot}}))?;
        let plugged = eventually("the guest has the plugged memory", COMMAND_MAX, || {
            Ok(memory_kib(&guest)? > before + 200_000)
        });
        plugged.map_err(|error| {
            let said = guest.check("dmesg | tail -n 15; head -n 3 /proc/meminfo; grep -H . /sys/devices/system/memory/memory*/state");
            Failure::new(format!("{error}\n{}", said.unwrap_or_default()))
        })?;
        // More than the old memory holds: the disk is read into the new module, too.
        guest.check_within("cat /dev/vda >/dev/null; echo 3 >/proc/sys/vm/drop_caches", STEP_MAX)?;
        guest.qmp(json!({"execute": "device_del", "arguments": {"id": "dimm"}}))?;
        guest.wait_event("DEVICE_DELETED", STEP_MAX)?;
        guest.qmp(json!({"execute": "object-del", "arguments": {"id": "more"}}))?;
    }
    let verdict = load.stop(&guest, job).during("stopping the load")?;
    ensure!(verdict.clean(), "with the memory map changing under it, the load came to {verdict:?}");
    works(bench, &guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("plugged_and_unplugged={rounds} requests={}", verdict.done))
}
