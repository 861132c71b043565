//! Two guests on one volume: reservations, fencing, and what of them outlives the worker and the power.

use crate::cases::reserve::{Node, RESERVATION_CONFLICT, Registrant, Tour};
use crate::guest::{COMMAND_MAX, Guest};
use crate::site::{DiskModel, Site};
use crate::world::{Against, Bench, World};
use crate::{During, Result, ensure};
use std::time::Duration;

const KEY_A: u64 = 0xa1;
const KEY_B: u64 = 0xb1;

/// Where the fenced writer writes, in MiB, and how much, in KiB: little, so that it is read at once.
const REGION_MIB: u64 = 8;
const REGION_KIB: u64 = 64;

/// What Linux makes of RESERVATION CONFLICT.
const EBADE: u32 = 52;

fn describe(site: Site) -> Site {
    let site = site.volume("quorum", 64).with(|volume| volume.shared = true);
    site.disk("web1", "disk0", DiskModel::Scsi, &["quorum"]).disk(
        "web2",
        "disk0",
        DiskModel::Scsi,
        &["quorum"],
    )
}

/// The same from the Linux kernel's own target in one guest, by two loop-back ports: QEMU's disks have
/// no reservations.
const LINUX_TARGET: &str = "set -e
    modprobe -a target_core_mod target_core_file tcm_loop
    mount -t configfs configfs /sys/kernel/config 2>/dev/null || true
    mkdir -p /var/target/pr
    cd /sys/kernel/config/target
    mkdir -p core/fileio_0/quorum
    echo fd_dev_name=/tmp/quorum,fd_dev_size=67108864 >core/fileio_0/quorum/control
    echo 1 >core/fileio_0/quorum/enable
    for n in 1 2; do
      port=loopback/naa.500140500000000$n/tpgt_1
      mkdir -p $port
      echo naa.50014050000000a$n >$port/nexus
      mkdir -p $port/lun/lun_0
      ln -s /sys/kernel/config/target/core/fileio_0/quorum $port/lun/lun_0/port
    done
    for i in $(seq 50); do test -b /dev/sdb && exit 0; usleep 100000; done; exit 1";

/// The two guests, or the one that stands for both.
struct Pair {
    world: World,
    guests: Vec<Guest>,
}

impl Pair {
    fn open(bench: &Bench, name: &str) -> Result<Pair> {
        if bench.against == Against::Qemu {
            let world = World::open(bench, name, |site| {
                site.network("lan", 1500, None).nic("web1", "nic0", "lan", 1, 1)
            })?;
            let guest = world.boot("web1")?;
            guest.check(LINUX_TARGET)?;
            return Ok(Pair { world, guests: vec![guest] });
        }
        let world = World::open(bench, name, describe)?;
        let (one, other) = world.boot_two("web1", "web2")?;
        Ok(Pair { world, guests: vec![one, other] })
    }

    fn tour(&self) -> Tour<'_> {
        let [a, b] = self.nodes();
        let mut tour = Tour::new(a, b);
        tour.linux = self.world.bench.against == Against::Qemu;
        tour
    }

    fn nodes(&self) -> [Node<'_>; 2] {
        let first = &self.guests[0];
        match self.guests.get(1) {
            Some(second) => [
                Node { guest: first, device: "/dev/sg0", key: KEY_A },
                Node { guest: second, device: "/dev/sg0", key: KEY_B },
            ],
            None => [
                Node { guest: first, device: "/dev/sg0", key: KEY_A },
                Node { guest: first, device: "/dev/sg1", key: KEY_B },
            ],
        }
    }
}

/// The block device of a node.
fn block(node: Node<'_>) -> String {
    node.device.replace("sg0", "sda").replace("sg1", "sdb")
}

/// The whole tour of reservations.
pub fn reservations(bench: &Bench) -> Result<String> {
    let pair = Pair::open(bench, "reservations")?;
    let worker = pair.world.worker()?;
    let mut tour = pair.tour();
    tour.all()?;
    let steps = tour.steps.done()?;
    pair.world.unmoved(worker)?;
    Ok(format!("steps={steps} types=6"))
}

