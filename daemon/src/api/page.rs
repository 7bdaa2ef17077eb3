//! Cutting lists into pages.

use serde::Serialize;
use std::io;

/// A page is cut before it is this long, so that an answer stays well below the longest message.
const PAGE_BYTES: usize = 256 << 10;

/// How many items to fetch for a page: what was asked for within bounds.
pub(super) fn limit(asked: Option<u32>, most: u32) -> u32 {
    asked.unwrap_or(100).clamp(1, most)
}

/// Cuts `items` to a page of at most `limit`, and says whether anything was left out. At least one
/// item stays, however long.
pub(super) fn cut<T: Serialize>(mut items: Vec<T>, limit: u32) -> (Vec<T>, bool) {
    let mut bytes = 0;
    let mut keep = 0;
    for item in items.iter().take(limit as usize) {
        let mut length = Length(0);
        bytes += serde_json::to_writer(&mut length, item).map_or(0, |()| length.0);
        if keep > 0 && bytes > PAGE_BYTES {
            break;
        }
        keep += 1;
    }
    let more = keep < items.len();
    items.truncate(keep);
    (items, more)
}

/// How much was written, and nothing of it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0 += text.len();
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_in_items_and_bytes_and_never_empty() {
        assert_eq!(cut(vec![1, 2, 3], 2), (vec![1, 2], true));
        assert_eq!(cut(vec![1, 2], 2), (vec![1, 2], false));
        let long = "x".repeat(PAGE_BYTES);
        let (page, more) = cut(vec![long.clone(), long], 10);
        assert_eq!((page.len(), more), (1, true));
    }
}
