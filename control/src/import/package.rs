//! The files of a package: in an OVA, or in a folder with a description.

use super::problem;
use crate::problem::Problem;
use appliance::manifest::{self, Digest};
use appliance::ovf::DESCRIPTION_MAX_BYTES;
use appliance::{Bytes, Fault, Joined, Part, Source, archive, text};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

const MANIFEST_MAX_BYTES: u64 = 16 << 20;
/// Chunks of one file; DSP0243 numbers them with nine digits.
const CHUNKS_MAX: u32 = 100_000;

/// A file of the host.
pub struct HostFile {
    file: File,
    length: u64,
}

impl HostFile {
    /// Opens a plain file, and nothing that could block or be endless.
    pub fn open(path: &Path) -> io::Result<HostFile> {
        let nonblock = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is no plain file"));
        }
        Ok(HostFile { length: found.len(), file })
    }

    /// A file that is open already.
    pub fn of(file: File) -> io::Result<HostFile> {
        Ok(HostFile { length: file.metadata()?.len(), file })
    }
}

impl Bytes for HostFile {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }
}

enum Holder {
    Archive(BTreeMap<String, Source>),
    /// Without links in its path.
    Folder(PathBuf),
}

pub struct Package {
    path: PathBuf,
    holder: Holder,
    /// The description's name in the package.
    description: String,
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        _ => "name an .ova or .ovf file, or a folder with an .ovf file in it, that you may read",
    };
    Problem::invalid(format!("cannot read the package: {error}")).at(path.display().to_string()).hint(hint)
}

impl Package {
    /// An `.ova`, an `.ovf`, or a folder with one.
    pub fn open(path: &Path) -> Result<Package, Problem> {
        let found = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if found.is_dir() {
            return Package::folder(path, path, None);
        }
        let file = HostFile::open(path).map_err(|error| unreadable(path, &error))?;
        let mut start = [0; 512];
        let start = &mut start[..file.length().min(512) as usize];
        file.read_at(0, start).map_err(|error| unreadable(path, &error))?;
        let blank = |byte: &u8| byte.is_ascii_whitespace() || [0xef, 0xbb, 0xbf].contains(byte);
        if start.iter().find(|byte| !blank(byte)) == Some(&b'<') {
            let name = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            return Package::folder(path, folder.unwrap_or(Path::new(".")), name);
        }
        let whole: Source = Arc::new(file);
        if appliance::vmdk::is_vmdk(whole.as_ref()) {
            return Err(Problem::invalid("this is a disk without the description of a VM")
                .at(path.display().to_string())
                .hint("make a volume for it and import it there: standpipe disk create NAME --store STORE --size SIZE, then standpipe disk import NAME FILE; then standpipe vm add"));
        }
        let mut files = BTreeMap::new();
        for entry in archive::index(whole.as_ref()).map_err(|fault| problem(fault, path))? {
            let part = Part::new(Arc::clone(&whole), entry.from, entry.length);
            let part: Source =
                Arc::new(part.ok_or_else(|| problem(Fault::new("the archive is cut short"), path))?);
            if files.insert(entry.name.clone(), part).is_some() {
                return Err(problem(Fault::new(format!("the archive has two files `{}`", entry.name)), path));
            }
        }
        let description = only(files.keys().map(String::as_str), path)?;
        Ok(Package { path: path.to_owned(), holder: Holder::Archive(files), description })
    }

    fn folder(path: &Path, folder: &Path, name: Option<String>) -> Result<Package, Problem> {
        let error = |error: io::Error| unreadable(folder, &error);
        let root = folder.canonicalize().map_err(error)?;
        let description = match name {
            Some(name) => name,
            None => {
                let mut names = Vec::new();
                for entry in std::fs::read_dir(&root).map_err(error)? {
                    names.extend(entry.map_err(error)?.file_name().into_string().ok());
                }
                only(names.iter().map(String::as_str), path)?
            }
        };
        Ok(Package { path: path.to_owned(), holder: Holder::Folder(root), description })
    }

    /// What people named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The description's name without its ending.
    pub fn stem(&self) -> &str {
        let name = self.description.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map_or(name, |(stem, _)| stem)
    }

    pub fn description(&self) -> Result<String, Problem> {
        self.text(&self.description, DESCRIPTION_MAX_BYTES)
    }

    fn text(&self, name: &str, bytes_max: u64) -> Result<String, Problem> {
        let found = self.find(name).and_then(|source| text(source.as_ref(), bytes_max, "the file"));
        found.map_err(|fault| problem(fault, self.place(name)))
    }

