//! Data both ways: bursts, splitting, residuals, digests, and data-out that breaks the rules.

use std::prelude::rust_2024::*;

use super::rig::*;
use crate::*;

fn data_out(itt: u32, ttt: u32, data_sn: u32, offset: usize, last: bool) -> Header {
    Header::new(0x05)
        .with_flags(if last { 0x80 } else { 0 })
        .with_itt(itt)
        .with_ttt(ttt)
        .with_data_sn(data_sn)
        .with_buffer_offset(offset as u32)
}

fn write_header(rig: &mut Rig, itt: u32, blocks: u16) -> Header {
    rig.command_header(itt, &cdb10(0x2a, 0, blocks), u32::from(blocks) * BLOCK as u32)
}

/// Status and sense key, ASC, ASCQ of a SCSI response.
fn ending(rig: &mut Rig) -> (u8, Option<[u8; 3]>) {
    let (header, data) = rig.answer();
    assert_eq!(header.opcode(), 0x21, "{header:?}");
    (header.0[3], (!data.is_empty()).then(|| [data[4] & 15, data[14], data[15]]))
}

#[test]
fn a_long_read_is_split_by_segment_and_burst() {
    let mut rig = Rig::new();
    rig.log_in(&[("MaxRecvDataSegmentLength", "4096"), ("MaxBurstLength", "10000")]);
    rig.disk = pattern(1, rig.disk.len());
    rig.read(5, 3, 60);
    rig.run();
    let (mut got, mut lengths) = (Vec::new(), Vec::new());
    loop {
        let (header, data) = rig.hear().unwrap();
        assert_eq!((header.opcode(), header.data_sn() as usize), (0x25, lengths.len()));
        assert_eq!(header.buffer_offset() as usize, got.len());
        got.extend_from_slice(&data);
        lengths.push((data.len(), header.is_final()));
        if header.flags() & 1 != 0 {
            break;
        }
    }
    assert!(got == rig.disk[3 * BLOCK..63 * BLOCK]);
    let burst = [(4096, false), (4096, false), (1808, true)];
    let mut wanted = burst.repeat(3);
    wanted.push((720, true));
    assert_eq!(lengths, wanted);
    assert_eq!(rig.hear(), None);
}

#[test]
fn r2ts_are_outstanding_as_agreed_and_data_comes_in_order() {
    let mut rig = Rig::new();
    rig.log_in(&[("MaxBurstLength", "8192"), ("MaxOutstandingR2T", "3"), ("ImmediateData", "No")]);
    let data = pattern(2, 100 * BLOCK);
    let header = write_header(&mut rig, 9, 100);
    rig.send_pdu(header, &[]);
    rig.run();
    let mut waiting = std::collections::VecDeque::new();
    let mut number = 0;
    loop {
        while let Some((header, _)) = rig.hear() {
            if header.opcode() == 0x21 {
                assert_eq!((header.0[3], header.data_sn()), (0, 7));
                assert!(rig.disk[..data.len()] == data);
                return;
            }
            assert_eq!((header.opcode(), header.data_sn()), (0x31, number));
            assert_eq!(header.buffer_offset(), number * 8192);
            number += 1;
            waiting.push_back(header);
        }
        assert!(waiting.len() <= 3);
        let r2t = waiting.pop_front().unwrap();
        let (from, len) = (r2t.buffer_offset() as usize, r2t.residual() as usize);
        assert_eq!(waiting.len(), (2).min(6 - from / 8192));
        rig.send_pdu(data_out(9, r2t.ttt(), 0, from, false), &data[from..from + 1000]);
        rig.send_pdu(data_out(9, r2t.ttt(), 1, from + 1000, true), &data[from + 1000..from + len]);
        rig.run();
    }
}

