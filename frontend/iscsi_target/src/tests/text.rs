//! Text requests, SendTargets, and values.

use std::format;
use std::prelude::rust_2024::*;
use std::vec;

use super::rig::*;
use crate::text::{binary, number, pairs, to_hexadecimal};
use crate::*;

fn discover(directory: Directory, keys: &[(&str, &str)]) -> Rig {
    let mut rig = Rig::with(limits(), directory);
    let mut text = text_of(&[("InitiatorName", INITIATOR), ("SessionType", "Discovery")]);
    text.extend_from_slice(&text_of(keys));
    rig.send_pdu(Rig::login_header(0x87), &text);
    assert_eq!(rig.answer().0.flags(), 0x87);
    assert_eq!(rig.events, [Event::Established]);
    assert!(rig.conn().claim().unwrap().discovery);
    rig
}

fn ask(rig: &mut Rig, text: &[u8]) -> (Header, Vec<u8>) {
    let header = Header::new(0x04).with_itt(0x77).with_ttt(u32::MAX).with_cmd_sn(rig.cmd_sn);
    rig.cmd_sn += 1;
    rig.send_pdu(header, text);
    rig.answer()
}

fn several() -> Directory {
    let mut directory = directory();
    let target = directory.targets[0].clone();
    directory.targets.push(Target {
        name: "iqn.2026-11.org.example:hidden".into(),
        open: false,
        ..target.clone()
    });
    directory.targets.push(Target {
        name: "iqn.2026-11.org.example:gone".into(),
        leaving: true,
        ..target.clone()
    });
    directory.targets.push(Target {
        name: "iqn.2026-11.org.example:other".into(),
        portals: vec![1],
        ..target
    });
    directory
}

const BACKUP: &str = "TargetName=iqn.2026-11.org.example:backup\0TargetAddress=192.0.2.1:3260,1\0TargetAddress=198.51.100.9:3261,2\0";
const OTHER: &str = "TargetName=iqn.2026-11.org.example:other\0TargetAddress=192.0.2.1:3260,1\0";

#[test]
fn all_that_an_initiator_may_see_is_listed() {
    let mut rig = discover(several(), &[]);
    let (header, data) = ask(&mut rig, b"SendTargets=All\0");
    assert_eq!((header.opcode(), header.flags(), header.ttt(), header.itt()), (0x24, 0x80, u32::MAX, 0x77));
    assert_eq!(String::from_utf8(data).unwrap(), format!("{BACKUP}{OTHER}"));
    let one = format!("SendTargets={TARGET}\0");
    assert_eq!(ask(&mut rig, one.as_bytes()).1, BACKUP.as_bytes());
    assert_eq!(ask(&mut rig, b"SendTargets=iqn.2026-11.org.example:hidden\0").1, b"");
    assert_eq!(ask(&mut rig, b"SendTargets=\0").1, b"SendTargets=Reject\0");
}

#[test]
fn a_normal_session_hears_of_its_own_target() {
    let mut rig = Rig::with(limits(), several());
    rig.log_in(&[]);
    assert_eq!(ask(&mut rig, b"SendTargets=\0").1, BACKUP.as_bytes());
    assert_eq!(ask(&mut rig, format!("SendTargets={TARGET}\0").as_bytes()).1, BACKUP.as_bytes());
    // Others are not for it, whatever it asks for.
    assert_eq!(ask(&mut rig, b"SendTargets=All\0").1, BACKUP.as_bytes());
    assert_eq!(ask(&mut rig, b"SendTargets=iqn.2026-11.org.example:other\0").1, b"");
}

#[test]
fn a_text_that_asks_for_nothing_known_is_rejected() {
    let mut rig = Rig::with(limits(), several());
    rig.log_in(&[]);
    for text in ["SendTargetsPlease=All\0", "SendTargets=Alle\0", "SendTargets=A\0", "sENDtARGETS=aLL\0"] {
        let (header, _) = ask(&mut rig, text.as_bytes());
        // Reject (3Fh), reason 0Bh: negotiation reset.
        assert_eq!((header.opcode(), header.0[2]), (0x3f, 0x0b), "{text}");
    }
    // Somebody's own key is answered.
    assert_eq!(ask(&mut rig, b"X-org.example.key=7\0").1, b"X-org.example.key=NotUnderstood\0");
}

#[test]
fn a_long_answer_goes_on_over_many_pdus() {
    let mut long = directory();
    let target = long.targets[0].clone();
    long.targets = (0..64)
        .map(|number| Target { name: format!("iqn.2026-11.org.example:volume-{number}"), ..target.clone() })
        .collect();
    let mut rig = discover(long, &[("MaxRecvDataSegmentLength", "512")]);
    let (mut header, data) = ask(&mut rig, b"SendTargets=All\0");
    let mut whole = data;
    let mut seen = Vec::new();
    while !header.is_final() {
        // C is set; an empty request with the tag asks for more. In between the worker dies.
        assert_eq!((header.flags(), whole.len() % 512), (0x40, 0));
        assert!(!seen.contains(&header.ttt()));
        seen.push(header.ttt());
        rig.resume();
        let more = Header::new(0x04).with_itt(0x77).with_ttt(header.ttt()).with_cmd_sn(rig.cmd_sn);
        rig.cmd_sn += 1;
        rig.send_pdu(more, &[]);
        let (next, data) = rig.answer();
        header = next;
        whole.extend_from_slice(&data);
    }
    assert_eq!(pairs_of(&whole).iter().filter(|(key, _)| key == "TargetName").count(), 64);
    assert_eq!(header.ttt(), u32::MAX);
}

