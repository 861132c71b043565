//! The crash test: the worker is killed with `kill -9` at random moments while real guests run a
//! verified load. Nothing may be lost, repeated or corrupted, and no VM may end.
//!
//! The pause is what the guest sees. A probe in the guest does small requests all the time (reads of
//! 4 KiB on a disk, pings on a NIC) and notes when each ended and how long it took, by the guest's own
//! clock, whose offset from the host's is measured first. The pause of one kill is the longest request
//! (or the longest time without a reply) that ended in the second after it. So it contains what the
//! guest's own scheduling adds; `undisturbed_ms_max` is the longest of all requests that ended in no
//! such second, and says how much that is.

use crate::cases::{OTHER, reach_two};
use crate::guest::{COMMAND_MAX, Guest, Job};
use crate::load::{Stream, Verdict, VerifiedWrites, iperf3_server};
use crate::site::{DiskModel, NicModel};
use crate::world::{Bench, World, eventually};
use crate::{During, Failure, Result};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Scsi,
    Blk,
    Net,
    Pvscsi,
    /// A NIC of hardware that guests know.
    Nic(NicModel),
}

impl Model {
    /// The virtio models.
    pub const VIRTIO: [Model; 3] = [Model::Scsi, Model::Blk, Model::Net];

    pub const EMULATED: [Model; 8] = [
        Model::Pvscsi,
        Model::Nic(NicModel::E1000),
        Model::Nic(NicModel::E1000Em),
        Model::Nic(NicModel::E1000e),
        Model::Nic(NicModel::Vlance),
        Model::Nic(NicModel::Flexible),
        Model::Nic(NicModel::Am79c973),
        Model::Nic(NicModel::Vmxnet3),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Model::Scsi => "virtio-scsi",
            Model::Blk => "virtio-blk",
            Model::Net => "virtio-net",
            Model::Pvscsi => "pvscsi",
            Model::Nic(model) => model.name(),
        }
    }
}

/// What the kills came to.
#[derive(Debug, Clone)]
pub struct Toll {
    pub model: Model,
    pub kills: u32,
    pub verdict: Verdict,
    pub vms_lost: u32,
    pub pause_ms_p50: f64,
    pub pause_ms_max: f64,
    pub undisturbed_ms_max: f64,
    pub seed: u64,
}

impl Toll {
    pub fn clean(&self) -> bool {
        self.verdict.clean() && self.vms_lost == 0
    }
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "model={} kills={} io_errors={} wrong_bytes={} vms_lost={} pause_ms_p50={:.1} pause_ms_max={:.1} undisturbed_ms_max={:.1} done={} seed={}",
            self.model.name(),
            self.kills,
            self.verdict.io_errors,
            self.verdict.wrong_bytes,
            self.vms_lost,
            self.pause_ms_p50,
            self.pause_ms_max,
            self.undisturbed_ms_max,
            self.verdict.done,
            self.seed
        )
    }
}

/// One request of the probe: when it ended, by the host's clock, and how long it took.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub ended_ms: f64,
    pub took_ms: f64,
}

/// Requests that end this long after a kill may have waited for it.
const WINDOW_MS: f64 = 1000.0;

/// The guest's clock is known this well: half a round trip of the agent on a busy machine.
const CLOCK_MS: f64 = 50.0;

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
}

/// A probe that runs in a guest.
pub struct Probe {
    job: Job,
    offset_ms: f64,
    disk: bool,
}

impl Probe {
    /// Reads of 4 KiB, one at a time, 500 a second, from a part of the disk that nobody writes.
    pub fn disk(guest: &Guest, device: &str, offset_mib: u64) -> Result<Probe> {
        let offset_ms = clock_offset(guest)?;
        let job = guest.spawn(&format!(
            "cd /tmp; exec fio --name=probe --filename={device} --offset={offset_mib}m --size=16m --rw=randread --bs=4k --ioengine=psync --direct=1 \
             --rate_iops=500 --time_based --runtime=1d --write_lat_log=probe --log_unix_epoch=1 --disable_clat=1 --disable_slat=1 \
             --continue_on_error=all --output=/tmp/probe.txt"
        ))?;
        let name = device.trim_start_matches("/dev/");
        let reads = |guest: &Guest| -> Result<u64> {
            let text = guest.check(&format!("awk '{{ print $1 }}' /sys/block/{name}/stat"))?;
            text.trim().parse().during(format!("the statistics of {name} say {text}"))
        };
        let before = reads(guest)?;
        eventually("the probe reads", COMMAND_MAX, || Ok(reads(guest)? > before + 100))?;
        Ok(Probe { job, offset_ms, disk: true })
    }

