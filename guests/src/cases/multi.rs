//! Devices as QEMU has them when it is told so: with several queues, and with packed rings.

use crate::cases::disk::no_errors;
use crate::cases::net::{ONE, OTHER, address, reach};
use crate::guest::{COMMAND_MAX, Guest};
use crate::load::{Stream, Verdict, VerifiedWrites, iperf3_server};
use crate::site::{DiskModel, Site};
use crate::world::{Bench, World};
use crate::{During, Failure, Result, ensure};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const STEP_MAX: Duration = Duration::from_secs(300);

/// Processors of the guest, and queues of each of its devices.
const QUEUES: u32 = 2;

/// Pings that all have to come back.
const PINGS: u32 = 20;

/// A VM with one of each device, and a second one to talk to.
fn describe(site: Site) -> Site {
    site.volume("first", 64)
        .volume("second", 64)
        .network("lan", 1500, None)
        .disk("web1", "disk0", DiskModel::Scsi, &["first"])
        .disk("web1", "disk1", DiskModel::Blk, &["second"])
        .nic("web1", "nic0", "lan", 1, 1)
        .nic("web2", "nic0", "lan", 2, 1)
}

/// Waits for both guests and connects them.
fn connect(one: &Guest, other: &Guest) -> Result<()> {
    one.wait_ready()?;
    other.wait_ready()?;
    address(one, ONE, 1500)?;
    address(other, OTHER, 1500)?;
    reach(one, OTHER)
}

/// Pings, and of one round in three none is lost; or the sentence has what the server says of its
/// queues. Linux fills the receive ring of a pair a moment after it switched the pair on, so a first
/// ping may find no buffer there; a pair that is dead fails all three.
fn ping(world: &World, guest: &Guest, when: &str) -> Result<()> {
    let mut said = String::new();
    for _ in 0..3 {
        said = guest.run(&format!("ping -n -c {PINGS} -i 0.02 -W 5 {OTHER}"), COMMAND_MAX)?.stdout;
        if said.contains(&format!(" {PINGS} received")) {
            return Ok(());
        }
    }
    let counters = world.server().cli(&["status", "--counters"])?;
    Err(Failure::new(format!("pings were lost {when}: {said}\n{counters}")))
}

/// The interrupts that each queue of the guest's devices has had, by the names that the drivers give
/// the vectors. virtio_scsi calls all its request queues alike, so this is a list.
fn interrupts(guest: &Guest) -> Result<Vec<(String, u64)>> {
    let text = guest.check("cat /proc/interrupts")?;
    let row = |line: &str| {
        let name = line.split_whitespace().last()?.strip_prefix("virtio")?.split_once('-')?.1.to_string();
        let counts = line.split_whitespace().skip(1).map_while(|word| word.parse::<u64>().ok());
        Some((name, counts.sum()))
    };
    Ok(text.lines().filter_map(row).collect())
}

/// How many interrupts came since `before`, of each queue whose name begins with `kind`. Such a queue
/// has to be there for each of the guest's processors.
fn since(guest: &Guest, before: &[(String, u64)], kind: &str) -> Result<Vec<u64>> {
    let now = interrupts(guest)?;
    let pairs = before.iter().zip(&now).filter(|((name, _), _)| name.starts_with(kind));
    let grown: Vec<u64> = pairs.map(|((_, then), (_, now))| now.saturating_sub(*then)).collect();
    ensure!(grown.len() == QUEUES as usize, "there are not {QUEUES} queues {kind}: {now:?}");
    Ok(grown)
}

/// Four TCP streams each way at once, of which each has to bring data.
fn streams(guest: &Guest) -> Result<()> {
    let output = guest.run(&format!("iperf3 -c {OTHER} -t 2 -P 4 --bidir -J"), COMMAND_MAX)?;
    let report: Value =
        serde_json::from_str(&output.stdout).during(format!("reading iperf3's report: {}", output.stdout))?;
    ensure!(report.get("error").is_none(), "iperf3: {}", report["error"]);
    let ends = report["end"]["streams"].as_array().during("iperf3 reports no streams")?;
    let received: Vec<u64> = ends.iter().map(|end| end["receiver"]["bytes"].as_u64().unwrap_or(0)).collect();
    ensure!(
        received.len() == 8 && received.iter().all(|bytes| *bytes > 0),
        "of four streams each way these bytes arrived: {received:?}"
    );
    Ok(())
}

