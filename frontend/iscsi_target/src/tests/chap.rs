//! CHAP: vectors made with another implementation (Python's hashlib), and whole logins.

use std::format;
use std::prelude::rust_2024::*;
use std::vec;

use super::rig::*;
use crate::chap::Algorithm;
use crate::*;

/// Identifier 5, secret `welcome to CHAP`, challenge 00 01 .. 0f.
#[test]
fn responses_of_known_challenges() {
    let challenge: Vec<u8> = (0..16).collect();
    let hash = |algorithm: Algorithm| {
        crate::text::to_hexadecimal(&algorithm.response(5, b"welcome to CHAP", &challenge))
    };
    assert_eq!(hash(Algorithm::Md5), "0x17c1de7b383b1fcf3bdffd7ab0427230");
    assert_eq!(hash(Algorithm::Sha1), "0x71b49c91b97c4924304170d93fc1fbb81c5d4065");
    assert_eq!(hash(Algorithm::Sha256), "0x08402b6245a6655cccb67a5977cea3ed19a7f4f1735b5e11590d402667f2abb4");
    assert_eq!(
        hash(Algorithm::Sha3_256),
        "0x715f425f2efc90bd83f0474aaa6e31697c10550b148301ba2fc47e5e2e718728"
    );
}

const SECRET: &[u8] = b"twelve bytes";
const BACK: &[u8] = b"other twelve";

fn guarded() -> Directory {
    let mut directory = directory();
    directory.targets[0].allow = vec![Allow {
        initiator: "*".into(),
        luns: None,
        chap: Some(Credentials { user: "u".into(), secret: Secret::new(SECRET) }),
        mutual: Some(Credentials { user: "t".into(), secret: Secret::new(BACK) }),
    }];
    directory
}

struct Challenge {
    identifier: u8,
    bytes: Vec<u8>,
}

/// Up to the challenge, with this CHAP_A; `None`: the login was refused with 0201h.
fn challenge(rig: &mut Rig, algorithms: &str) -> Option<Challenge> {
    let text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET), ("AuthMethod", "CHAP,None")]);
    rig.send_pdu(Rig::login_header(0x81), &text);
    let (header, data) = rig.answer();
    assert_eq!((header.flags(), header.0[36]), (0x00, 0), "no way around");
    assert_eq!(value(&pairs_of(&data), "AuthMethod"), Some("CHAP"));
    rig.send_pdu(Rig::login_header(0x00), &text_of(&[("CHAP_A", algorithms)]));
    let (header, data) = rig.answer();
    if header.0[36] != 0 {
        assert_eq!(header.0[36..38], [2, 1]);
        return None;
    }
    let pairs = pairs_of(&data);
    let bytes = crate::text::binary(value(&pairs, "CHAP_C").unwrap(), 1024).unwrap();
    Some(Challenge { identifier: value(&pairs, "CHAP_I").unwrap().parse().unwrap(), bytes })
}

fn respond(rig: &mut Rig, pairs: &[(&str, &str)]) -> (u8, [u8; 2], Vec<(String, String)>) {
    rig.send_pdu(Rig::login_header(0x81), &text_of(pairs));
    let (header, data) = rig.answer();
    (header.flags(), [header.0[36], header.0[37]], pairs_of(&data))
}

#[test]
fn each_algorithm_lets_in_who_knows_the_secret() {
    for (number, algorithm) in [
        ("5", Algorithm::Md5),
        ("6", Algorithm::Sha1),
        ("7", Algorithm::Sha256),
        ("0x8,5", Algorithm::Sha3_256),
    ] {
        let mut rig = Rig::with(limits(), guarded());
        let asked = challenge(&mut rig, number).unwrap();
        let response =
            crate::text::to_hexadecimal(&algorithm.response(asked.identifier, SECRET, &asked.bytes));
        let (flags, status, answers) = respond(&mut rig, &[("CHAP_N", "u"), ("CHAP_R", &response)]);
        assert_eq!((flags, status, answers), (0x81, [0, 0], vec![]), "CHAP_A={number}");
        rig.send_pdu(Rig::login_header(0x87), &[]);
        assert_eq!(rig.answer().0.flags(), 0x87);
        assert!(rig.conn().is_established());
    }
}

#[test]
fn an_unknown_algorithm_is_no_way_in() {
    let mut rig = Rig::with(limits(), guarded());
    assert!(challenge(&mut rig, "9,4").is_none());
}