    /// Pings, 250 a second.
    pub fn net(guest: &Guest, address: &str) -> Result<Probe> {
        let offset_ms = clock_offset(guest)?;
        let job = guest.spawn(&format!("exec ping -n -D -i 0.004 {address} >/tmp/probe.txt 2>&1"))?;
        eventually("the probe has replies", COMMAND_MAX, || {
            Ok(guest.run("grep -q icmp_seq=50 /tmp/probe.txt", COMMAND_MAX)?.status == 0)
        })?;
        Ok(Probe { job, offset_ms, disk: false })
    }

    /// Ends the probe and gives its samples.
    pub fn stop(self, guest: &Guest) -> Result<Vec<Sample>> {
        let name = if self.disk { "fio --name=probe" } else { "ping -n -D" };
        guest.check(&format!("pkill -INT -f '{name}'"))?;
        self.job.wait(COMMAND_MAX).during("stopping the probe")?;
        // fio's log: milliseconds, nanoseconds, ...; ping: the time of a reply in brackets, of which the
        // gaps count.
        let rows = if self.disk {
            guest.check("awk -F, '{ printf \"%s %.3f\\n\", $1, $2 / 1e6 }' /tmp/probe_lat.1.log")?
        } else {
            guest.check(
                "awk '/^\\[.*icmp_seq/ { t = substr($1, 2) * 1000; if (last) printf \"%.3f %.3f\\n\", t, t - last; last = t }' /tmp/probe.txt",
            )?
        };
        let samples: Vec<Sample> = rows
            .lines()
            .filter_map(|row| {
                let (ended, took) = row.split_once(' ')?;
                Some(Sample {
                    ended_ms: ended.trim().parse::<f64>().ok()? - self.offset_ms,
                    took_ms: took.trim().parse().ok()?,
                })
            })
            .collect();
        if samples.is_empty() {
            return Err(Failure::new("the probe made no request"));
        }
        Ok(samples)
    }
}

/// The guest's clock minus the host's: the best of some round trips.
fn clock_offset(guest: &Guest) -> Result<f64> {
    let mut best = (f64::MAX, 0.0);
    for _ in 0..5 {
        let before = now_ms();
        let text = guest.check("cut -d. -f1 /proc/uptime >/dev/null; date +%s.%N 2>/dev/null || date +%s")?;
        let trip = now_ms() - before;
        let guest_ms = text.trim().parse::<f64>().during(format!("the guest's clock says {text}"))? * 1000.0;
        if trip < best.0 {
            best = (trip, guest_ms - (before + trip / 2.0));
        }
    }
    Ok(best.1)
}

/// The pause of each moment, and the longest request away from all of them.
pub fn pauses(samples: &[Sample], moments_ms: &[f64]) -> (Vec<f64>, f64) {
    let within = |sample: &Sample, moment: f64, next: f64| {
        sample.ended_ms >= moment - CLOCK_MS && sample.ended_ms <= (moment + WINDOW_MS).min(next) + CLOCK_MS
    };
    let mut found = Vec::new();
    let mut disturbed = vec![false; samples.len()];
    for (at, moment) in moments_ms.iter().enumerate() {
        let next = moments_ms.get(at + 1).copied().unwrap_or(f64::MAX);
        let mut longest: f64 = 0.0;
        let mut any = false;
        for (sample, disturbed) in samples.iter().zip(&mut disturbed) {
            if within(sample, *moment, next) {
                longest = longest.max(sample.took_ms);
                *disturbed = true;
                any = true;
            }
        }
        // No request ended in the whole second: then it was a pause of the whole second and more, and
        // the sample that ended it counts.
        if !any {
            longest = samples
                .iter()
                .filter(|s| s.ended_ms > *moment)
                .map(|s| s.took_ms)
                .next()
                .unwrap_or(f64::INFINITY);
        }
        found.push(longest);
    }
    let quiet = samples.iter().zip(&disturbed).filter(|(_, disturbed)| !**disturbed).map(|(s, _)| s.took_ms);
    (found, quiet.fold(0.0, f64::max))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Random moments that a seed repeats (xorshift64*; quality is of no concern here).
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % below
    }
}

