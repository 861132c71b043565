//! Requests: 5.2.6.

use core::ops::Range;

use alloc::vec::Vec;
use guest_memory::Memory;
use request::{Blocks, Extent, Facts, Lba, Operation, Span, Status, cut, total};
use virtqueue::Chain;

use crate::bits::{SECTOR, SECTOR_SHIFT, SEGMENT_UNMAP, kind, size, status};
use crate::config::Limits;
use crate::fault::Fault;
use crate::model::Mode;

/// A request that needs nothing more; push its chain with `written`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub written: u32,
    /// `None`: it ended well.
    pub fault: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    Work(Work),
    Answered(Answered),
}

/// Operations of one request, to be run one after the other until one fails, and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    next: Option<Operation>,
    /// In reverse; of a request of many segments only.
    rest: Vec<Operation>,
    data: Range<u16>,
    /// Bytes that a read gives to the driver.
    data_in_bytes: u32,
}

/// The operations in their order.
impl Iterator for Work {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        let operation = self.next.take()?;
        self.next = self.rest.pop();
        Some(operation)
    }
}

impl Work {
    /// The data of a read or write: as many bytes as its extent has. Empty for others.
    pub fn data<'a>(&self, chain: &'a Chain) -> &'a [Span] {
        chain.spans.get(usize::from(self.data.start)..usize::from(self.data.end)).unwrap_or(&[])
    }

    /// Writes the status byte, one of [`crate::bits::status`], and returns the used length. A read
    /// that failed counts no data: what its buffers hold is anything.
    pub fn finish(&self, memory: &Memory, chain: &Chain, code: u8) -> u32 {
        let written = write_status(memory, chain, code);
        if code == status::OK { written.saturating_add(self.data_in_bytes) } else { written }
    }
}

/// The status byte of an end: 5.2.6.
pub fn status_of(status: Status) -> u8 {
    match status {
        Status::Good => status::OK,
        Status::Unsupported => status::UNSUPP,
        Status::MediumRead
        | Status::MediumWrite
        | Status::NoSpace
        | Status::WriteProtected
        | Status::NotReady
        | Status::Aborted => status::IOERR,
    }
}

/// A refusal: the fault and the status byte that tells it.
type Refusal = (Fault, u8);

const fn io_error(fault: Fault) -> Refusal {
    (fault, status::IOERR)
}

/// Reads a request, cuts the chain's list at the borders of its parts, and says what is to be done.
pub fn parse(memory: &Memory, chain: &mut Chain, facts: &Facts, mode: &Mode) -> Parsed {
    // The status byte first: without it nothing can be answered. It becomes a span of its own.
    let Some(data_in_bytes) = total(chain.writable()).checked_sub(1) else {
        return Parsed::Answered(Answered { written: 0, fault: Some(Fault::NoStatus) });
    };
    let to = chain.spans.len();
    if cut(&mut chain.spans, chain.writable_from, to, data_in_bytes).is_none() {
        return Parsed::Answered(Answered { written: 0, fault: Some(Fault::NoStatus) });
    }
    match decide(memory, chain, facts, mode) {
        Ok(parsed) => parsed,
        Err((fault, code)) => {
            let written = write_status(memory, chain, code);
            Parsed::Answered(Answered { written, fault: Some(fault) })
        }
    }
}

fn write_status(memory: &Memory, chain: &Chain, code: u8) -> u32 {
    let last = chain.spans.last().copied().unwrap_or_default();
    match memory.write(last, &[code]) {
        Some(()) => 1,
        None => 0,
    }
}

