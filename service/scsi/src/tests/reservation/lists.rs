//! Parameter lists: lengths, SPEC_I_PT, ALL_TG_PT, REGISTER AND MOVE.

use super::*;

/// REGISTER with SPEC_I_PT for these TransportIDs.
fn spec_list(key: u64, new: u64, flags: u8, ids: &[&[u8]]) -> Vec<u8> {
    let mut list = list(key, new, SPEC_I_PT | flags);
    let len: usize = ids.iter().map(|id| id.len()).sum();
    list.extend_from_slice(&(len as u32).to_be_bytes());
    for id in ids {
        list.extend_from_slice(id);
    }
    list
}

#[test]
fn the_basic_list_has_24_bytes() {
    let a = vm(1, 1);
    for action in
        [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE, REPLACE_LOST]
    {
        for len in [0, 1, 8, 23, 25, 28, 100] {
            let mut bench = Bench::new(&[]);
            bench.register(&a, 5);
            let mut long = list(5, 5, 0);
            long.resize(len, 0);
            assert_eq!(code(bench.send(&a, action, WE, &long).unwrap_err()), LENGTH_ERROR, "{action} {len}");
            assert_eq!((bench.generation(), bench.keys()), (1, Vec::from([5])));
        }
    }
}

#[test]
fn a_list_beyond_the_limit_is_refused_before_it_is_fetched() {
    let bench = Bench::new(&[]);
    for list_bytes in [59_549, 65_536, u32::MAX] {
        let out = Out { action: REGISTER, scope: 0, kind: 0, list_bytes };
        assert_eq!(code(bench.table.out_list(&vm(1, 1), &out).unwrap_err()), LENGTH_ERROR);
    }
    let out = Out { action: REGISTER, scope: 0, kind: 0, list_bytes: 59_548 };
    assert_eq!(bench.table.out_list(&vm(1, 1), &out), Ok(59_548));
}

/// The initiator announces more than it sends.
#[test]
fn a_list_that_is_cut_short() {
    let mut bench = Bench::new(&[]);
    let out = Out { action: REGISTER, scope: 0, kind: 0, list_bytes: 24 };
    let known = Known { peers: &[], ports: &[] };
    for len in 0..24 {
        let refusal = bench.table.out(&known, &vm(1, 1), &out, &list(0, 5, 0)[..len]).unwrap_err();
        assert_eq!(code(refusal), LENGTH_ERROR);
    }
}

#[test]
fn spec_i_pt_only_with_register() {
    let a = vm(1, 1);
    for action in [RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_AND_IGNORE, REPLACE_LOST] {
        let mut bench = Bench::new(&[]);
        bench.register(&a, 5);
        let list = spec_list(5, 5, 0, &[vm(2, 1).initiator.as_bytes()]);
        assert_eq!(code(bench.send(&a, action, WE, &list).unwrap_err()), IN_LIST, "{action}");
        assert_eq!(bench.generation(), 1);
    }
}

/// SPC-4 table 67 with SPEC_I_PT.
#[test]
fn spec_i_pt_registers_all_or_none() {
    let (a, b) = (vm(1, 2), vm(2, 2));
    let c = session("iqn.2001-04.com.example:c", 0x11, 2);
    let ids = [b.initiator.as_bytes(), c.initiator.as_bytes(), b.initiator.as_bytes()];
    let mut bench = Bench::new(&[]);
    // No new key: nothing to do, the list is ignored.
    bench.send(&a, REGISTER, 0, &spec_list(0, 0, 0, &ids)).unwrap();
    assert_eq!(bench.registered(), []);
    bench.send(&a, REGISTER, 0, &spec_list(0, 9, 0, &ids)).unwrap();
    // Each once, through the port by which the command came.
    assert_eq!(bench.registered(), [(a.clone(), 9), (b.clone(), 9), (c.clone(), 9)]);
    assert_eq!(bench.generation(), 2);
    // From a registered nexus.
    for new in [0, 9] {
        let refusal = bench.send(&a, REGISTER, 0, &spec_list(9, new, 0, &ids)).unwrap_err();
        assert_eq!(code(refusal), IN_LIST);
    }
    // A registered nexus in the list: none is registered.
    let (d, e) = (vm(4, 2), vm(5, 2));
    let ids = [e.initiator.as_bytes(), c.initiator.as_bytes()];
    let refusal = bench.send(&d, REGISTER, 0, &spec_list(0, 8, 0, &ids)).unwrap_err();
    assert_eq!(code(refusal), IN_LIST);
    assert_eq!((bench.keys(), bench.generation()), (Vec::from([9, 9, 9]), 2));
    // By another port it is another nexus. Oneself in the list is no error.
    let d = vm(4, 1);
    let ids = [d.initiator.as_bytes(), c.initiator.as_bytes()];
    bench.send(&d, REGISTER, 0, &spec_list(0, 8, 0, &ids)).unwrap();
    let c = session("iqn.2001-04.com.example:c", 0x11, 1);
    assert_eq!(bench.registered()[3..], [(d, 8), (c, 8)]);
}

