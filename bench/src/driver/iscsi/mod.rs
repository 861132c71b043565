//! An iSCSI initiator (RFC 7143) of our own, apart from the target's code: what it sends, expects
//! and takes for a fault was written from the standard for itself.
//!
//! ```text
//! pdu        a protocol data unit as bytes;  wire  a connection that sends and receives them
//! text       keys and values;  chap  CHAP's answers
//! options    what to log in with;  login  the negotiation
//! initiator  a session with one connection, one call a command, every rule checked
//! stream     the same session for load: batches, no allocation for a command
//! url        iscsi://[user%secret@]host:port/iqn/lun
//! ```
//!
//! A session is strict: a target that breaks a rule of sequence numbers, bursts, offsets, residuals
//! or digests ends it with [`Error::Session`](super::error::Error::Session). What a test wants to do
//! against the rules, it does with [`Wire`], which sends any bytes.

mod chap;
mod initiator;
mod login;
mod options;
pub mod pdu;
pub mod stream;
mod task;
pub mod text;
mod url;
mod wire;

pub use chap::Algorithm;
pub use initiator::{Initiator, Message, Tag, Target};
pub use login::{Negotiated, Numbers};
pub use options::{Credentials, Options};
pub use pdu::{Pdu, lun_field};
pub use task::{Answer, Attribute, Command, Data, Residual};
pub use url::Url;
pub use wire::Wire;
