//! Copies between two units, and tokens, on media in memory. Parameter lists are typed from SPC-5 and
//! SBC-4.

use alloc::vec;
use alloc::vec::Vec;
use request::{Blocks, Facts, Operation, Status};

use super::bench::{Memories, response_of};
use super::{NEXUS, OTHER, codes, command, facts};
use crate::{
    At, Buffers, Command, Do, Neighbour, Nexus, Place, Query, Response, SCRATCH_BYTES, Unit, Verdict,
};

const BLOCKS: u64 = 8192;

/// Two units of a server; the second has 4,096-byte blocks.
struct Pair {
    units: [Unit; 2],
    media: [Vec<u8>; 2],
    next: u32,
    fails_at: Option<usize>,
}

fn second() -> Facts {
    let mut facts = facts();
    facts.identity.naa[15] = 0x99;
    facts.block_size = 4096;
    facts.blocks = Blocks(BLOCKS / 8);
    facts
}

impl Pair {
    fn new() -> Pair {
        let first = Facts { blocks: Blocks(BLOCKS), ..facts() };
        let bytes = BLOCKS as usize * 512;
        let mut pair = Pair {
            units: [super::unit(first), super::unit(second())],
            media: [(0..bytes).map(|at| (at / 512 % 251) as u8 + 1).collect(), vec![0; bytes]],
            next: 100,
            fails_at: None,
        };
        for (at, unit) in pair.units.iter_mut().enumerate() {
            unit.feed_entropy([at as u8 + 1; 32]);
        }
        pair
    }

    fn ask(&self, queries: &[Query], nexus: Nexus) -> Vec<Option<Neighbour>> {
        let find = |query: &Query| {
            let found = self.units.iter().enumerate();
            let mut found = found.filter_map(|(at, unit)| {
                unit.neighbour(query, nexus).map(|neighbour| Neighbour { at: at as u32, ..neighbour })
            });
            found.next()
        };
        queries.iter().map(find).collect()
    }

    /// A command from its beginning to its end, with its data-in.
    fn run_by(&mut self, nexus: Nexus, unit: usize, cdb: &[u8], list: &[u8]) -> (Response, Vec<u8>) {
        self.next += 1;
        let id = u64::from(self.next);
        let first = Command { tag: self.next, id, data_out: list.len() as u64, ..command(nexus, cdb) };
        let mut out = Vec::new();
        let mut outcome = self.units[unit].execute(&first, None, &mut out);
        if let Verdict::Parameters(bytes) = outcome.verdict {
            let again = Command { task: Some(outcome.task), ..first };
            let list = &list[..bytes.min(list.len())];
            outcome = self.units[unit].execute(&again, Some(list), &mut out);
            if let Verdict::Neighbours(queries) = &outcome.verdict {
                let neighbours = self.ask(queries, nexus);
                let again = Command { neighbours: Some(&neighbours), ..again };
                outcome = self.units[unit].execute(&again, Some(list), &mut out);
            }
        }
        let mut work = match outcome.verdict {
            Verdict::Respond(response) => return (response, out),
            Verdict::Work(work) => work,
            other => panic!("{other:?}"),
        };
        let mut memories =
            Memories { out: Vec::from(list), data_in: Vec::new(), scratch: vec![0; SCRATCH_BYTES] };
        let mut last = Status::Good;
        let mut steps = 0;
        loop {
            match work.next(last, &mut memories) {
                Do::End { result, data_out, .. } => {
                    let ending = self.units[unit].finish_work(outcome.task, result, data_out);
                    return (response_of(ending), out);
                }
                Do::Disk { at, operation, data } => {
                    let at = match at {
                        At::Own => unit,
                        At::Other(other) => other as usize,
                    };
                    last = if self.fails_at == Some(steps) {
                        Status::MediumRead
                    } else {
                        self.operate(at, operation, data, &mut memories)
                    };
                    steps += 1;
                }
            }
        }
    }