/// Kills the worker again and again; gives the moments.
fn kill_again_and_again(
    world: &World,
    guests: &[&Guest],
    kills: u32,
    seed: u64,
    progress: &mut dyn FnMut(u32),
) -> Result<Vec<f64>> {
    let mut random = Moments(seed);
    let mut moments = Vec::new();
    for kill in 1..=kills {
        // Mostly while it works; one in eight falls into the first milliseconds of a new worker.
        let wait = if random.next(8) == 0 { random.next(30) } else { 200 + random.next(600) };
        std::thread::sleep(Duration::from_millis(wait));
        let moment = now_ms();
        world.server().kill_worker()?;
        moments.push(moment);
        progress(kill);
        if kill % 10 == 0 && guests.iter().any(|guest| !guest.alive()) {
            break;
        }
    }
    // The last kill gets its second, too.
    std::thread::sleep(Duration::from_millis(WINDOW_MS as u64 + 500));
    Ok(moments)
}

/// Kills the worker under a verified load on one model.
pub fn torture(bench: &Bench, model: Model, kills: u32, progress: &mut dyn FnMut(u32)) -> Result<Toll> {
    match model {
        Model::Scsi => disk(bench, model, DiskModel::Scsi, kills, progress),
        Model::Blk => disk(bench, model, DiskModel::Blk, kills, progress),
        Model::Pvscsi => disk(bench, model, DiskModel::Pvscsi, kills, progress),
        Model::Net => net(bench, model, NicModel::Virtio, kills, progress),
        Model::Nic(nic) => net(bench, model, nic, kills, progress),
    }
}

fn seed() -> u64 {
    let given = std::env::var("STANDPIPE_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| now_ms() as u64).max(1)
}

fn lost(guests: &[&Guest]) -> u32 {
    let answers =
        |guest: &&Guest| guest.alive() && guest.boots() == 1 && guest.run("true", COMMAND_MAX).is_ok();
    guests.iter().filter(|guest| !answers(guest)).count() as u32
}

fn toll(
    model: Model,
    moments: &[f64],
    samples: &[Sample],
    verdict: Verdict,
    vms_lost: u32,
    seed: u64,
) -> Toll {
    let (found, undisturbed_ms_max) = pauses(samples, moments);
    Toll {
        model,
        kills: moments.len() as u32,
        verdict,
        vms_lost,
        pause_ms_p50: median(&found),
        pause_ms_max: found.iter().copied().fold(0.0, f64::max),
        undisturbed_ms_max,
        seed,
    }
}

fn disk(
    bench: &Bench,
    model: Model,
    disk: DiskModel,
    kills: u32,
    progress: &mut dyn FnMut(u32),
) -> Result<Toll> {
    let world = World::open(bench, &format!("torture-{}", model.name()), |site| {
        site.volume("data", 128).disk("web1", "disk0", disk, &["data"])
    })?;
    let guest = world.boot("web1")?;
    disk_under_kills(&world, &guest, model, (disk, 32), kills, progress)
}

/// Kills the worker while a guest writes and checks the first `region_mib` of its disk of 128 MiB.
pub fn disk_under_kills(
    world: &World,
    guest: &Guest,
    model: Model,
    (disk, region_mib): (DiskModel, u64),
    kills: u32,
    progress: &mut dyn FnMut(u32),
) -> Result<Toll> {
    let seed = seed();
    let load = VerifiedWrites { device: disk.device().into(), region_mib, depth: 16, passes: 100_000 };
    let job = load.start(guest)?;
    let probe = Probe::disk(guest, disk.device(), 96)?;
    std::thread::sleep(Duration::from_secs(3));
    let moments = kill_again_and_again(world, &[guest], kills, seed, progress)?;
    let vms_lost = lost(&[guest]);
    if vms_lost > 0 {
        world.scratch.keep();
        return Ok(toll(model, &moments, &[], Verdict::default(), vms_lost, seed));
    }
    let samples = probe.stop(guest)?;
    let mut verdict = load.stop(guest, job)?;
    // What is on the disk now is checked once more, by a pass that nobody disturbs.
    let last = VerifiedWrites { passes: 1, ..load }.run(guest, Duration::from_secs(300))?;
    verdict.wrong_bytes += last.wrong_bytes;
    verdict.io_errors += last.io_errors + kernel_errors(guest)?;
    if !verdict.clean() {
        world.scratch.keep();
    }
    Ok(toll(model, &moments, &samples, verdict, vms_lost, seed))
}

/// Complaints of the guest's kernel about a disk.
fn kernel_errors(guest: &Guest) -> Result<u64> {
    let count = guest.run(
        "dmesg | grep -v nvme | grep -cE 'I/O error|Medium Error|Hardware Error|rejecting I/O'",
        COMMAND_MAX,
    )?;
    Ok(count.stdout.trim().parse().unwrap_or(0))
}

fn net(
    bench: &Bench,
    model: Model,
    nic: NicModel,
    kills: u32,
    progress: &mut dyn FnMut(u32),
) -> Result<Toll> {
    let (world, one, other) = reach_two(bench, &format!("torture-{}", nic.name()), nic, 1500)?;
    net_under_kills(&world, &one, &other, model, kills, progress)
}

/// Kills the worker while one guest sends to the other, and compares what arrives.
pub fn net_under_kills(
    world: &World,
    one: &Guest,
    other: &Guest,
    model: Model,
    kills: u32,
    progress: &mut dyn FnMut(u32),
) -> Result<Toll> {
    let seed = seed();
    iperf3_server(other)?;
    // iperf3 runs until it is told to end; a compared stream goes the same way at the same time.
    let flood = one.spawn(&format!("exec iperf3 -c {OTHER} -t 86400 -J >/tmp/iperf3.json 2>&1"))?;
    let probe = Probe::net(one, OTHER)?;
    std::thread::sleep(Duration::from_secs(2));

    let stop = std::sync::atomic::AtomicBool::new(false);
    let stream = Stream { mib: 8, port: 5001 };
    let (moments, compared) = std::thread::scope(|scope| {
        let compared = scope.spawn(|| {
            let mut sum = Verdict::default();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let once = stream.send(one, other, OTHER, Duration::from_secs(300))?;
                sum.done += once.done;
                sum.io_errors += once.io_errors;
                sum.wrong_bytes += once.wrong_bytes;
            }
            Ok::<Verdict, Failure>(sum)
        });
        let moments = kill_again_and_again(world, &[one, other], kills, seed, progress);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        (moments, compared.join().expect("the thread of the stream does not panic"))
    });
    let moments = moments?;
    let vms_lost = lost(&[one, other]);
    if vms_lost > 0 {
        world.scratch.keep();
        return Ok(toll(model, &moments, &[], Verdict::default(), vms_lost, seed));
    }
    let samples = probe.stop(one)?;
    let mut verdict = compared?;
    verdict.io_errors += u64::from(flood.finished());
    one.run("pkill -INT iperf3", COMMAND_MAX)?;
    if !flood.finished() {
        flood.wait(COMMAND_MAX).during("stopping iperf3")?;
    }
    if !verdict.clean() {
        world.scratch.keep();
    }
    Ok(toll(model, &moments, &samples, verdict, vms_lost, seed))
}