#[test]
fn spec_i_pt_lists_that_are_wrong() {
    let a = vm(1, 1);
    let good = vm(2, 1);
    let good = good.initiator.as_bytes();
    let send = |list: &[u8]| Bench::new(&[]).send(&a, REGISTER, 0, list).map(|_| ()).map_err(code);
    // No length field.
    assert_eq!(send(&list(0, 9, SPEC_I_PT)), Err(LENGTH_ERROR));
    // More announced than is there.
    let mut list = spec_list(0, 9, 0, &[good]);
    list[27] = 25;
    assert_eq!(send(&list), Err(LENGTH_ERROR));
    list[24..28].copy_from_slice(&[0xff; 4]);
    assert_eq!(send(&list), Err(LENGTH_ERROR));
    // A TransportID is cut.
    for len in 1..24 {
        let mut list = spec_list(0, 9, 0, &[good]);
        list[27] = len;
        assert_eq!(send(&list), Err(IN_LIST));
    }
    // None at all, and bytes behind the list.
    assert_eq!(send(&spec_list(0, 9, 0, &[])), Ok(()));
    let mut list = spec_list(0, 9, 0, &[good]);
    list.extend_from_slice(&[0xff; 9]);
    assert_eq!(send(&list), Ok(()));
    // Protocols of which no initiator can come: Fibre Channel, SRP, PCIe.
    for protocol in [0x00, 0x04, 0x0b] {
        let mut other = [0; 24];
        other[0] = protocol;
        assert_eq!(send(&spec_list(0, 9, 0, &[good, &other])), Err(IN_LIST));
    }
    // iSCSI without a name, with bytes that are no text, without an ISID, with one that is no number.
    for text in [&b""[..], b"\xff\xfe", b"iqn.2001-04.com.example:c", b"iqn.x,i,0x", b"iqn.x,i,0xg"] {
        let mut id = Vec::from([0x45, 0, 0, 28]);
        id.extend_from_slice(text);
        id.resize(32, 0);
        assert_eq!(send(&spec_list(0, 9, 0, &[&id])), Err(IN_LIST), "{text:x?}");
    }
    let mut node = Vec::from([0x05, 0, 0, 20]);
    node.resize(24, 0);
    assert_eq!(send(&spec_list(0, 9, 0, &[&node])), Err(IN_LIST));
}

/// The same port, written in capitals and with more padding than is needed.
#[test]
fn spec_i_pt_knows_a_port_however_it_is_written() {
    let (a, b) = (vm(1, 1), session("iqn.2001-04.com.example:b", 0xbc, 1));
    let mut id = Vec::from([0x45, 0, 0, 60]);
    id.extend_from_slice(b"iqn.2001-04.com.EXAMPLE:b,i,0x00023D0000BC");
    id.resize(64, 0);
    let mut bench = Bench::new(&[]);
    bench.send(&a, REGISTER, 0, &spec_list(0, 9, 0, &[&id])).unwrap();
    assert_eq!(bench.registered()[1], (b.clone(), 9));
    bench.ok(&b, REGISTER, 0, 9, 0);
    assert_eq!(bench.keys(), [9]);
}

