//! Disks: what a stock kernel and its tools make of them.

use crate::guest::Guest;
use crate::load::VerifiedWrites;
use crate::site::{DiskModel, MIB};
use crate::world::{Bench, World, eventually};
use crate::{During, Result, ensure};
use std::time::Duration;

/// Time for a step that writes tens of MiB in an emulated guest on a machine that is busy.
const STEP_MAX: Duration = Duration::from_secs(300);

fn one_disk(bench: &Bench, name: &str, model: DiskModel, mib: u64) -> Result<(World, Guest)> {
    let world =
        World::open(bench, name, |site| site.volume("data", mib).disk("web1", "disk0", model, &["data"]))?;
    let guest = world.boot("web1")?;
    Ok((world, guest))
}

pub fn identity(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "identity", |site| {
        site.volume("data", 256).volume("more", 64).disk("web1", "disk0", DiskModel::Scsi, &["data", "more"])
    })?;
    let guest = world.boot("web1")?;

    let inquiry = guest.check("sg_inq /dev/sda")?;
    ensure!(inquiry.contains("Peripheral device type: disk"), "sg_inq shows no disk: {inquiry}");
    ensure!(inquiry.contains("CmdQue=1"), "the disk does not queue commands: {inquiry}");

    // SPC-4 7.8.5: a logical unit has a designator that is its own, in code set binary, NAA or EUI-64.
    let names = ["/dev/sda", "/dev/sdb"].map(|device| guest.check(&format!("sg_vpd -p di {device}")));
    let [first, second] = names;
    let (first, second) = (first?, second?);
    ensure!(first.contains("designator type:"), "sg_vpd -p di shows no designator: {first}");
    ensure!(first != second, "two volumes have the same designators: {first}");

    let pages = guest.check("sg_vpd -p sv /dev/sda")?;
    for page in [
        "Device identification",
        "Block limits",
        "Block device characteristics",
        "Logical block provisioning",
    ] {
        ensure!(
            pages.to_lowercase().contains(&page.to_lowercase()),
            "VPD page \"{page}\" is not listed: {pages}"
        );
    }
    for page in ["sn", "bl", "bdc", "lbpv"] {
        guest.check(&format!("sg_vpd -p {page} /dev/sda"))?;
    }

    let list = guest.check("lsscsi -g | grep -v /dev/nvme")?;
    ensure!(list.lines().filter(|line| line.contains("disk")).count() == 2, "lsscsi shows: {list}");

    let luns = guest.check("sg_luns /dev/sda")?;
    ensure!(
        luns.contains("[2 logical unit numbers]")
            || luns.matches("0000000000").count() >= 2
            || luns.contains("16 which imply 2"),
        "sg_luns shows: {luns}"
    );

    let capacity = guest.check("sg_readcap --long /dev/sda")?;
    ensure!(capacity.contains(&format!("{} bytes", 256 * MIB)), "READ CAPACITY(16) shows: {capacity}");
    ensure!(capacity.contains("lbpme=1"), "READ CAPACITY(16) shows no thin provisioning: {capacity}");

    // Mode page 08h, and WCE in it, is what makes the kernel send flushes.
    let caching = guest.check("sg_modes --page=8 /dev/sda")?;
    ensure!(caching.to_lowercase().contains("caching"), "mode page 08h is: {caching}");
    let cache = guest.check("cat /sys/block/sda/queue/write_cache")?;
    ensure!(cache.trim() == "write back", "the kernel took the write cache as: {cache}");

    let mut counted = 0;
    if world.bench.against == crate::world::Against::Standpipe {
        let commands = guest.check("sg_opcodes /dev/sda")?;
        for name in ["Inquiry", "Read(10)", "Write(16)", "Unmap", "Report luns", "Synchronize cache"] {
            ensure!(
                commands.to_lowercase().contains(&name.to_lowercase()),
                "sg_opcodes does not list {name}: {commands}"
            );
        }
        counted = commands
            .lines()
            .filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_hexdigit()))
            .count();
    }
    guest.check("sg_turs /dev/sda && sg_requests /dev/sda && sg_sync /dev/sda")?;
    no_errors(&guest)?;
    guest.shutdown()?;
    Ok(format!("commands_listed={counted}"))
}

/// In the short form all but so much of a file system is taken by a file without content: XFS wants
/// 300 MiB, and an emulated guest a minute for the sums of as much.
const FILLED_MIB: u64 = 64;

