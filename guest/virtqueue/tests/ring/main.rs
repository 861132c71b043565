//! The rings against an independent driver.

mod chains;
mod crash;
mod driver;
mod notify;
