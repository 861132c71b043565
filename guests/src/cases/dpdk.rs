//! DPDK's poll-mode drivers for the emulated NICs, in a guest: they drive the card without an interrupt.

use crate::cases::net::{OTHER, address};
use crate::guest::{COMMAND_MAX, Guest};
use crate::place::Image;
use crate::site::NicModel;
use crate::world::{Bench, World, eventually};
use crate::{During, Failure, Result, ensure};
use std::time::Duration;

/// The address that the other guest asks for; testpmd answers for any.
const ANSWERED: &str = "10.9.0.77";

pub fn e1000(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::E1000)
}

pub fn e1000_82545em(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::E1000Em)
}

pub fn e1000e(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::E1000e)
}

pub fn vmxnet3(bench: &Bench) -> Result<String> {
    nic(bench, NicModel::Vmxnet3)
}

fn nic(bench: &Bench, model: NicModel) -> Result<String> {
    let bench = Bench { image: Image::with_dpdk()?, ..bench.clone() };
    let world = World::open(&bench, &format!("dpdk-{}", model.name()), |site| {
        site.network("lan", 1500, None)
            .nic_of(model, "web1", "nic0", "lan", 1)
            .nic_of(model, "web1", "nic1", "lan", 3)
            .nic("web2", "nic0", "lan", 2, 1)
    })?;
    let mut spec = world.spec_with_memory("web1", 512)?;
    // One processor for the commands, one for the driver that never sleeps.
    spec.smp = 2;
    let one = Guest::start(&bench.image, spec)?;
    let other = world.boot("web2")?;
    one.wait_ready()?;
    address(&other, OTHER, 1500)?;
    let worker = world.worker()?;

    let cards = give_away(&one, model)?;
    let answered = answer_pings(&one, &other, &cards[0])?;
    let (frames, seconds) = circle(&one, &cards, if bench.long { 20 } else { 5 })?;
    world.unmoved(worker)?;
    Ok(format!("pings={answered} circled_frames={frames} seconds={seconds}"))
}

/// Takes the cards from Linux's driver, for user programs; gives their places on the bus. Debian's kernel
/// has no vfio without an IOMMU.
fn give_away(guest: &Guest, model: NicModel) -> Result<Vec<String>> {
    let driver = model.driver();
    let said = guest.check(&format!(
        "set -e
         modprobe uio_pci_generic
         cards=$(cd /sys/bus/pci/drivers/{driver} && ls -d 0000:*)
         for card in $cards; do
           echo uio_pci_generic >/sys/bus/pci/devices/$card/driver_override
           echo $card >/sys/bus/pci/drivers/{driver}/unbind
           echo $card >/sys/bus/pci/drivers_probe
           [ -e /sys/bus/pci/drivers/uio_pci_generic/$card ]
         done
         echo 64 >/proc/sys/vm/nr_hugepages
         mkdir -p /dev/hugepages && mount -t hugetlbfs huge /dev/hugepages
         grep -q 'HugePages_Free: *64' /proc/meminfo
         echo $cards"
    ))?;
    let cards: Vec<String> = said.split_whitespace().map(String::from).collect();
    ensure!(cards.len() == 2, "the cards are: {said}");
    Ok(cards)
}

/// testpmd with cards and commands; what it prints is in a file.
fn testpmd(cards: &[String], commands: &str, log: &str) -> String {
    let allowed: Vec<String> = cards.iter().map(|card| format!("-a {card}")).collect();
    format!(
        "({commands}) | dpdk-testpmd -l 0,1 -n 1 -m 100 --iova-mode=pa --in-memory --no-telemetry {} -- \
         -i --total-num-mbufs=4096 --no-lsc-interrupt >{log} 2>&1",
        allowed.join(" ")
    )
}

/// testpmd answers ARP and ICMP in the driver's loop; ping compares what comes back with what it sent.
fn answer_pings(guest: &Guest, other: &Guest, card: &str) -> Result<u64> {
    let commands =
        "echo set fwd icmpecho; echo start; until [ -e /tmp/enough ]; do sleep 1; done; echo stop; echo quit";
    let job = guest.spawn(&testpmd(&[card.to_string()], commands, "/tmp/answers.log"))?;
    let log = |why: Failure| {
        let said = guest.check("cat /tmp/answers.log").unwrap_or_default();
        Failure::new(format!("{why}\n{}", crate::guest::tail(&said, 30)))
    };
    eventually("testpmd answers", COMMAND_MAX, || {
        Ok(other.run(&format!("ping -n -q -c 1 -W 1 {ANSWERED}"), COMMAND_MAX)?.status == 0)
    })
    .map_err(log)?;
    let mut answered = 0;
    for bytes in [0, 1, 17, 18, 64, 700, 1472] {
        let said = other.check(&format!("ping -n -c 50 -i 0.02 -W 5 -s {bytes} {ANSWERED}")).map_err(log)?;
        // For the last answer ping waits two round trips only, which a busy host may exceed.
        let complete = said.contains(" 0% packet loss")
            || said.contains(" 49 received") && !said.contains("icmp_seq=50 ");
        ensure!(complete && !said.contains("wrong data"), "{bytes} bytes: {}", crate::guest::tail(&said, 10));
        answered += 50;
    }
    guest.check("touch /tmp/enough")?;
    job.wait(COMMAND_MAX).during("testpmd's end")?;
    let said = guest.check("cat /tmp/answers.log")?;
    let received = total(&said, "RX-packets").map_err(log)?;
    ensure!(received >= answered, "testpmd has received {received} frames: {said}");
    Ok(answered)
}

/// Frames go from card to card, each forwarding what it gets to the other, as fast as they can.
fn circle(guest: &Guest, cards: &[String], seconds: u32) -> Result<(u64, u32)> {
    let commands = format!(
        "echo set eth-peer 0 52:54:00:5d:00:03; echo set eth-peer 1 52:54:00:5d:00:01
         echo set fwd mac; echo start tx_first 2; sleep {seconds}; echo show port stats all
         echo stop; echo quit"
    );
    let limit = Duration::from_secs(u64::from(seconds)) + COMMAND_MAX;
    guest.check_within(&testpmd(cards, &commands, "/tmp/circle.log"), limit)?;
    let said = guest.check("cat /tmp/circle.log")?;
    let (received, sent) = (total(&said, "RX-packets")?, total(&said, "TX-packets")?);
    // 64 frames of each card start the circle, and each passes some times, however slow the host is. None is lost
    // on the way but those that are under way at the end, a burst of each card at most.
    ensure!(received > 256, "the circle stood still: {}", crate::guest::tail(&said, 40));
    ensure!(received <= sent && sent - received <= 64, "sent {sent}, received {received}");
    let errors = total(&said, "RX-error").unwrap_or(0);
    ensure!(errors == 0, "testpmd counts {errors} errors");
    Ok((received, seconds))
}

/// A number of testpmd's statistics of forwarding, over all ports.
fn total(said: &str, name: &str) -> Result<u64> {
    let accumulated = said
        .split_once("Accumulated forward statistics for all ports")
        .map(|(_, rest)| rest)
        .during(format!("testpmd gave no statistics: {}", crate::guest::tail(said, 30)))?;
    let words: Vec<&str> = accumulated.split_whitespace().collect();
    words
        .windows(2)
        .find(|pair| pair[0] == format!("{name}:"))
        .and_then(|pair| pair[1].parse().ok())
        .during(format!("testpmd says no {name}: {accumulated}"))
}
