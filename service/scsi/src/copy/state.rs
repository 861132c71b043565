//! What of copies and tokens outlives the process: tokens, and results that are held. A copy that
//! was under way is run again by its initiator's command.

use alloc::vec::Vec;

use super::token::{TOKEN_BYTES, TOKENS_MAX, Token};
use super::{Copies, HELD_MAX, Held, RANGES_MAX};
use crate::nexus::Nexus;
use crate::sense::Sense;
use crate::state::Reader;
use crate::task_set::TaskKey;

impl Copies {
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.held.iter().all(|held| held.result.is_none())
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::from([self.tokens.len() as u8]); // TOKENS_MAX at most
        for token in &self.tokens {
            bytes.extend_from_slice(&token.secret);
            bytes.push(token.ranges.len() as u8); // RANGES_MAX at most
            for (first, count) in &token.ranges {
                bytes.extend_from_slice(&first.to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        for held in &self.held {
            let Some(result) = &held.result else { continue };
            bytes.extend_from_slice(&held.nexus.0.to_le_bytes());
            bytes.extend_from_slice(&held.list.to_le_bytes());
            let (key, asc, ascq) = match result {
                Ok(()) => (0xff, 0, 0),
                Err(sense) => (sense.key as u8, sense.asc, sense.ascq),
            };
            bytes.extend_from_slice(&[held.action, key, asc, ascq]);
            bytes.extend_from_slice(&held.bytes.to_le_bytes());
            bytes.extend_from_slice(&held.segments.to_le_bytes());
            bytes.push(u8::from(held.token.is_some()));
            bytes.extend_from_slice(held.token.as_deref().unwrap_or(&[]));
        }
        bytes
    }

    /// As much as makes sense.
    pub fn decode(text: &mut Reader<'_>) -> Copies {
        let mut copies = Copies::default();
        let _ = copies.take(text);
        copies
    }

    fn take(&mut self, text: &mut Reader<'_>) -> Option<()> {
        for _ in 0..usize::from(text.u8()?).min(TOKENS_MAX) {
            let mut secret = [0; 32];
            secret.copy_from_slice(text.take(32)?);
            let mut ranges = Vec::new();
            for _ in 0..usize::from(text.u8()?).min(RANGES_MAX) {
                ranges.push((text.u64()?, text.u64()?));
            }
            // Sums of what was stored by somebody else must not overflow later.
            if ranges.iter().all(|(first, count)| first.checked_add(*count).is_some_and(|end| end < 1 << 52))
            {
                self.tokens.push(Token { secret, ranges });
            }
        }
        while !text.is_empty() && self.held.len() < HELD_MAX {
            let (nexus, list) = (Nexus(text.u32()?), text.u32()?);
            let action = text.u8()?;
            let codes = (text.u8()?, text.u8()?, text.u8()?);
            let result = match codes.0 {
                0xff => Ok(()),
                key => Err(Sense::of_codes(key, codes.1, codes.2)?),
            };
            let (bytes, segments) = (text.u64()?, text.u16()?);
            let token = match text.u8()? {
                0 => None,
                _ => Some(text.take(TOKEN_BYTES)?.to_vec()),
            };
            let task = TaskKey(u32::MAX);
            self.held.push(Held { nexus, list, action, task, result: Some(result), bytes, segments, token });
        }
        Some(())
    }
}
