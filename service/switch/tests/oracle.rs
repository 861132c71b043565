//! The switch against an obvious one: a map of every address, looked up every time.

use proptest::prelude::*;
use request::Instant;
use standpipe_switch::*;
use std::collections::BTreeMap;
use std::time::Duration;

const AGEING_SECONDS: u64 = 20;

/// Ports 0 and 1 in VLAN 10, 2 in VLAN 20, 3 a trunk of both, 4 a trunk of 20 with native 10.
fn vlans(port: usize) -> (Vec<u16>, Option<u16>) {
    match port {
        0 | 1 => (vec![], Some(10)),
        2 => (vec![], Some(20)),
        3 => (vec![10, 20], None),
        _ => (vec![20], Some(10)),
    }
}

#[derive(Default)]
struct Obvious {
    known: BTreeMap<(u16, u8), (usize, u64)>,
}

impl Obvious {
    /// The ports that get a copy, and whether it comes tagged.
    fn forward(
        &mut self,
        second: u64,
        from: usize,
        to: u8,
        source: u8,
        tag: Option<u16>,
    ) -> Vec<(usize, bool)> {
        let (allowed, native) = vlans(from);
        let vid = match tag {
            None | Some(0) => native,
            Some(tag) if from < 3 => {
                let _ = tag;
                None
            }
            Some(tag) => (allowed.contains(&tag) || native == Some(tag)).then_some(tag),
        };
        let Some(vid) = vid else { return vec![] };
        self.known.insert((vid, source), (from, second));
        let copy = |port: usize| {
            let (allowed, native) = vlans(port);
            (native == Some(vid) || allowed.contains(&vid)).then_some((port, native != Some(vid)))
        };
        match self.known.get(&(vid, to)) {
            Some((port, seen)) if to != 0xff && second - seen <= AGEING_SECONDS => {
                if *port == from {
                    vec![]
                } else {
                    copy(*port).into_iter().collect()
                }
            }
            _ => (0..5).filter(|port| *port != from).filter_map(copy).collect(),
        }
    }
}

fn address(n: u8) -> [u8; 6] {
    if n == 0xff { [0xff; 6] } else { [0x02, 0, 0, 0, 0, n] }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn agrees_with_the_obvious_switch(
        seed: u64,
        steps in prop::collection::vec((
            0usize..5, prop_oneof![9 => 0u8..6, 1 => Just(0xffu8)], 0u8..6,
            prop_oneof![4 => Just(None), 1 => Just(Some(0u16)), 3 => Just(Some(10)), 3 => Just(Some(20)), 1 => Just(Some(30))],
            prop_oneof![8 => Just(0u64), 3 => 1u64..3, 1 => 15u64..30], 1usize..4,
        ), 1..120),
    ) {
        let mut switch = Switch::new(Config { entries_max: 64, ports_max: 5, ageing: Duration::from_secs(AGEING_SECONDS), seed });
        let ids: Vec<PortId> = (0..5).map(|port| {
            let (allowed, native) = vlans(port);
            let native = native.and_then(Vid::new);
            let vlan = match port {
                0..=2 => Vlan::Access(native.unwrap()),
                _ => Vlan::Trunk { allowed: allowed.into_iter().filter_map(Vid::new).collect(), native },
            };
            switch.add_port(PortConfig { vlan, mac: None, spoof_check: false, mtu: 1500, storm: None, entries_max: 64 }).unwrap()
        }).collect();
        let mut obvious = Obvious::default();
        let mut second = 5;
        for (from, to, source, tag, wait, times) in steps {
            second += wait;
            let now = Instant::from_nanos(second * 1_000_000_000);
            switch.age(now);
            for _ in 0..times {
                let expected = obvious.forward(second, from, to, source, tag);
                let mut header = [address(to), address(source)].concat();
                if let Some(tag) = tag {
                    header.extend([0x81, 0x00]);
                    header.extend(tag.to_be_bytes());
                }
                header.extend([0x86, 0xdd, 0x60, 0x00]);
                let size = Size::whole(60);
                let mut copies = Vec::new();
                match switch.forward(now, ids[from], &header, size) {
                    Verdict::To(port, rewrite) => copies.push((port, rewrite)),
                    Verdict::Flood(mut flood) => while let Some(copy) = switch.next_target(&mut flood) {
                        copies.push(copy);
                    },
                    Verdict::Drop(_) => {}
                }
                let got: Vec<(usize, bool)> = copies.into_iter().map(|(port, rewrite)| {
                    switch.delivered(port, size);
                    let tagged = match rewrite {
                        Rewrite::Keep => tag.is_some(),
                        Rewrite::Strip => { assert!(tag.is_some()); false }
                        Rewrite::Insert(_) => { assert!(tag.is_none()); true }
                        Rewrite::Replace(_) => { assert_eq!(tag, Some(0)); true }
                    };
                    (port.index(), tagged)
                }).collect();
                prop_assert_eq!(got, expected);
            }
        }
        let known = switch.known(Instant::from_nanos(second * 1_000_000_000)).count();
        let expected = obvious.known.values().filter(|(_, seen)| second - seen <= AGEING_SECONDS).count();
        prop_assert_eq!(known, expected);
        let (mut given, mut ended, mut received, mut named) = (0, 0, 0, 0);
        for (_, _, c) in switch.ports() {
            given += c.unicast + c.copies;
            ended += c.sent.frames + c.exit.iter().sum::<u64>();
            received += c.received.frames;
            named += c.unicast + c.flooded + c.entry.iter().sum::<u64>();
        }
        prop_assert_eq!(given, ended);
        prop_assert_eq!(received, named);
    }

    /// Any bytes at all: no panic, and every frame has its end.
    #[test]
    fn any_header_has_a_verdict(frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), any::<u32>(), 0u32..3), 1..60)) {
        let mut switch = Switch::new(Config { entries_max: 4, ports_max: 2, ageing: Duration::from_secs(1), seed: 1 });
        let vlan = Vlan::Trunk { allowed: VlanSet::all(), native: Vid::new(1) };
        let config = PortConfig { vlan, mac: None, spoof_check: false, mtu: 1500, storm: None, entries_max: 3 };
        for _ in 0..2 {
            switch.add_port(config.clone()).unwrap();
        }
        let mut ends = 0;
        let count = frames.len() as u64;
        for (at, (header, bytes, port)) in frames.into_iter().enumerate() {
            let now = Instant::from_nanos(at as u64 * 300_000_000);
            switch.age(now);
            let _ = switch.forward(now, PortId(port), &header, Size::whole(bytes));
            ends += 1;
        }
        let named: u64 = switch.ports().map(|(_, _, c)| c).chain([switch.gone()])
            .map(|c| c.unicast + c.flooded + c.entry.iter().sum::<u64>()).sum();
        prop_assert_eq!(named, ends);
        prop_assert_eq!(named, count);
    }
}
