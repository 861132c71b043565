//! How fast the emulated models are in a guest, beside QEMU's own: both devices in the same guest under
//! the same kernel, by turns, with our virtio device as a third. The figures say little alone (under
//! TCG they are mostly the guest's own work); what counts is the ratio within a run.

use crate::guest::{COMMAND_MAX, Guest};
use crate::load::iperf3;
use crate::site::{DiskModel, Kind, NicModel};
use crate::uplink::HostSide;
use crate::world::{Against, Bench, World};
use crate::{During, Failure, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    pub rounds: u32,
    /// Of one measurement.
    pub seconds: u32,
    /// Only models whose name contains this.
    pub models: String,
    /// How doorbells of slots reach the server, where that can be chosen.
    pub doorbells: &'static str,
}

/// Frames a second that the host offers where receiving is measured: more than any of these guests
/// takes under TCG.
const OFFERED_PER_SECOND: u64 = 200_000;
/// Ethernet's shortest frame carries 18 bytes of UDP.
const UDP_BYTES: usize = 18;

/// Figures of one contender, by name.
type Row = BTreeMap<&'static str, Vec<f64>>;

pub fn speed(bench: &Bench, plan: &Plan) -> Result<()> {
    if bench.against != Against::Standpipe {
        return Err(Failure::new("both sides are in the same guest here"));
    }
    for model in [NicModel::E1000, NicModel::E1000e, NicModel::Vlance, NicModel::Vmxnet3] {
        if model.name().contains(&plan.models) {
            nic(bench, plan, model)?;
        }
    }
    if DiskModel::Pvscsi.name().contains(&plan.models) {
        pvscsi(bench, plan)?;
    }
    Ok(())
}

/// A NIC of the guest with what is at its other end.
struct Contender {
    name: &'static str,
    mac: &'static str,
    /// The server's slot, if it is the server's.
    slot: Option<&'static str>,
    host: HostSide,
    device: String,
    row: Row,
}

fn nic(bench: &Bench, plan: &Plan, model: NicModel) -> Result<()> {
    let contender = |name, mac, slot, prefix| {
        let host = HostSide::new(prefix)?;
        Ok(Contender { name, mac, slot, host, device: String::new(), row: Row::new() })
    };
    let mut contenders = [
        contender("ours", "52:54:00:5d:00:01", Some("web1.nic0"), "sp-e")?,
        contender("virtio", "52:54:00:5d:00:02", Some("web1.nic1"), "sp-v")?,
        contender("qemu", "52:54:00:5d:00:03", None, "sp-q")?,
    ];
    let [ours, virtio, qemu] = &contenders;
    let world = World::open(bench, &format!("speed-{}", model.name()), |site| {
        let site = site
            .network("lan", 1500, Some(&ours.host.tap))
            .network("lan2", 1500, Some(&virtio.host.tap))
            .nic_of(model, "web1", "nic0", "lan", 1)
            .nic("web1", "nic1", "lan2", 2, 1);
        match model {
            NicModel::Vmxnet3 => site.doorbells("web1", "nic0", plan.doorbells),
            _ => site,
        }
    })?;
    let mut spec = world.spec("web1")?;
    let tap = format!("tap,id=own,ifname={},script=no,downscript=no", qemu.host.tap);
    let device = format!("{},netdev=own,mac={}", model.qemu(), qemu.mac);
    spec.qemu_args.extend(["-netdev".into(), tap, "-device".into(), device]);
    let guest = Guest::boot(&bench.image, spec)?;
    guest.check(&format!("modprobe -a pktgen {}", model.driver()))?;
    for contender in &mut contenders {
        contender.host.configure()?;
        let found = format!("grep -l {} /sys/class/net/*/address | cut -d/ -f5 | head -n 1", contender.mac);
        contender.device = guest.check(&found)?.trim().to_string();
        let (device, address) = (&contender.device, contender.host.guest_address(1));
        guest.check(&format!("ip addr replace {address}/24 dev {device} && ip link set {device} up"))?;
        let host = contender.host.address();
        guest
            .check(&format!("for i in $(seq 30); do ping -n -q -c 1 -W 1 {host} >/dev/null 2>&1 && exit 0; done; ip addr; exit 1"))
            .during(format!("{} reaches the host", contender.name))?;
    }
    for round in 1..=plan.rounds {
        for contender in &mut contenders {
            eprintln!("  {} round {round} of {}: {}", model.name(), plan.rounds, contender.name);
            measure(&world, &guest, plan, contender).during(format!(
                "measuring {} of {}",
                contender.name,
                model.name()
            ))?;
        }
    }
    let rows: Vec<(&str, &Row)> = contenders.iter().map(|one| (one.name, &one.row)).collect();
    print(model.name(), &rows);
    guest.shutdown()
}

