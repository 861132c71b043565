//! CRC32C over bytes of a connection's memory, RFC 7143 13.1.

use guest_memory::Memory;
use request::Span;

/// Goes over spans by way of a buffer on the stack: nothing here may hold a reference to memory
/// that others can write.
pub(crate) fn append(mut crc: u32, memory: &Memory, spans: &[Span]) -> u32 {
    let mut buffer = [0; 4096];
    for span in spans {
        let mut rest = *span;
        while rest.len > 0 {
            let len = rest.len.min(buffer.len() as u32);
            let Some((head, tail)) = rest.split_at(len) else { return crc };
            let Some(part) = buffer.get_mut(..len as usize) else { return crc };
            if memory.read(head, part).is_none() {
                return crc;
            }
            crc = crc32c::crc32c_append(crc, part);
            rest = tail;
        }
    }
    crc
}

/// As it is sent: the least significant byte first.
pub(crate) fn bytes(crc: u32) -> [u8; 4] {
    crc.to_le_bytes()
}
