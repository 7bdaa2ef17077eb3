//! Giving names out, each to one model only.

use llamactl_protocol::name;
use std::collections::{BTreeMap, BTreeSet};

/// Names given out once each: `name`, then `name-2`, `name-3`, ….
#[derive(Clone, Debug, Default)]
pub struct Names {
    taken: BTreeSet<String>,
    /// The number to try next, so that many of one name take no time.
    next: BTreeMap<String, u64>,
}

impl Names {
    /// Whether a name was given out.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    /// Gives out a name.
    pub fn take(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    /// Gives out the name, or the first of its variants that is free here and elsewhere.
    pub fn take_free(&mut self, wanted: &str, is_free: impl Fn(&str) -> bool) -> String {
        let mut name = wanted.to_owned();
        // A longest name leaves room for its number.
        let stem: String = wanted.chars().take(name::MAX_BYTES - 8).collect();
        let mut number = self.next.get(wanted).copied().unwrap_or(2);
        while self.taken.contains(&name) || !is_free(&name) {
            name = format!("{stem}-{number}");
            number += 1;
        }
        if name != wanted {
            self.next.insert(wanted.to_owned(), number);
        }
        self.take(&name);
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_of_one_name_get_numbers() {
        let mut names = Names::default();
        let mut take = |wanted: &str| names.take_free(wanted, |name| name != "a-3");
        assert_eq!(["a", "a", "a-2", "a", "b"].map(&mut take), ["a", "a-2", "a-2-2", "a-4", "b"]);
        for _ in 0..20_000 {
            take("a");
        }
        assert!(take(&"x".repeat(128)) != take(&"x".repeat(128)));
    }
}
