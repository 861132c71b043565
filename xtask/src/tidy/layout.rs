//! Files: how long, how named, and which of them every device and every store has.

use super::Finding;
use super::tree::{Crate, Tree};

const LINES_MAX: usize = 800;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "base", "helper", "helpers", "manager", "misc"];
/// Every device is looked through in the same order.
const DEVICE_FILES: [(&str, &str); 3] = [
    ("src/lib.rs", "the device as a whole: the theory, and what is offered"),
    ("src/config.rs", "the configuration space"),
    ("QUIRKS.md", "what real drivers and clients do against the specification, and which one needs it"),
];

pub fn check_lengths(tree: &Tree) -> Vec<Finding> {
    let written = |path: &str| path.ends_with(".rs") || path.starts_with("script/");
    let long = tree.files().filter_map(|(path, text)| {
        let lines = text?.lines().count();
        (written(path) && lines > LINES_MAX).then(|| {
            let mend = format!(
                "{lines} lines, tests included; at most {LINES_MAX}: split it where its concepts part"
            );
            Finding::new(path, LINES_MAX + 1, "length", mend)
        })
    });
    long.collect()
}

pub fn check_names(tree: &Tree) -> Vec<Finding> {
    let named = tree.files().filter(|(path, _)| path.ends_with(".rs") || path.ends_with("Cargo.toml"));
    let mut findings = Vec::new();
    for (path, _) in named {
        let parts = path.split('/').map(|part| part.trim_end_matches(".rs"));
        if let Some(part) = parts.into_iter().find(|part| EMPTY_NAMES.contains(part)) {
            let mend = format!(
                "`{part}` says nothing: name it after what it holds, or put its parts where they are used"
            );
            findings.push(Finding::new(path, 1, "names", mend));
        }
    }
    findings
}

pub fn check_devices(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in tree.crates().iter().filter(|found| found.folder.starts_with("frontend/")) {
        for (file, what) in DEVICE_FILES {
            let path = format!("{}/{file}", device.folder);
            if !tree.has(&path) {
                findings.push(Finding::new(
                    &path,
                    1,
                    "devices",
                    format!("every device has this file: {what}"),
                ));
            }
        }
        if !tree.has(&format!("{}/tests", device.folder))
            && !tree.has(&format!("{}/src/tests", device.folder))
        {
            let path = format!("{}/Cargo.toml", device.folder);
            let mend =
                "every device has a folder of tests, with a driver of its own: add tests/ or src/tests/";
            findings.push(Finding::new(&path, 1, "devices", mend));
        }
    }
    findings
}

/// Whoever implements the contract of `backend/disk` is held to it by the one suite, by itself or as
/// a part of another disk.
pub fn check_conformance(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let crates = tree.crates();
    let is_tried = |found: &Crate| found.dev_dependencies.iter().any(|name| name.name == "conformance");
    for found in crates.iter().filter(|found| found.folder.starts_with("backend/disk_")) {
        let sources = format!("{}/", found.folder);
        let mut texts = tree.texts("rs").filter(|(path, _)| path.starts_with(&sources));
        let implements = texts.any(|(_, text)| text.contains("Disk for "));
        let is_part = |of: &Crate| {
            of.dependencies.iter().any(|name| name.folder.as_deref() == Some(found.folder.as_str()))
        };
        let tried_in_another = crates.iter().any(|other| is_part(other) && is_tried(other));
        if implements && !is_tried(found) && !tried_in_another {
            let mend = "this is a disk: add `conformance.workspace = true` to its [dev-dependencies], and a test that calls the suite";
            findings.push(Finding::new(&format!("{}/Cargo.toml", found.folder), 1, "conformance", mend));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], rule: fn(&Tree) -> Vec<Finding>) -> Vec<String> {
        rule(&Tree::of(files)).into_iter().map(|finding| finding.path).collect()
    }

    #[test]
    fn long_files_are_found() {
        let long = "x\n".repeat(801);
        let just = "x\n".repeat(800);
        assert_eq!(found(&[("a.rs", &long), ("b.rs", &just), ("c.md", &long)], check_lengths), ["a.rs"]);
    }

    #[test]
    fn empty_names_are_found_in_files_and_folders() {
        let files = [("a/util.rs", ""), ("common/src/lib.rs", ""), ("a/database.rs", "")];
        assert_eq!(found(&files, check_names), ["a/util.rs", "common/src/lib.rs"]);
    }

    #[test]
    fn a_device_without_its_files_is_found() {
        let files =
            [("frontend/x/Cargo.toml", ""), ("frontend/x/src/lib.rs", ""), ("frontend/x/QUIRKS.md", "")];
        assert_eq!(found(&files, check_devices), ["frontend/x/src/config.rs", "frontend/x/Cargo.toml"]);
    }

    #[test]
    fn a_disk_that_was_not_tried_is_found() {
        let source = ("backend/disk_x/src/lib.rs", "impl Disk for X {}");
        assert_eq!(found(&[("backend/disk_x/Cargo.toml", ""), source], check_conformance).len(), 1);
        let tried = ("backend/disk_x/Cargo.toml", "[dev-dependencies]\nconformance.workspace = true\n");
        assert!(found(&[tried, source], check_conformance).is_empty());
    }
}
