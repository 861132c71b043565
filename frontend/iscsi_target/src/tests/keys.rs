//! Every key, one by one: what is answered to it, and where.

use std::format;
use std::prelude::rust_2024::*;

use super::rig::*;

/// The answer to one key of an operational text.
fn answer(key: &str, offer: &str) -> Option<String> {
    let mut rig = Rig::new();
    let answers = rig.log_in(&[(key, offer)]);
    value(&answers, key).map(Into::into)
}

#[test]
fn every_operational_key_has_its_rule() {
    for (key, offer, wanted) in [
        ("HeaderDigest", "None", "None"),
        ("HeaderDigest", "CRC32C,None", "CRC32C"),
        ("HeaderDigest", "None,CRC32C", "None"),
        ("HeaderDigest", "X-mine,CRC32C", "CRC32C"),
        ("HeaderDigest", "X-mine", "Reject"),
        ("DataDigest", "CRC32C", "CRC32C"),
        ("DataDigest", "crc32c", "Reject"),
        ("MaxConnections", "8", "1"),
        ("MaxConnections", "1", "1"),
        ("MaxConnections", "0", "Reject"),
        ("MaxConnections", "65536", "Reject"),
        ("InitialR2T", "Yes", "Yes"),
        ("InitialR2T", "No", "No"),
        ("InitialR2T", "yes", "Reject"),
        ("ImmediateData", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("MaxBurstLength", "16776192", "262144"),
        ("MaxBurstLength", "512", "512"),
        ("MaxBurstLength", "511", "Reject"),
        ("MaxBurstLength", "16777216", "Reject"),
        ("MaxBurstLength", "0x10000", "65536"),
        ("MaxBurstLength", "-5", "Reject"),
        ("MaxBurstLength", "+512", "Reject"),
        ("FirstBurstLength", "262144", "65536"),
        ("FirstBurstLength", "4096", "4096"),
        ("FirstBurstLength", "99999999999999999999", "Reject"),
        ("DefaultTime2Wait", "7", "7"),
        ("DefaultTime2Wait", "3601", "Reject"),
        ("DefaultTime2Retain", "20", "0"),
        ("MaxOutstandingR2T", "1", "1"),
        ("MaxOutstandingR2T", "16", "4"),
        ("DataPDUInOrder", "No", "Yes"),
        ("DataPDUInOrder", "Yes", "Yes"),
        ("DataSequenceInOrder", "No", "Yes"),
        ("ErrorRecoveryLevel", "2", "0"),
        ("ErrorRecoveryLevel", "3", "Reject"),
        ("TaskReporting", "FastAbort,RFC3720", "RFC3720"),
        ("TaskReporting", "FastAbort", "Reject"),
        ("iSCSIProtocolLevel", "2", "2"),
        ("iSCSIProtocolLevel", "5", "2"),
        ("IFMarker", "No", "No"),
        ("OFMarker", "Yes", "No"),
        ("IFMarkInt", "2048~8192", "Reject"),
        ("OFMarkInt", "2048", "Reject"),
        ("TargetAlias", "mine", "Reject"),
        ("TargetAddress", "x", "Reject"),
        ("SendTargets", "All", "Reject"),
        ("AuthMethod", "None", "Reject"),
        ("CHAP_A", "5", "Reject"),
        ("RDMAExtensions", "Yes", "NotUnderstood"),
        ("X-org.example.key", "7", "NotUnderstood"),
        ("headerdigest", "None", "NotUnderstood"),
    ] {
        // TargetAlias is ours to say as well.
        let got = if key == "TargetAlias" {
            let mut rig = Rig::new();
            rig.directory.targets[0].alias = None;
            let answers = rig.log_in(&[(key, offer)]);
            value(&answers, key).map(Into::into)
        } else {
            answer(key, offer)
        };
        assert_eq!(got.as_deref(), Some(wanted), "{key}={offer}");
    }
}

#[test]
fn declarations_are_not_answered() {
    for (key, value) in [("InitiatorAlias", "me"), ("X#NodeArchitecture", "Linux 6.18")] {
        assert_eq!(answer(key, value), None);
    }
    let mut rig = Rig::new();
    rig.log_in(&[("MaxRecvDataSegmentLength", "4096")]);
    assert_eq!(rig.conn().negotiated().initiator_segment, 4096);
    assert_eq!(rig.conn().negotiated().target_segment, 65_536);
}

#[test]
fn first_burst_hangs_on_the_other_keys() {
    let mut rig = Rig::new();
    let answers = rig.log_in(&[("FirstBurstLength", "65536"), ("MaxBurstLength", "8192")]);
    assert_eq!(value(&answers, "FirstBurstLength"), Some("8192"));
    let mut rig = Rig::new();
    let answers =
        rig.log_in(&[("FirstBurstLength", "65536"), ("InitialR2T", "Yes"), ("ImmediateData", "No")]);
    assert_eq!(value(&answers, "FirstBurstLength"), Some("Irrelevant"));
}

#[test]
fn operational_keys_have_no_place_among_security() {
    let mut rig = Rig::new();
    let text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET), ("HeaderDigest", "CRC32C")]);
    rig.send_pdu(Rig::login_header(0x81), &text);
    let (_, data) = rig.answer();
    assert_eq!(value(&pairs_of(&data), "HeaderDigest"), Some("Reject"));
    assert!(!rig.conn().negotiated().header_digest);
}

#[test]
fn discovery_makes_many_keys_irrelevant() {
    let mut rig = Rig::new();
    let keys = [
        "MaxConnections",
        "MaxBurstLength",
        "FirstBurstLength",
        "MaxOutstandingR2T",
        "InitialR2T",
        "ImmediateData",
        "DataPDUInOrder",
        "DataSequenceInOrder",
    ];
    let mut text =
        text_of(&[("InitiatorName", INITIATOR), ("SessionType", "Discovery"), ("ErrorRecoveryLevel", "0")]);
    for key in keys {
        text.extend_from_slice(format!("{key}=1\0").as_bytes());
    }
    rig.send_pdu(Rig::login_header(0x87), &text);
    let (header, data) = rig.answer();
    assert_eq!((header.flags(), header.0[36]), (0x87, 0));
    let answers = pairs_of(&data);
    for key in keys {
        assert_eq!(value(&answers, key), Some("Irrelevant"), "{key}");
    }
    assert_eq!(value(&answers, "ErrorRecoveryLevel"), Some("0"));
    assert_eq!(value(&answers, "TargetPortalGroupTag"), None);
}
