//! AMD PCnet-PCI II and PCnet-FAST III, as VMware's vlance.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
