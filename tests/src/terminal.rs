//! A pseudo-terminal, for what programs do only when a person is looking.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;

/// Both ends of a new terminal of this width: the screen, where what was written can be read, and
/// the end a program gets.
///
/// # Panics
/// When the system has no terminal to give.
#[must_use]
pub fn open(columns: u16) -> (File, File) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let end = OpenOptions::new()
        .read(true)
        .write(true)
        // The terminal must not become the test's own.
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
        .open(OsStr::from_bytes(name.as_bytes()))
        .unwrap();
    tcsetwinsize(&end, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
        .unwrap();
    (File::from(screen), end)
}

/// The escape sequences in what a terminal was sent, other than those that only colour, move the
/// cursor within or clear the line: what a program passed on from elsewhere.
#[must_use]
pub fn foreign_controls(shown: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(shown);
    let mut found = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\r' | '\t' => {}
            '\u{1b}' if characters.peek() == Some(&'[') => {
                let mut sequence = String::from("ESC");
                for next in characters.by_ref() {
                    sequence.push(next);
                    if next != '[' && ('\u{40}'..='\u{7e}').contains(&next) {
                        break;
                    }
                }
                // Progress is taken away from its first line on; the whole screen is nobody's to clear.
                let is_ours =
                    sequence == "ESC[J" || sequence.ends_with(['m', 'K', 'G', 'F', 'h', 'l']);
                if !is_ours {
                    found.push(sequence);
                }
            }
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                found.push(format!("{character:?}"));
            }
            _ if character.is_control() => found.push(format!("{character:?}")),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_ours_and_everything_else_is_foreign() {
        assert!(foreign_controls("\u{1b}[1;32mok\u{1b}[0m\r\u{1b}[K\tx\r\n".as_bytes()).is_empty());
        let bad = "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{8}".as_bytes();
        assert_eq!(foreign_controls(bad).len(), 6, "{:?}", foreign_controls(bad));
    }
}
