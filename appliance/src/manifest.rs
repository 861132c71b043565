//! The manifest of a package: a digest for each of its files (DSP0243, 6).

use crate::{Bytes, Fault};
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Sha1,
    Sha256,
    Sha512,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Algorithm::Sha1 => "SHA1",
            Algorithm::Sha256 => "SHA256",
            Algorithm::Sha512 => "SHA512",
        })
    }
}

/// What a file's digest has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    pub algorithm: Algorithm,
    pub value: Vec<u8>,
}

/// `SHA256(disk.vmdk)= 0123…`, one line a file.
pub fn parse(text: &str) -> Result<BTreeMap<String, Digest>, Fault> {
    let mut digests = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, digest) = parse_line(line).ok_or_else(|| {
            Fault::new(format!("the manifest has a line that is no digest: {}", shown(line)))
        })?;
        if digests.insert(name.to_owned(), digest).is_some() {
            return Err(Fault::new(format!("the manifest has two digests for `{}`", shown(name))));
        }
    }
    Ok(digests)
}

fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn parse_line(line: &str) -> Option<(&str, Digest)> {
    // A name may have brackets; a digest has none.
    let (name, value) = line.rsplit_once(')')?;
    let (algorithm, name) = name.split_once('(')?;
    let algorithm = match algorithm.trim().to_ascii_uppercase().as_str() {
        "SHA1" => Algorithm::Sha1,
        "SHA256" => Algorithm::Sha256,
        "SHA512" => Algorithm::Sha512,
        _ => return None,
    };
    let hex = value.trim_start().strip_prefix('=')?.trim();
    let length = match algorithm {
        Algorithm::Sha1 => 20,
        Algorithm::Sha256 => 32,
        Algorithm::Sha512 => 64,
    };
    if !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) || hex.len() != 2 * length {
        return None;
    }
    let byte = |at| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let value = (0..hex.len()).step_by(2).map(byte).collect::<Option<Vec<u8>>>()?;
    Some((name, Digest { algorithm, value }))
}

impl Digest {
    /// Whether the bytes have this digest. `progress` hears how many have been looked at.
    pub fn fits(&self, bytes: &dyn Bytes, mut progress: impl FnMut(u64)) -> Result<bool, Fault> {
        const CHUNK_BYTES: usize = 1 << 20;
        let mut hash: Box<dyn DynDigest> = match self.algorithm {
            Algorithm::Sha1 => Box::new(Sha1::default()),
            Algorithm::Sha256 => Box::new(Sha256::default()),
            Algorithm::Sha512 => Box::new(Sha512::default()),
        };
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < bytes.length() {
            let some = buffer.len().min(usize::try_from(bytes.length() - at).unwrap_or(usize::MAX));
            bytes.read_at(at, &mut buffer[..some]).map_err(|error| Fault::read("it", &error))?;
            hash.update(&buffer[..some]);
            at += some as u64;
            progress(at);
        }
        Ok(*hash.finalize() == *self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's example "abc".
    const ABC: &str = "SHA1(abc.ovf)= a9993e364706816aba3e25717850c26c9cd0d89d\r\n\
        SHA256(a (1).vmdk) = BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\n\n\
        SHA512(x)=ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";

    #[test]
    fn digests_fit_their_bytes_and_no_others() {
        let digests = parse(ABC).unwrap();
        let names: Vec<&str> = digests.keys().map(String::as_str).collect();
        assert_eq!(names, ["a (1).vmdk", "abc.ovf", "x"]);
        for digest in digests.values() {
            let mut heard = 0;
            assert_eq!(digest.fits(&b"abc".to_vec(), |at| heard = at), Ok(true));
            assert_eq!(heard, 3);
            assert_eq!(digest.fits(&b"abd".to_vec(), drop), Ok(false));
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for line in [
            "hello",
            "SHA1(a)= 00",
            "MD5(a)= 00",
            "SHA1(a)= zz993e364706816aba3e25717850c26c9cd0d89d",
            "SHA1(a)= +9993e364706816aba3e25717850c26c9cd0d89d",
            "SHA1(a)",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
        let line = "SHA1(a)= a9993e364706816aba3e25717850c26c9cd0d89d";
        assert!(parse(&format!("{line}\n{line}")).unwrap_err().what.contains("two digests"));
    }
}
