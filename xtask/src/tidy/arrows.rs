//! Who may name whom, and what pure means.

use super::Finding;
use super::code::{code, has_word};
use super::tree::{Crate, Tree};

/// A folder (or all folders that begin so), and the folders whose crates it may depend on. The first
/// row that fits counts. `request` may be named by everybody; dev-dependencies are free, because a
/// test stands outside of the path.
const ARROWS: &[(&str, &[&str])] = &[
    ("request", &[]),
    ("host", &[]),
    ("guest/memory", &["host"]),
    ("guest/", &["guest/"]),
    ("frontend/", &["guest/"]),
    ("service/", &[]),
    ("schedule", &[]),
    ("backend/disk_ring", &["guest/memory", "host", "backend/disk"]),
    ("backend/disk_file", &["guest/memory", "host", "backend/"]),
    ("backend/disk_block_device", &["guest/memory", "host", "backend/"]),
    ("backend/uplink_", &["guest/memory", "host"]),
    ("backend/", &["guest/memory", "backend/"]),
    ("appliance", &[]),
    ("control", &["appliance"]),
    ("server", &["host", "guest/", "frontend/", "service/", "schedule", "backend/", "control"]),
    // Of the host only its stable states, on a folder whose power can be cut.
    ("sim", &["guest/", "frontend/", "service/", "schedule", "backend/", "bench", "host"]),
    ("bench", &["host", "guest/memory"]),
    ("guests", &[]),
    ("xtask", &[]),
];

/// Functions of state, time and event: no clock, file, thread, socket or log.
const PURE: &[&str] = &[
    "request",
    "guest/virtqueue",
    "guest/vhost_user",
    "guest/vfio_user",
    "guest/pci",
    "guest/frame",
    "frontend/",
    "service/",
    "schedule",
    "backend/disk",
    "backend/disk_memory",
    "backend/disk_delay",
    "backend/disk_faulty",
    "backend/disk_null",
];

/// Crates from outside that are functions of bytes and nothing else, and who may use them: checksums
/// and hashes that are better not written again.
const PURE_OUTSIDE: &[(&str, &[&str])] =
    &[("frontend/iscsi_target", &["crc32c", "md-5", "sha1", "sha2", "sha3"])];

/// `what` is a folder, or the beginning of some if it ends in `/` or `_`.
fn fits(folder: &str, what: &str) -> bool {
    if what.ends_with(['/', '_']) { folder.starts_with(what) } else { folder == what }
}

fn is_pure(folder: &str) -> bool {
    PURE.iter().any(|pure| fits(folder, pure))
}

fn manifest(found: &Crate) -> String {
    format!("{}/Cargo.toml", found.folder)
}

pub fn check_dependencies(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for found in tree.crates() {
        let manifest = manifest(&found);
        let Some((_, allowed)) = ARROWS.iter().find(|(folder, _)| fits(&found.folder, folder)) else {
            findings.push(Finding::new(
                &manifest,
                1,
                "arrows",
                "a folder that the design does not name: put the crate into one that it does, or add a row to ARROWS in xtask/src/tidy/arrows.rs and a paragraph to ARCHITECTURE.md",
            ));
            continue;
        };
        for dependency in &found.dependencies {
            let Some(folder) = &dependency.folder else {
                let known = PURE_OUTSIDE.iter().any(|(folder, names)| {
                    *folder == found.folder && names.contains(&dependency.name.as_str())
                });
                if is_pure(&found.folder) && !known {
                    let mend = format!(
                        "`{}` is from outside, and a pure crate has no such dependencies: do the work in `server` or `host`, or pass the value in",
                        dependency.name
                    );
                    findings.push(Finding::new(&manifest, dependency.line, "pure", mend));
                }
                continue;
            };
            if folder == "request" || allowed.iter().any(|allowed| fits(folder, allowed)) {
                continue;
            }
            let mend = format!(
                "`{}` may not name `{folder}`: let `server` bring them together, by a noun of `request` if there must be one",
                found.folder
            );
            findings.push(Finding::new(&manifest, dependency.line, "arrows", mend));
        }
        for dependency in found.dependencies.iter().chain(&found.dev_dependencies) {
            if !dependency.inherited {
                let mend = format!(
                    "write `{}.workspace = true`, with the version in the root's [workspace.dependencies]",
                    dependency.name
                );
                findings.push(Finding::new(&manifest, dependency.line, "one version", mend));
            }
        }
    }
    findings
}

