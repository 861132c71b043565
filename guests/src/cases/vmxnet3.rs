//! What Linux's vmxnet3 can do beyond what every NIC does: queues for each processor and RSS, LRO,
//! coalescing, tunnels, interrupts without MSI-X.

use crate::cases::emulated::{quiet, reload, told};
use crate::cases::net::{ONE, OTHER, address, checksum_errors, reach};
use crate::guest::{COMMAND_MAX, Guest};
use crate::load::{Stream, Verdict, iperf3_server};
use crate::site::NicModel;
use crate::world::{Bench, World, eventually};
use crate::{During, Failure, Result, ensure};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const STEP_MAX: Duration = Duration::from_secs(300);

/// Processors of the guest, and so queues each way.
const QUEUES: usize = 2;

/// Flows from one to the other. That all of many rounds choose the same queue is as good as impossible.
const FLOWS: u32 = 8;
const ROUNDS: u32 = 5;

/// Features that are not fixed, and their states.
const CHANGEABLE: &str =
    "ethtool -k eth0 | grep -v fixed | sed -n 's/^[ \\t]*\\([^:]*\\): \\(on\\|off\\).*/\\1 \\2/p'";

const ONE_V6: &str = "fd09::1";
const OTHER_V6: &str = "fd09::2";

pub fn driver(bench: &Bench) -> Result<String> {
    let world = World::open(bench, "vmxnet3-driver", |site| {
        let site = site.network("lan", 9000, None);
        let model = NicModel::Vmxnet3;
        let site = site.nic_of(model, "web1", "nic0", "lan", 1).queues("web1", QUEUES as u16);
        site.nic_of(model, "web2", "nic0", "lan", 2)
    })?;
    let mut spec = world.spec_with_memory("web1", 512)?;
    spec.smp = QUEUES as u32;
    let one = Guest::start(&bench.image, spec)?;
    let other = world.boot("web2")?;
    one.wait_ready()?;
    let worker = world.worker()?;
    let pair = Pair { bench, one: &one, other: &other };
    pair.connect()?;
    iperf3_server(&other)?;

    let queues = pair.queues().during("queues")?;
    let mut bytes = pair.streams(&[(OTHER, ONE), (&bracketed(OTHER_V6), &bracketed(ONE_V6))])?;
    bytes += pair.large_frames().during("large frames")?;
    quiet(bench, &one, NicModel::Vmxnet3).during("queues and large frames")?;
    let flips = pair.features().during("features that are flipped under traffic")?;
    quiet(bench, &one, NicModel::Vmxnet3).during("features that are flipped under traffic")?;
    bytes += pair.tunnels().during("tunnels")?;
    quiet(bench, &one, NicModel::Vmxnet3).during("tunnels")?;
    bytes += pair.coalescing().during("coalescing")?;
    bytes += pair.rings().during("rings")?;
    one.check("ethtool -d eth0 >/dev/null")?;
    bytes += pair.pin().during("interrupts by the pin")?;
    for guest in [&one, &other] {
        quiet(bench, guest, NicModel::Vmxnet3)?;
        let errors = checksum_errors(guest)?;
        ensure!(errors == 0, "{} counted {errors} TCP checksum errors", guest.name());
    }
    world.unmoved(worker)?;
    Ok(format!("{queues} flips={flips} bytes={bytes} wrong_bytes=0"))
}

fn bracketed(address: &str) -> String {
    format!("[{address}]")
}

struct Pair<'a> {
    bench: &'a Bench,
    one: &'a Guest,
    other: &'a Guest,
}

