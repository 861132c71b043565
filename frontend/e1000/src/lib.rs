//! Intel 8254x and 82574: the E1000 family.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