#[test]
fn unsolicited_data_is_taken_and_the_rest_is_asked_for() {
    let mut rig = Rig::new();
    rig.log_in(&[("InitialR2T", "No"), ("FirstBurstLength", "4096")]);
    let data = pattern(3, 20 * BLOCK);
    let header = write_header(&mut rig, 9, 20).with_flags(0x21);
    rig.send_pdu(header, &data[..1000]);
    // No R2T goes before the unsolicited data is over.
    rig.silence();
    rig.send_pdu(data_out(9, u32::MAX, 0, 1000, false), &data[1000..3000]);
    rig.silence();
    rig.send_pdu(data_out(9, u32::MAX, 1, 3000, true), &data[3000..4096]);
    let (r2t, _) = rig.answer();
    assert_eq!((r2t.opcode(), r2t.buffer_offset(), r2t.residual()), (0x31, 4096, 20 * 512 - 4096));
    rig.send_pdu(data_out(9, r2t.ttt(), 0, 4096, true), &data[4096..]);
    assert_eq!(ending(&mut rig), (0, None));
    assert!(rig.disk[..data.len()] == data);
}

#[test]
fn an_early_response_waits_for_announced_data() {
    let mut rig = Rig::new();
    rig.log_in(&[("InitialR2T", "No")]);
    // An operation that fails, with data on its way.
    let header = rig.command_header(4, &cdb10(0x2b, 0, 1), 512).with_flags(0x21);
    rig.send_pdu(header, &[]);
    rig.silence();
    rig.send_pdu(data_out(4, u32::MAX, 0, 0, true), &[1; 512]);
    assert_eq!(ending(&mut rig), (2, Some([5, 0x20, 0])));
}

#[test]
fn residuals_tell_what_was_not_expected() {
    // (CDB code, blocks, expected length, bytes of data-in, flags of underflow 02h / overflow 04h, count)
    for (code, blocks, expected, flags, count) in [
        (0x28u8, 1u16, 512u32, 0u8, 0u32),
        (0x28, 1, 1024, 2, 512),
        (0x28, 1, 10_000, 2, 9488),
        (0x28, 2, 512, 4, 512),
        (0x28, 1, 256, 4, 256),
        (0x28, 1, 0, 4, 512),
        (0x28, 0, 512, 2, 512),
        (0x2a, 1, 512, 0, 0),
        (0x2a, 1, 1024, 2, 512),
        (0x2a, 2, 512, 4, 512),
        (0x2a, 1, 256, 4, 256),
        (0x00, 0, 0, 0, 0),
    ] {
        let mut rig = Rig::new();
        rig.log_in(&[]);
        let header = rig.command_header(1, &cdb10(code, 0, blocks), expected);
        rig.send_pdu(header, &[]);
        let mut moved = 0;
        let last = loop {
            let (header, data) = rig.answer();
            match header.opcode() {
                0x31 => {
                    let data = std::vec![7; header.residual() as usize];
                    moved += data.len();
                    rig.send_pdu(data_out(1, header.ttt(), 0, header.buffer_offset() as usize, true), &data);
                }
                _ => {
                    moved += data.len();
                    break header;
                }
            }
        };
        let what = std::format!("{code:02x} of {blocks} blocks, {expected} expected");
        assert_eq!(last.0[3], 0, "{what}");
        assert_eq!((last.flags() & 6, last.residual()), (flags, count), "{what}");
        // Only what both sides mean is moved: no data is asked for that nobody wants.
        assert_eq!(moved, (usize::from(blocks) * BLOCK).min(expected as usize), "{what}");
    }
}

