//! The control plane from outside: files, a socket, and an engine that is a
//! model of a real one.

mod api;
mod cli;
mod config;
mod documents;
mod engine;
mod import;
mod luns;
mod plan;
mod secrets;
mod sharing;
mod store;
mod targets;
