//! CDs: one is read in a guest, another boots a guest.

use crate::guest::{COMMAND_MAX, Guest, Start};
use crate::place::{in_tree, pvscsi_rom};
use crate::site::{DiskModel, Kind, Site};
use crate::steps::Steps;
use crate::world::{Against, Bench, World};
use crate::{During, Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// The firmware reads kernel and initramfs, and the kernel is unpacked, all of it emulated.
const BOOT_MAX: Duration = Duration::from_secs(240);

/// Exit statuses of sg3_utils (sg3_utils(8)).
const DATA_PROTECT: i32 = 7;
const INVALID_OPCODE: i32 = 9;

/// Makes a CD of some MiB with files whose bytes are known.
fn burn(scratch: &Path, to: &Path) -> Result<u64> {
    let folder = scratch.join("disc");
    for part in ["one", "two"] {
        std::fs::create_dir_all(folder.join(part)).during("creating the CD's folders")?;
        for file in 1..=3u64 {
            let lines: Vec<String> = (0..file * 60_000).map(|line| format!("{part} {line}")).collect();
            std::fs::write(folder.join(part).join(format!("file{file}")), lines.join("\n"))
                .during("writing the CD's files")?;
        }
    }
    let output = in_tree("xorriso")
        .args(["-as", "mkisofs", "-quiet", "-R", "-V", "DISC", "-o"])
        .arg(to)
        .arg(&folder)
        .output()
        .during("starting xorriso")?;
    ensure!(output.status.success(), "xorriso: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(std::fs::metadata(to).during("reading the CD's size")?.len())
}

/// A volume that is a CD with the bytes of a file.
fn cd(site: Site, name: &str, bytes: u64) -> Site {
    site.volume(name, 0).with(|volume| {
        volume.kind = Kind::Cdrom;
        volume.bytes = bytes;
    })
}

/// `md5sum` of all files of a folder, by the host.
fn sums(folder: &Path) -> Result<String> {
    let output = std::process::Command::new("sh")
        .args(["-c", "find . -type f | sort | xargs md5sum | md5sum"])
        .current_dir(folder)
        .output()
        .during("starting md5sum")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read(guest: &Guest, disc: &Path, against: Against) -> Result<u32> {
    let mut steps = Steps::new();
    // A drive that has no feature of writing (MMC-6, the CD-ROM and DVD-ROM profiles) has no WRITE(10);
    // QEMU's has it, and a medium that is protected.
    let (refusal, said): (i32, &[&str]) = match against {
        Against::Standpipe => (INVALID_OPCODE, &["Invalid command operation code"]),
        Against::Qemu => (DATA_PROTECT, &["protect"]),
    };
    steps.all(
        guest,
        &[
            // A CD says what it is: peripheral device type 5h, removable.
            ("sg_inq /dev/sr0", 0, &["cd/dvd", "RMB=1"]),
            ("sg_turs /dev/sr0", 0, &[]),
            ("sg_readcap /dev/sr0", 0, &["block length=2048 bytes"]),
            ("cat /sys/block/sr0/queue/logical_block_size", 0, &["2048"]),
            ("cat /sys/block/sr0/ro /sys/block/sr0/removable", 0, &["1\n1"]),
            // READ TOC, formatted, of both address forms (MMC-6 6.25), and the last session.
            ("sg_raw -r 12 /dev/sr0 43 00 00 00 00 00 01 00 0c 00", 0, &[]),
            ("sg_raw -r 20 /dev/sr0 43 02 00 00 00 00 01 00 14 00", 0, &[]),
            ("sg_raw -r 12 /dev/sr0 43 00 01 00 00 00 00 00 0c 00", 0, &[]),
            // GET CONFIGURATION, GET EVENT STATUS NOTIFICATION of the media class.
            ("sg_get_config /dev/sr0", 0, &["current"]),
            ("sg_raw -r 8 /dev/sr0 4a 01 00 00 10 00 00 00 08 00", 0, &[]),
            ("sg_modes -p 0x2a /dev/sr0", 0, &["capabilities"]),
            ("blkid /dev/sr0", 0, &["LABEL=\"DISC\"", "TYPE=\"iso9660\""]),
            // Nothing writes to it: the kernel refuses, and so does the drive.
            ("sh -c ': >/tmp/z; dd if=/dev/zero of=/dev/sr0 bs=2048 count=1 conv=notrunc'", 1, &[]),
            (
                "head -c 2048 /dev/zero | sg_raw -s 2048 /dev/sr0 2a 00 00 00 00 00 00 00 01 00 2>&1",
                refusal,
                said,
            ),
            ("mkdir -p /mnt/cd && mount -t iso9660 -o ro /dev/sr0 /mnt/cd", 0, &[]),
            // A mounted medium is held.
            ("sg_start --eject /dev/sr0 && exit 9; test -e /mnt/cd/one/file1", 0, &[]),
        ],
    )?;
    let there = guest.check_within(
        "cd /mnt/cd && find . -type f | sort | xargs md5sum | md5sum",
        Duration::from_secs(120),
    )?;
    let here = sums(disc)?;
    steps.holds(there == here, || format!("the guest reads {there}, and the host {here}"));
    steps.all(guest, &[("umount /mnt/cd", 0, &[]), ("sg_prevent --allow /dev/sr0", 0, &[])])?;
    steps.done()
}

pub fn cdrom(bench: &Bench) -> Result<String> {
    let mut disc = Err(crate::Failure::new("the site was not described"));
    let world = World::open(bench, "cdrom", |site| {
        disc = std::fs::create_dir_all(&site.store)
            .during("creating the folder of the volumes")
            .and_then(|()| burn(site.store.parent().unwrap_or(&site.store), &site.file("disc")));
        cd(site, "disc", *disc.as_ref().unwrap_or(&2048)).disk("web1", "disk0", DiskModel::Scsi, &["disc"])
    });
    let bytes = disc?;
    let world = world?;
    let guest = world.boot("web1")?;
    let steps = read(&guest, &world.scratch.files.join("disc"), bench.against)?;
    guest.shutdown()?;
    Ok(format!("steps={steps} cd_bytes={bytes}"))
}

pub fn boot(bench: &Bench) -> Result<String> {
    boot_from(bench, "cd-boot", DiskModel::Scsi, Start::Bios)
}

pub fn boot_pvscsi(bench: &Bench) -> Result<String> {
    boot_from(bench, "pvscsi-boot", DiskModel::Pvscsi, Start::Bios)
}

pub fn boot_pvscsi_uefi(bench: &Bench) -> Result<String> {
    boot_from(bench, "pvscsi-boot-uefi", DiskModel::Pvscsi, Start::Uefi)
}

/// The firmware finds the CD behind the SCSI controller and starts the boot loader on it, which starts a kernel
/// with an initramfs, which mounts the CD as its root: a live system, and how an installer starts.
fn boot_from(bench: &Bench, name: &str, model: DiskModel, start: Start) -> Result<String> {
    let rom = if start == Start::Uefi { Some(pvscsi_rom()?) } else { None };
    let mut copied = Err(crate::Failure::new("the site was not described"));
    let world = World::open(bench, name, |site| {
        copied = std::fs::create_dir_all(&site.store)
            .and_then(|()| std::fs::copy(&bench.image.cd, site.file("live")))
            .during("copying the CD");
        let site =
            cd(site, "live", *copied.as_ref().unwrap_or(&2048)).disk("web1", "disk0", model, &["live"]);
        match &rom {
            Some(rom) => site.boots_from(rom),
            None => site,
        }
    });
    let bytes = copied?;
    let world = world?;
    let mut spec = world.spec("web1")?;
    spec.start = start;
    let started = Instant::now();
    let guest = Guest::start(&bench.image, spec)?;
    guest.wait_boots(1, BOOT_MAX)?;
    let up = started.elapsed().as_secs_f64();
    let root = guest.check("mount | grep ' / '")?;
    ensure!(root.contains("/dev/sr0") && root.contains("iso9660"), "the root is: {root}");
    let uefi = guest.run("test -d /sys/firmware/efi", COMMAND_MAX)?.status == 0;
    ensure!(uefi == (start == Start::Uefi), "UEFI: {uefi}");
    guest.check("test ! -e /dev/nvme0 && lsscsi && fio --version && sg_inq /dev/sr0")?;
    guest.shutdown()?;
    Ok(format!("boot_s={up:.1} cd_bytes={bytes}"))
}
