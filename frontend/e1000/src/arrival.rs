//! A frame that comes in: filtered, without its tag if the driver wants that, with its checksum.

use frame::{Body, Frame, HEADER_MAX, Refused};
use request::{CHECKSUM_NONE, Rewrite};

use crate::checksum::Sum;
use crate::filter::{self, Pass};
use crate::receive::Settings;
use crate::registers::Registers;

/// Room for a header that a tag is put into.
pub type Scratch = [u8; HEADER_MAX + 8];

/// A frame that passed the filters.
pub struct Arrival<'a> {
    pub frame: &'a Frame<'a>,
    pub front: Front<'a>,
    /// The first half of an extended descriptor.
    pub hash: u64,
}

/// A frame's first bytes as the driver is to have them.
pub struct Front<'a> {
    pub bytes: &'a [u8],
    /// Tag control information, if the tag was taken out.
    pub tag: Option<u16>,
    pub pass: Pass,
}

impl<'a> Front<'a> {
    /// Rewritten, filtered, stripped, and with the checksum that its sender left undone, so that a
    /// driver that passes the frame on passes on a whole one.
    pub fn new(
        registers: &Registers,
        settings: &Settings,
        frame: &'a Frame<'a>,
        rewrite: Rewrite,
        scratch: &'a mut Scratch,
    ) -> Result<Front<'a>, Refused> {
        if frame.header.len() > HEADER_MAX {
            return Err(Refused::Malformed);
        }
        // Nearly always it stays as it is.
        if rewrite == Rewrite::Keep && frame.facts.checksum_start == CHECKSUM_NONE {
            let pass = judge(registers, settings, frame.header)?;
            if !settings.strip || filter::tag(registers, frame.header).is_none() {
                return Ok(Front { bytes: frame.header, tag: None, pass });
            }
        }
        let mut len = rewrite.apply(frame.header, scratch).ok_or(Refused::Malformed)?;
        let pass = judge(registers, settings, &scratch[..len])?;
        let tag = if settings.strip { filter::tag(registers, &scratch[..len]) } else { None };
        if tag.is_some() {
            scratch.copy_within(16..len, 12);
            len -= 4;
        }
        let bytes = &mut scratch[..len];
        finish_checksum(bytes, frame, rewrite, tag.is_some()).ok_or(Refused::BadMemory)?;
        Ok(Front { bytes, tag, pass })
    }
}

fn judge(registers: &Registers, settings: &Settings, first: &[u8]) -> Result<Pass, Refused> {
    if first.len() < 14 {
        return Err(Refused::Malformed);
    }
    if settings.open {
        return Ok(Pass::Exact);
    }
    filter::pass(registers, first).ok_or(Refused::Filtered)
}

fn finish_checksum(header: &mut [u8], frame: &Frame<'_>, rewrite: Rewrite, stripped: bool) -> Option<()> {
    let facts = frame.facts.after(rewrite);
    if facts.checksum_start == CHECKSUM_NONE {
        return Some(());
    }
    let moved = if stripped { 4 } else { 0 };
    let start = usize::from(facts.checksum_start).checked_sub(moved)?;
    let place = start.checked_add(usize::from(facts.checksum_offset))?;
    let mut sum = Sum::default();
    sum.add(header.get(start..)?);
    match frame.body {
        Body::Bytes(bytes) => sum.add(bytes),
        Body::Guest(memory, spans) => {
            let mut chunk = [0; 512];
            for span in spans {
                let mut span = *span;
                while span.len > 0 {
                    let count = span.len.min(chunk.len() as u32);
                    let (now, later) = span.split_at(count)?;
                    memory.read(now, &mut chunk[..count as usize])?;
                    sum.add(&chunk[..count as usize]);
                    span = later;
                }
            }
        }
    }
    let finished = sum.finished();
    // UDP over IPv4 has no checksum of zero (RFC 768); TCP's at offset 16 may be.
    let finished = if finished == 0 && facts.checksum_offset == 6 { 0xffff } else { finished };
    header.get_mut(place..place + 2)?.copy_from_slice(&finished.to_be_bytes());
    Some(())
}
