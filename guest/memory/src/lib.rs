//! A guest's memory: the one place where a [`Span`] becomes bytes.
//!
//! [`Memory`] is an immutable snapshot of the guest's memory map, shared as `Arc<Memory>`. When the
//! map changes, a new snapshot takes its place for new requests; requests under way keep the old
//! one alive, and with it the mappings, until they end. So nothing waits for a lock, and no span
//! ever names memory that is gone: at worst it names memory that the guest no longer looks at.
//!
//! The guest writes this memory while we read it. Nothing here makes a Rust reference to it; all
//! access is by relaxed atomics or by `copy_nonoverlapping` on raw pointers, and whatever is read
//! may be anything.

mod log;
mod memory;
mod window;

pub use log::Log;
pub use memory::{MapError, Memory, REGIONS_MAX, Region};
pub use window::Window;
#[cfg(feature = "crash-points")]
pub use window::crash;