/// Does something to the server under running probes, one in each guest named, and gives the longest
/// pause that each saw from that moment until the server answered again and a second more.
pub fn disturb(guests: &[&Guest], probes: Vec<Probe>, act: impl FnOnce() -> Result<()>) -> Result<Vec<f64>> {
    let moment = now_ms();
    act()?;
    let done = now_ms();
    std::thread::sleep(Duration::from_millis(WINDOW_MS as u64));
    let mut longest = Vec::new();
    for (guest, probe) in guests.iter().zip(probes) {
        let samples = probe.stop(guest)?;
        // An action that takes longer than a window is as many moments as it has windows.
        let moments: Vec<f64> =
            (0..).map(|n| moment + f64::from(n) * WINDOW_MS).take_while(|at| *at <= done).collect();
        longest.push(pauses(&samples, &moments).0.into_iter().fold(0.0, f64::max));
    }
    Ok(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_belongs_to_the_kill_before_it() {
        let sample = |ended_ms, took_ms| Sample { ended_ms, took_ms };
        let samples = [
            sample(500.0, 2.0),
            sample(900.0, 9.0),
            sample(2000.0, 1.0),
            sample(2045.0, 40.0),
            sample(2900.0, 3.0),
            sample(5000.0, 7.0),
        ];
        let (found, quiet) = pauses(&samples, &[2010.0]);
        assert_eq!(found, [40.0]);
        assert_eq!(quiet, 9.0);
        // Nothing ended in the second after the kill: the next one that did end counts.
        let (found, _) = pauses(&[sample(500.0, 1.0), sample(4000.0, 2990.0)], &[1000.0]);
        assert_eq!(found, [2990.0]);
        // Nothing ended ever again.
        assert_eq!(pauses(&[sample(500.0, 1.0)], &[1000.0]).0, [f64::INFINITY]);
    }
}