    fn operate(&mut self, at: usize, operation: Operation, data: Place, memories: &mut Memories) -> Status {
        match (operation, data) {
            (Operation::Read(extent), Place::Scratch(place)) => {
                let from = extent.offset_bytes() as usize;
                let bytes = self.media[at][from..from + extent.len_bytes() as usize].to_vec();
                memories.write_scratch(place, &bytes);
            }
            (Operation::Write { extent, .. }, Place::Scratch(place)) => {
                self.units[at].written_by_copy(extent);
                let (from, len) = (extent.offset_bytes() as usize, extent.len_bytes() as usize);
                let mut bytes = vec![0; len];
                memories.read_scratch(place, &mut bytes);
                self.media[at][from..from + len].copy_from_slice(&bytes);
            }
            (Operation::WriteZeroes { extent, .. }, Place::None) => {
                let from = extent.offset_bytes() as usize;
                self.media[at][from..from + extent.len_bytes() as usize].fill(0);
            }
            other => panic!("{other:?}"),
        }
        Status::Good
    }

    fn run(&mut self, unit: usize, cdb: &[u8], list: &[u8]) -> (Response, Vec<u8>) {
        self.run_by(NEXUS, unit, cdb, list)
    }
}

/// EXTENDED COPY(LID1) with this parameter list length.
fn lid1(length: usize) -> [u8; 16] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0x83, 0x00, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
}

/// Identification descriptor copy target descriptor: NAA 6h of a unit, its block length.
fn target(last: u8, block_bytes: u32) -> [u8; 32] {
    let mut target = [0; 32];
    target[0] = 0xe4;
    target[4] = 0x01;
    target[5] = 0x03;
    target[7] = 16;
    target[8..24].copy_from_slice(&[
        0x62, 0x5e, 0x41, 0x10, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, last,
    ]);
    target[29..32].copy_from_slice(&block_bytes.to_be_bytes()[1..]);
    target
}

