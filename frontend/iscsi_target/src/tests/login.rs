//! Stages, names and refusals of the login phase.

use std::prelude::rust_2024::*;
use std::vec;

use super::rig::*;
use crate::*;

fn names() -> Vec<u8> {
    text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET)])
}

/// Sends one request and returns flags and status of the answer.
fn step(
    rig: &mut Rig,
    header: Header,
    text: &[u8],
) -> (u8, u16, Vec<(std::string::String, std::string::String)>) {
    rig.send_pdu(header, text);
    let (answer, data) = rig.answer();
    assert_eq!(answer.opcode(), 0x23);
    (answer.flags(), u16::from_be_bytes([answer.0[36], answer.0[37]]), pairs_of(&data))
}

fn refused(header: Header, text: &[u8], status: u16, fault: Fault) {
    refused_by(directory(), header, text, status, fault);
}

fn refused_by(directory: Directory, header: Header, text: &[u8], status: u16, fault: Fault) {
    let mut rig = Rig::with(limits(), directory);
    let (_, got, _) = step(&mut rig, header, text);
    assert_eq!((got, rig.fault(fault)), (status, 1), "{fault:?}");
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::LoginFailed)));
    assert!(rig.conn().is_over());
}

#[test]
fn security_then_operational_then_full_feature() {
    let mut rig = Rig::new();
    let mut text = names();
    text.extend_from_slice(&text_of(&[("SessionType", "Normal"), ("AuthMethod", "CHAP,None")]));
    let (flags, status, answers) = step(&mut rig, Rig::login_header(0x81), &text);
    assert_eq!((flags, status), (0x81, 0));
    assert_eq!(value(&answers, "AuthMethod"), Some("None"));
    assert_eq!(value(&answers, "TargetPortalGroupTag"), Some("1"));
    let (flags, status, answers) = step(&mut rig, Rig::login_header(0x04), &text_of(&[("InitialR2T", "No")]));
    assert_eq!((flags, status), (0x04, 0));
    assert_eq!(value(&answers, "InitialR2T"), Some("No"));
    assert_eq!(value(&answers, "MaxRecvDataSegmentLength"), Some("65536"));
    let (flags, status, answers) = step(&mut rig, Rig::login_header(0x87), &[]);
    assert_eq!((flags, status, answers), (0x87, 0, vec![]));
    assert!(rig.conn().is_established());
    assert_eq!(rig.events, [Event::Target, Event::Established]);
    assert!(!rig.conn().negotiated().initial_r2t);
}

#[test]
fn security_may_lead_to_full_feature_at_once() {
    let mut rig = Rig::new();
    let (flags, status, _) = step(&mut rig, Rig::login_header(0x83), &names());
    assert_eq!((flags, status), (0x83, 0));
    assert!(rig.conn().is_established());
    // We have declared nothing, so 8 KiB it is.
    assert_eq!(rig.conn().negotiated().target_segment, 8192);
}

#[test]
fn a_text_over_many_pdus_is_one_text() {
    let mut rig = Rig::new();
    let mut text = names();
    text.extend_from_slice(&text_of(&[("MaxBurstLength", "65536"), ("HeaderDigest", "CRC32C,None")]));
    let chunks: Vec<&[u8]> = text.chunks(7).collect();
    let (last, rest) = chunks.split_last().unwrap();
    for chunk in rest {
        // C, CSG=1: an empty answer asks for the rest.
        let (flags, status, answers) = step(&mut rig, Rig::login_header(0x44), chunk);
        assert_eq!((flags, status, answers), (0x04, 0, vec![]));
    }
    let (flags, status, answers) = step(&mut rig, Rig::login_header(0x87), last);
    assert_eq!((flags, status), (0x87, 0));
    assert_eq!(value(&answers, "MaxBurstLength"), Some("65536"));
    assert_eq!(value(&answers, "HeaderDigest"), Some("CRC32C"));
}

