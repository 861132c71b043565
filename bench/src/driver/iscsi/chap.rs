//! CHAP (RFC 1994, RFC 7143 12.1.3): the hash of identifier, secret and challenge.

use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use sha2::digest::Digest;
use sha3::Sha3_256;

/// CHAP_A, from IANA's PPP authentication algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
    Sha3_256 = 8,
}

impl Algorithm {
    pub const ALL: [Algorithm; 4] = [Algorithm::Sha3_256, Algorithm::Sha256, Algorithm::Sha1, Algorithm::Md5];

    pub fn find(number: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|known| (*known as u8).to_string() == number)
    }

    /// CHAP_R.
    pub fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        let message = [&[identifier], secret, challenge].concat();
        match self {
            Algorithm::Md5 => Md5::digest(&message).to_vec(),
            Algorithm::Sha1 => Sha1::digest(&message).to_vec(),
            Algorithm::Sha256 => Sha256::digest(&message).to_vec(),
            Algorithm::Sha3_256 => Sha3_256::digest(&message).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_over_identifier_secret_and_challenge_in_this_order() {
        // RFC 1321 A.5, MD5 ("abc"); FIPS 180 examples, SHA-1 and SHA-256 of "abc".
        assert_eq!(
            Algorithm::Md5.response(b'a', b"b", b"c"),
            [0x90, 0x01, 0x50, 0x98, 0x3c, 0xd2, 0x4f, 0xb0, 0xd6, 0x96, 0x3f, 0x7d, 0x28, 0xe1, 0x7f, 0x72]
        );
        assert_eq!(Algorithm::Sha1.response(b'a', b"b", b"c")[..4], [0xa9, 0x99, 0x3e, 0x36]);
        assert_eq!(Algorithm::Sha256.response(b'a', b"b", b"c")[..4], [0xba, 0x78, 0x16, 0xbf]);
        assert_eq!(Algorithm::Sha3_256.response(b'a', b"b", b"c")[..4], [0x3a, 0x98, 0x5d, 0xa7]);
        assert_eq!(Algorithm::find("7"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::find("9"), None);
    }
}