fn decide(memory: &Memory, chain: &mut Chain, facts: &Facts, mode: &Mode) -> Result<Parsed, Refusal> {
    let mut header = [0; size::HEADER];
    let before = chain.spans.len();
    let header_end = cut(&mut chain.spans, 0, chain.writable_from, size::HEADER as u64)
        .ok_or(io_error(Fault::HeaderTooShort))?;
    let inserted = chain.spans.len().saturating_sub(before);
    chain.writable_from = chain.writable_from.saturating_add(inserted);
    if memory.gather(chain.spans.get(..header_end).unwrap_or_default(), &mut header) != size::HEADER {
        return Err(io_error(Fault::HeaderTooShort));
    }
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
    let sector = u64::from_le_bytes(sector);
    let data_out = header_end..chain.writable_from;
    // All but the status byte.
    let data_in = chain.writable_from..chain.spans.len().saturating_sub(1);
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        kind::IN => {
            let extent = transfer(chain, &data_in, sector, facts, mode)?;
            Ok(work(memory, chain, Operation::Read(extent), data_in))
        }
        kind::OUT => {
            writable(facts)?;
            let extent = transfer(chain, &data_out, sector, facts, mode)?;
            let operation = Operation::Write { extent, fua: mode.write_through };
            Ok(work(memory, chain, operation, data_out))
        }
        kind::FLUSH => Ok(work(memory, chain, Operation::Flush, 0..0)),
        kind::GET_ID => {
            let written = get_id(memory, chain, data_in, facts);
            Ok(Parsed::Answered(Answered { written, fault: None }))
        }
        kind::DISCARD if mode.discard => segments(memory, chain, data_out, facts, &Segments::Discard),
        kind::WRITE_ZEROES if mode.write_zeroes => {
            let how = Segments::WriteZeroes { fua: mode.write_through };
            segments(memory, chain, data_out, facts, &how)
        }
        _ => Err((Fault::UnsupportedType, status::UNSUPP)),
    }
}

/// 5.2.6.2: writes to a volume that was offered with RO fail.
fn writable(facts: &Facts) -> Result<(), Refusal> {
    if facts.read_only { Err(io_error(Fault::ReadOnly)) } else { Ok(()) }
}

/// Sectors as blocks: `None` if they do not fall on blocks.
fn blocks(sectors: u64, facts: &Facts) -> Option<u64> {
    let shift = facts.shift().saturating_sub(SECTOR_SHIFT);
    let blocks = sectors >> shift;
    (blocks << shift == sectors).then_some(blocks)
}

fn extent(sector: u64, sectors: u64, facts: &Facts) -> Result<Extent, Refusal> {
    let first = blocks(sector, facts).ok_or(io_error(Fault::Misaligned))?;
    let count = blocks(sectors, facts).ok_or(io_error(Fault::Misaligned))?;
    facts.extent(Lba(first), Blocks(count)).ok_or(io_error(Fault::OutOfRange))
}

/// The blocks of a read or write: as many as its data spans hold.
fn transfer(
    chain: &Chain,
    data: &Range<usize>,
    sector: u64,
    facts: &Facts,
    mode: &Mode,
) -> Result<Extent, Refusal> {
    let bytes = total(chain.spans.get(data.clone()).unwrap_or_default());
    if bytes > mode.data_max_bytes {
        return Err(io_error(Fault::TooLong));
    }
    let sectors = bytes / SECTOR;
    if !bytes.is_multiple_of(SECTOR) {
        return Err(io_error(Fault::Misaligned));
    }
    extent(sector, sectors, facts)
}

/// One operation; a transfer of nothing is done.
fn work(memory: &Memory, chain: &Chain, operation: Operation, data: Range<usize>) -> Parsed {
    let data_in_bytes = match operation {
        Operation::Read(extent) if extent.is_empty() => return good(memory, chain),
        Operation::Write { extent, .. } if extent.is_empty() => return good(memory, chain),
        // At most `data_max_bytes`; the used length has 32 bits.
        Operation::Read(extent) => u32::try_from(extent.len_bytes()).unwrap_or(u32::MAX),
        _ => 0,
    };
    // A chain has at most 1,026 spans, and two more after the cuts.
    let data = data.start as u16..data.end as u16;
    Parsed::Work(Work { next: Some(operation), rest: Vec::new(), data, data_in_bytes })
}

fn good(memory: &Memory, chain: &Chain) -> Parsed {
    Parsed::Answered(Answered { written: write_status(memory, chain, status::OK), fault: None })
}

