//! What a bridge owes its ports, seen from outside.

use request::{Instant, Mac};
use standpipe_switch::*;
use std::time::Duration;

fn vid(number: u16) -> Vid {
    Vid::new(number).unwrap()
}

fn access(number: u16) -> PortConfig {
    PortConfig {
        vlan: Vlan::Access(vid(number)),
        mac: None,
        spoof_check: false,
        mtu: 1500,
        storm: None,
        entries_max: 16,
    }
}

fn trunk(allowed: &[u16], native: Option<u16>) -> PortConfig {
    let vlan = Vlan::Trunk { allowed: allowed.iter().map(|v| vid(*v)).collect(), native: native.map(vid) };
    PortConfig { vlan, ..access(1) }
}

fn network() -> Switch {
    Switch::new(Config { entries_max: 64, ports_max: 8, ageing: Duration::from_secs(300), seed: 0x5eed })
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

/// 52:54:00:00:00:N
fn mac(n: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 0, n]
}

fn frame(to: [u8; 6], from: [u8; 6], tci: Option<u16>) -> Vec<u8> {
    let mut bytes = [to, from].concat();
    if let Some(tci) = tci {
        bytes.extend([0x81, 0x00]);
        bytes.extend(tci.to_be_bytes());
    }
    bytes.extend([0x08, 0x00, 0x45, 0x00]);
    bytes
}

fn send(switch: &mut Switch, now: Instant, from: PortId, header: &[u8]) -> Vec<(PortId, Rewrite)> {
    match switch.forward(now, from, header, Size::whole(60)) {
        Verdict::To(port, rewrite) => {
            switch.delivered(port, Size::whole(60));
            vec![(port, rewrite)]
        }
        Verdict::Flood(mut flood) => {
            let mut targets = Vec::new();
            while let Some(target) = switch.next_target(&mut flood) {
                switch.delivered(target.0, Size::whole(60));
                targets.push(target);
            }
            targets
        }
        Verdict::Drop(_) => Vec::new(),
    }
}

