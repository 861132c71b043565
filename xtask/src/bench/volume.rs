//! The files that volumes and peers' disks lie in.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

pub const DISK_BYTES: u64 = 1 << 30;

/// The one file in a folder that is as large as a volume, whatever its name.
pub fn only_file(folder: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let is_volume =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|about| about.is_file() && about.len() == DISK_BYTES);
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_volume).collect();
    match <[PathBuf; 1]>::try_from(files) {
        Ok([file]) => Ok(file),
        Err(files) => {
            Err(format!("{} has {} files of the volume's size, not one", folder.display(), files.len()))
        }
    }
}

pub fn create(path: &Path) -> Result<PathBuf, String> {
    let file = fs::File::create(path).map_err(|error| format!("{}: {error}", path.display()))?;
    file.set_len(DISK_BYTES).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.to_path_buf())
}

/// Gives every block of a file data of its own: a hole would be read without the disk.
pub fn fill(path: PathBuf) -> Result<PathBuf, String> {
    let context = |error: std::io::Error| format!("filling {}: {error}", path.display());
    eprintln!("filling {}", path.display());
    let mut file = fs::OpenOptions::new().write(true).open(&path).map_err(context)?;
    let mut block: Vec<u8> = (0..1u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for number in 0..DISK_BYTES / block.len() as u64 {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block).map_err(context)?;
    }
    file.sync_all().map_err(context)?;
    Ok(path)
}
