//! The whole path as a lane walks it: ring, switch, offload where a receiver needs it, rings. The
//! receivers check every checksum, and every frame has one end.

mod driver;

use driver::{Buffer, Guest, Ring, readable, writable};
use offload::{Plan, Sum, measure};
use proptest::prelude::*;
use request::{FrameFacts, Instant, Mac, Rewrite};
use standpipe_virtio_net::*;
use std::time::Duration;
use switch::{PortConfig, PortId, Reason, Size, Switch, Verdict, Vid, Vlan};
use virtqueue::{Chain, Pop, Queue};

struct Station {
    guest: Guest,
    transmit: (Ring, Queue),
    receive: (Ring, Queue),
    posted: Vec<(u16, Buffer)>,
    nic: Nic,
    port: PortId,
}

fn mac(last: u8) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, last])
}

impl Station {
    fn new(switch: &mut Switch, last: u8, features: u64, buffer: u32, vlan: Vlan) -> Station {
        let mut guest = Guest::new(16 << 20);
        let transmit = Ring::new(&mut guest, 256, false);
        let receive = Ring::new(&mut guest, 256, true);
        let queues = [&transmit, &receive].map(|ring| ring.queue(&guest.memory, false));
        let [transmit_queue, receive_queue] = queues;
        let config = Config {
            mac: mac(last),
            mac_changeable: false,
            mtu: None,
            pairs_max: 1,
            link: Link::Up,
            speed: u32::MAX,
        };
        let mut nic = Nic::new(config);
        nic.negotiate(features);
        let config =
            PortConfig { vlan, mac: None, spoof_check: false, mtu: 1500, storm: None, entries_max: 16 };
        let port = switch.add_port(config).unwrap();
        let mut station = Station {
            guest,
            transmit: (transmit, transmit_queue),
            receive: (receive, receive_queue),
            posted: Vec::new(),
            nic,
            port,
        };
        for _ in 0..200 {
            let at = station.guest.allocate(u64::from(buffer));
            let buffer = writable(at, buffer);
            let head = station.receive.0.post(&[buffer]).unwrap();
            station.posted.push((head, buffer));
        }
        station
    }

    fn send(&mut self, bytes: &[u8]) {
        let at = self.guest.allocate(bytes.len() as u64);
        self.guest.write(at, bytes);
        self.transmit.0.post(&[readable(at, bytes.len() as u32)]).unwrap();
    }

    /// Frames with their virtio headers, put together again from their buffers.
    fn received(&mut self) -> Vec<Vec<u8>> {
        self.receive.1.publish(&self.guest.memory);
        let mut frames: Vec<Vec<u8>> = Vec::new();
        let mut more = 0;
        while let Some((id, written)) = self.receive.0.take_used() {
            let (_, buffer) = self.posted.iter().find(|(head, _)| *head == id).unwrap();
            let bytes = self.guest.read(buffer.at, written);
            if more == 0 {
                more = u16::from_le_bytes([bytes[10], bytes[11]]);
                frames.push(bytes);
            } else {
                frames.last_mut().unwrap().extend(bytes);
            }
            more -= 1;
        }
        assert_eq!(more, 0);
        frames
    }
}

fn reason(refused: Refused) -> Reason {
    match refused {
        Refused::NoBuffer | Refused::BufferTooSmall => Reason::NoBuffer,
        Refused::Filtered => Reason::Filtered,
        Refused::BadMemory => Reason::BadMemory,
        Refused::Broken => Reason::Disabled,
        Refused::Malformed | Refused::Offload => Reason::Malformed,
    }
}

