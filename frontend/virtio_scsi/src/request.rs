//! The request queues: 5.6.6.1.

use core::ops::Range;

use guest_memory::Memory;
use request::{Span, cut, total};
use virtqueue::Chain;

use crate::bits::{response, size};
use crate::config::Sizes;
use crate::fault::{Fault, Refused};
use crate::place::Place;

/// Bytes of a CDB that are kept. `cdb_size` may be larger, but no command that a disk knows is.
const CDB_KEPT: usize = 32;

/// The longest response header with sense data: `Sizes` allows no more.
const RESPONSE_MAX: usize = 12 + 252;

/// A CDB: as many bytes as the driver sends, and at most 32 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; CDB_KEPT],
    len: u8,
}

impl core::ops::Deref for Cdb {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// Task attributes. Reserved values count as SIMPLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    Simple,
    Ordered,
    HeadOfQueue,
    Aca,
}

/// A request: what it says, and where its parts lie in the chain's list of spans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub place: Place,
    /// The driver's name for the request; task management refers to it.
    pub id: u64,
    pub attribute: Attribute,
    pub cdb: Cdb,
    /// Bytes of both data buffers as the driver gave them.
    offered: u64,
    response_bytes: u16,
    response: Range<u16>,
    data_out: Range<u16>,
    data_in: Range<u16>,
}

/// The end of a request, as the device says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer<'a> {
    /// One of [`crate::bits::response`].
    pub response: u8,
    /// The SCSI status, with `response::OK`.
    pub status: u8,
    pub status_qualifier: u16,
    /// Cut to `sense_size`.
    pub sense: &'a [u8],
    /// Bytes of the data buffers that were not used.
    pub residual: u32,
}

impl Answer<'_> {
    /// An end without a SCSI status: one of [`crate::bits::response`].
    pub const fn failure(response: u8) -> Answer<'static> {
        Answer { response, status: 0, status_qualifier: 0, sense: &[], residual: 0 }
    }
}

/// Reads a request and cuts the chain's list at the borders of its parts.
pub fn parse(memory: &Memory, chain: &mut Chain, sizes: Sizes) -> Result<Task, Refused> {
    // The response first: without room for it nothing can be answered.
    let (response, data_in) = cut_writable(chain, sizes)?;
    let refuse = |chain: &Chain, fault, code| {
        let spans = spans(chain, &response);
        let written = write_response(memory, spans, sizes.response(), &Answer::failure(code));
        Refused { fault, written }
    };
    let Some(header_end) = cut(&mut chain.spans, 0, chain.writable_from, sizes.request() as u64) else {
        return Err(refuse(chain, Fault::RequestTooShort, response::FAILURE));
    };
    // A split of a readable span moves everything behind it by one.
    let (moved, response, data_in) = match chain.spans.len().checked_sub(usize::from(data_in.end)) {
        Some(1) => (1, shift(&response), shift(&data_in)),
        _ => (0, response.clone(), data_in),
    };
    chain.writable_from = chain.writable_from.saturating_add(moved);
    let refuse = |fault, code| {
        let spans = spans(chain, &response);
        let written = write_response(memory, spans, sizes.response(), &Answer::failure(code));
        Refused { fault, written }
    };
    let data_out = range(header_end, chain.writable_from);

    let kept = sizes.cdb().min(CDB_KEPT);
    let mut header = [0; size::REQUEST_HEADER + CDB_KEPT];
    let wanted = size::REQUEST_HEADER.saturating_add(kept);
    let header = header.get_mut(..wanted).unwrap_or_default();
    if memory.gather(chain.spans.get(..header_end).unwrap_or_default(), header) != wanted {
        return Err(refuse(Fault::RequestTooShort, response::FAILURE));
    }
    let Some((fixed, cdb)) = header.split_first_chunk::<{ size::REQUEST_HEADER }>() else {
        return Err(refuse(Fault::RequestTooShort, response::FAILURE));
    };
    // lun, id, task_attr, prio, crn.
    let [l0, l1, l2, l3, l4, l5, l6, l7, id @ .., attribute, _prio, _crn] = *fixed;
    if !data_out.is_empty() && !data_in.is_empty() {
        return Err(refuse(Fault::BothDirections, response::FAILURE));
    }
    let Some(place) = Place::decode([l0, l1, l2, l3, l4, l5, l6, l7]) else {
        return Err(refuse(Fault::BadLun, response::BAD_TARGET));
    };
    let mut bytes = [0; CDB_KEPT];
    for (into, from) in bytes.iter_mut().zip(cdb.iter()) {
        *into = *from;
    }
    let attribute = match attribute {
        1 => Attribute::Ordered,
        2 => Attribute::HeadOfQueue,
        3 => Attribute::Aca,
        _ => Attribute::Simple,
    };
    let offered = [&data_out, &data_in].map(|range| total(spans(chain, range)));
    Ok(Task {
        offered: offered.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes)),
        place,
        id: u64::from_le_bytes(id),
        attribute,
        // At most 32 and 264.
        cdb: Cdb { bytes, len: kept as u8 },
        response_bytes: sizes.response() as u16,
        response,
        data_out,
        data_in,
    })
}

