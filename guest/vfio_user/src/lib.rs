//! The vfio-user protocol as a function.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