/// Block device to block device, 02h.
fn segment(from: u16, to: u16, blocks: u16, from_lba: u64, to_lba: u64) -> Vec<u8> {
    let mut segment = vec![0x02, 0x00, 0x00, 0x18];
    segment.extend(from.to_be_bytes());
    segment.extend(to.to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(blocks.to_be_bytes());
    segment.extend(from_lba.to_be_bytes());
    segment.extend(to_lba.to_be_bytes());
    segment
}

fn list_lid1(id: u8, usage: u8, targets: &[[u8; 32]], segments: &[Vec<u8>]) -> Vec<u8> {
    let targets = targets.concat();
    let segments = segments.concat();
    let mut list = vec![id, usage << 3];
    list.extend((targets.len() as u16).to_be_bytes());
    list.extend([0; 4]);
    list.extend((segments.len() as u32).to_be_bytes());
    list.extend([0; 4]);
    list.extend(targets);
    list.extend(segments);
    list
}

fn copy_lid1(pair: &mut Pair, list: &[u8]) -> Response {
    pair.run(0, &lid1(list.len()), list).0
}

#[test]
fn blocks_go_from_one_unit_to_the_other() {
    let mut pair = Pair::new();
    // More than a piece of scratch memory, from 512-byte blocks to 4,096-byte blocks.
    let targets = [target(0x0c, 512), target(0x99, 4096)];
    let list = list_lid1(7, 0, &targets, &[segment(0, 1, 4096, 8, 3)]);
    let response = copy_lid1(&mut pair, &list);
    assert_eq!((response.status, response.data_out), (0x00, list.len() as u64));
    let (from, to) = (8 * 512, 3 * 4096);
    assert_eq!(pair.media[0][from..from + 4096 * 512], pair.media[1][to..to + 4096 * 512]);
    assert!(pair.media[1][..to].iter().all(|byte| *byte == 0));
    assert!(pair.media[1][to + 4096 * 512..].iter().all(|byte| *byte == 0));
    // RECEIVE COPY STATUS(LID1): completed, one segment, 2 MiB.
    let (_, status) = pair.run(0, &[0x84, 0x00, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]);
    assert_eq!(status, [0, 0, 0, 8, 0x01, 0, 1, 0, 0, 0x20, 0, 0]);
    // Somebody else's list id is none.
    let (refused, _) = pair.run_by(OTHER, 0, &[0x84, 0x00, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]);
    assert_eq!(codes(&refused), (0x5, 0x24, 0x00));
}

#[test]
fn an_overlap_is_copied_as_it_was() {
    for (from, to) in [(0u64, 5u64), (5, 0)] {
        let mut pair = Pair::new();
        let before = pair.media[0].clone();
        let list = list_lid1(0, 3, &[target(0x0c, 512)], &[segment(0, 0, 5000, from, to)]);
        assert_eq!(copy_lid1(&mut pair, &list).status, 0x00);
        let (from, to, len) = (from as usize * 512, to as usize * 512, 5000 * 512);
        assert_eq!(pair.media[0][to..to + len], before[from..from + len]);
    }
}

#[test]
fn what_is_wrong_with_a_list_is_said() {
    let mut pair = Pair::new();
    let good = [target(0x0c, 512), target(0x99, 4096)];
    let mut failure = |list: &[u8]| codes(&copy_lid1(&mut pair, list));
    // Too short for the header, and cut within the descriptors.
    assert_eq!(failure(&[0; 8]), (0x5, 0x1a, 0x00));
    let list = list_lid1(1, 0, &good, &[segment(0, 1, 8, 0, 0)]);
    assert_eq!(failure(&list[..list.len() - 1]), (0x5, 0x1a, 0x00));
    // Too many of each kind; more than both together may have.
    assert_eq!(failure(&list_lid1(1, 0, &[good[0]; 65], &[segment(0, 0, 8, 0, 64)])), (0x5, 0x26, 0x06));
    let many = vec![segment(0, 0, 8, 0, 64); 257];
    assert_eq!(failure(&list_lid1(1, 0, &good[..1], &many)), (0x5, 0x26, 0x08));
    let many = vec![segment(0, 0, 8, 0, 64); 300];
    assert_eq!(failure(&list_lid1(1, 0, &[good[0]; 65], &many)), (0x5, 0x1a, 0x00));
    // Types that are not known: N_Port_Name, stream to stream.
    let mut strange = good[0];
    strange[0] = 0xe0;
    assert_eq!(failure(&list_lid1(1, 0, &[strange], &[segment(0, 0, 8, 0, 64)])), (0x5, 0x26, 0x07));
    let mut stream = segment(0, 0, 8, 0, 64);
    stream[0] = 0x03;
    assert_eq!(failure(&list_lid1(1, 0, &good[..1], &[stream])), (0x5, 0x26, 0x09));
    // A target that is not in the list, one that is nowhere, one with another block length.
    assert_eq!(failure(&list_lid1(1, 0, &good[..1], &[segment(0, 1, 8, 0, 64)])), (0xa, 0x08, 0x04));
    assert_eq!(
        failure(&list_lid1(1, 0, &[target(0x55, 512)], &[segment(0, 0, 8, 0, 64)])),
        (0xa, 0x0d, 0x02)
    );
    assert_eq!(
        failure(&list_lid1(1, 0, &[target(0x0c, 4096)], &[segment(0, 0, 8, 0, 64)])),
        (0xa, 0x0d, 0x03)
    );
    // Behind the end, and half a block of the destination.
    assert_eq!(failure(&list_lid1(1, 0, &good, &[segment(0, 0, 8, 0, BLOCKS - 1)])), (0xa, 0x00, 0x00));
    assert_eq!(failure(&list_lid1(1, 0, &good, &[segment(0, 1, 7, 0, 0)])), (0xa, 0x26, 0x0d));
    // LIST ID USAGE 11b has no list id.
    assert_eq!(failure(&list_lid1(1, 3, &good, &[segment(0, 1, 8, 0, 0)])), (0x5, 0x26, 0x00));
    // No list is no error.
    assert_eq!(pair.run(0, &lid1(0), &[]).0.status, 0x00);
}

#[test]
fn a_copy_that_fails_is_told_and_held() {
    let mut pair = Pair::new();
    pair.fails_at = Some(2);
    let targets = [target(0x0c, 512), target(0x99, 4096)];
    let list = list_lid1(9, 0, &targets, &[segment(0, 1, 4096, 0, 0)]);
    assert_eq!(codes(&copy_lid1(&mut pair, &list)), (0xa, 0x0d, 0x01));
    let (_, status) = pair.run(0, &[0x84, 0x00, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]);
    assert_eq!(status[4], 0x02);
    let (_, details) = pair.run(0, &[0x84, 0x04, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]);
    assert_eq!(
        (details[56], details[60], details[62], details[72], details[73]),
        (0x02, 0x70, 0x0a, 0x0d, 0x01)
    );
}

#[test]
fn a_reservation_keeps_copies_out() {
    let mut pair = Pair::new();
    // OTHER registers with the second unit and reserves it: write exclusive, type 1h.
    let mut list = [0; 24];
    list[8..16].copy_from_slice(&[1; 8]);
    let out = [0x5f, 0x00, 0, 0, 0, 0, 0, 0, 24, 0];
    assert_eq!(pair.run_by_settled(OTHER, 1, &out, &list), 0x00);
    list[..8].copy_from_slice(&[1; 8]);
    assert_eq!(pair.run_by_settled(OTHER, 1, &[0x5f, 0x01, 0x01, 0, 0, 0, 0, 0, 24, 0], &list), 0x00);
    let targets = [target(0x0c, 512), target(0x99, 4096)];
    let into = list_lid1(1, 0, &targets, &[segment(0, 1, 8, 0, 0)]);
    assert_eq!(codes(&copy_lid1(&mut pair, &into)), (0xa, 0x0d, 0x01));
    let out_of = list_lid1(1, 0, &targets, &[segment(1, 0, 1, 0, 0)]);
    assert_eq!(copy_lid1(&mut pair, &out_of).status, 0x00);
}

impl Pair {
    /// A command whose answer may have to wait for others, of which there are none here.
    fn run_by_settled(&mut self, nexus: Nexus, unit: usize, cdb: &[u8], list: &[u8]) -> u8 {
        self.next += 1;
        let first = Command {
            tag: self.next,
            id: u64::from(self.next),
            data_out: list.len() as u64,
            ..command(nexus, cdb)
        };
        let outcome = self.units[unit].execute(&first, None, &mut Vec::new());
        let again = Command { task: Some(outcome.task), ..first };
        let outcome = self.units[unit].execute(&again, Some(list), &mut Vec::new());
        match outcome.verdict {
            Verdict::Respond(response) => response.status,
            Verdict::Settle(settle) => {
                assert!(settle.waits_for.is_empty());
                response_of(self.units[unit].finish_settled(outcome.task, settle.response, true)).status
            }
            other => panic!("{other:?}"),
        }
    }

    /// POPULATE TOKEN for ranges of the first unit, and the token.
    fn token(&mut self, ranges: &[(u64, u32)]) -> Vec<u8> {
        let mut list = vec![0; 14];
        list.extend(((ranges.len() * 16) as u16).to_be_bytes());
        for (first, count) in ranges {
            list.extend(first.to_be_bytes());
            list.extend(count.to_be_bytes());
            list.extend([0; 4]);
        }
        let data_length = (list.len() - 2) as u16;
        list[..2].copy_from_slice(&data_length.to_be_bytes());
        let length = list.len() as u8;
        let cdb = [0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x21, 0, 0, 0, length, 0, 0];
        assert_eq!(self.run(0, &cdb, &list).0.status, 0x00);
        let ask = [0x84, 0x07, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0];
        let (_, information) = self.run(0, &ask, &[]);
        // AVAILABLE DATA, RESPONSE TO SERVICE ACTION, COPY OPERATION STATUS.
        assert_eq!(information.len(), 550);
        assert_eq!(information[..6], [0, 0, 0x02, 0x22, 0x10, 0x01]);
        // ROD TOKEN DESCRIPTORS LENGTH, reserved, ROD TYPE, ROD TOKEN LENGTH.
        assert_eq!(information[32..38], [0, 0, 0x02, 0x02, 0, 0]);
        assert_eq!(information[38..46], [0x00, 0x80, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
        information[38..].to_vec()
    }

    /// WRITE USING TOKEN to ranges of the second unit.
    fn write_using(&mut self, token: &[u8], offset: u64, ranges: &[(u64, u32)]) -> Response {
        let mut list = vec![0; 8];
        list.extend(offset.to_be_bytes());
        list.extend(token);
        list.extend([0; 6]);
        list.extend(((ranges.len() * 16) as u16).to_be_bytes());
        for (first, count) in ranges {
            list.extend(first.to_be_bytes());
            list.extend(count.to_be_bytes());
            list.extend([0; 4]);
        }
        let [high, low] = (list.len() as u16).to_be_bytes();
        let cdb = [0x83, 0x11, 0, 0, 0, 0, 0, 0, 0, 0x22, 0, 0, high, low, 0, 0];
        self.run(1, &cdb, &list).0
    }
}

#[test]
fn a_token_carries_blocks_to_another_unit() {
    let mut pair = Pair::new();
    // 16 + 8 blocks of 512 bytes are 3 of 4,096; the first is skipped.
    let token = pair.token(&[(80, 16), (8, 8)]);
    assert_eq!(pair.write_using(&token, 1, &[(5, 1), (100, 1)]).status, 0x00);
    assert_eq!(pair.media[1][5 * 4096..6 * 4096], pair.media[0][88 * 512..96 * 512]);
    assert_eq!(pair.media[1][100 * 4096..101 * 4096], pair.media[0][8 * 512..16 * 512]);
    // More than it stands for.
    assert_eq!(codes(&pair.write_using(&token, 1, &[(5, 3)])), (0x5, 0x26, 0x00));
}

#[test]
fn a_token_is_void_once_its_blocks_change() {
    let mut pair = Pair::new();
    let token = pair.token(&[(0, 8)]);
    let write = [0x2a, 0, 0, 0, 0, 8, 0, 0, 1, 0];
    assert!(matches!(super::run(&mut pair.units[0], NEXUS, &write), Verdict::Medium(_)));
    assert_eq!(pair.write_using(&token, 0, &[(0, 1)]).status, 0x00);
    let write = [0x2a, 0, 0, 0, 0, 7, 0, 0, 1, 0];
    assert!(matches!(super::run(&mut pair.units[0], NEXUS, &write), Verdict::Medium(_)));
    assert_eq!(codes(&pair.write_using(&token, 0, &[(0, 1)])), (0x5, 0x23, 0x04));
}

#[test]
fn a_guess_is_no_token_and_a_successor_knows_the_real_one() {
    let mut pair = Pair::new();
    let token = pair.token(&[(0, 8)]);
    let mut guess = token.clone();
    guess[256] ^= 1;
    assert_eq!(codes(&pair.write_using(&guess, 0, &[(0, 1)])), (0x5, 0x23, 0x04));
    let state = pair.units[0].state();
    let (facts, profile) = (pair.units[0].facts().clone(), *pair.units[0].profile());
    pair.units[0] = Unit::restore(facts, profile, &state);
    assert_eq!(pair.write_using(&token, 0, &[(0, 1)]).status, 0x00);
    // Its randomness was used up, and a token without is not made.
    let list =
        [0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    let cdb = [0x83, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x23, 0, 0, 0, 32, 0, 0];
    assert_eq!(codes(&pair.run(0, &cdb, &list).0), (0x5, 0x55, 0x03));
}

#[test]
fn the_zero_token_needs_no_source() {
    let mut pair = Pair::new();
    pair.media[1].fill(0xaa);
    let mut token = vec![0; 512];
    token[..8].copy_from_slice(&[0xff, 0xff, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
    assert_eq!(pair.write_using(&token, 0, &[(2, 2)]).status, 0x00);
    assert!(pair.media[1][2 * 4096..4 * 4096].iter().all(|byte| *byte == 0));
    assert_eq!(pair.media[1][4 * 4096], 0xaa);
}

#[test]
fn operating_parameters_are_those_that_hold() {
    let mut pair = Pair::new();
    let ask = [0x84, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01, 0, 0, 0];
    let (_, data) = pair.run(0, &ask, &[]);
    assert_eq!(data[..4], [0, 0, 0, 43]);
    assert_eq!(data[8..12], [0, 64, 1, 0]);
    assert_eq!(data[12..16], [0, 0, 0x28, 0]);
    assert_eq!(data[43..], [3, 0x02, 0x0a, 0xe4]);
}

#[test]
fn a_copy_is_a_task_of_the_unit_that_it_writes_to() {
    use crate::{Function, Managed, Visit};
    let mut pair = Pair::new();
    let extent = pair.units[1].facts().extent(request::Lba(4), Blocks(4)).unwrap();
    // COMPARE AND WRITE of a block of it has come first.
    let list = [0; 8192];
    let compare = [0x89, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0];
    let first = Command { tag: 7, id: 7, data_out: 8192, ..command(OTHER, &compare) };
    let outcome = pair.units[1].execute(&first, None, &mut Vec::new());
    assert!(matches!(outcome.verdict, Verdict::Work(_)), "{:?}", outcome.verdict);
    let Visit::Wait(visit) = pair.units[1].visit(NEXUS, 40, None, extent, true) else {
        panic!("the blocks are another's");
    };
    let _ = pair.units[1].finish_work(outcome.task, Ok(()), list.len() as u64);
    assert_eq!(pair.units[1].woken(), Some(40));
    let Visit::Go(visit) = pair.units[1].visit(NEXUS, 40, Some(visit), extent, true) else {
        panic!("nobody else has the blocks");
    };
    // OTHER shuts NEXUS out: the answer waits for the piece that is at the disk.
    let mut register = [0; 24];
    register[8..16].copy_from_slice(&[1; 8]);
    assert_eq!(pair.run_by_settled(OTHER, 1, &[0x5f, 0x00, 0, 0, 0, 0, 0, 0, 24, 0], &register), 0x00);
    register[..8].copy_from_slice(&[1; 8]);
    let reserve = [0x5f, 0x01, 0x01, 0, 0, 0, 0, 0, 24, 0];
    let first = Command { tag: 8, id: 8, data_out: 24, ..command(OTHER, &reserve) };
    let asked = pair.units[1].execute(&first, None, &mut Vec::new());
    let again = Command { task: Some(asked.task), ..first };
    let outcome = pair.units[1].execute(&again, Some(&register), &mut Vec::new());
    let Verdict::Settle(settle) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
    assert_eq!(settle.waits_for, [40]);
    assert!(pair.units[1].depart(visit));
    // The next piece is refused.
    assert_eq!(pair.units[1].visit(NEXUS, 40, None, extent, true), Visit::Refused);
    assert!(matches!(pair.units[1].visit(NEXUS, 40, None, extent, false), Visit::Go(_)));
    // A reset of the unit ends the copy at its next piece.
    let Managed::Complete { waits_for } = pair.units[1].manage(OTHER, Function::UnitReset) else {
        panic!("a reset");
    };
    assert!(waits_for.contains(&40));
}