impl Pair<'_> {
    fn connect(&self) -> Result<()> {
        for (guest, v4, v6) in [(self.one, ONE, ONE_V6), (self.other, OTHER, OTHER_V6)] {
            address(guest, v4, 1500)?;
            guest.check(&format!("ip addr replace {v6}/64 dev eth0 nodad"))?;
        }
        reach(self.one, OTHER).map_err(|error| told(self.one, error))
    }

    /// A stream each way between each two addresses, compared byte by byte.
    fn streams(&self, between: &[(&str, &str)]) -> Result<u64> {
        let stream = Stream { mib: if self.bench.long { 32 } else { 2 }, port: 5001 };
        let mut bytes = 0;
        for (there, back) in between {
            for (from, to, address) in [(self.one, self.other, there), (self.other, self.one, back)] {
                let verdict = stream.send(from, to, address, STEP_MAX)?;
                ensure!(verdict.clean(), "{} to {address}: {verdict:?}", from.name());
                bytes += verdict.done;
            }
        }
        Ok(bytes)
    }

    /// Each processor has a queue each way, with an interrupt of its own, and flows are spread over
    /// them as the table says.
    fn queues(&self) -> Result<String> {
        let channels = self.one.check("ethtool -l eth0 | sed '1,/Current/d' | grep Combined")?;
        ensure!(channels.trim_end().ends_with(&QUEUES.to_string()), "ethtool -l says: {channels}");
        let table = self.one.check("ethtool -x eth0 || true")?;
        ensure!(table.contains("with 2 RX ring(s)"), "ethtool -x says: {table}");

        let all = |counts: &[u64]| counts.iter().all(|count| *count > 0);
        let grown = self.flows(|grown| all(&grown.received) && all(&grown.sent) && all(&grown.interrupts))?;
        ensure!(
            all(&grown.received) && all(&grown.sent) && all(&grown.interrupts),
            "not every queue was used: {grown:?}"
        );
        self.one.check("ethtool -X eth0 weight 1 0")?;
        let first = self.flows(|_| false)?;
        ensure!(
            first.received[0] > 0 && first.received[1] == 0,
            "the table says the first queue, and frames came by: {first:?}"
        );
        self.one.check("ethtool -X eth0 weight 0 1")?;
        let second = self.flows(|_| false)?;
        ensure!(second.received[1] > 0, "the table says the second queue, and frames came by: {second:?}");
        self.one.check("ethtool -X eth0 equal 2")?;

        for (fields, hashed) in [("sdfn", true), ("sd", false), ("sdfn", true)] {
            self.one.check(&format!("ethtool -N eth0 rx-flow-hash udp4 {fields}"))?;
            let said = self.one.check("ethtool -n eth0 rx-flow-hash udp4")?;
            ensure!(said.contains("L4 bytes 0 & 1") == hashed, "{fields} became: {said}");
        }
        Ok(format!("received_by_queue={:?} interrupts={:?}", grown.received, grown.interrupts))
    }

    /// TCP flows both ways until there was enough, a few rounds at most; what the queues counted.
    fn flows(&self, enough: impl Fn(&Counts) -> bool) -> Result<Counts> {
        let before = Counts::read(self.one)?;
        let mut grown = Counts::default();
        for _ in 0..ROUNDS {
            let run = format!("iperf3 -c {OTHER} -t 1 -P {FLOWS} --bidir >/dev/null");
            // It gives up on a machine that is slow; what counts is what went through the queues.
            self.one.run(&run, STEP_MAX)?;
            grown = Counts::read(self.one)?.since(&before);
            if enough(&grown) {
                break;
            }
        }
        Ok(grown)
    }

    /// Frames pass as large as they were sent, and are counted so by both drivers.
    fn large_frames(&self) -> Result<u64> {
        let before = (
            counted(self.one, "TSO pkts tx")?,
            counted(self.one, "LRO pkts rx")?,
            counted(self.other, "LRO pkts rx")?,
        );
        let bytes = self.streams(&[(OTHER, ONE)])?;
        let sent = sum(&counted(self.one, "TSO pkts tx")?) - sum(&before.0);
        let arrived = sum(&counted(self.one, "LRO pkts rx")?) - sum(&before.1);
        let there = sum(&counted(self.other, "LRO pkts rx")?) - sum(&before.2);
        ensure!(
            sent > 0 && arrived > 0 && there > 0,
            "large frames: {sent} sent, {there} received there, {arrived} received here"
        );
        Ok(bytes)
    }

    /// Everything that the driver lets be changed is turned off and on while bytes are compared.
    fn features(&self) -> Result<u64> {
        let listed = self.one.check(CHANGEABLE)?;
        let features: Vec<(&str, &str)> =
            listed.lines().filter_map(|line| line.trim().split_once(' ')).collect();
        for known in ["rx-checksumming", "tx-checksumming", "large-receive-offload", "rx-vlan-offload"] {
            ensure!(features.iter().any(|(name, _)| *name == known), "{known} is not among: {listed}");
        }
        let done = AtomicBool::new(false);
        let stream = Stream { mib: 2, port: 5001 };
        let (flipped, compared) = std::thread::scope(|scope| {
            let compared = scope.spawn(|| {
                let mut sum = Verdict::default();
                loop {
                    for (from, to, address) in [(self.one, self.other, OTHER), (self.other, self.one, ONE)] {
                        let once = stream.send(from, to, address, STEP_MAX)?;
                        ensure!(once.clean(), "{} to {address}: {once:?}", from.name());
                        sum.done += once.done;
                    }
                    if done.load(Ordering::Relaxed) {
                        return Ok(sum);
                    }
                }
            });
            let flipped = (|| {
                let mut flips = 0;
                for (name, state) in &features {
                    let turned = if *state == "on" { "off" } else { "on" };
                    for wanted in [turned, *state] {
                        let said = self.one.run(
                            &format!("ethtool -K eth0 {name} {wanted} 2>&1; ethtool -k eth0 | grep '^[ \\t]*{name}: {wanted}'; usleep 300000"),
                            COMMAND_MAX,
                        )?;
                        // Some are an effect of others, and change with those only.
                        flips += u64::from(said.stdout.contains(&format!("{name}: {wanted}")));
                    }
                }
                Ok::<u64, Failure>(flips)
            })();
            done.store(true, Ordering::Relaxed);
            (flipped, compared.join().expect("the thread of the streams does not panic"))
        });
        compared?;
        let flips = flipped?;
        ensure!(flips >= 2 * 10, "no more than {flips} changes of {} features held", features.len());
        let after = self.one.check(CHANGEABLE)?;
        ensure!(after == listed, "the features were\n{listed}\nand are\n{after}");
        Ok(flips)
    }

    /// Frames in tunnels: their checksums and segments are left to the device.
    fn tunnels(&self) -> Result<u64> {
        let mut bytes = 0;
        for (kind, options) in [
            ("vxlan", "id 42 dstport 4789 noudpcsum"),
            ("vxlan", "id 43 dstport 4789 udpcsum"),
            ("geneve", "id 44 noudpcsum"),
            ("geneve", "id 45 udpcsum"),
        ] {
            for (guest, remote, inner) in [(self.one, OTHER, "10.11.0.1"), (self.other, ONE, "10.11.0.2")] {
                guest.check(&format!(
                    "modprobe {kind}; ip link add tun0 type {kind} {options} remote {remote} && ip addr add {inner}/24 dev tun0 && ip link set tun0 up mtu 1400"
                ))?;
            }
            reach(self.one, "10.11.0.2").during(format!("{kind} {options}"))?;
            let before = counted(self.one, "TSO pkts tx")?;
            bytes += self.streams(&[("10.11.0.2", "10.11.0.1")]).during(format!("{kind} {options}"))?;
            let cut = sum(&counted(self.one, "TSO pkts tx")?) - sum(&before);
            ensure!(cut > 0, "nothing within {kind} {options} was left to the device to be cut");
            for guest in [self.one, self.other] {
                guest.check("ip link del tun0")?;
            }
        }
        Ok(bytes)
    }

    /// Every way of moderation that the driver knows is taken, told, and lets frames pass.
    fn coalescing(&self) -> Result<u64> {
        let mut bytes = 0;
        for (set, told) in [
            ("adaptive-rx off rx-usecs 0 rx-frames 0 tx-frames 0", "rx-usecs:0"),
            ("adaptive-rx off rx-usecs 100 rx-frames 0 tx-frames 0", "rx-usecs:100"),
            ("rx-usecs 1000", "rx-usecs:1000"),
            ("rx-usecs 0 rx-frames 16 tx-frames 32", "rx-frames:16"),
            ("rx-usecs 0 rx-frames 64 tx-frames 64", "tx-frames:64"),
            ("adaptive-rx on rx-frames 0 tx-frames 0", "AdaptiveRX:on"),
        ] {
            self.one.check(&format!("ethtool -C eth0 {set}"))?;
            let said = self.one.check("ethtool -c eth0 | tr -d ' \\t'")?;
            ensure!(said.contains(told), "{set} became: {said}");
            reach(self.one, OTHER)?;
            bytes += self.streams(&[(OTHER, ONE)]).during(set)?;
        }
        Ok(bytes)
    }

    /// Rings as small and as large as they come, with frames of both sizes.
    fn rings(&self) -> Result<u64> {
        let before = self.one.check("ethtool -g eth0")?;
        let mut bytes = 0;
        for mtu in [1500, 9000] {
            for guest in [self.one, self.other] {
                guest.check(&format!("ip link set eth0 mtu {mtu}"))?;
            }
            for (sizes, told) in [
                ("rx 32 rx-jumbo 32 rx-mini 0 tx 32", "TX:32"),
                ("rx 64 rx-jumbo 64 rx-mini 2048 tx 64", "RXMini:2048"),
                ("rx 4096 rx-jumbo 4096 rx-mini 128 tx 4096", "RX:4096"),
                ("rx 1024 rx-jumbo 512 rx-mini 128 tx 512", "TX:512"),
            ] {
                self.one.check(&format!("ethtool -G eth0 {sizes}"))?;
                let said = self.one.check("ethtool -g eth0 | sed '1,/Current/d' | tr -d ' \\t'")?;
                // With several buffers to a frame the driver rounds the first ring.
                ensure!(mtu > 1500 || said.lines().any(|line| line == told), "{sizes} became: {said}");
                eventually("the link is back", COMMAND_MAX, || {
                    self.one.check("cat /sys/class/net/eth0/carrier").map(|carrier| carrier.trim() == "1")
                })?;
                reach(self.one, OTHER)?;
                bytes += self.streams(&[(OTHER, ONE)]).during(format!("MTU {mtu}, {sizes}"))?;
            }
        }
        for guest in [self.one, self.other] {
            guest.check("ip link set eth0 mtu 1500")?;
        }
        let after = self.one.check("ethtool -g eth0")?;
        ensure!(before == after, "the rings were\n{before}\nand are\n{after}");
        Ok(bytes)
    }

    /// A driver that gets no messages does all its work by the pin.
    fn pin(&self) -> Result<u64> {
        let line = || self.one.check("grep eth0 /proc/interrupts");
        let usual = line()?;
        ensure!(usual.contains("MSIX"), "the interrupts are: {usual}");
        self.one.check("echo 0 >/sys/class/net/eth0/device/msi_bus")?;
        reload(self.one, NicModel::Vmxnet3)?;
        self.connect()?;
        let pin = line()?;
        ensure!(pin.contains("IO-APIC") && !pin.contains("MSI"), "the interrupts are: {pin}");
        let bytes = self.streams(&[(OTHER, ONE)])?;
        self.one.check("echo 1 >/sys/class/net/eth0/device/msi_bus")?;
        reload(self.one, NicModel::Vmxnet3)?;
        self.connect()?;
        let again = line()?;
        ensure!(again.contains("MSIX"), "the interrupts are: {again}");
        Ok(bytes)
    }
}

