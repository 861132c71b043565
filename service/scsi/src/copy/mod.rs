//! Third-party copy (SPC-5 5.18, SBC-4 4.28): the server moves data between its volumes, and the
//! initiator does not see a byte of it.
//!
//! # The picture
//!
//! ```text
//!  EXTENDED COPY(LID1, LID4) ─► parameter.rs: descriptors ─► neighbours? ─► moves ─► work.rs
//!  POPULATE TOKEN ────────────► token.rs: a token for ranges of this unit ─► held under its list id
//!  WRITE USING TOKEN ─────────► token.rs: whose ranges? ──────────────────► moves ─► work.rs
//!  RECEIVE COPY RESULTS ──────► results.rs: what became of the list id
//! ```
//!
//! A copy is a list of [`Move`]s, carried out in pieces of the scratch memory: read here, write
//! there. Only units that the same nexus sees can be named, so an initiator copies nothing that it
//! could not read and write itself; reservations are asked of both units.
//!
//! A token stands for blocks as they were when it was made (ROD type 0080 0001h, point in time copy,
//! change vulnerable): the first write to one of them makes it void. It holds 32 bytes of randomness
//! from outside, and is worth nothing to those who guess.

use alloc::vec::Vec;

use crate::nexus::Nexus;
use crate::sense::Sense;
use crate::task_set::TaskKey;

mod page;
mod parameter;
mod results;
mod state;
mod token;
mod visit;
mod work;

pub(crate) use page::third_party_copy;
pub(crate) use parameter::{extended_copy_lid1, extended_copy_lid4};
pub(crate) use results::{
    copy_status_lid1, copy_status_lid4, failed_segment_details, operating_parameters, receive_copy_data_lid1,
    receive_copy_data_lid4, rod_token_information,
};
pub(crate) use token::{abort_copy, populate_token, write_using_token};
pub use visit::Visit;

/// Copy target descriptors in one parameter list.
pub const TARGETS_MAX: usize = 64;
/// Segment descriptors in one parameter list.
pub const SEGMENTS_MAX: usize = 256;
/// Bytes of both kinds together.
pub const DESCRIPTORS_MAX_BYTES: usize = 64 * 32 + 256 * 32;
/// Bytes that one segment may move; a command moves at most [`COPY_MAX_BYTES`].
pub const SEGMENT_MAX_BYTES: u32 = 256 << 20;
/// Bytes that one command may move, so that it ends within its time-out on a slow store.
pub const COPY_MAX_BYTES: u64 = 4 << 30;
/// Range descriptors of a token command.
pub const RANGES_MAX: usize = 64;
/// Copies whose results are held for their initiators; the oldest makes room.
const HELD_MAX: usize = 64;

/// Blocks that go from one place to another, of the same length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// `None`: zeroes.
    pub from: Option<crate::work::At>,
    pub from_first: u64,
    pub to: crate::work::At,
    pub to_first: u64,
    pub bytes: u64,
}

/// What is known of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub nexus: Nexus,
    pub list: u32,
    /// SERVICE ACTION that it was begun with.
    pub action: u8,
    pub task: TaskKey,
    /// `None`: it is under way.
    pub result: Option<Result<(), Sense>>,
    pub bytes: u64,
    pub segments: u16,
    pub token: Option<Vec<u8>>,
}

/// Copies and tokens of a unit.
#[derive(Clone, Default)]
pub(crate) struct Copies {
    pub held: Vec<Held>,
    pub tokens: Vec<token::Token>,
    /// For the next token; given from outside.
    pub entropy: Option<[u8; 32]>,
}

impl Copies {
    /// Notes a copy; what the nexus had under the same list id is forgotten.
    pub fn begin(&mut self, held: Held) {
        self.held.retain(|other| (other.nexus, other.list) != (held.nexus, held.list));
        if self.held.len() >= HELD_MAX {
            let oldest = self.held.iter().position(|other| other.result.is_some()).unwrap_or(0);
            self.held.remove(oldest);
        }
        self.held.push(held);
    }

    pub fn find(&self, nexus: Nexus, list: u32) -> Option<&Held> {
        self.held.iter().find(|held| held.nexus == nexus && held.list == list)
    }

    /// A copy with this list id is under way.
    pub fn is_busy(&self, nexus: Nexus, list: u32) -> bool {
        self.find(nexus, list).is_some_and(|held| held.result.is_none())
    }

    /// The task has ended; if it was a copy, which is what the answer says, its result is held.
    pub fn ended(&mut self, task: TaskKey, result: &Result<(), Sense>) -> bool {
        let running = |held: &&mut Held| held.task == task && held.result.is_none();
        let Some(held) = self.held.iter_mut().find(running) else { return false };
        held.result = Some(*result);
        if result.is_err() {
            held.bytes = 0;
            held.segments = 0;
        }
        true
    }

    pub fn forget(&mut self, nexus: Nexus) {
        self.held.retain(|held| held.nexus != nexus);
    }

    /// Blocks were written: tokens that stand for one of them are void. True: there was one.
    pub fn written(&mut self, first: u64, end: u64) -> bool {
        let before = self.tokens.len();
        self.tokens.retain(|token| token.ranges.iter().all(|(at, count)| *at >= end || at + count <= first));
        self.tokens.len() != before
    }
}

/// The randomness is a token that nobody has yet.
impl core::fmt::Debug for Copies {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Copies")
            .field("held", &self.held.len())
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}
