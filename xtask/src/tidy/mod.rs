//! `cargo xtask tidy`: the rules of STYLE.md that a program can check.
//!
//! Each rule is a function from the [`Tree`] to findings, so that its test is a tree of three lines
//! with the fault in it. A finding names the place, the rule, and how to mend it.

mod arrows;
mod code;
mod documents;
mod layout;
mod source;
mod tree;

use std::fmt;

use tree::Tree;

/// Something that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    /// Counted from 1; 0: the file as a whole.
    line: usize,
    rule: &'static str,
    mend: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: &'static str, mend: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, mend: mend.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line.max(1), self.rule, self.mend)
    }
}

const RULES: &[fn(&Tree) -> Vec<Finding>] = &[
    arrows::check_dependencies,
    arrows::check_purity,
    source::check_unsafe,
    source::check_traits,
    layout::check_lengths,
    layout::check_names,
    layout::check_devices,
    layout::check_conformance,
    documents::check_links,
    documents::check_citations,
];

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    findings
}

pub fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("`{argument}`: tidy takes no arguments"));
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let tree = Tree::read(root.as_ref()).map_err(|error| format!("cannot read the tree: {error}"))?;
    let findings = check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => {
            println!("tidy: {} files, {} crates, nothing to mend", tree.files().count(), tree.crates().len());
            Ok(())
        }
        1 => Err("1 place to mend; STYLE.md has the rules".to_owned()),
        count => Err(format!("{count} places to mend; STYLE.md has the rules")),
    }
}
