//! Frames of any kind through the offload checks and the switch.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use offload::{Plan, SEGMENTS_MAX, Sum, measure};
use request::{FrameFacts, Gso, Instant, Mac, Rewrite};
use switch::{Config, PortConfig, Size, Storm, Switch, Verdict, Vid, Vlan, VlanSet};

pub fn switching(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let config =
        Config { entries_max: 8, ports_max: 4, ageing: Duration::from_secs(300), seed: input.arbitrary()? };
    let mut switch = Switch::new(config);
    let trunk = VlanSet::all();
    let vlans = [
        Vlan::Access(Vid::FIRST),
        Vlan::Access(Vid::FIRST),
        Vlan::Trunk { allowed: trunk.clone(), native: Some(Vid::FIRST) },
        Vlan::Trunk { allowed: trunk, native: None },
    ];
    let mut ports = Vec::new();
    for (index, vlan) in vlans.into_iter().enumerate() {
        let port = PortConfig {
            vlan,
            mac: (index == 0).then_some(Mac([2, 0, 0, 0, 0, 1])),
            spoof_check: index == 0 && input.arbitrary()?,
            mtu: 1500,
            storm: input.arbitrary::<bool>()?.then_some(Storm { frames_per_second: 1000, burst: 3 }),
            entries_max: 4,
        };
        ports.push(switch.add_port(port).expect("a free port"));
    }
    let mut now = Instant::from_nanos(1);
    while !input.is_empty() {
        let from = *input.choose(&ports)?;
        now = now.after(Duration::from_millis(u64::from(input.arbitrary::<u16>()?)));
        let facts = FrameFacts {
            checksum_start: input.arbitrary()?,
            checksum_offset: input.arbitrary()?,
            checksum_valid: input.arbitrary()?,
            gso: *input.choose(&[Gso::None, Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::Udp, Gso::UdpL4])?,
            ecn: input.arbitrary()?,
            segment: input.arbitrary()?,
            header: input.arbitrary()?,
        };
        let len: usize = input.int_in_range(0..=160)?;
        let header = input.bytes(len.min(input.len()))?;
        let total =
            header.len() as u32 + if input.arbitrary()? { u32::from(input.arbitrary::<u16>()?) } else { 0 };
        let plan = Plan::new(header, &facts, total);
        let size = match measure(header, &facts, total) {
            Err(fault) => {
                assert_eq!(plan.err(), Some(fault), "both judge alike");
                continue;
            }
            Ok(measure) => {
                let plan = plan.expect("both judge alike");
                assert_eq!((plan.count(), plan.largest()), (measure.segments, measure.largest));
                check_plan(&plan, total);
                Size { bytes: total, segments: measure.segments, largest: measure.largest }
            }
        };
        match switch.forward(now, from, header, size) {
            Verdict::To(to, rewrite) => {
                assert_ne!(to, from);
                check_rewrite(rewrite, header);
                switch.delivered(to, size);
            }
            Verdict::Flood(mut flood) => {
                let mut copies = 0;
                while let Some((to, rewrite)) = switch.next_target(&mut flood) {
                    assert_ne!(to, from);
                    check_rewrite(rewrite, header);
                    switch.delivered(to, size);
                    copies += 1;
                }
                assert!(copies < ports.len());
            }
            Verdict::Drop(_) => {}
        }
        switch.age(now);
    }
    Ok(())
}

fn check_plan(plan: &Plan, total: u32) {
    assert!(plan.count() >= 1 && plan.count() <= SEGMENTS_MAX);
    let mut at = None;
    for index in 0..plan.count() {
        let mut segment = plan.segment(index);
        let payload = segment.payload();
        assert!(at.is_none_or(|at| at == payload.start), "segments follow each other");
        assert!(payload.start <= payload.end && payload.end <= total);
        at = Some(payload.end);
        if segment.wants_sum() {
            let mut sum = Sum::new();
            sum.add(&vec![0x5a; (payload.end - payload.start) as usize]);
            segment.complete(sum);
        }
        let _ = segment.leave();
    }
    assert_eq!(at, Some(total), "no byte is left out");
}

fn check_rewrite(rewrite: Rewrite, header: &[u8]) {
    let header = &header[..header.len().min(18)];
    let mut into = [0; 22];
    if let Some(len) = rewrite.apply(header, &mut into) {
        assert!(len <= into.len());
    }
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut tcp = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    tcp.extend([0x45, 0, 0x10, 0, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    tcp.extend([0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    let mut tagged = tcp.clone();
    tagged.splice(12..12, [0x81, 0, 0, 1]);
    let mut seeds = Vec::new();
    for frame in [tcp, tagged] {
        for gso in [0u8, 2] {
            let mut seed = vec![0; 8];
            seed.extend([0, 0, 0, 0, 0]);
            for port in 0..4u8 {
                seed.extend([port, 1, 0]);
                seed.extend([34, 0, 16, 0, 0, gso, 0, 0xe8, 3, 54, 0]);
                seed.push(frame.len() as u8);
                seed.extend(&frame);
                seed.extend([1, 0xa0, 0x0f]);
            }
            seeds.push(seed);
        }
    }
    seeds
}
