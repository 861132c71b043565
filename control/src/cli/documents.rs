//! Completion scripts and man pages, made from the command line's definition.

use super::args::Man;
use super::{Outcome, Screen, command};
use crate::problem::Problem;
use std::io;

/// The script for one shell.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "standpipe", &mut script);
    script
}

/// All pages with their file names: `standpipe.1`, `standpipe-disk.1`, …
pub fn man_pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    let mut root = command();
    root.build();
    collect(&root, "standpipe", &mut pages)?;
    Ok(pages)
}

fn collect(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let mut page = Vec::new();
    // A date would make every build's pages differ.
    clap_mangen::Man::new(command.clone()).date("").render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands() {
        collect(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}

pub(super) fn man(args: &Man, screen: &mut Screen<'_>) -> Outcome {
    let pages = man_pages()?;
    let Some(directory) = &args.directory else {
        if let Some((_, page)) = pages.first() {
            screen.out.write_all(page)?;
        }
        return Ok(());
    };
    for (name, page) in &pages {
        let path = directory.join(name);
        std::fs::write(&path, page).map_err(|error| {
            Problem::failed(format!("cannot write the page: {error}"))
                .at(path.display().to_string())
                .hint("make the directory first, or run as a user that may write there")
        })?;
    }
    Ok(())
}
