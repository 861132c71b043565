//! What no driver may ask for.

use bench::driver::queue::Buffer;
use bench::driver::ram::Area;
use request::Mac;

use crate::dice::Dice;
use crate::frame;
use crate::guest_disk::{DATA_AT, RESPONSE_AT};

fn read(area: &Area, at: usize, len: u32) -> Buffer {
    Buffer::readable(area.address() + at as u64, len)
}

fn write(area: &Area, at: usize, len: u32) -> Buffer {
    Buffer::writable(area.address() + at as u64, len)
}

/// A faulty request to a virtio-blk disk of so many blocks.
pub fn blk(area: &Area, blocks: u64, dice: &mut Dice) -> Vec<Buffer> {
    let header = |kind: u32, sector: u64| {
        area.write_bytes(0, &kind.to_le_bytes());
        area.write_bytes(8, &sector.to_le_bytes());
        read(area, 0, 16)
    };
    let status = write(area, RESPONSE_AT, 1);
    match dice.below(8) {
        0 => vec![read(area, 0, 8), status],
        1 => vec![header(4, 0)],
        2 => vec![header(77, 0), status],
        3 => vec![header(1, 0), read(area, DATA_AT, 100), status],
        4 => vec![header(0, blocks - 1), write(area, DATA_AT, 1024), status],
        5 => vec![header(11, 0), read(area, DATA_AT, 15), status],
        6 => {
            area.write_bytes(DATA_AT + 8, &[1, 0, 0, 0, 4, 0, 0, 0]);
            vec![header(13, 0), read(area, DATA_AT, 16), status]
        }
        _ => vec![header(1, u64::MAX), read(area, DATA_AT, 512), status],
    }
}

/// A faulty request to a SCSI disk of so many blocks.
pub fn scsi(area: &Area, blocks: u64, dice: &mut Dice) -> Vec<Buffer> {
    let header = |cdb: &[u8]| {
        area.write_bytes(0, &[1, 0, 0x40, 0, 0, 0, 0, 0]);
        area.write_bytes(19, cdb);
        read(area, 0, 51)
    };
    let read_10 = |at: u64, count: u8| {
        let [a, b, c, d] = (at as u32).to_be_bytes();
        [0x28, 0, a, b, c, d, 0, 0, count, 0]
    };
    let response = write(area, RESPONSE_AT, 108);
    match dice.below(8) {
        0 => vec![read(area, 0, 20), response],
        1 => vec![header(&read_10(0, 1)), write(area, RESPONSE_AT, 50)],
        2 => vec![header(&read_10(0, 1)), read(area, DATA_AT, 512), response, write(area, DATA_AT, 512)],
        3 => {
            header(&read_10(0, 1));
            area.write_bytes(0, &[0xff; 8]);
            vec![read(area, 0, 51), response, write(area, DATA_AT, 512)]
        }
        4 => vec![header(&read_10(0, 8)), response, write(area, DATA_AT, 512)],
        5 => vec![header(&read_10(blocks, 1)), response, write(area, DATA_AT, 512)],
        6 => vec![header(&[0xc0; 10]), response],
        _ => {
            header(&read_10(0, 1));
            area.write_bytes(2, &[0x40, 9]);
            vec![read(area, 0, 51), response, write(area, DATA_AT, 512)]
        }
    }
}

/// A frame that goes nowhere, and how often its bytes are to be repeated.
pub fn frame(to: Mac, from: Mac, dice: &mut Dice) -> (Vec<u8>, usize) {
    let mut bytes = frame::plain(0, to, from, 100);
    let at = frame::HEADER;
    match dice.below(11) {
        0 => bytes.truncate(at + 5),
        1 => bytes[1] = 0x55,
        2 => {
            bytes = frame::tcp(0, to, from, 4000, 1000);
            // UDP_L4 was not negotiated.
            bytes[1] = 5;
        }
        3 => return (frame::plain(0, to, from, 20_000), 4),
        4 => {
            bytes = frame::tcp(0, to, from, 100, 0);
            bytes[6..8].copy_from_slice(&5000u16.to_le_bytes());
        }
        5 => bytes[at + 6] |= 1,
        6 => bytes[at..at + 6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 1]),
        7 => bytes[at + 12..at + 16].copy_from_slice(&[0x81, 0, 0, 5]),
        8 => bytes[at + 12..at + 16].copy_from_slice(&[0x81, 0, 0x0f, 0xff]),
        9 => bytes[at..at + 6].copy_from_slice(&from.0),
        _ => bytes = frame::plain(0, to, from, 1600),
    }
    (bytes, 1)
}