/// What `fence_scsi` of ClusterLabs does, command by command, from its manual and its source: "on"
/// registers a node, and the first reserves for registrants only; "off" preempts and aborts; a monitor
/// reads the keys.
struct Fence<'t, 'a>(&'t mut Tour<'a>);

impl Fence<'_, '_> {
    fn on(&mut self, node: Node<'_>) -> Result<()> {
        let tour = &mut *self.0;
        node.settle()?;
        tour.persist(node, &format!("-o -I -S {:x}", node.key), 0, &[])?;
        tour.persist(node, "-i -k", 0, &[&format!("0x{:x}", node.key)])?;
        let held = node.full_status()?.iter().any(|one| one.holder);
        if !held {
            tour.persist(node, &format!("-o -R -T 5 -K {:x}", node.key), 0, &[])?;
        }
        tour.persist(node, "-i -r", 0, &["Write Exclusive, registrants only"])
    }

    fn off(&mut self, victim: Node<'_>, by: Node<'_>) -> Result<()> {
        let tour = &mut *self.0;
        by.settle()?;
        tour.persist(by, &format!("-o {} -T 5 -K {:x} -S {:x}", tour.abort(), by.key, victim.key), 0, &[])?;
        tour.persist(by, "-i -r", 0, &["Reservation follows"])?;
        tour.registered(by, &[(by.key, true)])?;
        Ok(())
    }
}

/// A cluster of Linux nodes: unfence both, fence one, whoever holds the reservation, unfence it again.
fn fence_scsi(tour: &mut Tour<'_>) -> Result<()> {
    let (a, b) = (tour.a, tour.b);
    tour.clear()?;
    Fence(tour).on(a)?;
    Fence(tour).on(b)?;
    for (victim, by) in [(b, a), (a, b), (b, a)] {
        tour.writes(victim, true)?;
        Fence(tour).off(victim, by)?;
        tour.attention(victim, Some("Registrations preempted"))?;
        tour.writes(victim, false)?;
        tour.reads(victim, true)?;
        tour.writes(by, true)?;
        Fence(tour).on(victim)?;
    }
    tour.clear()
}

/// A failover cluster of Windows validates its disks by the methods of [MS-CSVP]: 3.2.4.16 registers
/// with REGISTER AND IGNORE EXISTING KEY, 3.2.4.17 does so with a key of zero to unregister, 3.2.4.24
/// clears; the order of them is that of 3.1.3. A cluster's disk has type 5h, a pool's 7h.
fn failover_cluster(tour: &mut Tour<'_>) -> Result<()> {
    let (a, b) = (tour.a, tour.b);
    let conflict = RESERVATION_CONFLICT;
    for kind in [5, 7] {
        // Validate SCSI-3 Persistent Reservation.
        tour.clear()?;
        tour.persist(a, "-i -r", 0, &["no reservation held"])?;
        tour.persist(a, &format!("-o -I -S {KEY_A:x}"), 0, &[])?;
        tour.persist(b, &format!("-o -I -S {KEY_B:x}"), 0, &[])?;
        tour.persist(a, &format!("-o -R -T {kind} -K {KEY_A:x}"), 0, &[])?;
        for node in [a, b] {
            tour.persist(node, "-i -r", 0, &["Reservation follows"])?;
        }
        let again = if kind == 7 { 0 } else { conflict };
        tour.persist(b, &format!("-o -R -T {kind} -K {KEY_B:x}"), again, &[])?;
        tour.persist(b, "-o -I -S 0", 0, &[])?;
        tour.writes(b, false)?;
        tour.persist(b, &format!("-o -R -T {kind} -K {KEY_B:x}"), conflict, &[])?;
        tour.persist(b, &format!("-o -P -T {kind} -K {KEY_B:x} -S {KEY_A:x}"), conflict, &[])?;
        // Validate Disk Arbitration, with an owner that is gone: the challenger registers, waits for the
        // owner's defence, and preempts.
        tour.persist(b, &format!("-o -I -S {KEY_B:x}"), 0, &[])?;
        tour.persist(b, &format!("-o -P -T {kind} -K {KEY_B:x} -S {KEY_A:x}"), 0, &[])?;
        tour.registered(b, &[(KEY_B, true)])?;
        tour.attention(a, Some("Registrations preempted"))?;
        tour.writes(a, false)?;
        tour.writes(b, true)?;
        tour.persist(a, &format!("-o -R -T {kind} -K {KEY_A:x}"), conflict, &[])?;
        tour.persist(a, &format!("-o -L -T {kind} -K {KEY_A:x}"), conflict, &[])?;
        // Validate Disk Failover: release and unregister here, take over there.
        tour.persist(b, &format!("-o -L -T {kind} -K {KEY_B:x}"), 0, &[])?;
        tour.persist(b, "-o -I -S 0", 0, &[])?;
        tour.persist(a, &format!("-o -I -S {KEY_A:x}"), 0, &[])?;
        tour.persist(a, &format!("-o -R -T {kind} -K {KEY_A:x}"), 0, &[])?;
        tour.writes(a, true)?;
        tour.writes(b, false)?;
        // Validate Multiple Arbitration: both at once, and one has it.
        tour.clear()?;
        arbitrate_at_once(tour)?;
    }
    tour.clear()
}

