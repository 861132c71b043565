//! CHAP, RFC 1994 as RFC 7143 12.1.3 uses it: one way and mutual.

use alloc::vec::Vec;

use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::Digest;
use sha3::Sha3_256;

/// CHAP_A, from IANA's "PPP Authentication Algorithms".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

/// 12.1.3: a challenge is at most 1,024 bytes.
pub const CHALLENGE_MAX_BYTES: usize = 1024;
/// The longest of [`Algorithm::response`].
pub const RESPONSE_MAX_BYTES: usize = 32;

impl Algorithm {
    pub fn decode(number: u64) -> Option<Algorithm> {
        Some(match number {
            5 => Algorithm::Md5,
            6 => Algorithm::Sha1,
            7 => Algorithm::Sha256,
            8 => Algorithm::Sha3_256,
            _ => return None,
        })
    }

    /// Bytes of our challenges: as many as the hash has, so that none comes twice.
    pub fn challenge_bytes(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sha3_256 => 32,
        }
    }

    /// The hash over identifier, secret and challenge (RFC 1994 4.1).
    pub fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn hash<D: Digest>(identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
            let mut hash = D::new();
            hash.update([identifier]);
            hash.update(secret);
            hash.update(challenge);
            Vec::from(hash.finalize().as_slice())
        }
        match self {
            Algorithm::Md5 => hash::<Md5>(identifier, secret, challenge),
            Algorithm::Sha1 => hash::<Sha1>(identifier, secret, challenge),
            Algorithm::Sha256 => hash::<Sha256>(identifier, secret, challenge),
            Algorithm::Sha3_256 => hash::<Sha3_256>(identifier, secret, challenge),
        }
    }
}

/// Compares in a time that does not tell where two values differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    let mut difference = u8::from(a.len() != b.len());
    for (a, b) in a.iter().zip(b) {
        difference |= a ^ b;
    }
    core::hint::black_box(difference) == 0
}