/// The spans of the response and of data-in.
fn cut_writable(chain: &mut Chain, sizes: Sizes) -> Result<(Range<u16>, Range<u16>), Refused> {
    let from = chain.writable_from;
    let to = chain.spans.len();
    match cut(&mut chain.spans, from, to, sizes.response() as u64) {
        Some(end) => Ok((range(from, end), range(end, chain.spans.len()))),
        None => Err(Refused { fault: Fault::ResponseTooShort, written: 0 }),
    }
}

/// A chain has at most 1,026 spans, and at most two more after the cuts.
fn range(from: usize, to: usize) -> Range<u16> {
    from as u16..to as u16
}

fn shift(range: &Range<u16>) -> Range<u16> {
    range.start.saturating_add(1)..range.end.saturating_add(1)
}

fn spans<'a>(chain: &'a Chain, range: &Range<u16>) -> &'a [Span] {
    chain.spans.get(usize::from(range.start)..usize::from(range.end)).unwrap_or(&[])
}

impl Task {
    /// What the driver sends.
    pub fn data_out<'a>(&self, chain: &'a Chain) -> &'a [Span] {
        spans(chain, &self.data_out)
    }

    /// What the driver wants filled.
    pub fn data_in<'a>(&self, chain: &'a Chain) -> &'a [Span] {
        spans(chain, &self.data_in)
    }

    /// Bytes of both, before they were limited.
    pub fn offered(&self) -> u64 {
        self.offered
    }

    /// Leaves exactly `bytes` of data-out. False, and nothing is changed, if there are fewer.
    pub fn limit_data_out(&mut self, chain: &mut Chain, bytes: u64) -> bool {
        limit(chain, &mut self.data_out, bytes)
    }

    /// Leaves exactly `bytes` of data-in. False, and nothing is changed, if there are fewer.
    pub fn limit_data_in(&mut self, chain: &mut Chain, bytes: u64) -> bool {
        limit(chain, &mut self.data_in, bytes)
    }

    /// Writes the response. `data_in` is the number of bytes that were written into the data-in
    /// spans from their beginning. Returns the used length.
    pub fn finish(&self, memory: &Memory, chain: &Chain, answer: &Answer<'_>, data_in: u64) -> u32 {
        let response = spans(chain, &self.response);
        let written = write_response(memory, response, usize::from(self.response_bytes), answer);
        written.saturating_add(u32::try_from(data_in).unwrap_or(u32::MAX))
    }
}

/// Shortens a run of spans; what is behind stays in the chain, and nobody's.
fn limit(chain: &mut Chain, range: &mut Range<u16>, bytes: u64) -> bool {
    let run = usize::from(range.start)..usize::from(range.end);
    let run = chain.spans.get_mut(run).unwrap_or_default();
    let mut left = bytes;
    for (index, span) in run.iter_mut().enumerate() {
        if left == 0 {
            range.end = range.start.saturating_add(index as u16);
            return true;
        }
        if u64::from(span.len) > left {
            // Less than a 32-bit length.
            span.len = left as u32;
        }
        left = left.saturating_sub(u64::from(span.len));
    }
    left == 0
}

/// The whole response area is written, unused sense data as zeroes, so that the used length counts
/// bytes that were written.
fn write_response(memory: &Memory, spans: &[Span], bytes: usize, answer: &Answer<'_>) -> u32 {
    let mut area = [0; RESPONSE_MAX];
    let area = area.get_mut(..bytes).unwrap_or_default();
    let Some((header, sense)) = area.split_first_chunk_mut::<{ size::RESPONSE_HEADER }>() else { return 0 };
    let sense_len = answer.sense.len().min(sense.len());
    for (into, from) in sense.iter_mut().zip(answer.sense) {
        *into = *from;
    }
    let [s0, s1, s2, s3] = (sense_len as u32).to_le_bytes(); // at most 252
    let [r0, r1, r2, r3] = answer.residual.to_le_bytes();
    let [q0, q1] = answer.status_qualifier.to_le_bytes();
    *header = [s0, s1, s2, s3, r0, r1, r2, r3, q0, q1, answer.status, answer.response];
    memory.scatter(spans, area) as u32
}