/// One copy of a frame to one station: as it is, or finished.
fn deliver(
    from: &Guest,
    chain: &Chain,
    frame: &Outgoing,
    to: &mut Station,
    rewrite: Rewrite,
) -> Result<(), Reason> {
    let (queue, memory) = (&mut to.receive.1, &to.guest.memory);
    let whole = frame.frame(&from.memory, chain);
    match to.nic.deliver(queue, memory, &whole, rewrite) {
        Ok(_) => return Ok(()),
        Err(Refused::Offload) => {}
        Err(refused) => return Err(reason(refused)),
    }
    let plan = Plan::new(frame.header(), &frame.facts, frame.len).map_err(|_| Reason::Malformed)?;
    let mut scratch = vec![0; plan.largest() as usize];
    for index in 0..plan.count() {
        let mut segment = plan.segment(index);
        let payload = &mut scratch[..segment.payload().len()];
        if !frame.copy(&from.memory, chain, segment.payload(), payload) {
            return Err(Reason::BadMemory);
        }
        let mut sum = Sum::new();
        sum.add(payload);
        segment.complete(sum);
        let done =
            Frame { header: segment.header(), body: Body::Bytes(payload), facts: FrameFacts::default() };
        to.nic.deliver(queue, memory, &done, rewrite).map_err(reason)?;
    }
    Ok(())
}

fn turn(switch: &mut Switch, stations: &mut [Station], sender: usize) {
    let (mut chain, mut frame) = (Chain::new(), Outgoing::default());
    loop {
        let from = &mut stations[sender];
        let memory = from.guest.memory.clone();
        if from.transmit.1.pop(&memory, &mut chain) != Pop::Chain {
            break;
        }
        if from.nic.next_frame(&memory, &mut chain, &mut frame).is_ok()
            && let Ok(measured) = measure(frame.header(), &frame.facts, frame.len)
        {
            let size = Size { bytes: frame.len, segments: measured.segments, largest: measured.largest };
            let mut targets = Vec::new();
            match switch.forward(Instant::from_nanos(1), from.port, frame.header(), size) {
                Verdict::To(port, rewrite) => targets.push((port, rewrite)),
                Verdict::Flood(mut flood) => {
                    while let Some(target) = switch.next_target(&mut flood) {
                        targets.push(target);
                    }
                }
                Verdict::Drop(_) => {}
            }
            for (port, rewrite) in targets {
                // The sender's guest is lent out while the receiver is changed.
                let lent = std::mem::replace(&mut stations[sender].guest, Guest::new(4096));
                let to = stations.iter_mut().find(|station| station.port == port).unwrap();
                let done = deliver(&lent, &chain, &frame, to, rewrite);
                stations[sender].guest = lent;
                match done {
                    Ok(()) => switch.delivered(port, size),
                    Err(reason) => switch.not_delivered(port, reason),
                }
            }
        }
        stations[sender].transmit.1.push(&memory, chain.head, 0);
    }
    let memory = stations[sender].guest.memory.clone();
    stations[sender].transmit.1.publish(&memory);
}

fn fold(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) * 256 + pair.get(1).map_or(0, |b| u32::from(*b));
        sum = sum % 65_536 + sum / 65_536;
    }
    sum as u16
}

/// The pseudo header of TCP in the IPv4 packet at `at`.
fn pseudo(frame: &[u8], at: usize) -> Vec<u8> {
    let length = (frame.len() - at - 20) as u16;
    [&frame[at + 12..at + 20], &[0, 6], &length.to_be_bytes()].concat()
}

/// TCP over IPv4 with its checksum left out, in one piece of any size.
fn unfinished(to: u8, payload: &[u8], segment: u16) -> Vec<u8> {
    let mut frame = [mac(to).0, mac(1).0].concat();
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((40 + payload.len() as u16).to_be_bytes());
    frame.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, to]);
    let sum = !fold(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x10, 0, 0, 80, 0, 0, 0, 100, 0, 0, 0, 7, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    let sum = fold(&pseudo(&frame, 14));
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    let gso = u8::from(payload.len() > usize::from(segment));
    let size = if gso == 1 { segment } else { 0 };
    let mut bytes = vec![1, gso, 54 * gso, 0];
    bytes.extend(size.to_le_bytes());
    bytes.extend([34, 0, 16, 0, 0, 0]);
    bytes.extend(frame);
    bytes
}

/// Is the IPv4 header right, and TCP's checksum, as the receiver of a finished frame sees it?
fn verifies(frame: &[u8], at: usize) -> bool {
    let covered = [&pseudo(frame, at), &frame[at + 20..]].concat();
    fold(&frame[at..at + 20]) == 0xffff && fold(&covered) == 0xffff
}

