//! The way between initiators and the target: memory that outlives the worker, as guest memory and a
//! session's memory do. A place in it holds a command from the moment it is posted until its
//! initiator has looked at the answer.

use std::sync::Arc;

use guest_memory::{Memory, Window};
use request::Span;

use super::table::INITIATORS;

/// Commands that an initiator has out at most.
pub const DEPTH: usize = 5;
pub const PLACES: usize = INITIATORS * DEPTH;
/// Data-out and data-in of one command: COMPARE AND WRITE of four blocks gives eight.
pub const OUT_BYTES: u32 = 4096;
pub const IN_BYTES: u32 = 4096;
const PLACE_BYTES: u64 = (OUT_BYTES + IN_BYTES) as u64;

/// A place's way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Free,
    Posted,
    /// A worker has noted it, and may have begun it.
    Noted,
    Ended,
}

#[derive(Clone, Debug, Default)]
pub struct Request {
    pub cdb: Vec<u8>,
    pub out_bytes: u32,
    pub in_bytes: u32,
    /// The initiator's name of the task.
    pub id: u64,
}

/// An answer as its initiator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    pub status: u8,
    /// Key, code, qualifier.
    pub sense: Option<[u8; 3]>,
    pub data_in: u32,
}

pub struct Wire {
    pub memory: Arc<Memory>,
    window: Window,
    requests: Vec<Request>,
    /// A worker has given an end that was given already.
    pub repeated: u64,
}

impl Wire {
    pub fn new() -> Self {
        Self {
            memory: Memory::anonymous(PLACES * PLACE_BYTES as usize),
            window: Window::anonymous(PLACES * 16),
            requests: vec![Request::default(); PLACES],
            repeated: 0,
        }
    }

    pub fn out_span(&self, place: usize) -> Span {
        let offset = place as u64 * PLACE_BYTES;
        Span { offset, len: self.requests[place].out_bytes, region: 0 }
    }

    pub fn in_span(&self, place: usize) -> Span {
        let offset = place as u64 * PLACE_BYTES + u64::from(OUT_BYTES);
        Span { offset, len: self.requests[place].in_bytes, region: 0 }
    }

    pub fn request(&self, place: usize) -> &Request {
        &self.requests[place]
    }

    pub fn life(&self, place: usize) -> Life {
        match self.window.load_acquire_u8(place * 16) {
            0 => Life::Free,
            1 => Life::Posted,
            2 => Life::Noted,
            _ => Life::Ended,
        }
    }

    /// By the initiator.
    pub fn post(&mut self, place: usize, cdb: &[u8], out: &[u8], in_bytes: u32, id: u64) {
        assert!(self.life(place) == Life::Free && out.len() <= OUT_BYTES as usize && in_bytes <= IN_BYTES);
        self.requests[place] = Request { cdb: cdb.to_vec(), out_bytes: out.len() as u32, in_bytes, id };
        self.memory.write(self.out_span(place), out).expect("within the memory");
        self.memory.write(self.in_span(place), &vec![0xee; in_bytes as usize]).expect("within the memory");
        self.window.store_release_u8(place * 16, 1);
    }

    /// By the worker, before it begins.
    pub fn note(&self, place: usize) {
        self.window.store_release_u8(place * 16, 2);
    }

    /// By the worker: the answer becomes visible.
    pub fn answer(&mut self, place: usize, answered: Answered) {
        if self.life(place) != Life::Noted {
            self.repeated += 1;
            return;
        }
        let at = place * 16;
        self.window.store_u8(at + 1, answered.status);
        self.window.store_u8(at + 2, u8::from(answered.sense.is_some()));
        self.window.write_bytes(at + 3, &answered.sense.unwrap_or_default());
        self.window.store_u32(at + 8, answered.data_in);
        self.window.store_release_u8(at, 3);
    }

    /// By the initiator, which takes the answer and the data.
    pub fn take(&self, place: usize) -> Option<(Answered, Vec<u8>)> {
        if self.life(place) != Life::Ended {
            return None;
        }
        let at = place * 16;
        let mut sense = [0; 3];
        self.window.read_bytes(at + 3, &mut sense);
        let data_in = self.window.load_u32(at + 8).min(self.requests[place].in_bytes);
        let sense = (self.window.load_u8(at + 2) != 0).then_some(sense);
        let answered = Answered { status: self.window.load_u8(at + 1), sense, data_in };
        let mut data = vec![0; data_in as usize];
        self.memory.read(Span { len: data_in, ..self.in_span(place) }, &mut data).expect("within the memory");
        self.window.store_release_u8(at, 0);
        Some((answered, data))
    }
}
