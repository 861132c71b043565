//! The loads: what the benchmarks and the torture runs put on the server and on its peers.

pub mod command;
pub mod crowd;
pub mod daemon;
pub mod disk;
pub mod frame;
pub mod hostile;
pub mod iscsi;
pub mod latency;
pub mod net;
pub mod pattern;
pub mod random;
