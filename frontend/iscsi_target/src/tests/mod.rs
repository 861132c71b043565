//! The protocol against an initiator that is written by hand, in bytes.

mod chap;
mod crash;
mod data;
mod golden;
mod hostile;
mod keys;
mod life;
mod login;
mod manage;
mod rig;
mod strangers;
mod text;
mod window;