#[test]
fn mutual_chap_answers_in_base64_challenges_as_well() {
    let mut rig = Rig::with(limits(), guarded());
    let asked = challenge(&mut rig, "5").unwrap();
    let response =
        crate::text::to_hexadecimal(&Algorithm::Md5.response(asked.identifier, SECRET, &asked.bytes));
    // "Man" and "any carnal pleas": the vector of RFC 4648's ancestors.
    let (flags, status, answers) = respond(
        &mut rig,
        &[
            ("CHAP_N", "u"),
            ("CHAP_R", &response),
            ("CHAP_I", "200"),
            ("CHAP_C", "0bYW55IGNhcm5hbCBwbGVhcw=="),
        ],
    );
    assert_eq!((flags, status), (0x81, [0, 0]));
    let proof = crate::text::to_hexadecimal(&Algorithm::Md5.response(200, BACK, b"any carnal pleas"));
    assert_eq!(answers, [("CHAP_N".to_string(), "t".to_string()), ("CHAP_R".to_string(), proof)]);
}

#[test]
fn wrong_answers_are_all_refused_alike() {
    let right = |asked: &Challenge| {
        crate::text::to_hexadecimal(&Algorithm::Md5.response(asked.identifier, SECRET, &asked.bytes))
    };
    type Make<'a> = &'a dyn Fn(&Challenge) -> Vec<(&'static str, String)>;
    let cases: [(Make<'_>, Fault); 7] = [
        (&|asked| vec![("CHAP_N", "v".into()), ("CHAP_R", right(asked))], Fault::LoginAuthentication),
        (
            &|_| vec![("CHAP_N", "u".into()), ("CHAP_R", format!("0x{}", "00".repeat(16)))],
            Fault::LoginAuthentication,
        ),
        (&|_| vec![("CHAP_N", "u".into()), ("CHAP_R", "0x".into())], Fault::BadValue),
        (&|asked| vec![("CHAP_R", right(asked))], Fault::LoginAuthentication),
        (&|_| vec![("CHAP_N", "u".into())], Fault::LoginAuthentication),
        (
            &|asked| vec![("CHAP_N", "u".into()), ("CHAP_R", right(asked)), ("CHAP_I", "1".into())],
            Fault::LoginAuthentication,
        ),
        (
            // Our own challenge, sent back to us.
            &|asked| {
                vec![
                    ("CHAP_N", "u".into()),
                    ("CHAP_R", right(asked)),
                    ("CHAP_I", "1".into()),
                    ("CHAP_C", crate::text::to_hexadecimal(&asked.bytes)),
                ]
            },
            Fault::ChapReflected,
        ),
    ];
    for (make, fault) in cases {
        let mut rig = Rig::with(limits(), guarded());
        let asked = challenge(&mut rig, "5").unwrap();
        let pairs = make(&asked);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let (_, status, answers) = respond(&mut rig, &pairs);
        assert_eq!((status[0], rig.fault(fault)), (2, 1), "{pairs:?}");
        assert!(answers.is_empty() && rig.conn().is_over());
    }
}

#[test]
fn one_secret_for_both_directions_is_refused() {
    let mut directory = guarded();
    directory.targets[0].allow[0].mutual.as_mut().unwrap().secret = Secret::new(SECRET);
    let mut rig = Rig::with(limits(), directory);
    let asked = challenge(&mut rig, "7").unwrap();
    let response =
        crate::text::to_hexadecimal(&Algorithm::Sha256.response(asked.identifier, SECRET, &asked.bytes));
    let (_, status, _) =
        respond(&mut rig, &[("CHAP_N", "u"), ("CHAP_R", &response), ("CHAP_I", "1"), ("CHAP_C", "0x1234")]);
    assert_eq!((status, rig.fault(Fault::ChapReflected)), ([2, 1], 1));
}

#[test]
fn there_is_no_way_around_chap() {
    for (flags, extra) in [
        (0x87, None), // operational at once
        (0x83, None), // to the full feature phase, without a word
        (0x81, Some(("AuthMethod", "None"))),
        (0x81, Some(("AuthMethod", "KRB5,None"))),
        (0x81, Some(("CHAP_N", "u"))),
    ] {
        let mut rig = Rig::with(limits(), guarded());
        let mut text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
        text.extend(extra.into_iter().flat_map(|pair| text_of(&[pair])));
        rig.send_pdu(Rig::login_header(flags), &text);
        assert_eq!(rig.answer().0.0[36..38], [2, 1], "{flags:02x} {extra:?}");
        assert_eq!(rig.fault(Fault::LoginAuthentication), 1);
    }
}

#[test]
fn secrets_do_not_show() {
    let shown = format!("{:?}", guarded());
    assert!(shown.contains("Secret(hidden)"));
    assert!(!shown.contains("twelve") && !shown.contains(&format!("{SECRET:?}")));
}
