//! PERSISTENT RESERVE IN, SPC-4 6.15.

use alloc::vec::Vec;

use super::effects::Refusal;
use super::table::Reservations;
use crate::sense::Sense;

const READ_KEYS: u8 = 0x00;
const READ_RESERVATION: u8 = 0x01;
const REPORT_CAPABILITIES: u8 = 0x02;
const READ_FULL_STATUS: u8 = 0x03;

impl Reservations {
    /// The whole parameter data of a service action, at most 64 KiB; the caller cuts it to the
    /// ALLOCATION LENGTH, which alters no length field in it.
    pub fn read(&self, action: u8) -> Result<Vec<u8>, Refusal> {
        if self.is_reserved() {
            return Err(Refusal::Conflict); // SPC-2 5.5.1
        }
        if self.is_lost() {
            return Err(Sense::PERSISTENT_RESERVATION_INFORMATION_LOST.into());
        }
        match action {
            READ_KEYS => Ok(self.read_keys()),
            READ_RESERVATION => Ok(self.read_reservation()),
            REPORT_CAPABILITIES => Ok(self.report_capabilities()),
            READ_FULL_STATUS => Ok(self.read_full_status()),
            _ => Err(Sense::cdb_bit(1, 4).into()),
        }
    }

    /// PRGENERATION and ADDITIONAL LENGTH before `data`.
    fn with_header(&self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 + data.len());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&(data.len() as u32).to_be_bytes()); // below 64 KiB
        out.extend_from_slice(data);
        out
    }

    fn read_keys(&self) -> Vec<u8> {
        let keys: Vec<u8> = self.registrations.iter().flat_map(|entry| entry.key.0.to_be_bytes()).collect();
        self.with_header(&keys)
    }

    fn read_reservation(&self) -> Vec<u8> {
        let Some(held) = &self.held else { return self.with_header(&[]) };
        // Zero where every registered nexus holds it.
        let key = held.holder.as_ref().and_then(|holder| self.key_of(holder)).map_or(0, |key| key.0);
        let mut data = [0; 16];
        data[..8].copy_from_slice(&key.to_be_bytes());
        data[13] = held.kind as u8; // SCOPE is LU_SCOPE, zero
        self.with_header(&data)
    }

    fn report_capabilities(&self) -> Vec<u8> {
        Vec::from([
            0x00,
            0x08, // LENGTH
            0x9d, // RLR_C, CRH, SIP_C, ATP_C, PTPL_C
            // TMV; ALLOW COMMANDS 100b: all that SPC-4 table 65 lets pass, passes; PTPL_A.
            0xc0 | u8::from(self.aptpl),
            0xea, // all types
            0x01,
            0x00,
            0x00,
        ])
    }

    /// One descriptor a nexus, each with ALL_TG_PT zero.
    fn read_full_status(&self) -> Vec<u8> {
        let mut data = Vec::new();
        for entry in &self.registrations {
            let id = entry.peer.initiator.as_bytes();
            let mut descriptor = [0; 24];
            descriptor[..8].copy_from_slice(&entry.key.0.to_be_bytes());
            if let Some(kind) = self.persistent().filter(|_| self.is_holder(&entry.peer)) {
                descriptor[12] = 0x01; // R_HOLDER
                descriptor[13] = kind as u8;
            }
            descriptor[18..20].copy_from_slice(&entry.peer.port.0.to_be_bytes());
            descriptor[20..].copy_from_slice(&(id.len() as u32).to_be_bytes()); // at most 248
            data.extend_from_slice(&descriptor);
            data.extend_from_slice(id);
        }
        self.with_header(&data)
    }
}
