//! Pages whose blocks are run.

use std::fs;
use std::path::Path;

/// A block of a page: what stands between two fences.
#[derive(Debug)]
pub struct Block {
    /// What the fence says: the language, then words of ours.
    pub info: String,
    /// What stands in it.
    pub text: String,
    /// The line of the fence that opens it.
    pub line: usize,
}

/// The blocks of a page, in order.
///
/// # Panics
/// When there is no such page.
#[must_use]
pub fn blocks(page: &Path) -> Vec<Block> {
    let page = fs::read_to_string(page).unwrap();
    let (mut blocks, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (line, text) in page.lines().enumerate() {
        match (text.strip_prefix("```"), &mut open) {
            (Some(info), None) => {
                open = Some(Block { info: info.to_owned(), text: String::new(), line: line + 1 });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(text);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks
}

/// Whether `printed` is what a page says: `…` stands for anything within a line, and alone on a
/// line for any lines.
#[must_use]
pub fn is_as_said(printed: &str, said: &str) -> bool {
    let printed: Vec<&str> = printed.lines().collect();
    let said: Vec<&str> = said.lines().collect();
    lines_are_as_said(&printed, &said)
}

fn lines_are_as_said(printed: &[&str], said: &[&str]) -> bool {
    match (printed, said) {
        ([], []) => true,
        (_, ["…", rest @ ..]) => {
            (0..=printed.len()).any(|left_out| lines_are_as_said(&printed[left_out..], rest))
        }
        ([line, lines @ ..], [said, rest @ ..]) => {
            line_is_as_said(line, said) && lines_are_as_said(lines, rest)
        }
        _ => false,
    }
}

fn line_is_as_said(line: &str, said: &str) -> bool {
    let Some((begin, rest)) = said.split_once('…') else { return line == said };
    let Some(mut line) = line.strip_prefix(begin) else { return false };
    let (middle, end) = rest.rsplit_once('…').map_or(("", rest), |(middle, end)| (middle, end));
    for part in middle.split('…') {
        let Some(at) = line.find(part) else { return false };
        line = &line[at + part.len()..];
    }
    line.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_is_anything() {
        assert!(is_as_said("a 17 b 4 c\n", "a … b … c\n"));
        assert!(!is_as_said("a 17 b 4 d\n", "a … b … c\n"));
        assert!(is_as_said("1\n2\n3\n", "…\n3\n") && is_as_said("3\n", "…\n3\n"));
        assert!(!is_as_said("1\n2\n", "1\n") && !is_as_said("", "1\n"));
    }
}
