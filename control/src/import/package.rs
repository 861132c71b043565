//! The files of a package: in an OVA, or in a folder with a description.

use super::problem;
use crate::problem::Problem;
use appliance::manifest::{self, Digest};
use appliance::ovf::DESCRIPTION_MAX_BYTES;
use appliance::{Bytes, Fault, Joined, Part, Source, archive, text};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

const MANIFEST_MAX_BYTES: u64 = 16 << 20;
/// Chunks of one file; DSP0243 numbers them with nine digits.
const CHUNKS_MAX: u32 = 100_000;
/// PATH_MAX.
const NAME_BYTES_MAX: usize = 4096;

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

/// Files of the host that are open, each once, whatever names it has: who is given the same file twice
/// can tell.
#[derive(Default)]
pub struct Opened(RefCell<BTreeMap<(u64, u64), Source>>);

impl Opened {
    pub fn open(&self, path: &Path) -> io::Result<Source> {
        let opened = HostFile::open(path)?;
        let found = opened.file.metadata()?;
        let mut files = self.0.borrow_mut();
        let source = files.entry((found.dev(), found.ino())).or_insert_with(|| Arc::new(opened));
        Ok(Arc::clone(source))
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
    opened: Opened,
    served: RefCell<BTreeSet<String>>,
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
        Package::archive(path, Arc::new(file))
    }

    /// An `.ova` with these bytes.
    pub fn archive(path: &Path, whole: Source) -> Result<Package, Problem> {
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
        Ok(Package::new(path, Holder::Archive(files), description))
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
        Ok(Package::new(path, Holder::Folder(root), description))
    }

    fn new(path: &Path, holder: Holder, description: String) -> Package {
        let (opened, served) = (Opened::default(), RefCell::default());
        Package { path: path.to_owned(), holder, description, opened, served }
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
        let missing = || {
            Fault::new(format!("the package has no file `{name}`"))
                .hint("it was left behind when the package was copied, or lies under another name")
        };
        let (real, source) = self.look(name)?.ok_or_else(missing)?;
        self.served.borrow_mut().insert(real);
        Ok(source)
    }

