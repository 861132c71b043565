//! `key=value` pairs, RFC 7143 6.1: UTF-8, each ended by a zero.

use alloc::string::String;
use alloc::vec::Vec;

use crate::fault::Fault;
use crate::limits::{PAIRS_MAX, TEXT_MAX_BYTES};

/// 6.1: a key name is at most 63 bytes.
const KEY_MAX_BYTES: usize = 63;

/// The pairs of a whole text (all PDUs of it put together).
pub fn pairs(text: &[u8]) -> Result<Vec<(&str, &str)>, Fault> {
    let mut found = Vec::new();
    for pair in text.split(|byte| *byte == 0) {
        if pair.is_empty() {
            // Behind the last zero, and between zeroes: some initiators pad with more of them.
            continue;
        }
        let pair = core::str::from_utf8(pair).map_err(|_| Fault::TextMalformed)?;
        let (key, value) = pair.split_once('=').ok_or(Fault::TextMalformed)?;
        let legal = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'@' | b'_' | b'#')
        };
        if key.is_empty() || key.len() > KEY_MAX_BYTES || !key.bytes().all(legal) {
            return Err(Fault::TextMalformed);
        }
        if found.len() >= PAIRS_MAX {
            return Err(Fault::TextTooLong);
        }
        found.push((key, value));
    }
    Ok(found)
}

/// A text that is being put together from PDUs, or made for an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text(pub Vec<u8>);

impl Text {
    pub fn append(&mut self, part: &[u8]) -> Result<(), Fault> {
        if part.len() > TEXT_MAX_BYTES.saturating_sub(self.0.len()) {
            return Err(Fault::TextTooLong);
        }
        self.0.extend_from_slice(part);
        Ok(())
    }

    pub fn put(&mut self, key: &str, value: &str) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
    }
}

/// A numerical value, 6.1: decimal, or hexadecimal behind `0x`.
pub fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (text.get(2..)?, 16),
        _ => (text, 10),
    };
    // `from_str_radix` takes signs, a number of RFC 7143 has none.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// A binary value, 6.1: hexadecimal behind `0x`, base64 behind `0b`, at most `max` bytes.
pub fn binary(text: &str, max: usize) -> Option<Vec<u8>> {
    match text.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits, max),
        [b'0', b'b' | b'B', digits @ ..] => base64(digits, max),
        _ => None,
    }
}

fn hexadecimal(digits: &[u8], max: usize) -> Option<Vec<u8>> {
    if digits.is_empty() || digits.len() > max.checked_mul(2)? {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    // An odd number of digits: the first one stands alone.
    let (first, pairs) = digits.split_at(digits.len() % 2);
    if let [lone] = first {
        bytes.push(digit(*lone)?);
    }
    for pair in pairs.chunks_exact(2) {
        bytes.push(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?);
    }
    (bytes.len() <= max).then_some(bytes)
}

fn base64(digits: &[u8], max: usize) -> Option<Vec<u8>> {
    let content = digits.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at.saturating_add(1));
    let (content, fill) = digits.split_at(content);
    if content.is_empty() || !digits.len().is_multiple_of(4) || fill.len() > 2 || content.len() / 4 > max / 3
    {
        return None;
    }
    let mut bytes = Vec::with_capacity(content.len());
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in content {
        let value = match byte {
            b'A'..=b'Z' => byte.wrapping_sub(b'A'),
            b'a'..=b'z' => byte.wrapping_sub(b'a' - 26),
            b'0'..=b'9' => byte.wrapping_add(52 - b'0'),
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        // Never above 13.
        count = count.wrapping_add(6);
        if count >= 8 {
            count = count.wrapping_sub(8);
            bytes.push((bits >> count) as u8); // the upper bits were given before
        }
    }
    (bytes.len() <= max).then_some(bytes)
}

/// `0x` and the digits.
pub fn to_hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::from("0x");
    for byte in bytes {
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}
