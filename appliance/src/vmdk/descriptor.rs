//! The text of a disk: what it is, and its extents.

use crate::{Bytes, Fault};

/// VMware's is below 1 KiB; a disk of 62 TB in extents of 2 GB has 31,000 lines.
const DESCRIPTOR_BYTES_MAX: u64 = 4 << 20;
const EXTENTS_MAX: usize = 40_000;
const SIGNATURE: &[u8] = b"# Disk DescriptorFile";

#[derive(Debug)]
pub struct Descriptor {
    /// `createType`.
    kind: String,
    pub extents: Vec<Named>,
    has_parent: bool,
}

/// An extent as the text names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub sectors: u64,
    pub place: Place,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    Zero,
    Flat { file: String, sector: u64 },
    Sparse { file: String },
}

pub fn is_descriptor(bytes: &dyn Bytes) -> bool {
    let mut start = [0; SIGNATURE.len()];
    bytes.read_at(0, &mut start).is_ok() && start.eq_ignore_ascii_case(SIGNATURE)
}

impl Descriptor {
    pub fn read(bytes: &dyn Bytes) -> Result<Descriptor, Fault> {
        let length = bytes.length();
        if length > DESCRIPTOR_BYTES_MAX {
            return Err(Fault::new(format!("the descriptor has {length} bytes")));
        }
        let mut text = vec![0; length as usize];
        bytes.read_at(0, &mut text).map_err(|error| Fault::read("the descriptor", &error))?;
        Descriptor::parse(&text)
    }

    /// From bytes that may end with zeros, as in a sparse file, and may name files in any encoding.
    pub fn parse(text: &[u8]) -> Result<Descriptor, Fault> {
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        let text = String::from_utf8_lossy(&text[..end]);
        let mut found = Descriptor { kind: String::new(), extents: Vec::new(), has_parent: false };
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let access = line.split_ascii_whitespace().next().unwrap_or_default();
            if ["RW", "RDONLY", "NOACCESS"].contains(&access) {
                if found.extents.len() == EXTENTS_MAX {
                    return Err(Fault::new(format!("the disk has more than {EXTENTS_MAX} extents")));
                }
                found.extents.push(extent(line)?);
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match key.trim().to_ascii_lowercase().as_str() {
                "createtype" => value.clone_into(&mut found.kind),
                "parentcid" => found.has_parent |= !value.eq_ignore_ascii_case("ffffffff"),
                "parentfilenamehint" => found.has_parent = true,
                _ => {}
            }
        }
        Ok(found)
    }

    pub fn refuse_parent(&self) -> Result<(), Fault> {
        match self.kind.to_ascii_lowercase().as_str() {
            "sesparse" => return Err(super::snapshot("a space-efficient sparse disk (seSparse)")),
            "fulldevice"
            | "partitioneddevice"
            | "vmfsraw"
            | "vmfsrawdevicemap"
            | "vmfspassthroughrawdevicemap" => {
                return Err(Fault::new(format!(
                    "the disk stands for a device of its host (`{}`), and its bytes are there",
                    self.kind
                ))
                .hint("copy the device itself, or export the VM, which makes a copy of it"));
            }
            _ => {}
        }
        if self.has_parent { Err(super::snapshot("a snapshot of another disk")) } else { Ok(()) }
    }
}

/// `RW 4192256 SPARSE "disk-s001.vmdk"`, `RW 2097152 FLAT "disk-flat.vmdk" 0`, `RW 63 ZERO`.
fn extent(line: &str) -> Result<Named, Fault> {
    let broken = || Fault::new(format!("the descriptor's extent is not understood: {}", shown(line)));
    let mut rest = line;
    let mut word = || {
        let (word, after) = rest.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((rest, ""));
        rest = after.trim_start();
        word
    };
    let access = word();
    let sectors = word().parse().map_err(|_| broken())?;
    let kind = word();
    if access == "NOACCESS" {
        return Err(Fault::new("the disk has an extent that nobody may read (NOACCESS)"));
    }
    if kind == "ZERO" {
        return Ok(Named { sectors, place: Place::Zero });
    }
    let (file, after) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')).ok_or_else(broken)?;
    let file = file.to_owned();
    let place = match kind {
        "FLAT" | "VMFS" => {
            let sector = match after.trim() {
                "" => 0,
                number => number.parse().map_err(|_| broken())?,
            };
            Place::Flat { file, sector }
        }
        "SPARSE" => Place::Sparse { file },
        "VMFSSPARSE" => return Err(super::snapshot("a redo log of an ESX host (vmfsSparse)")),
        "SESPARSE" => return Err(super::snapshot("a space-efficient sparse disk (seSparse)")),
        _ => {
            return Err(Fault::new(format!(
                "the disk has an extent of type {}, whose bytes are elsewhere",
                shown(kind)
            ))
            .hint("export the VM, which makes whole disks"));
        }
    };
    Ok(Named { sectors, place })
}

fn shown(text: &str) -> String {
    text.chars().take(120).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT: &[u8] = b"# Disk DescriptorFile\nversion=1\nCID=1a2b3c4d\nparentCID=ffffffff\r\n\
        createType=\"twoGbMaxExtentFlat\"\n# Extent description\nRW 4192256 FLAT \"my disk-f001.vmdk\" 0\n\
        RW 63 ZERO\n  RW\t8  FLAT \t\"b  c.vmdk\"\t 4 \n#DDB\nddb.adapterType = \"lsilogic\"\n\0\0";

    #[test]
    fn a_descriptor_is_read() {
        let found = Descriptor::parse(FLAT).unwrap();
        assert_eq!(found.kind, "twoGbMaxExtentFlat");
        let flat = |file: &str, sector| Place::Flat { file: file.into(), sector };
        assert_eq!(
            found.extents,
            [
                Named { sectors: 4_192_256, place: flat("my disk-f001.vmdk", 0) },
                Named { sectors: 63, place: Place::Zero },
                Named { sectors: 8, place: flat("b  c.vmdk", 4) },
            ]
        );
        assert_eq!(found.refuse_parent(), Ok(()));
        assert!(is_descriptor(&FLAT.to_vec()));
    }

    #[test]
    fn snapshots_and_devices_are_refused() {
        let refused = |text: &str| {
            let parsed = Descriptor::parse(text.as_bytes());
            parsed.and_then(|found| found.refuse_parent()).unwrap_err().what
        };
        assert!(refused("parentCID=1a2b3c4d").contains("a snapshot of another disk"));
        assert!(refused("parentFileNameHint=\"base.vmdk\"").contains("a snapshot of another disk"));
        assert!(refused("RW 8 VMFSSPARSE \"x-delta.vmdk\"").contains("vmfsSparse"));
        assert!(refused("RW 8 SESPARSE \"x-sesparse.vmdk\"").contains("seSparse"));
        assert!(refused("createType=\"seSparse\"").contains("seSparse"));
        assert!(refused("createType=\"vmfsRawDeviceMap\"").contains("a device of its host"));
        assert!(refused("RW 8 VMFSRDM \"x-rdm.vmdk\"").contains("type VMFSRDM"));
        assert!(refused("NOACCESS 8 FLAT \"x\" 0").contains("NOACCESS"));
        for line in [
            "RW",
            "RW x FLAT \"a\"",
            "RW 8",
            "RW 8 FLAT a",
            "RW 8 FLAT \"a",
            "RW 8 FLAT \"a\" x",
            "RW -8 ZERO",
        ] {
            assert!(refused(line).contains("not understood"), "{line}");
        }
    }
}