fn reason(verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Drop(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn balanced(switch: &Switch) {
    let all: Vec<&Counters> = switch.ports().map(|(_, _, c)| c).chain([switch.gone()]).collect();
    let sum = |of: &dyn Fn(&Counters) -> u64| all.iter().map(|c| of(c)).sum::<u64>();
    let entry = sum(&|c| c.unicast + c.flooded + c.entry.iter().sum::<u64>());
    assert_eq!(sum(&|c| c.received.frames), entry);
    assert_eq!(sum(&|c| c.unicast + c.copies), sum(&|c| c.sent.frames + c.exit.iter().sum::<u64>()));
}

#[test]
fn unknown_is_flooded_and_known_is_not() {
    let mut switch = network();
    let [a, b, c] = [(); 3].map(|()| switch.add_port(access(1)).unwrap());
    assert_eq!(
        send(&mut switch, at(1), a, &frame(mac(2), mac(1), None)),
        [(b, Rewrite::Keep), (c, Rewrite::Keep)]
    );
    assert_eq!(send(&mut switch, at(1), b, &frame(mac(1), mac(2), None)), [(a, Rewrite::Keep)]);
    for _ in 0..3 {
        assert_eq!(send(&mut switch, at(1), a, &frame(mac(2), mac(1), None)), [(b, Rewrite::Keep)]);
    }
    assert_eq!(send(&mut switch, at(1), b, &frame([0xff; 6], mac(2), None)).len(), 2);
    assert_eq!(send(&mut switch, at(1), b, &frame([0x33, 0x33, 0, 0, 0, 1], mac(2), None)).len(), 2);
    let known: Vec<Known> = switch.known(at(3)).collect();
    assert_eq!(known.len(), 2);
    assert!(known.contains(&Known {
        vid: vid(1),
        mac: Mac(mac(1)),
        port: a,
        age: Some(Duration::from_secs(2))
    }));
    balanced(&switch);
}

#[test]
fn a_station_that_moves_is_followed() {
    let mut switch = network();
    let [a, b, c] = [(); 3].map(|()| switch.add_port(access(1)).unwrap());
    send(&mut switch, at(1), a, &frame(mac(9), mac(1), None));
    assert_eq!(send(&mut switch, at(1), c, &frame(mac(1), mac(3), None)), [(a, Rewrite::Keep)]);
    send(&mut switch, at(1), b, &frame(mac(9), mac(1), None));
    assert_eq!(send(&mut switch, at(1), c, &frame(mac(1), mac(3), None)), [(b, Rewrite::Keep)]);
    assert_eq!(switch.counters(b).unwrap().moved_in, 1);
}

#[test]
fn an_address_is_forgotten_after_its_age_and_not_before() {
    let mut switch = network();
    let [a, b, _c] = [(); 3].map(|()| switch.add_port(access(1)).unwrap());
    assert_eq!(switch.next_deadline(), None);
    send(&mut switch, at(10), a, &frame(mac(9), mac(1), None));
    assert_eq!(send(&mut switch, at(310), b, &frame(mac(1), mac(2), None)).len(), 1);
    assert_eq!(send(&mut switch, at(312), b, &frame(mac(1), mac(2), None)).len(), 2);
    // The sweep frees what nobody asks for, and then wants no more wakes.
    let mut wakes = 0;
    while let Some(deadline) = switch.next_deadline() {
        switch.age(deadline);
        wakes += 1;
        assert!(wakes < 10, "deadlines without end");
    }
    assert_eq!(switch.known(at(0)).count(), 0);
    assert!(wakes > 1);
}

#[test]
fn talking_keeps_an_address_alive() {
    let mut switch = network();
    let [a, b, _c] = [(); 3].map(|()| switch.add_port(access(1)).unwrap());
    send(&mut switch, at(0), b, &frame(mac(9), mac(2), None));
    for second in 0..1000 {
        // a talks to b every second and b says nothing.
        let targets = send(&mut switch, at(second), a, &frame(mac(2), mac(1), None));
        assert_eq!(targets.len(), if second <= 300 { 1 } else { 2 }, "after {second} s");
        switch.age(at(second));
    }
    assert_eq!(send(&mut switch, at(1000), b, &frame(mac(1), mac(2), None)).len(), 1);
}

/// Rows: how it comes in; columns: where it goes. Typed by hand from IEEE 802.1Q's rules.
#[test]
fn the_vlan_matrix() {
    let mut switch = network();
    let acc = switch.add_port(access(10)).unwrap();
    let acc2 = switch.add_port(access(10)).unwrap();
    let other = switch.add_port(access(20)).unwrap();
    let tagged = switch.add_port(trunk(&[10, 20], None)).unwrap();
    let native = switch.add_port(trunk(&[20], Some(10))).unwrap();
    use Rewrite::*;
    let all = [0xff; 6];
    let mut from = |port, tci| send(&mut switch, at(1), port, &frame(all, mac(1), tci));
    assert_eq!(from(acc, None), [(acc2, Keep), (tagged, Insert(10)), (native, Keep)]);
    // Priority 5, VID 0: A000h; on a trunk it becomes A00Ah.
    assert_eq!(from(acc, Some(0xa000)), [(acc2, Strip), (tagged, Replace(0xa00a)), (native, Strip)]);
    assert_eq!(from(tagged, Some(10)), [(acc, Strip), (acc2, Strip), (native, Strip)]);
    assert_eq!(from(tagged, Some(0x6014)), [(other, Strip), (native, Keep)]);
    assert_eq!(from(native, None), [(acc, Keep), (acc2, Keep), (tagged, Insert(10))]);
    assert_eq!(from(native, Some(10)), [(acc, Strip), (acc2, Strip), (tagged, Keep)]);
    assert_eq!(from(native, Some(20)), [(other, Strip), (tagged, Keep)]);
    let mut drop = |port, tci| reason(switch.forward(at(1), port, &frame(all, mac(1), tci), Size::whole(60)));
    assert_eq!(drop(acc, Some(10)), Reason::Tagged);
    assert_eq!(drop(tagged, None), Reason::Untagged);
    assert_eq!(drop(tagged, Some(0xe000)), Reason::Untagged);
    assert_eq!(drop(tagged, Some(30)), Reason::VlanNotAllowed);
    assert_eq!(drop(tagged, Some(4095)), Reason::VlanReserved);
    balanced(&switch);
}

#[test]
fn a_remembered_verdict_does_not_hide_the_tag() {
    let mut switch = network();
    let a = switch.add_port(trunk(&[10, 20], Some(1))).unwrap();
    let b = switch.add_port(access(10)).unwrap();
    let c = switch.add_port(access(20)).unwrap();
    for (port, header) in [(b, frame(mac(9), mac(2), None)), (c, frame(mac(9), mac(2), None))] {
        send(&mut switch, at(1), port, &header);
    }
    for _ in 0..2 {
        assert_eq!(send(&mut switch, at(1), a, &frame(mac(2), mac(1), Some(10))), [(b, Rewrite::Strip)]);
        assert_eq!(send(&mut switch, at(1), a, &frame(mac(2), mac(1), Some(20))), [(c, Rewrite::Strip)]);
    }
}

#[test]
fn what_a_bridge_does_not_forward() {
    let mut switch = network();
    let config = PortConfig { mac: Some(Mac(mac(1))), spoof_check: true, ..access(1) };
    let a = switch.add_port(config.clone()).unwrap();
    let b = switch.add_port(access(1)).unwrap();
    let mut drop =
        |port, header: &[u8], bytes| reason(switch.forward(at(1), port, header, Size::whole(bytes)));
    for last in 0..16 {
        assert_eq!(drop(b, &frame([1, 0x80, 0xc2, 0, 0, last], mac(2), None), 60), Reason::ReservedAddress);
    }
    assert_eq!(drop(a, &frame(mac(2), mac(3), None), 60), Reason::Spoofed);
    assert_eq!(drop(b, &frame(mac(2), [0x53, 0, 0, 0, 0, 1], None), 60), Reason::InvalidSource);
    assert_eq!(drop(b, &frame(mac(2), [0; 6], None), 60), Reason::InvalidSource);
    assert_eq!(drop(b, &[0; 13], 13), Reason::Runt);
    assert_eq!(drop(b, &frame(mac(2), mac(2), Some(0))[..17], 17), Reason::Runt);
    assert_eq!(drop(b, &frame(mac(2), mac(2), None), 60), Reason::Hairpin);
    assert_eq!(drop(b, &frame(mac(1), mac(2), None), 1515), Reason::Oversize);
    assert_eq!(drop(PortId(7), &frame(mac(1), mac(2), None), 60), Reason::UnknownPort);
    // 01-80-C2-00-00-10 is an ordinary group address.
    assert_eq!(send(&mut switch, at(1), b, &frame([1, 0x80, 0xc2, 0, 0, 0x10], mac(2), None)).len(), 1);
    assert_eq!(send(&mut switch, at(1), b, &frame(mac(1), mac(2), None)), [(a, Rewrite::Keep)]);
    // The remembered verdict does not let a longer frame pass.
    let verdict = switch.forward(at(1), b, &frame(mac(1), mac(2), None), Size::whole(1515));
    assert_eq!(reason(verdict), Reason::Oversize);
    // One large frame that leaves in pieces does.
    let pieces = Size { bytes: 60_000, segments: 42, largest: 1514 };
    let verdict = switch.forward(at(1), b, &frame(mac(1), mac(2), None), pieces);
    assert_eq!(verdict, Verdict::To(a, Rewrite::Keep));
    switch.delivered(a, pieces);
    assert_eq!(switch.counters(a).unwrap().sent, Traffic { frames: 3, segments: 44, bytes: 60_120 });
    // Nobody else may claim a's address, by frame or by configuration.
    send(&mut switch, at(1), b, &frame(mac(9), mac(1), None));
    assert_eq!(switch.counters(b).unwrap().claims_refused, 1);
    assert_eq!(switch.add_port(config.clone()), Err(Refused::MacTaken(a)));
    assert_eq!(switch.change_port(b, config), Err(Refused::MacTaken(a)));
    balanced(&switch);
}

#[test]
fn a_port_cannot_take_the_table_from_others() {
    let mut switch = network();
    let [a, b, c] = [(); 3].map(|()| switch.add_port(access(1)).unwrap());
    send(&mut switch, at(1), a, &frame(mac(9), mac(1), None));
    for n in 0..1000u16 {
        let [high, low] = n.to_be_bytes();
        send(&mut switch, at(1), b, &frame(mac(9), [2, 0, 0, 1, high, low], None));
    }
    assert_eq!(switch.counters(b).unwrap().not_learned, 1000 - 16);
    assert_eq!(switch.known(at(1)).filter(|known| known.port == b).count(), 16);
    assert_eq!(send(&mut switch, at(1), c, &frame(mac(1), mac(3), None)), [(a, Rewrite::Keep)]);
    balanced(&switch);
}

#[test]
fn a_storm_is_limited_and_unicast_is_not() {
    let mut switch = network();
    let storm = Some(Storm { frames_per_second: 10, burst: 5 });
    let a = switch.add_port(PortConfig { storm, ..access(1) }).unwrap();
    let b = switch.add_port(access(1)).unwrap();
    send(&mut switch, at(1), b, &frame(mac(9), mac(2), None));
    let mut flooded = 0;
    for ms in 0..1000 {
        let now = Instant::from_nanos(2_000_000_000 + ms * 1_000_000);
        flooded += send(&mut switch, now, a, &frame([0xff; 6], mac(1), None)).len();
        assert_eq!(send(&mut switch, now, a, &frame(mac(2), mac(1), None)), [(b, Rewrite::Keep)]);
    }
    // Five at once; then one each 100 ms.
    assert_eq!(flooded, 5 + 9);
    assert_eq!(switch.counters(a).unwrap().entry[Reason::Storm as usize], 1000 - 14);
    balanced(&switch);
}

#[test]
fn a_flood_leaves_out_ports_with_a_smaller_mtu() {
    let mut switch = network();
    let a = switch.add_port(PortConfig { mtu: 9000, ..access(1) }).unwrap();
    let small = switch.add_port(access(1)).unwrap();
    let large = switch.add_port(PortConfig { mtu: 9000, ..access(1) }).unwrap();
    let Verdict::Flood(mut flood) =
        switch.forward(at(1), a, &frame([0xff; 6], mac(1), None), Size::whole(9014))
    else {
        panic!()
    };
    assert_eq!(switch.next_target(&mut flood), Some((large, Rewrite::Keep)));
    switch.not_delivered(large, Reason::NoBuffer);
    assert_eq!(switch.next_target(&mut flood), None);
    assert_eq!(switch.counters(small).unwrap().exit[Reason::Oversize as usize], 1);
    balanced(&switch);
}

#[test]
fn a_port_that_is_gone_names_nobody() {
    let mut switch = network();
    let [a, b] = [(); 2].map(|()| switch.add_port(access(1)).unwrap());
    send(&mut switch, at(1), b, &frame(mac(1), mac(2), None));
    send(&mut switch, at(1), a, &frame(mac(2), mac(1), None));
    // A frame is on its way to b while b goes.
    let verdict = switch.forward(at(1), a, &frame(mac(2), mac(1), None), Size::whole(60));
    assert_eq!(verdict, Verdict::To(b, Rewrite::Keep));
    let last = switch.remove_port(b).unwrap();
    assert_eq!((last.received.frames, last.sent.frames), (1, 1));
    switch.not_delivered(b, Reason::Disabled);
    assert_eq!(switch.gone().exit[Reason::Disabled as usize], 1);
    assert_eq!(switch.remove_port(b), None);
    let c = switch.add_port(access(1)).unwrap();
    assert_eq!(c.index(), b.index());
    assert_ne!(c, b);
    assert_eq!(
        switch.forward(at(1), a, &frame(mac(2), mac(1), None), Size::whole(60)),
        switch.forward(at(1), a, &frame([0xff; 6], mac(1), None), Size::whole(60)),
        "the address is unknown again"
    );
    assert_eq!(
        reason(switch.forward(at(1), b, &frame(mac(1), mac(2), None), Size::whole(60))),
        Reason::UnknownPort
    );
}

#[test]
fn a_changed_port_forgets_what_it_no_longer_carries() {
    let mut switch = network();
    let a = switch.add_port(trunk(&[10, 20], None)).unwrap();
    let b = switch.add_port(trunk(&[10, 20], None)).unwrap();
    send(&mut switch, at(1), a, &frame(mac(9), mac(1), Some(10)));
    send(&mut switch, at(1), a, &frame(mac(9), mac(1), Some(20)));
    let mac7 = PortConfig { mac: Some(Mac(mac(7))), ..trunk(&[], Some(20)) };
    switch.change_port(a, mac7).unwrap();
    let known: Vec<_> = switch.known(at(1)).map(|k| (k.vid.number(), k.mac.0[5], k.age.is_some())).collect();
    assert_eq!(known.len(), 2);
    assert!(known.contains(&(20, 1, true)) && known.contains(&(20, 7, false)));
    assert_eq!(send(&mut switch, at(1), b, &frame(mac(7), mac(2), Some(20))), [(a, Rewrite::Strip)]);
    // Untagged came 1 from the trunk: the native VLAN is 20 now.
    assert_eq!(send(&mut switch, at(1), b, &frame(mac(1), mac(2), Some(20))), [(a, Rewrite::Strip)]);
    switch.change_port(a, trunk(&[], Some(20))).unwrap();
    assert_eq!(switch.known(at(1)).filter(|known| known.age.is_none()).count(), 0);
}

#[test]
fn ports_are_limited() {
    let mut switch = network();
    for _ in 0..8 {
        switch.add_port(access(1)).unwrap();
    }
    assert_eq!(switch.add_port(access(1)), Err(Refused::Full));
    assert_eq!(switch.change_port(PortId(99), access(1)), Err(Refused::UnknownPort));
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
    assert_eq!(names.len(), Reason::COUNT);
    assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
}
