//! What the written pages name is there: the files, and the names in the code. A page that sends a
//! reader to a file that has moved is worse than none.

use llamactl_tests::artifacts::checkout;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGES: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md"];

/// How paths begin that are no part of a checkout: what cargo makes, what a daemon reads and writes.
const NOT_OURS: &[&str] = &["target/", "llamactld.toml", "log/llamactld.log"];

/// What stands between backticks, line by line, outside of blocks.
fn quoted(page: &str) -> BTreeSet<&str> {
    let mut in_block = false;
    let is_text = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        !is_fence && !in_block
    };
    page.lines().filter(is_text).flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

/// Whether it looks like the path of a file or folder of ours. Capitals stand for something.
fn is_path(quoted: &str) -> bool {
    let plain = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "/._-".contains(it);
    let is_named = quoted.ends_with(".rs") || quoted.ends_with(".toml") || quoted.contains('/');
    is_named && quoted.chars().all(plain) && !quoted.starts_with('/')
}

/// Whether it looks like a name in the code: a type, a constant, a variant, a function of a type.
fn is_name(quoted: &str) -> bool {
    let plain = |it: char| it.is_ascii_alphanumeric() || "_:".contains(it);
    quoted.chars().all(plain)
        && quoted.len() > 3
        && quoted.chars().any(|it| it.is_ascii_uppercase())
        && !["NAME", "POST", "NOUN"].iter().any(|stands_for| quoted.contains(stands_for))
}

/// Every file and folder of ours, from the root.
fn entries(dir: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if [".git", "target"].iter().any(|left_out| path.ends_with(left_out)) {
            continue;
        }
        into.push(format!("/{}", path.strip_prefix(checkout()).unwrap().display()));
        if path.is_dir() {
            entries(&path, into);
        }
    }
}

#[test]
fn the_reader_of_pages_tells_paths_names_and_words_apart() {
    let page = "a `store/mod.rs` and `Kind`\n```text\n`not/this`\n```\nor `LONGEST_WAIT`, `by`";
    let quoted = quoted(page);
    let paths: Vec<_> = quoted.iter().filter(|it| is_path(it)).collect();
    let names: Vec<_> = quoted.iter().filter(|it| is_name(it)).collect();
    assert_eq!(paths, [&"store/mod.rs"]);
    assert_eq!(names, [&"Kind", &"LONGEST_WAIT"]);
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let mut ours = Vec::new();
    entries(&checkout(), &mut ours);
    for page in PAGES {
        let text = fs::read_to_string(checkout().join(page)).unwrap();
        let paths: Vec<&str> = quoted(&text).into_iter().filter(|it| is_path(it)).collect();
        assert!(paths.len() > 5, "{page} names {paths:?}");
        for path in paths {
            if NOT_OURS.iter().any(|begin| path.starts_with(begin)) {
                continue;
            }
            let end = format!("/{}", path.trim_end_matches('/'));
            let file = format!("{end}.rs");
            let there = ours.iter().any(|it| it.ends_with(&end) || it.ends_with(&file));
            assert!(there, "{page} names {path}");
        }
    }
}

#[test]
fn the_readme_leads_to_every_document() {
    let readme = fs::read_to_string(checkout().join("README.md")).unwrap();
    for document in fs::read_dir(checkout().join("docs")).unwrap().map(Result::unwrap) {
        let name = document.file_name().into_string().unwrap();
        let is_named = readme.contains(&format!("(docs/{name})"));
        assert!(is_named || !name.ends_with(".md"), "README.md does not lead to docs/{name}");
    }
}

#[test]
fn every_name_that_a_page_uses_is_in_the_code() {
    let mut ours = Vec::new();
    entries(&checkout(), &mut ours);
    let code: String = ours
        .iter()
        .filter(|path| path.ends_with(".rs") && !path.ends_with("/pages.rs"))
        .map(|path| fs::read_to_string(checkout().join(&path[1..])).unwrap())
        .collect();
    let words: BTreeSet<&str> =
        code.split(|it: char| !it.is_ascii_alphanumeric() && it != '_').collect();
    for page in PAGES {
        let text = fs::read_to_string(checkout().join(page)).unwrap();
        for name in quoted(&text).into_iter().filter(|it| is_name(it)) {
            for word in name.split("::") {
                assert!(words.contains(word), "{page} uses {name}");
            }
        }
    }
}