/// Makes, fills, checks, remounts and compares; `kind` is ext4 or xfs.
fn filesystem(bench: &Bench, guest: &Guest, device: &str, kind: &str) -> Result<()> {
    let (make, check) = match kind {
        "ext4" => (format!("mkfs.ext4 -q -F {device}"), format!("e2fsck -f -n {device}")),
        _ => (format!("mkfs.xfs -q -f {device}"), format!("xfs_repair -n {device}")),
    };
    guest.check_within(&make, STEP_MAX)?;
    guest.check(&format!("mkdir -p /mnt/d && mount -t {kind} {device} /mnt/d"))?;
    if !bench.long {
        guest.check(&format!(
            "free=$(df -m /mnt/d | awk 'END {{ print $4 }}'); fallocate -l $((free - {FILLED_MIB}))m /mnt/d/reserve"
        ))?;
    }
    // A tree of small files, then one file until nothing more fits: ENOSPC is the file system's, and
    // the device has to take every block.
    let sum = guest.check_within(
        "set -e; cd /mnt/d
         for d in 1 2 3 4 5 6 7 8; do mkdir dir$d; for f in 1 2 3 4 5 6 7 8; do seq $d $((f * 3000)) >dir$d/file$f; done; done
         dd if=/dev/urandom of=/tmp/chunk bs=1M count=8 2>/dev/null
         while cat /tmp/chunk >>fill 2>/tmp/fill; do :; done; grep -q 'No space' /tmp/fill; rm /tmp/chunk
         sync; find . -type f ! -name reserve | sort | xargs md5sum | md5sum; cd /; umount /mnt/d",
        STEP_MAX,
    )?;
    guest.check_within(
        &format!(
            "echo 3 >/proc/sys/vm/drop_caches; {check} >/tmp/check 2>&1 || {{ cat /tmp/check; exit 1; }}"
        ),
        STEP_MAX,
    )?;
    let again = guest.check_within(
        &format!("mount -t {kind} -o ro {device} /mnt/d && cd /mnt/d && find . -type f ! -name reserve | sort | xargs md5sum | md5sum; cd /; umount /mnt/d"),
        STEP_MAX,
    )?;
    ensure!(sum == again, "{kind} on {device} read back other bytes than were written");
    Ok(())
}

/// The kernel has complained about no device.
pub fn no_errors(guest: &Guest) -> Result<()> {
    let log = guest.check("dmesg | grep -E 'I/O error|Medium Error|Hardware Error|blocked for more than|BUG:|Call Trace' | grep -v nvme || true")?;
    ensure!(log.trim().is_empty(), "the guest's kernel says: {log}");
    Ok(())
}

fn filesystems(bench: &Bench, name: &str, model: DiskModel) -> Result<String> {
    // XFS refuses to be made on less than 300 MiB.
    let (world, guest) = one_disk(bench, name, model, 320)?;
    let worker = world.worker()?;
    filesystem(bench, &guest, model.device(), "ext4")?;
    filesystem(bench, &guest, model.device(), "xfs")?;
    no_errors(&guest)?;
    world.unmoved(worker)?;
    let taken = world.allocated("data")? / MIB;
    guest.shutdown()?;
    Ok(format!("filled_mib={taken}"))
}

pub fn filesystems_scsi(bench: &Bench) -> Result<String> {
    filesystems(bench, "fs-scsi", DiskModel::Scsi)
}

pub fn filesystems_blk(bench: &Bench) -> Result<String> {
    filesystems(bench, "fs-blk", DiskModel::Blk)
}

fn verify(bench: &Bench, name: &str, model: DiskModel) -> Result<String> {
    let (world, guest) = one_disk(bench, name, model, 128)?;
    let worker = world.worker()?;
    let (region_mib, passes) = if bench.long { (128, 10) } else { (32, 1) };
    let load = VerifiedWrites { device: model.device().into(), region_mib, depth: 32, passes };
    let verdict = load.run(&guest, STEP_MAX * passes)?;
    ensure!(verdict.clean(), "fio found {verdict:?}");
    no_errors(&guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("requests={} wrong_bytes={}", verdict.done, verdict.wrong_bytes))
}

pub fn verify_scsi(bench: &Bench) -> Result<String> {
    verify(bench, "verify-scsi", DiskModel::Scsi)
}