fn network() -> (Switch, Vec<Station>) {
    let mut switch = Switch::new(switch::Config {
        entries_max: 64,
        ports_max: 8,
        ageing: Duration::from_secs(300),
        seed: 3,
    });
    let access = || Vlan::Access(Vid::new(10).unwrap());
    let trunk = Vlan::Trunk { allowed: Vid::new(10).into_iter().collect(), native: None };
    let bare = 1 << bit::VERSION_1;
    let stations = vec![
        Station::new(&mut switch, 1, OFFERED, 1536, access()),
        Station::new(&mut switch, 2, OFFERED, 1536, access()),
        Station::new(&mut switch, 3, bare, 1600, access()),
        Station::new(&mut switch, 4, bare | 1 << bit::MRG_RXBUF, 300, trunk),
    ];
    (switch, stations)
}

fn balance(switch: &Switch) {
    let sum = |of: &dyn Fn(&switch::Counters) -> u64| switch.ports().map(|(_, _, c)| of(c)).sum::<u64>();
    let named = sum(&|c| c.unicast + c.flooded + c.entry.iter().sum::<u64>());
    assert_eq!(sum(&|c| c.received.frames), named);
    let ended = sum(&|c| c.sent.frames + c.exit.iter().sum::<u64>());
    assert_eq!(sum(&|c| c.unicast + c.copies), ended);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn everybody_gets_the_same_bytes(payload in prop::collection::vec(any::<u8>(), 1..9000), segment in 600u16..1460) {
        let (mut switch, mut stations) = network();
        // To nobody known: flooded to three stations of different skill.
        stations[0].send(&unfinished(99, &payload, segment));
        turn(&mut switch, &mut stations, 0);
        balance(&switch);
        let whole = stations[1].received();
        prop_assert_eq!(whole.len(), 1);
        let sent = unfinished(99, &payload, segment);
        prop_assert_eq!(&whole[0][..10], &sent[..10]);
        prop_assert_eq!(&whole[0][12..], &sent[12..]);
        for (station, at) in [(2, 14), (3, 18)] {
            let frames = stations[station].received();
            prop_assert_eq!(frames.len(), payload.len().div_ceil(usize::from(segment)));
            let mut got = Vec::<u8>::new();
            for frame in &frames {
                prop_assert_eq!(&frame[..10], &[0; 10]);
                let frame = &frame[12..];
                if at == 18 {
                    prop_assert_eq!(&frame[12..16], &[0x81, 0, 0, 10]);
                }
                prop_assert!(verifies(frame, at));
                let mut corrupt = frame.to_vec();
                corrupt[at + 45 % (frame.len() - at)] ^= 0x10;
                prop_assert!(!verifies(&corrupt, at));
                got.extend(&frame[at + 40..]);
            }
            prop_assert_eq!(&got, &payload);
        }
    }

    /// A guest that posts anything at all: nothing but its own counters move, and all add up.
    #[test]
    fn any_frame_has_one_end(frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..200), 0u8..6, 0u8..3), 1..40)) {
        let (mut switch, mut stations) = network();
        let count = frames.len() as u64;
        for (bytes, kind, flags) in frames {
            let mut posted = vec![flags, kind, 54, 0, 100, 0, 34, 0, 16, 0, 0, 0];
            posted.extend(&bytes);
            if bytes.len() > 60 {
                posted[12..36].copy_from_slice(&unfinished(bytes[0] % 6, &[], 600)[12..36]);
            }
            stations[0].send(&posted);
            turn(&mut switch, &mut stations, 0);
        }
        balance(&switch);
        let counters = stations[0].nic.counters();
        prop_assert_eq!(counters.transmitted_frames + counters.drops.iter().sum::<u64>(), count);
        for station in &mut stations {
            station.received();
            prop_assert_eq!(station.receive.1.fault(), None);
            prop_assert_eq!(station.receive.1.in_flight(), 0);
        }
    }
}