/// SPC-4 7.6.4.6: TPID FORMAT 00b names all known ports of the node.
#[test]
fn spec_i_pt_with_a_node_name() {
    let a = vm(1, 1);
    let (first, second) = (session("iqn.x:n", 1, 1), session("iqn.x:n", 2, 1));
    let (away, other) = (session("iqn.x:n", 3, 2), session("iqn.x:nn", 1, 1));
    let mut bench = Bench::new(&[a.clone(), first.clone(), second.clone(), other]);
    // Known, as it is registered by another port.
    bench.register(&away, 5);
    let mut id = Vec::from([0x05, 0, 0, 20]);
    id.extend_from_slice(b"IQN.x:N");
    id.resize(24, 0);
    bench.send(&a, REGISTER, 0, &spec_list(0, 9, 0, &[&id])).unwrap();
    let third = session("iqn.x:n", 3, 1);
    assert_eq!(bench.registered(), [(away, 5), (a, 9), (first, 9), (second, 9), (third, 9)]);
    // A node of which nothing is known.
    let b = vm(2, 1);
    id[4..11].copy_from_slice(b"iqn.x:m");
    bench.send(&b, REGISTER, 0, &spec_list(0, 8, 0, &[&id])).unwrap();
    assert_eq!(bench.registered().len(), 6);
}

/// SPC-4 table 69.
#[test]
fn all_target_ports() {
    let (a, b) = (vm(1, 2), vm(2, 2));
    let at = |peer: &Peer, port: u16| Peer { port: PortId(port), ..peer.clone() };
    let mut bench = Bench::new(&[]);
    bench.send(&a, REGISTER, 0, &list(0, 5, ALL_TG_PT)).unwrap();
    assert_eq!(bench.registered(), [(at(&a, 2), 5), (at(&a, 1), 5), (at(&a, 3), 5)]);
    assert_eq!(bench.generation(), 1);
    // One alone changes; then the rest with the old key.
    bench.send(&a, REGISTER, 0, &list(5, 6, 0)).unwrap();
    assert_eq!(bench.keys(), [6, 5, 5]);
    // As if received through each port: there the key is another one.
    let refusal = bench.send(&a, REGISTER, 0, &list(6, 7, ALL_TG_PT)).unwrap_err();
    assert_eq!((code(refusal), bench.keys()), (CONFLICT, Vec::from([6, 5, 5])));
    bench.send(&a, REGISTER_AND_IGNORE, 0, &list(0, 7, ALL_TG_PT)).unwrap();
    assert_eq!(bench.keys(), [7, 7, 7]);
    // Ports at which it is not registered are registered.
    bench.send(&at(&a, 1), REGISTER, 0, &list(7, 0, 0)).unwrap();
    bench.send(&a, REGISTER, 0, &list(7, 8, ALL_TG_PT)).unwrap();
    assert_eq!(bench.keys(), [8, 8, 8]);
    // Others are left alone.
    bench.register(&b, 8);
    bench.send(&a, REGISTER, 0, &list(8, 0, ALL_TG_PT)).unwrap();
    assert_eq!(bench.registered(), [(b.clone(), 8)]);
    // From an unregistered nexus whose other ports are registered.
    let refusal = bench.send(&at(&b, 1), REGISTER, 0, &list(0, 9, ALL_TG_PT)).unwrap_err();
    assert_eq!(code(refusal), CONFLICT);
    // With SPEC_I_PT: all of them by all ports.
    let c = vm(3, 1);
    bench.send(&a, REGISTER, 0, &spec_list(0, 4, ALL_TG_PT, &[c.initiator.as_bytes()])).unwrap();
    assert_eq!(bench.keys(), [8, 4, 4, 4, 4, 4, 4]);
    // One of these is registered.
    let d = vm(4, 1);
    let refusal =
        bench.send(&d, REGISTER, 0, &spec_list(0, 4, ALL_TG_PT, &[b.initiator.as_bytes()])).unwrap_err();
    assert_eq!((code(refusal), bench.keys().len()), (IN_LIST, 7));
    // Ignored elsewhere.
    bench.send(&b, RESERVE, WE, &list(8, 0, ALL_TG_PT)).unwrap();
    bench.send(&b, CLEAR, 0, &list(8, 0, ALL_TG_PT | APTPL)).unwrap();
}

