//! What `script/demo` shows: two guests on one server, from the first boot to the last clean-up.

use crate::cases::{address, reach};
use crate::guest::Guest;
use crate::load::{VerifiedWrites, iperf3, iperf3_server};
use crate::place::{Image, Kernel, script};
use crate::server::binary;
use crate::site::{DiskModel, MIB};
use crate::torture::{Probe, disturb};
use crate::uplink::HostSide;
use crate::world::{Against, Bench, World};
use crate::{Accel, Result, accel, ensure};
use std::io::Write;
use std::time::{Duration, Instant};

/// Prints a numbered stage, and under it what was seen.
struct Report {
    stage: u32,
    started: Instant,
}

impl Report {
    fn stage(&mut self, title: &str) {
        self.stage += 1;
        println!("\n{}. {title}   [{:.0} s]", self.stage, self.started.elapsed().as_secs_f64());
        let _ = std::io::stdout().flush();
    }

    fn seen(&self, text: impl std::fmt::Display) {
        for line in text.to_string().lines() {
            println!("     {line}");
        }
        let _ = std::io::stdout().flush();
    }
}

const LOAD: &str = "/dev/sda";

pub fn demo() -> Result<()> {
    let mut report = Report { stage: 0, started: Instant::now() };
    println!(
        "Standpipe: two unmodified Linux guests on one server, which is then killed and upgraded under them."
    );

    report.stage("The guests: a stock Debian 13 kernel, 256 MiB of memory each");
    let image = Image::get(Kernel::V6_12)?;
    let (accel, why) = accel::probe(&image, |what| report.seen(what))?;
    report.seen(format!("They run with {why}."));
    if accel == Accel::Tcg {
        report
            .seen("Emulated processors are slow: read the figures below as proof of function, not of speed.");
    }

    report.stage("The server: standpipe keep -- standpipe serve");
    let host = HostSide::new("sp-demo")?;
    let bench = Bench { image, accel, against: Against::Standpipe, long: false };
    let world = World::open(&bench, "demo", |site| {
        site.volume("web1-root", 128)
            .volume("web2-root", 384)
            .network("lan", 1500, Some(&host.tap))
            .disk("web1", "disk0", DiskModel::Scsi, &["web1-root"])
            .nic("web1", "nic0", "lan", 1, 1)
            .disk("web2", "disk0", DiskModel::Scsi, &["web2-root"])
            .nic("web2", "nic0", "lan", 2, 1)
    })?;
    let worker = world.server().worker()?;
    host.configure()?;
    report.seen(format!(
        "keeper {} holds the descriptors, worker {worker} does the work; uplink {}",
        world.server().keeper_pid(),
        host.tap
    ));

    report.stage("Booting web1 and web2 side by side");
    let (one, two) = (world.start("web1")?, world.start("web2")?);
    let times = (one.wait_ready()?, two.wait_ready()?);
    report.seen(format!(
        "web1 is up after {:.1} s, web2 after {:.1} s",
        times.0.as_secs_f64(),
        times.1.as_secs_f64()
    ));
    let addresses = [host.guest_address(1), host.guest_address(2)];
    for (guest, own) in [(&one, &addresses[0]), (&two, &addresses[1])] {
        let disk = guest.check("lsscsi -s | grep -v /dev/nvme")?;
        ensure!(disk.contains("disk"), "{} sees no SCSI disk: {disk}", guest.name());
        address(guest, own, 1500)?;
        let nic =
            guest.check("ethtool -i eth0 | sed -n 's/^driver: //p'; cat /sys/class/net/eth0/address")?;
        report.seen(format!("{}  {}", guest.name(), disk.trim()));
        report.seen(format!("{}  eth0, driver {}, {own}", guest.name(), nic.trim().replace('\n', ", ")));
    }

    report.stage("A file system on each disk: made, filled, checked");
    for (guest, kind) in [(&one, "ext4"), (&two, "xfs")] {
        report.seen(file_system(guest, kind)?);
    }

    report.stage("The network: guest to guest, guest to host");
    reach(&one, &addresses[1])?;
    reach(&one, &host.address())?;
    reach(&two, &host.address())?;
    let round_trip = |guest: &Guest, to: &str| -> Result<String> {
        let text = guest.check(&format!("ping -n -q -c 20 -i 0.05 {to}"))?;
        let loss = text
            .lines()
            .find(|line| line.contains("packet loss"))
            .unwrap_or("")
            .split(", ")
            .nth(2)
            .unwrap_or("")
            .to_string();
        let times = text.lines().last().unwrap_or("").split("= ").nth(1).unwrap_or("").to_string();
        Ok(format!("{loss}; min/avg/max/mdev {times}"))
    };
    report.seen(format!("ping   web1 to web2   {}", round_trip(&one, &addresses[1])?));
    report.seen(format!("ping   web2 to host   {}", round_trip(&two, &host.address())?));
    host.ping(&addresses[0])?;
    report.seen("ping   host to web1   5 of 5 answered");
    iperf3_server(&two)?;
    report.seen(format!("iperf3 web1 to web2   {:.0} Mbit/s", iperf3(&one, &addresses[1], "", 3)?));
    report.seen(format!("iperf3 web2 to web1   {:.0} Mbit/s", iperf3(&one, &addresses[1], "-R", 3)?));
    let mut listener = host.iperf3_server()?;
    let to_host = iperf3(&one, &host.address(), "", 3);
    let _ = listener.kill();
    let _ = listener.wait();
    report.seen(format!("iperf3 web1 to host   {:.0} Mbit/s", to_host?));

    report.stage("kill -9 of the worker in the middle of a verified write");
    let load = VerifiedWrites { device: LOAD.into(), region_mib: 32, depth: 16, passes: 100_000 };
    let job = load.start(&one)?;
    let flood = two.spawn(&format!("exec iperf3 -c {} -t 86400 >/tmp/flood 2>&1", host.address()))?;
    drop(flood);
    report.seen("web1 writes 4 KiB blocks at random, 16 at a time, each with a checksum");
    let probes = (Probe::disk(&one, LOAD, 96)?, Probe::net(&one, &addresses[1])?);
    std::thread::sleep(Duration::from_secs(2));
    let pauses = disturb(&[&one, &one], [probes.0, probes.1].into(), || {
        let pid = world.server().kill_worker()?;
        report.seen(format!("killed worker {pid}"));
        world.server().wait_answer().map(drop)
    })?;
    let after = world.server().worker()?;
    ensure!(after != worker, "the worker {worker} was killed and still answers");
    report.seen(format!("worker {after} has taken over"));
    report
        .seen(format!("longest pause: {:.0} ms on the disk, {:.0} ms on the network", pauses[0], pauses[1]));
    ensure!(one.alive() && two.alive(), "a guest was lost");

    report.stage("standpipe upgrade, under the same load");
    let probes = (Probe::disk(&one, LOAD, 96)?, Probe::net(&one, &addresses[1])?);
    std::thread::sleep(Duration::from_secs(2));
    let pauses = disturb(&[&one, &one], [probes.0, probes.1].into(), || {
        world.server().cli(&["upgrade"])?;
        world.server().wait_answer().map(drop)
    })?;
    let upgraded = world.server().worker()?;
    ensure!(upgraded != after, "after the upgrade the same worker {after} runs");
    report.seen(format!("worker {upgraded} has taken over from worker {after}"));
    report
        .seen(format!("longest pause: {:.0} ms on the disk, {:.0} ms on the network", pauses[0], pauses[1]));
    let verdict = load.stop(&one, job)?;
    report.seen(format!(
        "{} requests, {} I/O errors, {} wrong bytes",
        verdict.done, verdict.io_errors, verdict.wrong_bytes
    ));
    ensure!(verdict.clean(), "the verified write came to {verdict:?}");

    report.stage("Shutting down and cleaning up");
    one.shutdown()?;
    two.shutdown()?;
    world.server().stop();
    let files = world.scratch.files.clone();
    drop(world);
    ensure!(!files.exists(), "{} was left behind", files.display());
    let tap = std::path::Path::new("/sys/class/net").join(&host.tap);
    ensure!(!tap.exists(), "the TAP device {} was left behind", host.tap);
    report.seen("both guests are off; the server, its sockets, its files and the TAP device are gone");
    println!("\nAll of it worked, in {:.0} s.\n", report.started.elapsed().as_secs_f64());
    next_steps(accel)
}