/// Traffic over the active pairs, and how many interrupts each receive queue had. Which pair a flow
/// goes to depends on its ports, which are new each time; that all flows of all rounds choose the same
/// one is as good as impossible.
fn traffic(guest: &Guest, active: usize) -> Result<Vec<u64>> {
    let before = interrupts(guest)?;
    let mut grown = Vec::new();
    // On a busy host two seconds may be over before an emulated guest has sent anything, so a round
    // without data is run again; a pair that is dead fails all three.
    let mut brought = Ok(());
    for _ in 0..3 {
        brought = streams(guest);
        grown = since(guest, &before, "input.")?;
        if brought.is_ok() && grown[..active].iter().all(|count| *count > 0) {
            break;
        }
    }
    brought?;
    ensure!(
        grown[..active].iter().all(|count| *count > 0),
        "a receive queue of {active} pairs had no interrupt: {grown:?}"
    );
    ensure!(
        grown[active..].iter().all(|count| *count == 0),
        "a receive queue that is off had interrupts: {grown:?}"
    );
    Ok(grown)
}

/// The guest's driver has found nothing wrong in what came: a buffer that comes back without a whole
/// frame counts as one of a wrong length.
fn no_receive_errors(guest: &Guest) -> Result<()> {
    let said = guest.check("cd /sys/class/net/eth0/statistics && grep -H . rx_errors rx_length_errors rx_frame_errors rx_crc_errors tx_errors | grep -v ':0$' || true")?;
    ensure!(said.trim().is_empty(), "{}'s NIC counts: {}", guest.name(), said.trim());
    Ok(())
}

/// Verified writes from both processors on both disks at once; `meanwhile` happens under them. Gives
/// the requests done.
fn writes(guest: &Guest, meanwhile: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = interrupts(guest)?;
    let mut running = Vec::new();
    for model in [DiskModel::Scsi, DiskModel::Blk] {
        let load = VerifiedWrites { device: model.device().into(), region_mib: 4, depth: 16, passes: 1 };
        running.push((guest.spawn(&load.command_on_each(QUEUES))?, load));
    }
    meanwhile()?;
    let mut done = 0;
    for (job, load) in running {
        let output = job.wait(STEP_MAX)?;
        let verdict = load.verdict(guest, &output.stdout)?;
        ensure!(verdict.clean(), "{} came to {verdict:?}", load.device);
        done += verdict.done;
    }
    for kind in ["request", "req."] {
        let grown = since(guest, &before, kind)?;
        ensure!(grown.iter().all(|count| *count > 0), "a queue {kind} had no interrupt: {grown:?}");
    }
    Ok(done)
}

pub fn multi_queue(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "multi-queue", |site| describe(site).queues("web1", QUEUES as u16))?;
    let mut spec = world.spec("web1")?;
    spec.smp = QUEUES;
    let (one, other) = (Guest::start(&bench.image, spec)?, world.start("web2")?);
    connect(&one, &other)?;
    iperf3_server(&other)?;
    // A stock kernel starts with as many pairs as it has processors.
    let channels = one.check("ethtool -l eth0 | grep Combined: | tr -dc '0-9\\n' | tr '\\n' ' '")?;
    ensure!(channels.trim() == "2 2", "the NIC has pairs at most, and now: {channels}");

    let (mut requests, mut received) = (0, Vec::new());
    for kill in [false, true] {
        let worker = world.worker()?;
        requests += writes(&one, || {
            if kill {
                std::thread::sleep(Duration::from_millis(500));
                world.server().kill_worker()?;
            }
            Ok(())
        })?;
        ensure!(
            kill == (world.worker()? != worker),
            "kill {kill}, worker {worker:?}, now {:?}",
            world.worker()
        );
        received.push(traffic(&one, 2)?);
        for pairs in [1, 2] {
            for again in [pairs, 3 - pairs, pairs] {
                one.check(&format!("ethtool -L eth0 combined {again}"))?;
                ping(&world, &one, &format!("with {again} of {pairs} pairs, kill {kill}"))?;
            }
            received.push(traffic(&one, pairs)?);
        }
    }
    for guest in [&one, &other] {
        no_receive_errors(guest)?;
        no_errors(guest)?;
        ensure!(guest.alive() && guest.boots() == 1, "{} did not run through", guest.name());
    }
    one.shutdown()?;
    Ok(format!("requests={requests} kills=1 receive_interrupts={received:?}"))
}

