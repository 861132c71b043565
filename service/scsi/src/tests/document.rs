use alloc::string::String;
use std::{env, fs};

/// docs/scsi.md carries the table between these lines. `UPDATE_DOCS=1 cargo test -p standpipe-scsi`
/// writes it anew.
const BEGIN: &str = "<!-- rows -->\n";
const END: &str = "<!-- end of rows -->\n";

#[test]
fn the_document_shows_the_rows() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scsi.md");
    let text = fs::read_to_string(path).unwrap();
    let begin = text.find(BEGIN).unwrap() + BEGIN.len();
    let end = text.find(END).unwrap();
    if env::var_os("UPDATE_DOCS").is_some() {
        let mut updated = String::from(&text[..begin]);
        updated.push_str(&crate::table());
        updated.push_str(&text[end..]);
        fs::write(path, updated).unwrap();
        return;
    }
    assert_eq!(&text[begin..end], crate::table(), "run UPDATE_DOCS=1 cargo test -p standpipe-scsi");
}
