//! Golden values, typed from PCI Local Bus 3.0.