/// Unregistering the holder by another of its ports.
#[test]
fn all_target_ports_with_the_holder() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[]);
    bench.send(&a, REGISTER, 0, &list(0, 5, ALL_TG_PT)).unwrap();
    bench.register(&b, 6);
    bench.ok(&a, RESERVE, EA_RO, 5, 0);
    let effects = bench.send(&vm(1, 3), REGISTER, 0, &list(5, 0, ALL_TG_PT)).unwrap();
    assert_eq!(told(&effects), [(b, 0x04)]);
    assert_eq!((bench.reservation(), bench.keys()), (None, Vec::from([6])));
}

#[test]
fn too_many_registrations() {
    let a = session("iqn.x:a", 1, 1);
    let many: Vec<Peer> = (0..=239).map(|number| vm(number, 1)).collect();
    let ids: Vec<&[u8]> = many.iter().map(|peer| peer.initiator.as_bytes()).collect();
    let mut bench = Bench::new(&[]);
    // 240 and itself.
    let refusal = bench.send(&a, REGISTER, 0, &spec_list(0, 5, 0, &ids)).unwrap_err();
    assert_eq!((code(refusal), bench.keys(), bench.generation()), (NO_RESOURCES, Vec::new(), 0));
    bench.send(&a, REGISTER, 0, &spec_list(0, 5, 0, &ids[1..])).unwrap();
    assert_eq!(bench.keys().len(), 240);
    for (peer, action) in [(&many[0], REGISTER), (&many[0], REGISTER_AND_IGNORE)] {
        assert_eq!(code(bench.out(peer, action, 0, 0, 5).unwrap_err()), NO_RESOURCES);
    }
    // Keys still change, and REGISTER AND MOVE finds no room but for those that are registered.
    bench.ok(&a, REGISTER, 0, 5, 6);
    bench.ok(&a, RESERVE, WE, 6, 0);
    let refusal = bench.send(&a, REGISTER_AND_MOVE, 0, &move_list(6, 7, 0, &many[0])).unwrap_err();
    assert_eq!(code(refusal), NO_RESOURCES);
    bench.send(&a, REGISTER_AND_MOVE, 0, &move_list(6, 7, 0, &many[1])).unwrap();
    // A list that names more ports than there can be registrations.
    let refusal = Bench::new(&[]).send(
        &a,
        REGISTER,
        0,
        &spec_list(0, 5, 0, &[&ids[..], &[session("iqn.x:a", 2, 1).initiator.as_bytes()]].concat()),
    );
    assert_eq!(code(refusal.unwrap_err()), NO_RESOURCES);
}