    /// Where a file is, for people.
    pub fn place(&self, name: &str) -> String {
        match &self.holder {
            Holder::Archive(_) => format!("{} ({name})", self.path.display()),
            Holder::Folder(root) => root.join(name).display().to_string(),
        }
    }

    /// A file of the package. Names that lead out of it are refused, by `..` or by links.
    pub fn find(&self, name: &str) -> Result<Source, Fault> {
        if name.contains("://") {
            return Err(Fault::new(format!("the package names a file elsewhere: {name}")).hint(
                "fetch it yourself, and change its `href` to the name of the file beside the description",
            ));
        }
        let path = Path::new(name);
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if name.is_empty() || name.contains('\0') || !path.components().all(inside) {
            return Err(
                Fault::new(format!("`{name}` leads out of the package")).hint("do not trust this package")
            );
        }
        let found = match &self.holder {
            Holder::Archive(files) => {
                let name = name.strip_prefix("./").unwrap_or(name);
                files.get(name).map(Arc::clone)
            }
            Holder::Folder(root) => match root.join(path).canonicalize() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(Fault::new(format!("cannot open `{name}`: {error}"))),
                Ok(real) if !real.starts_with(root) => {
                    return Err(Fault::new(format!(
                        "`{name}` is a link that leads out of the package's folder"
                    ))
                    .hint("do not trust this package; or, if the link is yours, move the file there"));
                }
                Ok(real) => {
                    let file = HostFile::open(&real);
                    let file = file.map_err(|error| Fault::new(format!("cannot open `{name}`: {error}")))?;
                    Some(Arc::new(file) as Source)
                }
            },
        };
        // `href` is a URI, in which a blank may be `%20`.
        match (found, decoded(name)) {
            (Some(found), _) => Ok(found),
            (None, Some(other)) if other != name => self.find(&other),
            _ => Err(Fault::new(format!("the package has no file `{name}`"))
                .hint("it was left behind when the package was copied, or lies under another name")),
        }
    }

    /// A file of the description: whole, or in chunks.
    pub fn open_file(&self, file: &appliance::ovf::File) -> Result<Source, Fault> {
        if file.chunk.is_none() {
            return self.find(&file.href);
        }
        let mut parts = Vec::new();
        for number in 0..=CHUNKS_MAX {
            match self.find(&format!("{}.{number:09}", file.href)) {
                Ok(part) => parts.push(part),
                Err(fault) if parts.is_empty() => return Err(fault),
                Err(_) => break,
            }
        }
        let joined: Source =
            Arc::new(Joined::new(parts).ok_or_else(|| Fault::new("the chunks are too long"))?);
        match file.size.filter(|size| *size != joined.length()) {
            Some(size) => Err(Fault::new(format!(
                "the chunks of `{}` have {} bytes together, and the description says {size}",
                file.href,
                joined.length()
            ))
            .hint("a chunk is missing or cut short: copy the package again")),
            None => Ok(joined),
        }
    }

    /// The digests of its files, if it has a manifest.
    pub fn manifest(&self) -> Result<Option<BTreeMap<String, Digest>>, Problem> {
        let name = self.beside("mf");
        if self.find(&name).is_err() {
            return Ok(None);
        }
        let text = self.text(&name, MANIFEST_MAX_BYTES)?;
        manifest::parse(&text).map(Some).map_err(|fault| problem(fault, self.place(&name)))
    }

    /// Somebody has signed the manifest.
    pub fn has_certificate(&self) -> bool {
        self.find(&self.beside("cert")).is_ok()
    }

    fn beside(&self, ending: &str) -> String {
        let stem = self.description.rsplit_once('.').map_or(self.description.as_str(), |(stem, _)| stem);
        format!("{stem}.{ending}")
    }
}

/// The description among the names.
fn only<'a>(names: impl Iterator<Item = &'a str>, path: &Path) -> Result<String, Problem> {
    let is_description = |name: &&str| name.to_ascii_lowercase().ends_with(".ovf");
    let found: Vec<&str> = names.filter(is_description).collect();
    let problem =
        |what: String, hint: &str| Err(Problem::invalid(what).at(path.display().to_string()).hint(hint));
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => problem(
            "there is no description of a VM (.ovf) in it".into(),
            "name an .ova file, or an .ovf file",
        ),
        many => problem(
            format!("there are {} descriptions of VMs in it", many.len()),
            "name one of the .ovf files",
        ),
    }
}

/// RFC 3986, 2.1.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}