/// Makes, fills, checks and reads back; the same bytes have to come.
fn file_system(guest: &Guest, kind: &str) -> Result<String> {
    let (make, check) = match kind {
        "ext4" => ("mkfs.ext4 -q -F", "e2fsck -f -n"),
        _ => ("mkfs.xfs -q -f", "xfs_repair -n"),
    };
    let patience = Duration::from_secs(300);
    guest.check_within(
        &format!("{make} {LOAD} && mkdir -p /mnt/d && mount -t {kind} {LOAD} /mnt/d"),
        patience,
    )?;
    let before = guest.check_within("dd if=/dev/urandom of=/mnt/d/random bs=1M count=24 2>/dev/null && seq 1 100000 >/mnt/d/numbers && cat /mnt/d/* | md5sum; umount /mnt/d", patience)?;
    guest.check_within(&format!("echo 3 >/proc/sys/vm/drop_caches; {check} {LOAD}"), patience)?;
    let after = guest.check_within(
        &format!("mount -t {kind} -o ro {LOAD} /mnt/d && cat /mnt/d/* | md5sum; umount /mnt/d"),
        patience,
    )?;
    ensure!(before == after, "{kind} read back other bytes than were written");
    Ok(format!(
        "{}  {kind}: {} MiB written, {} clean, the same bytes read back",
        guest.name(),
        24 * MIB / MIB,
        check.split(' ').next().unwrap_or(check)
    ))
}

fn next_steps(accel: Accel) -> Result<()> {
    let program = binary()?;
    let program = program.display();
    let in_tree = script("in-tree");
    let in_tree = in_tree.display();
    println!(
        "For a VM of your own (as root):

  install {program} /usr/local/bin/
  mkdir -p /etc/standpipe /var/lib/standpipe/volumes
  cat >/etc/standpipe/site.toml <<'END'
  [store.local]
  directory = \"/var/lib/standpipe/volumes\"
  [disk.mine-root]
  store = \"local\"
  size = \"20GiB\"
  [network.lan.uplink.host]
  tap = \"sp-lan\"
  [vm.mine.disk0]
  model = \"virtio-scsi\"
  volumes = [\"mine-root\"]
  [vm.mine.nic0]
  model = \"virtio-net\"
  network = \"lan\"
  END
  standpipe keep -- standpipe serve --config /etc/standpipe/site.toml &
  ip addr add 10.9.0.1/24 dev sp-lan && ip link set sp-lan up

  The VM wants QEMU 9.2 or newer; this is the one of the tests, and its screen is at VNC display 0:

  {in_tree} qemu-system-x86_64 -machine q35 -accel {} -smp 2 \\
    $(standpipe qemu-args mine --memory 1GiB) -cdrom INSTALLER.iso -vnc 127.0.0.1:0

  standpipe status          what it does now
  standpipe --help          everything else",
        accel.name().to_lowercase()
    );
    Ok(())
}