/// SPC-4 table 70.
#[test]
fn register_and_move() {
    let (a, b, c) = (vm(1, 1), session("iqn.x:b", 1, 3), vm(3, 1));
    for kind in [WE, EA, WE_RO, EA_RO] {
        let mut bench = Bench::new(&[a.clone(), b.clone(), c.clone()]);
        let to_b = |key: u64, new: u64, flags: u8| move_list(key, new, flags, &b);
        assert_eq!(code(bench.send(&a, REGISTER_AND_MOVE, 0, &to_b(0, 9, 0)).unwrap_err()), CONFLICT);
        bench.register(&a, 5);
        bench.register(&c, 6);
        // No reservation.
        assert_eq!(code(bench.send(&a, REGISTER_AND_MOVE, 0, &to_b(5, 9, 0)).unwrap_err()), IN_CDB);
        bench.ok(&a, RESERVE, kind, 5, 0);
        assert_eq!(code(bench.send(&c, REGISTER_AND_MOVE, 0, &to_b(6, 9, 0)).unwrap_err()), CONFLICT);
        assert_eq!(code(bench.send(&a, REGISTER_AND_MOVE, 0, &to_b(4, 9, 0)).unwrap_err()), CONFLICT);
        assert_eq!(code(bench.send(&a, REGISTER_AND_MOVE, 0, &to_b(5, 0, 0)).unwrap_err()), IN_LIST);
        assert_eq!(bench.generation(), 2);
        // Scope and type are ignored; the one who asks stays registered.
        let effects = bench.send(&a, REGISTER_AND_MOVE, 0xf0, &to_b(5, 9, 0)).unwrap();
        assert_eq!(bench.registered(), [(a.clone(), 5), (c.clone(), 6), (b.clone(), 9)]);
        assert_eq!((bench.reservation(), bench.generation()), (Some((9, kind)), 3));
        assert_eq!(told(&effects), []);
        assert_eq!(effects.fenced, if kind <= EA { Vec::from([a.clone()]) } else { Vec::new() });
        // To one that is registered, which gets the new key; UNREG.
        let back = move_list(9, 7, 0x02, &a);
        let effects = bench.send(&b, REGISTER_AND_MOVE, 0, &back).unwrap();
        assert_eq!(bench.registered(), [(a.clone(), 7), (c.clone(), 6)]);
        assert_eq!((bench.reservation(), told(&effects)), (Some((7, kind)), Vec::new()));
        assert_eq!(effects.fenced, Vec::from([b.clone()]));
    }
    for kind in [WE_AR, EA_AR] {
        let mut bench = Bench::new(&[]);
        bench.register(&a, 5);
        bench.ok(&a, RESERVE, kind, 5, 0);
        let refusal = bench.send(&a, REGISTER_AND_MOVE, 0, &move_list(5, 9, 0, &b)).unwrap_err();
        assert_eq!(code(refusal), CONFLICT);
    }
}

#[test]
fn register_and_move_lists_that_are_wrong() {
    let (a, b) = (vm(1, 1), vm(2, 1));
    let mut bench = Bench::new(&[]);
    bench.register(&a, 5);
    bench.ok(&a, RESERVE, WE, 5, 0);
    let mut refused = |list: &[u8], expected: Option<(u8, u8, u8)>| {
        assert_eq!(code(bench.send(&a, REGISTER_AND_MOVE, 0, list).unwrap_err()), expected, "{list:x?}");
        assert_eq!((bench.generation(), bench.reservation()), (1, Some((5, WE))));
    };
    let good = move_list(5, 9, 0, &b);
    for len in 0..24 {
        refused(&good[..len], LENGTH_ERROR);
    }
    for len in 24..48 {
        refused(&good[..len], LENGTH_ERROR);
    }
    // TRANSPORTID LENGTH: at least 24, a multiple of four, as long as the TransportID.
    for len in (0..24).chain([25, 26, 27]) {
        let mut list = good.clone();
        list[23] = len;
        refused(&list, IN_LIST);
    }
    let mut list = good.clone();
    list.extend_from_slice(&[0; 4]);
    list[23] = 28;
    refused(&list, IN_LIST);
    list[20..24].copy_from_slice(&[0xff, 0xff, 0xff, 0xfc]);
    refused(&list, LENGTH_ERROR);
    // No such target port.
    refused(&move_list(5, 9, 0, &vm(2, 4)), IN_LIST);
    // Itself, by any port; a node; another protocol.
    refused(&move_list(5, 9, 0, &vm(1, 1)), IN_LIST);
    refused(&move_list(5, 9, 0, &vm(1, 2)), IN_LIST);
    let mut list = good.clone();
    list[24..28].copy_from_slice(&[0x05, 0, 0, 20]);
    list[28..35].copy_from_slice(b"iqn.x:b");
    refused(&list, IN_LIST);
    list[24] = 0x00;
    refused(&list, IN_LIST);
    // Bytes behind the TransportID are not looked at.
    let mut list = good;
    list.extend_from_slice(&[0xff; 3]);
    bench.send(&a, REGISTER_AND_MOVE, 0, &list).unwrap();
}