#[test]
fn refusals_have_their_codes() {
    let header = Rig::login_header(0x87);
    refused(header, &text_of(&[("InitiatorName", INITIATOR)]), 0x0207, Fault::LoginMissingKey);
    refused(header, &text_of(&[("TargetName", TARGET)]), 0x0207, Fault::LoginMissingKey);
    let nobody = text_of(&[("InitiatorName", INITIATOR), ("TargetName", "iqn.2026-11.org.example:none")]);
    refused(header, &nobody, 0x0203, Fault::LoginNoTarget);
    refused(header.with_byte(3, 1).with_byte(2, 1), &names(), 0x0205, Fault::LoginVersion);
    let mut text = names();
    text.extend_from_slice(b"SessionType=Copy\0");
    refused(header, &text, 0x0209, Fault::LoginSessionType);
    refused(header.with_bytes(14, &[0x12, 0x34]), &names(), 0x020a, Fault::LoginNoSession);
    // Stages: T and C together; NSG not ahead of CSG; NSG 2; CSG 2.
    for flags in [0xc7, 0x85, 0x86, 0x8b] {
        refused(Rig::login_header(flags), &names(), 0x0200, Fault::LoginMalformed);
    }
    let mut text = names();
    text.extend_from_slice(b"no pair\0");
    refused(header, &text, 0x0200, Fault::TextMalformed);
    let mut text = names();
    text.extend_from_slice(b"MaxRecvDataSegmentLength=511\0");
    refused(header, &text, 0x0200, Fault::BadValue);
    let mut text = names();
    text.extend_from_slice(b"MaxBurstLength=512\0MaxBurstLength=512\0");
    refused(header, &text, 0x0200, Fault::KeyRepeated);
    let bad_name = text_of(&[("InitiatorName", "somebody"), ("TargetName", TARGET)]);
    refused(header, &bad_name, 0x0200, Fault::BadValue);
}

#[test]
fn access_lists_decide() {
    let header = Rig::login_header(0x87);
    let mut closed = directory();
    closed.targets[0].open = false;
    refused_by(closed.clone(), header, &names(), 0x0202, Fault::LoginNotAllowed);
    closed.targets[0].leaving = true;
    refused_by(closed.clone(), header, &names(), 0x0204, Fault::LoginTargetRemoved);
    closed.targets[0].leaving = false;
    closed.targets[0].allow = vec![Allow {
        initiator: "IQN.1993-08.org.debian:01:ABC".into(),
        luns: Some(vec![7, 9]),
        chap: None,
        mutual: None,
    }];
    let mut rig = Rig::with(limits(), closed.clone());
    rig.log_in(&[]);
    let directory = rig.directory.clone();
    assert_eq!(rig.conn().luns(&directory), [7]);
    closed.targets[0].sessions_max = 0;
    refused_by(closed.clone(), header, &names(), 0x0302, Fault::LoginNoResources);
    // A portal that the target is not offered by.
    closed.targets[0].portals = vec![2];
    refused_by(closed, header, &names(), 0x0203, Fault::LoginNoTarget);
}

#[test]
fn fields_that_change_end_the_login() {
    for changed in [
        Rig::login_header(0x87).with_itt(0x11),
        Rig::login_header(0x87).with_bytes(8, &[1]),
        Rig::login_header(0x87).with_bytes(20, &[0, 1]),
        Rig::login_header(0x87).with_bytes(14, &[0, 1]),
    ] {
        let mut rig = Rig::new();
        step(&mut rig, Rig::login_header(0x04), &names());
        let (_, status, _) = step(&mut rig, changed, &[]);
        assert_eq!(status, 0x020b);
    }
    // The stage does not change without T.
    let mut rig = Rig::new();
    step(&mut rig, Rig::login_header(0x04), &names());
    let (_, status, _) = step(&mut rig, Rig::login_header(0x00), &[]);
    assert_eq!(status, 0x0200);
}

#[test]
fn a_login_does_not_go_on_for_ever() {
    let mut rig = Rig::new();
    step(&mut rig, Rig::login_header(0x04), &names());
    for _ in 0..63 {
        assert_eq!(step(&mut rig, Rig::login_header(0x04), &[]).1, 0);
    }
    assert_eq!(step(&mut rig, Rig::login_header(0x04), &[]).1, 0x0200);
    assert_eq!(rig.fault(Fault::LoginTooManyRequests), 1);
    // Nor does its text.
    let mut rig = Rig::new();
    for _ in 0..2 {
        assert_eq!(step(&mut rig, Rig::login_header(0x44), &[b'a'; 8192]).1, 0);
    }
    assert_eq!(step(&mut rig, Rig::login_header(0x44), b"a").1, 0x0200);
    assert_eq!(rig.fault(Fault::TextTooLong), 1);
}

#[test]
fn whoever_does_not_begin_with_a_login_gets_no_answer() {
    let mut rig = Rig::new();
    rig.say(b"GET / HTTP/1.1\r\nHost: 192.0.2.1:3260\r\n\r\n\r\n\r\n\r\n\r\n\r\n");
    rig.silence();
    assert_eq!(rig.events, [Event::Ended(End::Protocol(Fault::NotALogin))]);
    assert!(rig.conn().is_over());
}