    /// A file with the name that it has in the package; `None` if it is not there.
    pub fn look(&self, name: &str) -> Result<Option<(String, Source)>, Fault> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Fault::new(format!("a name has more than {NAME_BYTES_MAX} bytes"))
                .hint("do not trust this package"));
        }
        if let Some(found) = self.look_exactly(name)? {
            return Ok(Some(found));
        }
        // `href` is a URI, in which a blank may be `%20`. Once only (RFC 3986, 2.4).
        match decoded(name).filter(|other| other != name) {
            Some(other) => self.look_exactly(&other),
            None => Ok(None),
        }
    }

    fn look_exactly(&self, name: &str) -> Result<Option<(String, Source)>, Fault> {
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
        match &self.holder {
            Holder::Archive(files) => {
                let name = name.strip_prefix("./").unwrap_or(name);
                Ok(files.get(name).map(|source| (name.to_owned(), Arc::clone(source))))
            }
            Holder::Folder(root) => {
                let real = match root.join(path).canonicalize() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(error) => return Err(Fault::new(format!("cannot open `{name}`: {error}"))),
                    Ok(real) => real,
                };
                let Ok(inside) = real.strip_prefix(root) else {
                    return Err(Fault::new(format!(
                        "`{name}` is a link that leads out of the package's folder"
                    ))
                    .hint("do not trust this package; or, if the link is yours, move the file there"));
                };
                let source = self.opened.open(&real);
                let source = source.map_err(|error| Fault::new(format!("cannot open `{name}`: {error}")))?;
                Ok(Some((inside.to_string_lossy().into_owned(), source)))
            }
        }
    }

    /// The names of all files that were given out.
    pub fn served(&self) -> BTreeSet<String> {
        self.served.borrow().clone()
    }

    /// A file of the description: whole, or in chunks.
    pub fn open_file(&self, file: &appliance::ovf::File) -> Result<Source, Fault> {
        let (source, what) = match file.chunk {
            None => (self.find(&file.href)?, format!("`{}` has", file.href)),
            Some(bytes) => {
                (self.chunks(&file.href, bytes)?, format!("the chunks of `{}` have together", file.href))
            }
        };
        match file.size.filter(|size| *size != source.length()) {
            Some(size) => {
                Err(Fault::new(format!("{what} {} bytes, and the description says {size}", source.length()))
                    .hint("it is cut short, or a chunk is missing: copy the package again"))
            }
            None => Ok(source),
        }
    }

    fn chunks(&self, href: &str, chunk_bytes: u64) -> Result<Source, Fault> {
        let name = |number: u32| format!("{href}.{number:09}");
        let mut parts = vec![self.find(&name(0))?];
        for number in 1..=CHUNKS_MAX {
            // Nothing but a name that is not there ends the list.
            let Some((real, part)) = self.look(&name(number))? else { break };
            if number == CHUNKS_MAX {
                return Err(Fault::new(format!("`{href}` has more than {CHUNKS_MAX} chunks")));
            }
            self.served.borrow_mut().insert(real);
            // DSP0243, 7.1: all have this size but the last.
            let before = parts.last().map_or(0, |part| part.length());
            if before != chunk_bytes {
                return Err(Fault::new(format!(
                    "the chunk `{}` has {before} bytes, and the description says {chunk_bytes}",
                    name(number - 1)
                ))
                .hint("it is cut short: copy the package again"));
            }
            parts.push(part);
        }
        let joined = Joined::new(parts).ok_or_else(|| Fault::new("the chunks are too long"))?;
        Ok(Arc::new(joined))
    }

    /// The digests of its files, if it has a manifest.
    pub fn manifest(&self) -> Result<Option<BTreeMap<String, Digest>>, Problem> {
        let name = self.beside("mf");
        let at = |fault| problem(fault, self.place(&name));
        let Some((_, source)) = self.look(&name).map_err(at)? else { return Ok(None) };
        let text = text(source.as_ref(), MANIFEST_MAX_BYTES, "the file").map_err(at)?;
        manifest::parse(&text).map(Some).map_err(at)
    }

    /// Somebody has signed the manifest.
    pub fn has_certificate(&self) -> Result<bool, Problem> {
        let name = self.beside("cert");
        self.look(&name).map(|found| found.is_some()).map_err(|fault| problem(fault, self.place(&name)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn package(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Package) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.ovf"), "<a/>").unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let package = Package::open(folder.path()).unwrap();
        (folder, package)
    }

    #[test]
    fn names_are_decoded_once() {
        let (_folder, package) = package(&[("a b", b"1"), ("a%20c", b"22")]);
        assert_eq!(package.find("a%20b").unwrap().length(), 1);
        assert_eq!(package.find("a%20c").unwrap().length(), 2);
        assert_eq!(package.find("a%2520c").unwrap().length(), 2);
        let refused = |name: &str| package.find(name).err().unwrap().what;
        assert!(refused("a%2520b").contains("has no file"));
        assert!(refused("%2e%2e/x").contains("leads out"));
        assert!(refused(&"%25".repeat(1 << 20)).contains("more than 4096 bytes"));
        let served: Vec<String> = package.served().into_iter().collect();
        assert_eq!(served, ["a b", "a%20c"]);
        let one = package.find("./a b").unwrap();
        assert!(Arc::ptr_eq(&one, &package.find("a b").unwrap()), "a file is opened once");
    }

    #[test]
    fn chunks_end_where_there_is_none() {
        let (folder, package) = package(&[("d.000000000", b"1234"), ("d.000000001", b"56")]);
        let file = |size, chunk| appliance::ovf::File { href: "d".into(), size, gzip: false, chunk };
        assert_eq!(package.open_file(&file(Some(6), Some(4))).unwrap().length(), 6);
        let refused = |size, chunk| package.open_file(&file(size, chunk)).err().unwrap().what;
        assert!(refused(Some(7), Some(4)).contains("6 bytes, and the description says 7"));
        assert!(refused(None, Some(5)).contains("`d.000000000` has 4 bytes"));
        std::os::unix::fs::symlink("/", folder.path().join("d.000000002")).unwrap();
        assert!(refused(Some(6), Some(4)).contains("leads out"));
        std::fs::write(folder.path().join("d"), "whole").unwrap();
        assert!(refused(Some(4), None).contains("`d` has 5 bytes, and the description says 4"));
    }

    #[test]
    fn a_manifest_that_cannot_be_read_is_not_passed_over() {
        let (folder, package) = package(&[]);
        assert_eq!(package.manifest().unwrap(), None);
        std::os::unix::fs::symlink("a.mf", folder.path().join("a.mf")).unwrap();
        assert!(package.manifest().unwrap_err().what.contains("cannot open `a.mf`"));
    }
}
