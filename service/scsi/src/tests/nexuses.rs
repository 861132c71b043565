use alloc::string::String;
use alloc::vec::Vec;

use super::{NEXUS, OTHER, attached, codes, facts, peer, response, unit};
use crate::{Nexus, Peer, PortId, Profile, TransportId, Unit};

/// SPC-5, TransportID of SAS: 06h, three reserved, the address, twelve reserved.
const SAS: [u8; 24] =
    [0x06, 0, 0, 0, 0x52, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// SPC-5, TransportID of an iSCSI initiator port: 45h, a reserved byte, ADDITIONAL LENGTH 40, the
/// name, `,i,0x`, the ISID as twelve digits (36 bytes in all), and zeroes up to a multiple of four, of
/// which there must be one.
const ISCSI: &[u8] = b"\x45\x00\x00\x28iqn.1994-05.com.x:y,i,0x00023d0000ab\0\0\0\0";

#[test]
fn transport_ids_as_the_standard_lays_them_out() {
    let sas = TransportId::sas([0x52, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
    assert_eq!(sas.as_bytes(), SAS);
    let port = TransportId::iscsi("iqn.1994-05.com.x:y", [0x00, 0x02, 0x3d, 0x00, 0x00, 0xab]).unwrap();
    assert_eq!(port.as_bytes(), ISCSI);
    let short = TransportId::iscsi("a", [0; 6]).unwrap();
    // 18 bytes and a zero: the least is 20.
    assert_eq!(short.as_bytes(), b"\x45\x00\x00\x14a,i,0x000000000000\0\0");
}

#[test]
fn names_that_cannot_be_are_refused() {
    let long = |count| String::from_utf8(alloc::vec![b'n'; count]).unwrap();
    assert_eq!(TransportId::iscsi(&long(223), [0; 6]).unwrap().as_bytes().len(), 248);
    assert_eq!(TransportId::iscsi(&long(224), [0; 6]), None);
    assert_eq!(TransportId::iscsi("", [0; 6]), None);
    assert_eq!(TransportId::iscsi("a\0b", [0; 6]), None);
}

#[test]
fn transport_ids_are_read_with_their_length() {
    let mut two = Vec::from(SAS);
    two.extend_from_slice(b"\x05\x00\x00\x14iqn.1994-05.com.x:y\0rest");
    let (sas, used) = TransportId::parse(&two).unwrap();
    assert_eq!((sas.as_bytes(), used), (&SAS[..], 24));
    let (iscsi, used) = TransportId::parse(&two[24..]).unwrap();
    assert_eq!((iscsi.as_bytes(), used), (&two[24..48], 24));
    for wrong in [
        &[][..],
        &SAS[..23],
        &two[24..47],
        b"\x05\x00\x00\x10iqn.1994-05.com\0",      // less than 20
        b"\x05\x00\x00\x15iqn.1994-05.com.x:yz\0", // no multiple of four
        b"\x05\x00\x00",
        &[0x00; 24], // Fibre Channel
        &[0x86; 24], // no such TPID FORMAT
    ] {
        assert_eq!(TransportId::parse(wrong), None, "{wrong:02x?}");
    }
    let mut huge = alloc::vec![b'x'; 600];
    huge[..4].copy_from_slice(&[0x05, 0, 0x02, 0x00]);
    assert_eq!(TransportId::parse(&huge), None);
}

#[test]
fn a_name_without_isid_names_all_ports_of_the_node() {
    let port = |isid: u8| TransportId::iscsi("iqn.1994-05.com.x:Y", [0, 2, 3, 0, 0, isid]).unwrap();
    let (node, _) = TransportId::parse(b"\x05\x00\x00\x14iqn.1994-05.COM.x:y\0").unwrap();
    let (stranger, _) = TransportId::parse(b"\x05\x00\x00\x14iqn.1994-05.com.x:z\0").unwrap();
    assert!(node.names(&port(1)) && node.names(&port(2)));
    assert!(!stranger.names(&port(1)));
    assert!(!port(1).names(&port(2)) && !port(1).names(&node));
    assert!(port(1).names(&TransportId::iscsi("IQN.1994-05.com.x:y", [0, 2, 3, 0, 0, 1]).unwrap()));
    let sas = TransportId::parse(&SAS).unwrap().0;
    assert!(sas.names(&sas) && !sas.names(&port(1)) && !node.names(&sas));
}

#[test]
fn a_peer_is_its_initiator_and_its_port() {
    let mut unit = attached(facts());
    assert_eq!(unit.attach(peer(0)), Some(NEXUS));
    let second = Peer { port: PortId(2), ..peer(0) };
    assert_eq!(unit.attach(second.clone()), Some(Nexus(2)));
    assert_eq!(unit.nexuses().map(|(nexus, _)| nexus.0).collect::<Vec<_>>(), [0, 1, 2]);
    // A number that became free is used again, and for a new nexus all is as after power on.
    assert!(unit.detach(OTHER).is_empty());
    let third = Peer { port: PortId(3), ..peer(0) };
    assert_eq!(unit.attach(third), Some(OTHER));
    assert_eq!(unit.attach(second), Some(Nexus(2)));
    assert_eq!(codes(&response(&mut unit, OTHER, &[0; 6])), (0x6, 0x29, 0x00));
}

#[test]
fn a_peer_that_did_not_come_back_after_a_restart_makes_room() {
    let mut unit = unit(facts());
    for number in 2..128 {
        assert!(unit.attach(peer(number)).is_some());
    }
    let mut successor = Unit::restore(facts(), Profile::default(), &unit.state());
    for number in 0..127 {
        assert_eq!(successor.attach(peer(number)), Some(Nexus(u32::from(number))));
    }
    assert_eq!(successor.attach(peer(200)), Some(Nexus(127)));
    assert_eq!(successor.attach(peer(127)), None);
    assert_eq!(codes(&response(&mut successor, Nexus(127), &[0; 6])), (0x6, 0x29, 0x00));
    assert_eq!(response(&mut successor, NEXUS, &[0; 6]).status, 0x00);
}