/// Both nodes register and reserve at the same time, 5 times: one succeeds, the other conflicts.
fn arbitrate_at_once(tour: &mut Tour<'_>) -> Result<()> {
    for _ in 0..5 {
        tour.clear()?;
        let mut jobs = Vec::new();
        for node in [tour.a, tour.b] {
            let (key, device) = (node.key, node.device);
            jobs.push(node.guest.spawn(&format!(
                "sg_persist -n -o -I -S {key:x} -d {device} && sg_persist -n -o -R -T 5 -K {key:x} -d {device}"
            ))?);
        }
        let mut ends = Vec::new();
        for job in jobs {
            ends.push(job.wait(COMMAND_MAX)?.status);
        }
        ends.sort_unstable();
        tour.steps.holds(ends == [0, RESERVATION_CONFLICT], || {
            format!("two nodes reserved at once, and their ends were {ends:?}")
        });
    }
    Ok(())
}

pub fn clusters(bench: &Bench) -> Result<String> {
    let pair = Pair::open(bench, "clusters")?;
    let worker = pair.world.worker()?;
    let mut tour = pair.tour();
    fence_scsi(&mut tour)?;
    failover_cluster(&mut tour)?;
    let steps = tour.steps.done()?;
    let (rounds, bytes) = fenced_writer(&pair, if bench.long { 100 } else { 12 })?;
    if bench.against == Against::Standpipe {
        pair.world.unmoved(worker)?;
    }
    Ok(format!("steps={steps} fenced={rounds} bytes_compared={bytes} late_writes=0"))
}

