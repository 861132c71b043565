//! What is checked in must be what the program makes. `STANDPIPE_WRITE_DOCUMENTS=1
//! cargo test -p standpipe-control documents` writes it anew.

use clap_complete::Shell;
use standpipe_control::{api, cli};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

fn compare(path: &Path, made: &[u8]) {
    if std::env::var_os("STANDPIPE_WRITE_DOCUMENTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, made).unwrap();
    }
    let kept = fs::read(path).unwrap_or_default();
    assert!(
        kept == made,
        "{} is not what the program makes; run the tests with STANDPIPE_WRITE_DOCUMENTS=1 and look at the difference",
        path.display()
    );
}

#[test]
fn openapi_is_checked_in() {
    let document = api::openapi_json();
    assert!(document.contains("\"openapi\": \"3.1.0\""));
    compare(&docs().join("api/openapi.json"), document.as_bytes());
}

#[test]
fn man_pages_are_checked_in() {
    let pages = cli::man_pages().unwrap();
    let mut names = BTreeSet::new();
    for (name, page) in &pages {
        compare(&docs().join("man").join(name), page);
        names.insert(name.clone());
    }
    let kept = fs::read_dir(docs().join("man")).unwrap();
    let kept: BTreeSet<String> =
        kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(kept, names, "a page of a command that is gone");
}

#[test]
fn completions_are_checked_in() {
    let shells =
        [(Shell::Bash, "standpipe.bash"), (Shell::Zsh, "_standpipe"), (Shell::Fish, "standpipe.fish")];
    for (shell, name) in shells {
        compare(&docs().join("completions").join(name), &cli::completions(shell));
    }
}

/// Every command says what it is and shows how it is used.
#[test]
fn every_command_has_an_example() {
    fn walk(command: &clap::Command, path: &str) {
        assert!(command.get_about().is_some(), "{path} has no description");
        let after = command.get_after_help().map(ToString::to_string);
        let example = format!("Example:\n  {path}");
        let first = path.split(' ').next().unwrap_or_default();
        let after = after.unwrap_or_default();
        assert!(
            after.starts_with("Example:\n") && after.contains(first),
            "{path} has no example like {example}"
        );
        for sub in command.get_subcommands() {
            walk(sub, &format!("{path} {}", sub.get_name()));
        }
    }
    let command = cli::command();
    command.clone().debug_assert();
    walk(&command, "standpipe");
}