#[test]
fn broken_data_out_ends_its_command_and_nothing_else() {
    type Make<'a> = &'a dyn Fn(&mut Rig, u32);
    let cases: [(Make<'_>, [u8; 3], Fault); 8] = [
        // DataSN 27, then -1, then in reverse order; as libiscsi's iSCSIdatasn sends them.
        (
            &|rig, ttt| rig.send_pdu(data_out(1, ttt, 27, 0, true), &[1; 1024]),
            [11, 0x4b, 0],
            Fault::DataOutOfOrder,
        ),
        (
            &|rig, ttt| rig.send_pdu(data_out(1, ttt, u32::MAX, 0, true), &[1; 1024]),
            [11, 0x4b, 0],
            Fault::DataOutOfOrder,
        ),
        (
            &|rig, ttt| {
                rig.send_pdu(data_out(1, ttt, 1, 0, false), &[1; 512]);
                rig.send_pdu(data_out(1, ttt, 0, 512, true), &[1; 512]);
            },
            [11, 0x4b, 0],
            Fault::DataOutOfOrder,
        ),
        (
            &|rig, ttt| {
                rig.send_pdu(data_out(1, ttt, 0, 0, false), &[1; 512]);
                rig.send_pdu(data_out(1, ttt, 0, 512, true), &[1; 512]);
            },
            [11, 0x4b, 0],
            Fault::DataOutOfOrder,
        ),
        (
            &|rig, ttt| rig.send_pdu(data_out(1, ttt, 0, 8, true), &[1; 1016]),
            [11, 0x4b, 0],
            Fault::DataOutOfOrder,
        ),
        // Too little with F, all without F, too much.
        (
            &|rig, ttt| rig.send_pdu(data_out(1, ttt, 0, 0, true), &[1; 512]),
            [11, 0x0c, 0x0d],
            Fault::DataAmount,
        ),
        (
            &|rig, ttt| rig.send_pdu(data_out(1, ttt, 0, 0, false), &[1; 1024]),
            [11, 0x0c, 0x0d],
            Fault::DataAmount,
        ),
        (
            &|rig, ttt| rig.send_pdu(data_out(1, ttt, 0, 0, true), &[1; 1028]),
            [11, 0x0c, 0x0d],
            Fault::DataAmount,
        ),
    ];
    for (make, sense, fault) in cases {
        let mut rig = Rig::new();
        rig.log_in(&[("ImmediateData", "No")]);
        let header = write_header(&mut rig, 1, 2);
        rig.send_pdu(header, &[]);
        let ttt = rig.answer().0.ttt();
        make(&mut rig, ttt);
        assert_eq!(ending(&mut rig), (2, Some(sense)), "{fault:?}");
        assert_eq!(rig.fault(fault), 1);
        assert!(rig.disk[..1024] == [0; 1024]);
        // The session is none the worse.
        rig.read(2, 0, 1);
        assert_eq!(rig.answer().0.flags(), 0x81);
    }
}

#[test]
fn unsolicited_data_that_was_not_agreed_on() {
    for (keys, flags, immediate, sense) in [
        (("ImmediateData", "No"), 0xa1, 512, [11, 0x0c, 0x0c]),
        (("InitialR2T", "Yes"), 0x21, 0, [11, 0x0c, 0x0c]),
        (("FirstBurstLength", "512"), 0xa1, 1024, [11, 0x0c, 0x0d]),
    ] {
        let mut rig = Rig::new();
        rig.log_in(&[keys]);
        let header = write_header(&mut rig, 1, 4).with_flags(flags);
        rig.send_pdu(header, &std::vec![1; immediate]);
        assert_eq!(ending(&mut rig), (2, Some(sense)), "{keys:?}");
        assert_eq!((rig.begun.len(), rig.fault(Fault::UnsolicitedData)), (0, 1));
        rig.read(2, 0, 1);
        assert_eq!(rig.answer().0.flags(), 0x81);
    }
}

#[test]
fn data_for_nobody_is_dropped() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.send_pdu(data_out(77, u32::MAX, 0, 0, true), &[1; 1000]);
    rig.send_pdu(data_out(77, 0x1234, 0, 0, true), &[1; 1001]);
    rig.silence();
    assert_eq!(rig.fault(Fault::DataForNoTask), 2);
}