/// One round of everything on one NIC.
fn measure(world: &World, guest: &Guest, plan: &Plan, on: &mut Contender) -> Result<()> {
    let mut figures: Vec<(&'static str, f64)> = Vec::new();
    let count = || match on.slot {
        Some(slot) => messages(world, slot),
        None => Ok(None),
    };
    let before = count()?;
    let (frames, kpps) = pktgen(guest, on, plan.seconds)?;
    figures.push(("pktgen_60B_kpps", kpps));
    if let (Some(before), Some(after)) = (before, count()?) {
        figures.push(("messages_per_packet_out", (after - before) / frames.max(1.0)));
    }
    let before = count()?;
    let (frames, kpps) = receive_count(guest, on, plan.seconds)?;
    figures.push(("receive_60B_kpps", kpps));
    if let (Some(before), Some(after)) = (before, count()?) {
        figures.push(("messages_per_packet_in", (after - before) / frames.max(1.0)));
    }
    let mut listener = on.host.iperf3_server()?;
    let address = on.host.address();
    let streams = iperf3(guest, &address, "", plan.seconds)
        .and_then(|out| Ok((out, iperf3(guest, &address, "-R", plan.seconds)?)));
    let _ = listener.kill();
    let _ = listener.wait();
    let (out, back) = streams?;
    figures.extend([("tcp_out_mbps", out), ("tcp_in_mbps", back)]);
    let said = guest.check_within(&format!("ping -n -q -c 200 -i 0.005 {address}"), 2 * COMMAND_MAX)?;
    let average = said.rsplit(" = ").next().and_then(|times| times.split('/').nth(1)?.parse::<f64>().ok());
    figures.push(("round_trip_us", average.during(format!("ping said {said}"))? * 1000.0));
    for (name, value) in figures {
        on.row.entry(name).or_default().push(value);
    }
    Ok(())
}

/// Messages that a slot's client has sent; none is counted for devices without such a socket.
fn messages(world: &World, slot: &str) -> Result<Option<f64>> {
    Ok(world.server().status()?["slots"][slot]["counters"]["messages"].as_f64())
}

/// Frames that the kernel's generator gets out of the device, as the host's end counts them: how many
/// while it ran, and thousands a second.
fn pktgen(guest: &Guest, on: &Contender, seconds: u32) -> Result<(f64, f64)> {
    let device = &on.device;
    let mac = std::fs::read_to_string(format!("/sys/class/net/{}/address", on.host.tap))
        .during("reading the TAP's address")?;
    let (mac, host) = (mac.trim(), on.host.address());
    let command = format!(
        "cd /proc/net/pktgen && echo rem_device_all >kpktgend_0 && echo 'add_device {device}' >kpktgend_0 || exit 1
         for word in 'count 0' 'clone_skb 64' 'pkt_size 60' 'delay 0' 'dst {host}' 'dst_mac {mac}' 'udp_dst_min 9' 'udp_dst_max 9'; do
             echo $word >{device} || exit 1
         done
         (sleep {}; echo stop >pgctrl) & echo start >pgctrl; wait; echo rem_device_all >kpktgend_0",
        seconds + 2
    );
    let came = || counter(&on.host.tap, "rx_packets");
    let first = came()?;
    let job = guest.spawn(&command)?;
    let deadline = Instant::now() + COMMAND_MAX;
    while came()? < first + 1000.0 {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("pktgen's frames do not come: {} of 1000", came()? - first)));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (start, before) = (Instant::now(), came()?);
    std::thread::sleep(Duration::from_secs(seconds.into()));
    let rate = (came()? - before) / start.elapsed().as_secs_f64() / 1e3;
    let output = job.wait(COMMAND_MAX)?;
    if output.status != 0 {
        return Err(Failure::new(format!("pktgen: {}", output.stdout)));
    }
    Ok((came()? - first, rate))
}