/// One node writes all the time, past every cache and 16 at once, and the other fences it, again and
/// again. What the region holds when PREEMPT AND ABORT has returned is what it holds for good, though
/// the writer goes on trying.
fn fenced_writer(pair: &Pair, rounds: u32) -> Result<(u32, u64)> {
    let mut tour = pair.tour();
    let (a, b) = (tour.a, tour.b);
    tour.clear()?;
    Fence(&mut tour).on(a)?;
    Fence(&mut tour).on(b)?;
    let (disk_a, disk_b) = (block(a), block(b));
    let writer = b.guest.spawn(&format!(
        "exec fio --name=writer --filename={disk_b} --offset={REGION_MIB}m --size={REGION_KIB}k --rw=randwrite --bs=4k \
         --iodepth=16 --ioengine=libaio --direct=1 --time_based --runtime=1d --rate_iops=1500 --ignore_error=,{EBADE} \
         --error_dump=0 --refill_buffers --output=/tmp/writer.txt"
    ))?;
    let (block_kib, skip) = (REGION_KIB, REGION_MIB * 1024 / REGION_KIB);
    let read = |to: &str| {
        format!("dd if={disk_a} of=/tmp/{to} bs={block_kib}k skip={skip} count=1 iflag=direct 2>/dev/null")
    };
    let differ = |one: &str, other: &str| format!("cmp -s /tmp/{one} /tmp/{other} && exit 10");
    for round in 0..rounds {
        // It does write. (A machine that is busy may take a while to let it.)
        a.guest.check(&format!(
            "{}; for i in $(seq 100); do usleep 50000; {}; cmp -s /tmp/first /tmp/second || exit 0; done; exit 10",
            read("first"),
            read("second")
        ))?;
        // Fence, read at once, give a late write time to land, read again, in one go in the guest.
        let command = format!(
            "sg_persist -n -o {} -T 5 -K {KEY_A:x} -S {KEY_B:x} -d {} || exit 11; {}; usleep 400000; {}; \
             cmp /tmp/after /tmp/later || exit 12; {}; exit 0",
            tour.abort(),
            a.device,
            read("after"),
            read("later"),
            differ("first", "after"),
        );
        let output = a.guest.run(&command, COMMAND_MAX)?;
        ensure!(
            output.status == 0,
            "round {round}: {}: {}",
            match output.status {
                10 => "the writer wrote nothing before it was fenced",
                11 => "PREEMPT AND ABORT failed",
                12 => "a write of a fenced node landed after PREEMPT AND ABORT had returned",
                _ => "the comparison did not run",
            },
            output.stdout
        );
        ensure!(!writer.finished(), "the writer ended in round {round}");
        Fence(&mut tour).on(b)?;
    }
    b.guest.check("pkill -INT -f 'name=writer'")?;
    writer.wait(COMMAND_MAX).during("stopping the writer")?;
    tour.clear()?;
    tour.steps.done()?;
    Ok((rounds, u64::from(rounds) * REGION_KIB * 1024))
}

/// Registrations without what differs by the moment.
fn same(before: &[Registrant], after: &[Registrant]) -> Result<()> {
    ensure!(before == after, "registrations were {before:x?} and are {after:x?}");
    Ok(())
}

/// `kill -9` of the worker changes nothing; the end of keeper and worker, as in a power cut, leaves what
/// was registered to persist through power loss, and that alone.
pub fn outlive(bench: &Bench) -> Result<String> {
    let mut pair = Pair::open(bench, "reservations-outlive")?;
    let kills = if bench.long { 50 } else { 5 };
    let held;
    {
        let mut tour = pair.tour();
        let (a, b) = (tour.a, tour.b);
        tour.clear()?;
        // B is registered and does not hold; nobody else may write.
        tour.persist(a, &format!("-o -G -Z -S {KEY_A:x}"), 0, &[])?;
        tour.persist(a, "-i -c", 0, &["(PTPL_A): 1"])?;
        tour.persist(a, &format!("-o -R -T 1 -K {KEY_A:x}"), 0, &[])?;
        tour.persist(b, &format!("-o -G -Z -S {KEY_B:x}"), 0, &[])?;
        held = a.full_status()?;
        for _ in 0..kills {
            pair.world.server().kill_worker()?;
            // The first command after a kill: no state may be made up meanwhile.
            tour.writes(b, false)?;
            tour.reads(b, true)?;
            tour.writes(a, true)?;
            same(&held, &b.full_status()?)?;
            tour.attention(a, None)?;
            tour.attention(b, None)?;
        }
        tour.steps.done()?;
    }
    // The power goes: both processes at once, with the guests.
    for guest in std::mem::take(&mut pair.guests) {
        guest.kill();
    }
    pair.world.power_cut()?;
    let (one, other) = pair.world.boot_two("web1", "web2")?;
    pair.guests = vec![one, other];
    {
        let mut tour = pair.tour();
        let (a, b) = (tour.a, tour.b);
        same(&held, &a.full_status()?).during("after a power cut, with APTPL")?;
        a.settle()?;
        b.settle()?;
        tour.writes(b, false)?;
        tour.writes(a, true)?;
        // Without APTPL, they end with the power.
        tour.persist(a, &format!("-o -I -S {KEY_A:x}"), 0, &[])?;
        tour.persist(a, "-i -c", 0, &["(PTPL_A): 0"])?;
        tour.registered(a, &[(KEY_A, true), (KEY_B, false)])?;
        tour.steps.done()?;
    }
    for guest in std::mem::take(&mut pair.guests) {
        guest.kill();
    }
    pair.world.power_cut()?;
    let guest = pair.world.boot("web2")?;
    let b = Node { guest: &guest, device: "/dev/sg0", key: KEY_B };
    same(&[], &b.full_status()?).during("after a power cut, without APTPL")?;
    b.settle()?;
    let mut tour = Tour::new(b, b);
    tour.writes(b, true)?;
    tour.steps.done()?;
    guest.shutdown()?;
    Ok(format!("kills={kills} power_cuts=2 registrations={}", held.len()))
}