#[test]
fn digests_cover_everything_and_catch_damage() {
    let both = [("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("MaxRecvDataSegmentLength", "513")];
    let mut rig = Rig::new();
    rig.log_in(&both);
    assert_eq!(rig.digests, (true, true));
    let header = write_header(&mut rig, 1, 1);
    rig.send_pdu(header, &pattern(4, 512));
    assert_eq!(ending(&mut rig), (0, None));
    rig.read(2, 0, 2);
    assert_eq!(rig.answer().1, pattern(4, 512).into_iter().chain([0]).collect::<Vec<u8>>());
    assert_eq!(rig.hear().unwrap().1.len(), 511);
    // A damaged byte of immediate data: a reject, and the number has passed.
    let header = write_header(&mut rig, 3, 1);
    let mut pdu = rig.pdu(header, &[9; 512]);
    pdu[100] ^= 1;
    rig.say(&pdu);
    let (reject, about) = rig.answer();
    assert_eq!((reject.opcode(), reject.0[2], about), (0x3f, 0x02, header.with_data_bytes(512).0.to_vec()));
    assert_eq!(reject.exp_cmd_sn(), rig.cmd_sn);
    // Of solicited data: the reject, and the command ends.
    let header = write_header(&mut rig, 4, 1);
    rig.send_pdu(header, &[]);
    let ttt = rig.answer().0.ttt();
    let mut pdu = rig.pdu(data_out(4, ttt, 0, 0, true), &[9; 512]);
    let last = pdu.len() - 1;
    pdu[last] ^= 0x80;
    rig.say(&pdu);
    assert_eq!(rig.answer().0.opcode(), 0x3f);
    let (response, sense) = rig.hear().unwrap();
    assert_eq!((response.0[3], sense[4], sense[14], sense[15]), (2, 11, 0x47, 0x05));
    assert_eq!(rig.fault(Fault::DataDigest), 2);
    // A damaged header ends the connection.
    let header = write_header(&mut rig, 5, 1);
    let mut pdu = rig.pdu(header, &[]);
    pdu[3] ^= 1;
    rig.say(&pdu);
    rig.silence();
    assert_eq!(rig.events.last(), Some(&Event::Ended(End::Protocol(Fault::HeaderDigest))));
}

#[test]
fn more_than_memory_waits_and_nothing_is_locked_up() {
    // The pool is 256 KiB: two of these writes need it all, and their data comes behind the third.
    let mut rig = Rig::new();
    rig.log_in(&[("ImmediateData", "No"), ("MaxBurstLength", "262144")]);
    for itt in 0..3u32 {
        let cdb = cdb10(0x2a, itt * 512, 400);
        let header = rig.command_header(itt, &cdb, 400 * 512);
        rig.send_pdu(header, &[]);
    }
    let mut done = 0;
    rig.run();
    while let Some((header, _)) = rig.hear() {
        match header.opcode() {
            0x31 => {
                let (mut from, end) =
                    (header.buffer_offset() as usize, (header.buffer_offset() + header.residual()) as usize);
                let mut sn = 0;
                while from < end {
                    let len = (end - from).min(65_536);
                    let data = std::vec![header.itt() as u8 + 1; len];
                    rig.send_pdu(data_out(header.itt(), header.ttt(), sn, from, from + len == end), &data);
                    from += len;
                    sn += 1;
                }
            }
            _ => done += 1,
        }
        rig.run();
    }
    assert_eq!(done, 3);
    assert!((0..3).all(|itt| rig.disk[itt * 512 * BLOCK] == itt as u8 + 1));
}

#[test]
fn a_cdb_longer_than_sixteen_bytes() {
    let mut rig = Rig::new();
    rig.log_in(&[]);
    rig.slow = true;
    let mut header = rig.command_header(1, &[0x7f, 0, 0, 0, 0, 0, 0, 24], 0).0.to_vec();
    header[4] = 5;
    header.extend_from_slice(&[0, 17, 1, 0]); // 16 bytes of CDB and a reserved one
    header.extend((16..32).collect::<Vec<u8>>());
    rig.say(&header);
    rig.run();
    let tag = rig.pending[0];
    let command = rig.conn().command(tag).unwrap();
    assert_eq!(command.cdb().len(), 32);
    assert_eq!(command.cdb()[16..], (16..32).collect::<Vec<u8>>());
    // Segments that lie about their length.
    for bad in [[0u8, 9, 1, 0], [0, 1, 7, 0], [0, 0, 1, 0]] {
        let mut header = rig.command_header(2, &[0], 0).0.to_vec();
        header[4] = 1;
        header.extend_from_slice(&bad);
        rig.say(&header);
        assert_eq!(rig.answer().0.opcode(), 0x3f);
    }
    assert_eq!(rig.fault(Fault::BadAdditionalHeader), 3);
}