pub fn verify_blk(bench: &Bench) -> Result<String> {
    verify(bench, "verify-blk", DiskModel::Blk)
}

fn fstrim(bench: &Bench, name: &str, model: DiskModel) -> Result<String> {
    let (world, guest) = one_disk(bench, name, model, 256)?;
    let device = model.device();
    guest.check_within(
        &format!(
            "mkfs.ext4 -q -F -E nodiscard {device} && mkdir -p /mnt/d && mount -t ext4 {device} /mnt/d &&
             dd if=/dev/urandom of=/mnt/d/big bs=1M count=96 2>/dev/null && seq 1 100000 >/mnt/d/kept && sync"
        ),
        STEP_MAX,
    )?;
    let full = world.allocated("data")?;
    ensure!(full >= 96 * MIB, "96 MiB were written and the host's file takes {full} bytes");
    let sum = guest.check("sha256sum /mnt/d/kept")?;
    let said = guest.check_within("rm /mnt/d/big && sync && fstrim -v /mnt/d", STEP_MAX)?;
    let trimmed = world.allocated("data")?;
    ensure!(
        full.saturating_sub(trimmed) >= 80 * MIB,
        "fstrim said \"{}\", and the host's file went from {full} to {trimmed} bytes",
        said.trim()
    );
    guest.check("umount /mnt/d && echo 3 >/proc/sys/vm/drop_caches")?;
    guest.check_within(&format!("e2fsck -f -n {device} && mount -t ext4 {device} /mnt/d"), STEP_MAX)?;
    ensure!(guest.check("sha256sum /mnt/d/kept")? == sum, "fstrim destroyed a file that was kept");
    no_errors(&guest)?;
    guest.shutdown()?;
    Ok(format!("before_mib={} after_mib={}", full / MIB, trimmed / MIB))
}

pub fn fstrim_scsi(bench: &Bench) -> Result<String> {
    fstrim(bench, "fstrim-scsi", DiskModel::Scsi)
}

pub fn fstrim_blk(bench: &Bench) -> Result<String> {
    fstrim(bench, "fstrim-blk", DiskModel::Blk)
}

fn resize(bench: &Bench, name: &str, model: DiskModel) -> Result<String> {
    let (mut world, guest) = one_disk(bench, name, model, 128)?;
    let device = model.device();
    let short = device.trim_start_matches("/dev/");
    guest.check_within(&format!("mkfs.ext4 -q -F {device} && mkdir -p /mnt/d && mount -t ext4 {device} /mnt/d && seq 1 100000 >/mnt/d/kept"), STEP_MAX)?;
    world.resize(&guest, "data", 192 * MIB)?;
    if model == DiskModel::Scsi {
        // virtio-scsi reports a capacity change as a unit attention (CAPACITY DATA HAS CHANGED), which
        // a stock kernel only announces; udev on a full system rescans, as this line does.
        eventually("the guest sees the new size", Duration::from_secs(20), || {
            guest
                .check(&format!("echo 1 >/sys/block/{short}/device/rescan; cat /sys/block/{short}/size"))
                .map(|size| size.trim() == (192 * MIB / 512).to_string())
        })?;
    } else {
        eventually("the guest sees the new size", Duration::from_secs(20), || {
            guest
                .check(&format!("cat /sys/block/{short}/size"))
                .map(|size| size.trim() == (192 * MIB / 512).to_string())
        })?;
    }
    guest.check_within(&format!("resize2fs {device} && dd if=/dev/zero of=/mnt/d/big bs=1M count=120 && sync && umount /mnt/d && e2fsck -f -n {device}"), STEP_MAX)?;
    no_errors(&guest)?;
    guest.shutdown()?;
    Ok("from_mib=128 to_mib=192".into())
}

pub fn resize_scsi(bench: &Bench) -> Result<String> {
    resize(bench, "resize-scsi", DiskModel::Scsi)
}

pub fn resize_blk(bench: &Bench) -> Result<String> {
    resize(bench, "resize-blk", DiskModel::Blk)
}

