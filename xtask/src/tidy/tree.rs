//! The repository's files as rules see them, and its crates.

use std::collections::BTreeMap;
use std::path::Path;

/// Folders that hold what is made, not written.
const MADE: [&str; 4] = ["target", "corpus", "artifacts", "coverage"];
/// Whose text is read. Of other files only the path is known.
const READ: [&str; 5] = ["rs", "toml", "md", "sh", "service"];

/// A crate of the workspace, as far as rules want to know it.
#[derive(Debug, Default)]
pub struct Crate {
    /// Its folder, as `guest/memory`.
    pub folder: String,
    pub dependencies: Vec<Dependency>,
    pub dev_dependencies: Vec<Dependency>,
}

#[derive(Debug)]
pub struct Dependency {
    pub name: String,
    pub line: usize,
    /// The folder, if it is a crate of ours.
    pub folder: Option<String>,
    /// The version comes from the workspace.
    pub inherited: bool,
}

/// Paths with `/`, relative to the root, and the text of those that are read.
#[derive(Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, Option<String>>,
}

impl Tree {
    pub fn read(root: &Path) -> std::io::Result<Self> {
        let mut tree = Self::default();
        tree.walk(root, "")?;
        Ok(tree)
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let named = files.iter().map(|(path, text)| ((*path).to_owned(), Some((*text).to_owned())));
        Self { files: named.collect() }
    }

    fn walk(&mut self, folder: &Path, prefix: &str) -> std::io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                // .git and caches; .ci and .cargo hold nothing that a rule is about.
                if !name.starts_with('.') && !MADE.contains(&name.as_str()) {
                    self.walk(&entry.path(), &format!("{path}/"))?;
                }
            } else if kind.is_file() {
                let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
                let is_script = path.starts_with("script/") && !name.contains('.');
                let text = if READ.contains(&extension) || is_script {
                    Some(String::from_utf8_lossy(&std::fs::read(entry.path())?).into_owned())
                } else {
                    None
                };
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    pub fn files(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_deref()))
    }

    /// Files with this extension whose text is known.
    pub fn texts(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let end = format!(".{extension}");
        self.files().filter_map(move |(path, text)| Some((path, text.filter(|_| path.ends_with(&end))?)))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.as_deref()
    }

    /// Whether there is such a file, or a folder with files in it.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.files.contains_key(path) || self.files.keys().any(|file| file.starts_with(&folder))
    }

    /// The workspace's crates, by the tables in their Cargo.toml. Not a TOML parser: it reads what
    /// `[table]` and `name.workspace = true` look like in this repository.
    pub fn crates(&self) -> Vec<Crate> {
        let ours = self.workspace_crates();
        let manifests = self.texts("toml").filter_map(|(path, text)| {
            let folder = path.strip_suffix("/Cargo.toml")?;
            (!folder.starts_with("fuzz")).then_some((folder, text))
        });
        manifests
            .map(|(folder, text)| {
                let mut found = Crate { folder: folder.to_owned(), ..Crate::default() };
                let mut table = "";
                for (number, line) in text.lines().enumerate() {
                    let line = line.trim();
                    if line.starts_with('[') {
                        table = line;
                        continue;
                    }
                    let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                        continue;
                    };
                    let list = match table {
                        "[dependencies]" | "[build-dependencies]" => &mut found.dependencies,
                        "[dev-dependencies]" => &mut found.dev_dependencies,
                        _ => continue,
                    };
                    let key = key.trim();
                    let name = key.trim_end_matches(".workspace").to_owned();
                    list.push(Dependency {
                        folder: ours.get(&name).cloned(),
                        name,
                        line: number + 1,
                        inherited: key.ends_with(".workspace") || value.contains("workspace = true"),
                    });
                }
                found
            })
            .collect()
    }

    /// Names in the root's `[workspace.dependencies]` that are folders of this repository.
    fn workspace_crates(&self) -> BTreeMap<String, String> {
        let root = self.text("Cargo.toml").unwrap_or_default();
        let lines = root.lines().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let (_, path) = value.split_once("path = \"")?;
            let (path, _) = path.split_once('"')?;
            Some((name.trim().to_owned(), path.to_owned()))
        });
        lines.collect()
    }
}