/// Bit 34, VIRTIO_F_RING_PACKED (virtio 1.2, 6), as the guest's driver has acknowledged it.
fn packed_drivers(guest: &Guest) -> Result<Vec<String>> {
    let text = guest.check(
        "for d in /sys/bus/virtio/devices/*; do echo \"$(basename $(readlink $d/driver)) $(cut -c35 $d/features)\"; done",
    )?;
    let mut drivers: Vec<String> =
        text.lines().filter_map(|line| line.trim().strip_suffix(" 1")).map(String::from).collect();
    drivers.sort();
    Ok(drivers)
}

pub fn packed(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "packed", describe)?;
    let mut spec = world.spec("web1")?;
    let mut option = "";
    let mut words = Vec::new();
    for word in &spec.qemu_args {
        words.push(if option == "-device" { format!("{word},packed=on") } else { word.clone() });
        option = word;
    }
    spec.qemu_args = words;
    // The second guest has split rings, so that frames go from each kind to the other.
    let (one, other) = (Guest::start(&bench.image, spec)?, world.start("web2")?);
    connect(&one, &other)?;
    let drivers = packed_drivers(&one)?;
    ensure!(drivers == ["virtio_blk", "virtio_net", "virtio_scsi"], "bit 34 is set for {drivers:?} only");
    ping(&world, &one, "before the kills")?;

    let mut loads = Vec::new();
    for model in [DiskModel::Scsi, DiskModel::Blk] {
        let load =
            VerifiedWrites { device: model.device().into(), region_mib: 16, depth: 16, passes: 100_000 };
        loads.push((load.start(&one)?, load));
    }
    let stop = AtomicBool::new(false);
    let (killed, sent) = std::thread::scope(|scope| {
        let sent = scope.spawn(|| {
            let mut sum = Verdict::default();
            // At least once each way, whatever the kills do.
            for round in 0.. {
                if round >= 2 && stop.load(Ordering::Relaxed) {
                    break;
                }
                let (from, to, address) =
                    if round % 2 == 0 { (&one, &other, OTHER) } else { (&other, &one, ONE) };
                let once = Stream { mib: 4, port: 5001 }.send(from, to, address, STEP_MAX)?;
                sum.done += once.done;
                sum.io_errors += once.io_errors;
                sum.wrong_bytes += once.wrong_bytes;
            }
            Ok::<Verdict, Failure>(sum)
        });
        let mut killed = Ok(0);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_secs(1));
            killed = killed.and_then(|count: u32| world.server().kill_worker().map(|_| count + 1));
        }
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        (killed, sent.join().expect("the thread of the stream does not panic"))
    });
    let (kills, sent) = (killed?, sent?);
    ensure!(sent.clean(), "the streams came to {sent:?}");
    let mut requests = 0;
    for (job, load) in loads {
        let verdict = load.stop(&one, job).during(format!("stopping the load on {}", load.device))?;
        ensure!(verdict.clean(), "{} came to {verdict:?} under the kills", load.device);
        // And a pass that nobody disturbs.
        let last = VerifiedWrites { passes: 1, region_mib: 4, ..load }.run(&one, STEP_MAX)?;
        ensure!(last.clean(), "after the kills a pass came to {last:?}");
        requests += verdict.done + last.done;
    }
    ping(&world, &one, "after the kills")?;
    for guest in [&one, &other] {
        no_receive_errors(guest)?;
        no_errors(guest)?;
        ensure!(guest.alive() && guest.boots() == 1, "{} did not run through", guest.name());
    }
    one.shutdown()?;
    Ok(format!("kills={kills} requests={requests} stream_bytes={} wrong_bytes=0", sent.done))
}