/// Frames that the guest's driver takes while the host offers more: how many came, and thousands a
/// second. They go to an address that nobody has, so that only the driver works for them.
fn receive_count(guest: &Guest, on: &Contender, seconds: u32) -> Result<(f64, f64)> {
    let nobody = on.host.guest_address(200);
    on.host.neighbour(&nobody, on.mac)?;
    let socket = UdpSocket::bind((on.host.address().as_str(), 0)).during("making a UDP socket")?;
    socket.connect((nobody.as_str(), 9)).during("aiming a UDP socket")?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (start, mut sent) = (Instant::now(), 0u64);
            while !over.load(Ordering::Relaxed) {
                let due = start.elapsed().as_micros() as u64 * OFFERED_PER_SECOND / 1_000_000;
                for _ in 0..due.saturating_sub(sent).min(512) {
                    // A full queue is what is wanted.
                    let _ = socket.send(&[0; UDP_BYTES]);
                }
                // What could not be sent in time is not made up for.
                sent = due;
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let taken = format!("/sys/class/net/{}/statistics/rx_packets", on.device);
        let said = guest.check_within(
            &format!("sleep 1; a=$(cat {taken}); s=$(cut -d' ' -f1 /proc/uptime); sleep {seconds}; b=$(cat {taken}); e=$(cut -d' ' -f1 /proc/uptime); echo $a $s $b $e"),
            COMMAND_MAX + Duration::from_secs(seconds.into()),
        );
        over.store(true, Ordering::Relaxed);
        sender.join().map_err(|_| Failure::new("the sender panicked"))?;
        let said = said?;
        let words: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [a, s, b, e] = words[..] else {
            return Err(Failure::new(format!("the guest counts {said}")));
        };
        Ok((b, (b - a) / (e - s) / 1e3))
    })
}

fn counter(device: &str, name: &str) -> Result<f64> {
    let path = format!("/sys/class/net/{device}/statistics/{name}");
    let text = std::fs::read_to_string(&path).during(format!("reading {path}"))?;
    text.trim().parse().during(format!("{path} says {text}"))
}

const PATTERNS: [(&str, &str, &str); 4] = [
    ("randread_4k_depth1_iops", "--rw=randread --bs=4k --iodepth=1", "iops"),
    ("randread_4k_depth32_iops", "--rw=randread --bs=4k --iodepth=32", "iops"),
    ("randread_4k_depth64_iops", "--rw=randread --bs=4k --iodepth=64", "iops"),
    ("read_128k_depth8_mb_per_s", "--rw=read --bs=128k --iodepth=8", "bw_bytes"),
];

