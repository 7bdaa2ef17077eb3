//! How the help of a command is laid out, and text in columns where a terminal is narrow.
//!
//! ```text
//!   one line ─ a paragraph ─ usage ─ examples ─ arguments, options ─ what all take ─ exit codes
//!                   ╰──────────────── -h leaves these two out ───────────────────────────╯
//! ```

use crate::output::width::width;
use clap::builder::Resettable;
use clap::{ArgAction, Command};

const PAGE: &str = "{about-with-newline}\n{before-help}{all-args}{after-help}";

/// So many examples stand below the commands of a noun.
const EXAMPLES: usize = 3;

/// The tree of `command`, each of whose pages is laid out so and takes so many columns; what `-h` shows if not
/// `whole`.
pub(crate) fn laid_out(command: Command, whole: bool, columns: usize) -> Command {
    // Clap asks the terminal alone; COLUMNS comes before it, and prose is not as wide as a terminal may be.
    let mut command = command.term_width(columns);
    command.build();
    command.mut_subcommands(|sub| page(sub, whole))
}

fn page(command: Command, whole: bool) -> Command {
    let command = command.mut_subcommands(|sub| page(sub, whole));
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
    let more = command.get_after_help().map(ToString::to_string);
    let usage = command.clone().render_usage().to_string();
    let command = command.long_about(Resettable::Reset).mut_args(|argument| {
        match argument.get_id() == "help" {
            true => argument.help("Print help; -h is shorter").action(ArgAction::HelpShort),
            false => argument.long_help(Resettable::Reset),
        }
    });
    match more.as_deref().and_then(|more| more.split_once("\n\n")) {
        Some((examples, rest)) => {
            let paragraph = long.strip_prefix(&about).unwrap_or_default().trim();
            let paragraph = Some(paragraph).filter(|it| whole && !it.is_empty());
            let before: Vec<&str> = paragraph.into_iter().chain([usage.trim(), examples]).collect();
            let exits = rest.find("\nExit codes").filter(|_| !whole).unwrap_or(rest.len());
            let rest = rest.get(..exits).unwrap_or(rest).to_owned();
            command.help_template(PAGE).before_help(before.join("\n\n")).after_help(rest)
        }
        None => {
            // The first example of each of its first commands.
            let first = command.get_subcommands().filter_map(|sub| {
                let before = sub.get_before_help()?.to_string();
                let (_, examples) = before.split_once("Examples:\n")?;
                examples.lines().next().map(str::to_owned)
            });
            let examples: Vec<String> = first.take(EXAMPLES).collect();
            let examples = format!("Examples:\n{}", examples.join("\n"));
            command.after_help(examples)
        }
    }
}

/// Text whose lines are in columns, no line wider than `columns` where that can be: what does not fit stands
/// beneath the last column of its line.
pub(crate) fn fitted(text: &str, columns: usize) -> String {
    let mut fitted = String::new();
    for line in text.lines() {
        if width(line) <= columns {
            fitted.push_str(line);
            fitted.push('\n');
            continue;
        }
        // Behind the last gap that leaves room for some words.
        let body = line.trim_start().len();
        let gaps = line.rmatch_indices("  ").map(|(at, gap)| at + gap.len());
        let indent = gaps
            .chain([line.len() - body])
            .filter(|at| line.is_char_boundary(*at))
            .find(|at| {
                let words = line.get(*at..).unwrap_or_default().split(' ');
                *at + words.map(width).max().unwrap_or(0).max(columns / 4) <= columns
            })
            .unwrap_or(0);
        let (head, rest) = line.split_at(indent);
        let mut now = head.to_owned();
        let mut is_bare = true;
        for word in rest.split(' ') {
            if !is_bare && width(&now) + 1 + width(word) > columns {
                fitted.push_str(now.trim_end());
                fitted.push('\n');
                now = " ".repeat(width(head));
                is_bare = true;
            }
            if !is_bare {
                now.push(' ');
            }
            now.push_str(word);
            is_bare = false;
        }
        fitted.push_str(now.trim_end());
        fitted.push('\n');
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_stands_beneath_its_column() {
        let text = "Does           Context size, which the slots share\nshort\n";
        assert_eq!(
            fitted(text, 30),
            "Does           Context size,\n               which the slots\n               share\nshort\n"
        );
        assert_eq!(fitted(text, 80), text);
        assert_eq!(fitted("  one  two  fourteen", 19), "  one  two\n       fourteen\n");
        assert_eq!(fitted("  one two three four", 10), "  one two\n  three\n  four\n");
    }
}
