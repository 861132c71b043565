//! Bytes of all kinds: nothing panics, nothing grows, nothing is left behind.

use std::prelude::rust_2024::*;

use proptest::prelude::*;

use super::rig::*;
use crate::*;

/// Lets an initiator say anything, in chunks; afterwards a hang-up must leave nothing.
fn survive(mut rig: Rig, bytes: &[u8], chunk: usize) {
    for part in bytes.chunks(chunk.max(1)) {
        rig.say(part);
        rig.run();
        while let Some(tag) = rig.pending.pop_front() {
            let Some(command) = rig.conn().command(tag) else { continue };
            // A unit that knows its size: the rig's own trusts its initiator.
            let _ = rig.conn().collect(tag, command.data_out.min(1 << 30) as u32);
            let outcome = Outcome { status: 0, sense: &[], data_in: u32::MAX, moves: command.data_in };
            rig.conn().respond(tag, &outcome);
        }
        rig.run();
    }
    rig.conn().hung_up();
    rig.run();
    assert!(rig.conn().is_over());
}

/// A session, or a connection before its login.
fn begin(logged_in: bool) -> Rig {
    let mut rig = Rig::new();
    rig.slow = true;
    if logged_in {
        rig.log_in(&[("InitialR2T", "No")]);
    }
    rig
}

/// PDUs that bring nothing to do are counted as well: a flood of them is not followed in one turn.
#[test]
fn a_flood_is_followed_piece_by_piece() {
    let mut rig = begin(true);
    // NOP-Out, the answer to no question of ours.
    let nop = Header::new(0x40).with_flags(0x80).with_itt(u32::MAX).with_ttt(7);
    let pdu = rig.pdu(nop, &[]);
    for _ in 0..200 {
        rig.say(&pdu);
    }
    let mut spans = [request::Span::default(); RECEIVE_PIECES_MAX];
    let pieces = rig.conn().receive_into(&mut spans);
    let room = request::total(&spans[..pieces]) as usize;
    assert!(room >= 200 * pdu.len(), "{room}");
    rig.conn().received(200 * pdu.len() as u32);
    for left in [136, 72, 8] {
        let mut steps = 64;
        assert_eq!((rig.next_within(&mut steps), steps), (None, 0));
        assert_eq!(rig.conn().receive.available(), left * pdu.len() as u64);
    }
    let mut steps = 64;
    // The last one of the steps finds nothing more.
    assert_eq!((rig.next_within(&mut steps), steps), (None, 64 - 8 - 1));
}

/// A PDU whose fields are of a kind that might be taken seriously.
fn pdu() -> impl Strategy<Value = Vec<u8>> {
    let code = prop::sample::select(std::vec![
        0x00u8, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x40, 0x41, 0x42, 0x43, 0x44, 0x46, 0x1c, 0x3f
    ]);
    let small = prop_oneof![Just(0u32), Just(1), Just(2), Just(u32::MAX), any::<u32>()];
    let len = prop_oneof![Just(0usize), 0usize..40, 0usize..3000];
    (code, any::<u8>(), small.clone(), small.clone(), small.clone(), 0u32..12, len, any::<[u8; 24]>())
        .prop_map(|(code, flags, itt, ttt, offset, cmd_sn, len, rest)| {
            let mut header = Header::new(code)
                .with_flags(flags)
                .with_bytes(24, &rest)
                .with_itt(itt)
                .with_ttt(ttt)
                .with_buffer_offset(offset)
                .with_cmd_sn(cmd_sn)
                .with_data_bytes(len as u32);
            if rest[0] < 16 {
                header = header.with_byte(4, rest[1] & 7);
            }
            let mut bytes = header.0.to_vec();
            bytes.resize(48 + header.ahs_bytes() + len.next_multiple_of(4), rest[2]);
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_do_no_harm(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        chunk in 1usize..600,
        logged_in: bool,
    ) {
        survive(begin(logged_in), &bytes, chunk);
    }

    #[test]
    fn arbitrary_pdus_do_no_harm(
        pdus in prop::collection::vec(pdu(), 0..40),
        chunk in prop_oneof![1usize..100, Just(100_000)],
    ) {
        survive(begin(true), &pdus.concat(), chunk);
    }

    #[test]
    fn arbitrary_login_texts_do_no_harm(
        pairs in prop::collection::vec(("[A-Za-z#_]{1,24}", "[ -~]{0,40}"), 0..20),
        known in prop::collection::vec(0usize..crate::keys::ROWS.len(), 0..8),
        flags: u8,
    ) {
        let mut rig = begin(false);
        let mut text = text_of(&[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
        for (at, (key, value)) in pairs.iter().enumerate() {
            let key = known.get(at).map_or(key.as_str(), |row| crate::keys::ROWS[*row].name);
            text.extend_from_slice(&text_of(&[(key, value)]));
        }
        rig.send_pdu(Rig::login_header(flags), &text);
        rig.run();
        rig.conn().hung_up();
        rig.run();
        prop_assert!(rig.conn().is_over());
    }
}

#[test]
fn nobody_is_let_off_reading() {
    // An initiator that sends and never reads: what waits stays within its rings, and it is taken no
    // further.
    let mut rig = Rig::new();
    rig.log_in(&[]);
    let ping = Header::new(0x40).with_ttt(u32::MAX).with_cmd_sn(1);
    let bytes: Vec<u8> = (0..20_000u32).flat_map(|itt| rig.pdu(ping.with_itt(itt), &[7; 64])).collect();
    rig.say(&bytes);
    rig.send_max = 0;
    for _ in 0..1000 {
        rig.turn();
    }
    assert!(rig.taken < bytes.len());
    // It reads again, and gets every answer.
    rig.send_max = usize::MAX;
    rig.run();
    let mut heard = 0;
    while let Some((header, data)) = rig.hear() {
        let rejected = header.opcode() == 0x3f && header.0[2] == 0x06;
        assert!(rejected || (header.opcode() == 0x20 && data == [7; 64]));
        heard += 1;
    }
    assert_eq!(heard, 20_000);
}