/// GET_ID: the serial number, 20 bytes, padded with zeroes and cut if it is longer (5.2.6).
fn get_id(memory: &Memory, chain: &Chain, data: Range<usize>, facts: &Facts) -> u32 {
    let mut id = [0; size::ID];
    for (into, from) in id.iter_mut().zip(facts.identity.serial.bytes()) {
        *into = from;
    }
    let written = memory.scatter(chain.spans.get(data).unwrap_or_default(), &id) as u32;
    written.saturating_add(write_status(memory, chain, status::OK))
}

const SEGMENT_BYTES: u64 = size::SEGMENT as u64;

/// What the segments of a request are for.
enum Segments {
    Discard,
    WriteZeroes { fua: bool },
}

impl Segments {
    fn sectors_max(&self) -> u32 {
        match self {
            Segments::Discard => Limits::DISCARD_MAX_SECTORS,
            Segments::WriteZeroes { .. } => Limits::WRITE_ZEROES_MAX_SECTORS,
        }
    }

    /// 5.2.6.2: unknown flags are unsupported, and so is `unmap` in a discard.
    fn allows(&self, flags: u32) -> bool {
        match self {
            Segments::Discard => flags == 0,
            Segments::WriteZeroes { .. } => flags & !SEGMENT_UNMAP == 0,
        }
    }

    fn operation(&self, extent: Extent, flags: u32) -> Operation {
        match self {
            Segments::Discard => Operation::Discard(extent),
            Segments::WriteZeroes { fua } => {
                Operation::WriteZeroes { extent, unmap: flags & SEGMENT_UNMAP != 0, fua: *fua }
            }
        }
    }
}

/// DISCARD and WRITE ZEROES. All segments are checked before any is done; each is read once.
fn segments(
    memory: &Memory,
    chain: &Chain,
    data: Range<usize>,
    facts: &Facts,
    how: &Segments,
) -> Result<Parsed, Refusal> {
    writable(facts)?;
    let mut spans = chain.spans.get(data).unwrap_or_default();
    let bytes = total(spans);
    let count = bytes / SEGMENT_BYTES;
    let whole = bytes.is_multiple_of(SEGMENT_BYTES);
    if !whole || count == 0 || count > u64::from(Limits::SEGMENTS_MAX) {
        return Err(io_error(Fault::BadSegments));
    }
    let mut operations = Vec::new();
    // Bytes of the first span that were read already.
    let mut into_span = 0;
    let mut next = None;
    for _ in 0..count {
        let mut segment = [0; size::SEGMENT];
        read_on(memory, &mut spans, &mut into_span, &mut segment).ok_or(io_error(Fault::BadSegments))?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, n0, n1, n2, n3, f0, f1, f2, f3] = segment;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let sectors = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        if !how.allows(flags) {
            return Err((Fault::BadFlags, status::UNSUPP));
        }
        if sectors > how.sectors_max() {
            return Err(io_error(Fault::BadSegments));
        }
        let extent = extent(sector, u64::from(sectors), facts)?;
        if extent.is_empty() {
            continue;
        }
        let operation = how.operation(extent, flags);
        // One segment, which is what Linux sends as a rule, needs no list.
        match next {
            None => next = Some(operation),
            Some(_) => operations.push(operation),
        }
    }
    if next.is_none() {
        return Ok(good(memory, chain));
    }
    operations.reverse();
    Ok(Parsed::Work(Work { next, rest: operations, data: 0..0, data_in_bytes: 0 }))
}

/// Reads the next bytes of a list and moves on. `None`: there are fewer.
fn read_on(memory: &Memory, spans: &mut &[Span], into_span: &mut u32, mut into: &mut [u8]) -> Option<()> {
    while !into.is_empty() {
        let (first, rest) = spans.split_first()?;
        let (_, left) = first.split_at(*into_span)?;
        let len = into.len().min(left.len as usize);
        let (now, later) = into.split_at_mut(len);
        memory.read(Span { len: len as u32, ..left }, now)?;
        into = later;
        *into_span = into_span.saturating_add(len as u32);
        if *into_span == first.len {
            *into_span = 0;
            *spans = rest;
        }
    }
    Some(())
}