/// Disks of nothing behind all three controllers, so that no store is measured.
fn pvscsi(bench: &Bench, plan: &Plan) -> Result<()> {
    const SERIALS: [(&str, Option<&str>); 3] =
        [("ours", Some("web1.disk0")), ("virtio", Some("web1.disk1")), ("qemu", None)];
    let world = World::open(bench, "speed-pvscsi", |site| {
        site.volume("ours", 1024)
            .with(|volume| volume.kind = Kind::Null)
            .volume("virtio", 1024)
            .with(|volume| volume.kind = Kind::Null)
            .disk("web1", "disk0", DiskModel::Pvscsi, &["ours"])
            .disk("web1", "disk1", DiskModel::Scsi, &["virtio"])
            .doorbells("web1", "disk0", plan.doorbells)
    })?;
    let mut spec = world.spec("web1")?;
    spec.qemu_args.extend(
        [
            "-blockdev",
            "driver=null-co,node-name=own,size=1073741824,read-zeroes=off",
            "-device",
            "pvscsi,id=peer",
            "-device",
            "scsi-hd,bus=peer.0,drive=own,serial=qemu",
        ]
        .map(String::from),
    );
    let guest = Guest::boot(&bench.image, spec)?;
    guest.check("modprobe -a vmw_pvscsi virtio_scsi sd_mod; for i in $(seq 100); do [ -b /dev/sdc ] && exit 0; usleep 100000; done; lsscsi; exit 1")?;
    let mut rows = [Row::new(), Row::new(), Row::new()];
    let mut devices = Vec::new();
    for (name, _) in SERIALS {
        // QEMU's disk says so; ours are told apart by their controllers' drivers.
        let list = guest.check(
            "for d in sda sdb sdc; do
                 p=$(readlink -f /sys/block/$d/device); h=${p#*/host}
                 echo $d $(cat /sys/block/$d/device/vendor) $(cat /sys/class/scsi_host/host${h%%/*}/proc_name)
             done",
        )?;
        let wanted = |line: &&str| match name {
            "qemu" => line.contains("QEMU"),
            "virtio" => !line.contains("QEMU") && line.contains("virtio"),
            _ => !line.contains("QEMU") && line.contains("pvscsi"),
        };
        let line = list.lines().find(wanted).during(format!("no disk is {name}'s: {list}"))?;
        eprintln!("  {name} is {line}");
        devices.push(line.split(' ').next().unwrap_or("").to_string());
    }
    for round in 1..=plan.rounds {
        for (pattern, options, key) in PATTERNS {
            for (at, (name, slot)) in SERIALS.iter().enumerate() {
                eprintln!("  pvscsi round {round} of {}: {pattern} {name}", plan.rounds);
                let count = || slot.map_or(Ok(None), |slot| messages(&world, slot));
                let before = count()?;
                let said = guest.check_within(
                    &format!(
                        "fio --name=speed --filename=/dev/{} {options} --direct=1 --ioengine=libaio --time_based --runtime={} --norandommap --output-format=json",
                        devices[at], plan.seconds
                    ),
                    COMMAND_MAX + Duration::from_secs(plan.seconds.into()),
                )?;
                let json = said.find('{').map_or("", |at| &said[at..]);
                let report: Value =
                    serde_json::from_str(json).during(format!("reading fio's report {said}"))?;
                let read = &report["jobs"][0]["read"];
                let rate = read[key].as_f64().during(format!("fio reports no {key}"))?;
                let scale = if key == "iops" { 1.0 } else { 1e6 };
                rows[at].entry(pattern).or_default().push(rate / scale);
                let total = read["total_ios"].as_f64().unwrap_or(0.0);
                if let (Some(before), Some(after)) = (before, count()?) {
                    let name = match pattern {
                        "randread_4k_depth1_iops" => "messages_per_io_depth1",
                        "randread_4k_depth32_iops" => "messages_per_io_depth32",
                        "randread_4k_depth64_iops" => "messages_per_io_depth64",
                        _ => "messages_per_io_128k",
                    };
                    rows[at].entry(name).or_default().push((after - before) / total.max(1.0));
                }
            }
        }
    }
    let rows: Vec<(&str, &Row)> = SERIALS.iter().zip(&rows).map(|((name, _), row)| (*name, row)).collect();
    print("pvscsi", &rows);
    guest.shutdown()
}

/// Medians of each contender, then ours as so many times QEMU's and virtio's; above 1 is better.
fn print(model: &str, rows: &[(&str, &Row)]) {
    for (contender, row) in rows {
        for (key, values) in *row {
            println!("guest.{model}.{contender}.{key}={}", rounded(median(values)));
        }
    }
    let Some((_, ours)) = rows.iter().find(|(name, _)| *name == "ours") else { return };
    for (other, theirs) in rows.iter().filter(|(name, _)| *name != "ours") {
        for (key, values) in ours.iter().filter(|(key, _)| !key.starts_with("messages")) {
            let Some(theirs) = theirs.get(key) else { continue };
            let (our, their) = (median(values), median(theirs));
            let better = if key.ends_with("_us") { their / our } else { our / their };
            println!("guest.{model}.ours.ratio_to_{other}.{key}={better:.2}");
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[len / 2],
        len => (sorted[len / 2 - 1] + sorted[len / 2]) / 2.0,
    }
}

fn rounded(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (3 - value.abs().log10().floor() as i32).clamp(0, 4) as usize };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_that_of_the_sorted_values() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&[1.0, 4.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn figures_have_four_digits() {
        assert_eq!(rounded(123456.7), "123457");
        assert_eq!(rounded(0.012345), "0.0123");
        assert_eq!(rounded(12.3456), "12.35");
    }
}