/// Whole blocks that two guests write to one disk, each its own half, are there for both.
pub fn data(bench: &Bench) -> Result<String> {
    let pair = Pair::open(bench, "shared-data")?;
    let [a, b] = pair.nodes();
    let mut jobs = Vec::new();
    for (node, offset) in [(a, 0), (b, 32)] {
        let disk = block(node);
        jobs.push((
            node,
            offset,
            node.guest.spawn(&format!(
                "dd if=/dev/urandom of=/tmp/half{offset} bs=1M count=16 2>/dev/null; \
                 dd if=/tmp/half{offset} of={disk} bs=64k seek={} oflag=direct conv=notrunc 2>/dev/null && md5sum </tmp/half{offset}",
                offset * 16
            ))?,
        ));
    }
    let mut sums = Vec::new();
    for (_, offset, job) in jobs {
        let output = job.wait(Duration::from_secs(120))?;
        ensure!(output.status == 0, "writing half {offset}: {}", output.stdout);
        sums.push((offset, output.stdout));
    }
    for node in [a, b] {
        for (offset, sum) in &sums {
            let read = node.guest.check(&format!(
                "dd if={} bs=1M skip={offset} count=16 iflag=direct 2>/dev/null | md5sum",
                block(node)
            ))?;
            ensure!(
                read == *sum,
                "{} reads other bytes at {offset} MiB than were written",
                node.guest.name()
            );
        }
    }
    // COMPARE AND WRITE against the other: each adds one to a counter, and none is lost.
    let rounds = 40;
    let add = |node: Node<'_>| {
        format!(
            "n=0; while [ $n -lt {rounds} ]; do dd if={disk} of=/tmp/{tag}old bs=512 skip=40000 count=1 iflag=direct 2>/dev/null || exit 3; \
             v=$(head -c 8 /tmp/{tag}old); {{ cat /tmp/{tag}old; printf %08d $((1$v - 100000000 + 1)); head -c 504 /dev/zero; }} >/tmp/{tag}both; \
             sg_compare_and_write --in=/tmp/{tag}both --lba=40000 --num=1 --xferlen=1024 {device} >/tmp/{tag}said 2>&1; status=$?; \
             case $status in 0) n=$((n + 1));; 14) ;; *) cat /tmp/{tag}said; exit $status;; esac; done",
            disk = block(node),
            device = node.device,
            tag = node.key,
        )
    };
    a.guest.check(&format!(
        "{{ printf 00000000; head -c 504 /dev/zero; }} | dd of={} bs=512 seek=40000 oflag=direct conv=notrunc iflag=fullblock 2>&1",
        block(a)
    ))?;
    let jobs = [a.guest.spawn(&add(a))?, b.guest.spawn(&add(b))?];
    for job in jobs {
        let output = job.wait(Duration::from_secs(180))?;
        ensure!(output.status == 0, "COMPARE AND WRITE ended with {}: {}", output.status, output.stdout);
    }
    let counted = b.guest.check(&format!(
        "dd if={} bs=512 skip=40000 count=1 iflag=direct 2>/dev/null | head -c 8",
        block(b)
    ))?;
    ensure!(
        counted.trim().parse::<u32>().ok() == Some(2 * rounds),
        "two guests added {rounds} each, and the counter says {counted}"
    );
    Ok(format!("mib_compared=64 added={}", 2 * rounds))
}