/// A controller's LUNs of other targets, of which Linux has to find out by itself: a target without
/// LUN 0 at boot, the same LUN as it comes again, one more target.
pub fn targets(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "targets", |site| {
        site.volume("data", 64).volume("third", 32).volume("last", 16).disk(
            "web1",
            "disk0",
            DiskModel::Scsi,
            &["data"],
        )
    })?;
    let attach = |volume: &str, at: &str| {
        world.server().cli(&["disk", "attach", "web1.disk0", volume, "--lun", at]).map(drop)
    };
    let detach = |volume: &str| world.server().cli(&["disk", "detach", "web1.disk0", volume]).map(drop);
    attach("third", "3:1")?;
    let guest = world.boot("web1")?;
    let worker = world.worker()?;
    // H:C:T:L of the controller's devices, without the host's number.
    let found = |guest: &Guest| {
        guest
            .check("cd /sys/bus/scsi/devices && ls -d [0-9]*:*:*:* | cut -d: -f2- | sort | tr '\n' ' '")
            .map(|list| list.trim().to_string())
    };
    let finds = |guest: &Guest, wanted: &str| {
        eventually(&format!("the guest finds {wanted}"), Duration::from_secs(30), || {
            found(guest).map(|there| there == wanted)
        })
    };
    finds(&guest, "0:0:0 0:3:1")?;
    let device = |guest: &Guest, at: &str| {
        guest
            .check(&format!("ls /sys/bus/scsi/devices/*:{at}/block"))
            .map(|name| format!("/dev/{}", name.trim()))
    };
    let use_it = |guest: &Guest, at: &str, mib: u64| -> Result<()> {
        let device = device(guest, at)?;
        let capacity = guest.check(&format!("sg_readcap --long {device}"))?;
        ensure!(capacity.contains(&format!("{} bytes", mib * MIB)), "{at} is another volume: {capacity}");
        let made = format!(
            "mkfs.ext4 -q -F {device} && mkdir -p /mnt/t && mount -t ext4 {device} /mnt/t && seq 1 50000 >/mnt/t/f && umount /mnt/t && e2fsck -f -n {device}"
        );
        guest.check_within(&made, STEP_MAX).map(drop)
    };
    use_it(&guest, "0:3:1", 32)?;
    let third = device(&guest, "0:3:1")?;
    // A target lists its own.
    let luns = guest.check(&format!("sg_luns {third}"))?;
    ensure!(
        luns.contains("0001000000000000") && !luns.contains("0000000000000000"),
        "sg_luns of target 3 shows: {luns}"
    );
    detach("third")?;
    finds(&guest, "0:0:0")?;
    attach("third", "3:1")?;
    attach("last", "255:200")?;
    finds(&guest, "0:0:0 0:255:200 0:3:1")?;
    use_it(&guest, "0:3:1", 32)?;
    use_it(&guest, "0:255:200", 16)?;
    detach("last")?;
    detach("third")?;
    finds(&guest, "0:0:0")?;
    no_errors(&guest)?;
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok("targets=3".into())
}

pub fn hotplug(bench: &Bench) -> Result<String> {
    let mut world = World::open(bench, "hotplug", |site| {
        site.volume("data", 128).volume("extra", 64).disk("web1", "disk0", DiskModel::Scsi, &["data"])
    })?;
    let guest = world.boot("web1")?;
    let worker = world.worker()?;
    let load = VerifiedWrites { device: "/dev/sda".into(), region_mib: 32, depth: 8, passes: 1000 };
    let job = load.start(&guest)?;
    let there = |guest: &Guest| {
        guest.run("test -b /dev/sdb", crate::guest::COMMAND_MAX).map(|output| output.status == 0)
    };
    let rounds = if bench.long { 10 } else { 2 };
    for _ in 0..rounds {
        world.plug_lun(&guest, "disk0", "extra")?;
        eventually("the new LUN is in the guest", Duration::from_secs(30), || there(&guest))?;
        guest.check_within(
            "mkfs.ext4 -q -F /dev/sdb && mkdir -p /mnt/e && mount -t ext4 /dev/sdb /mnt/e && seq 1 50000 >/mnt/e/f && umount /mnt/e && e2fsck -f -n /dev/sdb",
            STEP_MAX,
        )?;
        world.unplug_lun(&guest, "disk0")?;
        eventually("the LUN has left the guest", Duration::from_secs(30), || {
            there(&guest).map(|there| !there)
        })?;
    }
    let verdict = load.stop(&guest, job).during("stopping the load on the other LUN")?;
    ensure!(verdict.clean(), "the load on the other LUN came to {verdict:?}");
    world.unmoved(worker)?;
    guest.shutdown()?;
    Ok(format!("rounds={rounds} requests={}", verdict.done))
}