#[test]
fn a_request_may_come_in_parts() {
    let mut rig = discover(several(), &[]);
    let header = Header::new(0x04).with_flags(0x40).with_itt(0x77).with_ttt(u32::MAX).with_cmd_sn(1);
    rig.send_pdu(header, b"SendTarg");
    let (answer, data) = rig.answer();
    assert_eq!((answer.flags(), data.len()), (0, 0));
    let header = Header::new(0x04).with_itt(0x77).with_ttt(answer.ttt()).with_cmd_sn(2);
    rig.send_pdu(header, b"ets=All\0");
    assert_eq!(rig.answer().1, format!("{BACKUP}{OTHER}").as_bytes());
}

#[test]
fn malformed_texts_are_reset() {
    let mut rig = discover(directory(), &[]);
    for (header, text, fault) in [
        (Header::new(0x44).with_ttt(5), &b"SendTargets=All\0"[..], Fault::TextMalformed),
        (Header::new(0x44).with_ttt(u32::MAX).with_flags(0xc0), b"SendTargets=All\0", Fault::TextMalformed),
        (Header::new(0x44).with_ttt(u32::MAX), b"SendTargets\0", Fault::TextMalformed),
        (Header::new(0x44).with_ttt(u32::MAX), b"MaxRecvDataSegmentLength=3\0", Fault::BadValue),
    ] {
        let before = rig.fault(fault);
        rig.send_pdu(header.with_itt(3).with_cmd_sn(rig.cmd_sn), text);
        let (reject, _) = rig.answer();
        assert_eq!((reject.opcode(), reject.0[2], rig.fault(fault)), (0x3f, 0x0b, before + 1));
    }
}

#[test]
fn discovery_is_for_discovery() {
    let mut rig = discover(directory(), &[]);
    rig.read(1, 0, 1);
    let (reject, _) = rig.answer();
    assert_eq!((reject.opcode(), reject.0[2], reject.exp_cmd_sn()), (0x3f, 0x04, 2));
    assert_eq!((rig.begun.len(), rig.fault(Fault::NotInDiscovery)), (0, 1));
    let logout = Header::new(0x46).with_itt(9).with_cmd_sn(2);
    rig.send_pdu(logout, &[]);
    assert_eq!(rig.answer().0.opcode(), 0x26);
    assert!(rig.conn().is_over());
}

#[test]
fn discovery_has_an_access_list_of_its_own() {
    let mut guarded = directory();
    guarded.discovery = vec![Allow {
        initiator: "iqn.2026-11.org.example:friend".into(),
        luns: None,
        chap: None,
        mutual: None,
    }];
    let mut rig = Rig::with(limits(), guarded);
    let text = text_of(&[("InitiatorName", INITIATOR), ("SessionType", "Discovery")]);
    rig.send_pdu(Rig::login_header(0x87), &text);
    assert_eq!(rig.answer().0.0[36..38], [2, 2]);
}

#[test]
fn segment_length_may_change_later() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    assert_eq!(
        ask(&mut rig, b"MaxRecvDataSegmentLength=512\0HeaderDigest=CRC32C\0").1,
        b"HeaderDigest=Reject\0"
    );
    rig.read(1, 0, 2);
    assert_eq!(rig.answer().1.len(), 512);
}

#[test]
fn values_are_read_as_the_standard_writes_them() {
    for (text, wanted) in [
        ("0", Some(0)),
        ("42", Some(42)),
        ("0x2A", Some(42)),
        ("0X2a", Some(42)),
        ("", None),
        ("0x", None),
        ("-1", None),
        ("+1", None),
        ("1 ", None),
        ("2a", None),
        ("18446744073709551616", None),
    ] {
        assert_eq!(number(text), wanted, "{text}");
    }
    assert_eq!(binary("0x0f1", 8), Some(vec![0x00, 0xf1]));
    assert_eq!(binary("0xDEADbeef", 4), Some(vec![0xde, 0xad, 0xbe, 0xef]));
    assert_eq!(binary("0xdeadbeef", 3), None);
    // RFC 4648, section 10.
    for (text, wanted) in
        [("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vYg==", "foob"), ("Zm9vYmFy", "foobar")]
    {
        assert_eq!(binary(&format!("0b{text}"), 8), Some(wanted.as_bytes().to_vec()));
    }
    for bad in ["0b", "0bZg", "0bZ===", "0bZm9v!A==", "0x", "0xg1", "1234", ""] {
        assert_eq!(binary(bad, 8), None, "{bad}");
    }
    assert_eq!(to_hexadecimal(&[0, 0xab]), "0x00ab");
    assert_eq!(pairs(b"a=b\0\0c==\0d=").unwrap(), [("a", "b"), ("c", "="), ("d", "")]);
    for bad in [&b"a\0"[..], b"=b\0", b"a b=c\0", b"\xff=c\0"] {
        assert!(pairs(bad).is_err());
    }
}

#[test]
fn names_are_of_three_kinds() {
    for good in [
        "iqn.2001-04.com.example:disk",
        "eui.02004567A425678D",
        "naa.52004567BA64678D",
        "naa.62004567BA64678D0123456789ABCDEF",
    ] {
        assert!(is_name(good), "{good}");
    }
    for bad in
        ["", "iqn.", "disk", "eui.123", "naa.52004567BA64678", "iqn.a b", &format!("iqn.{}", "a".repeat(220))]
    {
        assert!(!is_name(bad), "{bad}");
    }
}