/// What the queues of a guest's NIC have counted.
#[derive(Debug, Default, Clone)]
struct Counts {
    sent: Vec<u64>,
    received: Vec<u64>,
    interrupts: Vec<u64>,
}

impl Counts {
    fn read(guest: &Guest) -> Result<Counts> {
        let interrupts = guest.check(
            "awk '$NF ~ /^eth0-rxtx-/ { sum = 0; for (i = 2; i < NF; i++) if ($i ~ /^[0-9]+$/) sum += $i; print sum }' /proc/interrupts",
        )?;
        let counts = Counts {
            sent: counted(guest, "ucast pkts tx")?,
            received: counted(guest, "ucast pkts rx")?,
            interrupts: interrupts.lines().filter_map(|line| line.trim().parse().ok()).collect(),
        };
        for of_queues in [&counts.sent, &counts.received, &counts.interrupts] {
            ensure!(of_queues.len() == QUEUES, "there are not {QUEUES} queues: {counts:?}");
        }
        Ok(counts)
    }

    fn since(&self, before: &Counts) -> Counts {
        let grown = |now: &[u64], then: &[u64]| now.iter().zip(then).map(|(now, then)| now - then).collect();
        Counts {
            sent: grown(&self.sent, &before.sent),
            received: grown(&self.received, &before.received),
            interrupts: grown(&self.interrupts, &before.interrupts),
        }
    }
}

/// One of the device's statistics, of each queue.
fn counted(guest: &Guest, name: &str) -> Result<Vec<u64>> {
    let said = guest.check("ethtool -S eth0")?;
    let values = said.lines().filter_map(|line| line.rsplit_once(':'));
    let found = values.filter(|(label, _)| label.trim() == name);
    let counts: Vec<u64> = found.filter_map(|(_, value)| value.trim().parse().ok()).collect();
    ensure!(!counts.is_empty(), "ethtool -S has no {name}: {said}");
    Ok(counts)
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().sum()
}
