//! virtio-blk (virtio 1.2, 5.2).

use super::disk::{Completion, Facts, Operation, Outcome, Request, SECTOR_BYTES, SLOT_STATUS_AT, Slots};
use super::error::Result;
use super::message::part;
use super::queue::{Buffer, Queue};
use super::session::Session;

pub const F_SEG_MAX: u64 = 1 << 2;
pub const F_RO: u64 = 1 << 5;
pub const F_BLK_SIZE: u64 = 1 << 6;
pub const F_FLUSH: u64 = 1 << 9;
pub const F_TOPOLOGY: u64 = 1 << 10;
pub const F_CONFIG_WCE: u64 = 1 << 11;
pub const F_MQ: u64 = 1 << 12;
pub const F_DISCARD: u64 = 1 << 13;
pub const F_WRITE_ZEROES: u64 = 1 << 14;

/// What a current Linux guest takes.
pub const FEATURES: u64 =
    F_SEG_MAX | F_RO | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE | F_MQ | F_DISCARD | F_WRITE_ZEROES;

/// The configuration space up to and with `write_zeroes_may_unmap` and its padding.
const CONFIG_BYTES: usize = 60;

const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_DISCARD: u32 = 11;
const T_WRITE_ZEROES: u32 = 13;
const S_OK: u8 = 0;
/// No device writes this status: a request that ends with it was not answered.
const S_POISON: u8 = 0xff;
const WRITE_ZEROES_UNMAP: u32 = 1;

const HEADER_BYTES: u32 = 16;
/// Where a discard's range lies in a slot's header.
const RANGE_AT: usize = 32;
const RANGE_BYTES: u32 = 16;

pub struct BlkQueue {
    pub ring: Queue,
    pub(super) slots: Slots,
}

impl BlkQueue {
    pub(super) fn new(ring: Queue, slots: Slots) -> BlkQueue {
        BlkQueue { ring, slots }
    }

    #[inline]
    pub fn submit(&mut self, slot: u16, request: Request) -> bool {
        let header = &self.slots.headers[slot as usize];
        let (kind, sector) = match request.operation {
            Operation::Read => (T_IN, request.sector),
            Operation::Write => (T_OUT, request.sector),
            // Sector is 0 for a flush (5.2.6.1).
            Operation::Flush => (T_FLUSH, 0),
            Operation::Discard => (T_DISCARD, 0),
            Operation::WriteZeroes => (T_WRITE_ZEROES, 0),
        };
        header.store_u64(0, kind as u64);
        header.store_u64(8, sector);
        header.store_u16(SLOT_STATUS_AT, S_POISON as u16);
        let base = header.address();
        self.slots.chain.clear();
        self.slots.chain.push(Buffer::readable(base, HEADER_BYTES));
        match request.operation {
            Operation::Read => self.slots.push_data(slot, request.bytes, true),
            Operation::Write => self.slots.push_data(slot, request.bytes, false),
            Operation::Flush => {}
            Operation::Discard | Operation::WriteZeroes => {
                let flags = if request.operation == Operation::WriteZeroes { WRITE_ZEROES_UNMAP } else { 0 };
                let header = &self.slots.headers[slot as usize];
                header.store_u64(RANGE_AT, request.sector);
                header.store_u32(RANGE_AT + 8, (request.bytes as u64 / SECTOR_BYTES) as u32);
                header.store_u32(RANGE_AT + 12, flags);
                self.slots.chain.push(Buffer::readable(base + RANGE_AT as u64, RANGE_BYTES));
            }
        }
        self.slots.chain.push(Buffer::writable(base + SLOT_STATUS_AT as u64, 1));
        self.slots.requests[slot as usize] = request;
        self.ring.add(slot, &self.slots.chain)
    }

    #[inline]
    pub fn complete(&mut self) -> Result<Option<Completion>> {
        let Some(used) = self.ring.pop()? else {
            return Ok(None);
        };
        let request = self.slots.requests[used.token as usize];
        let status = self.slots.headers[used.token as usize].load_u16(SLOT_STATUS_AT) as u8;
        let outcome = if status == S_OK { Outcome::Good } else { Outcome::Blk(status) };
        let data = if request.operation == Operation::Read { request.bytes } else { 0 };
        // A read that failed may have written less, but the status byte always.
        let wrong_length =
            if outcome == Outcome::Good { used.written != data + 1 } else { used.written == 0 };
        Ok(Some(Completion { slot: used.token, outcome, wrong_length }))
    }
}

pub(super) fn read_facts(session: &mut Session) -> Result<Facts> {
    let config = session.config(CONFIG_BYTES)?;
    let has = |bit: u64| session.features() & bit != 0;
    let block_bytes =
        if has(F_BLK_SIZE) { u32::from_le_bytes(part(&config, 20)?) } else { SECTOR_BYTES as u32 };
    Ok(Facts {
        bytes: u64::from_le_bytes(part(&config, 0)?).saturating_mul(SECTOR_BYTES),
        block_bytes,
        read_only: has(F_RO),
        flush: has(F_FLUSH),
        discard: has(F_DISCARD),
        write_zeroes: has(F_WRITE_ZEROES),
    })
}