pub fn check_purity(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for found in tree.crates().iter().filter(|found| is_pure(&found.folder)) {
        let root = format!("{}/src/lib.rs", found.folder);
        let Some(text) = tree.text(&root) else {
            findings.push(Finding::new(
                &manifest(found),
                1,
                "pure",
                "a pure crate is a library: add src/lib.rs",
            ));
            continue;
        };
        if !code(text).lines().any(|line| line.starts_with("#![no_std]")) {
            findings.push(Finding::new(&root, 1, "pure", "begin with `#![no_std]`, without conditions"));
        }
        let sources = format!("{}/src/", found.folder);
        for (path, text) in tree.texts("rs").filter(|(path, _)| path.starts_with(&sources)) {
            findings.extend(std_outside_tests(path, text));
        }
    }
    findings
}

/// `extern crate std` is the one door to clocks, files and threads, and only tests may open it: the
/// line stands behind `#[cfg(test)]`, or in a module that does.
fn std_outside_tests(path: &str, text: &str) -> Vec<Finding> {
    if path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/src/bin/") {
        return Vec::new();
    }
    let code = code(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut findings = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if !(has_word(line, "extern") && has_word(line, "crate") && has_word(line, "std")) {
            continue;
        }
        let own = lines[..at].iter().rev().find(|line| !line.trim().is_empty());
        let in_tests = line.starts_with(' ')
            && lines[..at]
                .windows(2)
                .rev()
                .any(|pair| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod "));
        if !in_tests && own.is_none_or(|line| line.trim() != "#[cfg(test)]") {
            let mend = "put `#[cfg(test)]` above it, or do without std";
            findings.push(Finding::new(path, at + 1, "pure", mend));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: (&str, &str) = (
        "Cargo.toml",
        "[workspace.dependencies]\nscsi = { path = \"service/scsi\", package = \"x\" }\nhost = { path = \"host\" }\n",
    );

    fn rules(findings: &[Finding]) -> Vec<(&str, usize, &str)> {
        findings.iter().map(|f| (f.path.as_str(), f.line, f.rule)).collect()
    }

    #[test]
    fn a_front_end_that_names_a_service_is_found() {
        let tree = Tree::of(&[ROOT, ("frontend/x/Cargo.toml", "[dependencies]\nscsi.workspace = true\n")]);
        assert_eq!(rules(&check_dependencies(&tree)), [("frontend/x/Cargo.toml", 2, "arrows")]);
        let tree =
            Tree::of(&[ROOT, ("frontend/x/Cargo.toml", "[dev-dependencies]\nscsi.workspace = true\n")]);
        assert!(check_dependencies(&tree).is_empty());
    }

    #[test]
    fn versions_and_strangers_are_found() {
        let tree = Tree::of(&[
            ROOT,
            ("service/x/Cargo.toml", "[dependencies]\nlibc.workspace = true\n"),
            ("server/Cargo.toml", "[dependencies]\nlibc = \"0.2\"\nhost = { workspace = true }\n"),
            ("extra/Cargo.toml", "[package]\n"),
        ]);
        assert_eq!(
            rules(&check_dependencies(&tree)),
            [
                ("extra/Cargo.toml", 1, "arrows"),
                ("server/Cargo.toml", 2, "one version"),
                ("service/x/Cargo.toml", 2, "pure"),
            ]
        );
    }

    #[test]
    fn hashes_from_outside_are_for_those_that_are_named() {
        let with = |folder: &str, name: &str| {
            let manifest = format!("{folder}/Cargo.toml");
            let text = format!("[dependencies]\n{name}.workspace = true\n");
            check_dependencies(&Tree::of(&[ROOT, (&manifest, &text)])).len()
        };
        assert_eq!(with("frontend/iscsi_target", "crc32c"), 0);
        assert_eq!(with("frontend/iscsi_target", "libc"), 1);
        assert_eq!(with("service/scsi", "crc32c"), 1);
    }

    #[test]
    fn std_is_for_tests() {
        let manifest = ("service/x/Cargo.toml", "[package]\n");
        let pure = "#![no_std]\n#[cfg(test)]\nextern crate std;\n#[cfg(test)]\nmod tests {\n    extern crate std;\n}\n";
        assert!(check_purity(&Tree::of(&[manifest, ("service/x/src/lib.rs", pure)])).is_empty());
        let not = "//! #![no_std]\nextern crate std;\n";
        let found = check_purity(&Tree::of(&[manifest, ("service/x/src/lib.rs", not)]));
        assert_eq!(rules(&found), [("service/x/src/lib.rs", 1, "pure"), ("service/x/src/lib.rs", 2, "pure")]);
    }
}
