//! What an import leaves out, and why.

use llamactl_protocol::Failure;
use llamactl_protocol::exchange::LeftOut;

/// What is left out, the same things counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Omissions(Vec<LeftOut>);

/// Kinds of things left out past this many are counted together.
const MAX_OMISSIONS: usize = 500;

impl Omissions {
    /// Adds one thing.
    pub fn add(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.add_many(what, reason, 1);
    }

    /// Adds a thing that was there `count` times.
    pub fn add_many(&mut self, what: impl Into<String>, reason: impl Into<String>, count: u64) {
        if count == 0 {
            return;
        }
        let (mut what, mut reason) = (what.into(), reason.into());
        let same = |it: &LeftOut, what: &str, reason: &str| it.what == what && it.reason == reason;
        if self.0.len() >= MAX_OMISSIONS && !self.0.iter().any(|it| same(it, &what, &reason)) {
            (what, reason) = ("more".to_owned(), "too many to list".to_owned());
        }
        match self.0.iter_mut().find(|it| same(it, &what, &reason)) {
            Some(there) => there.count += count,
            None => self.0.push(LeftOut { what, reason, count }),
        }
    }

    /// Adds a setting that was refused, in the refusal's words.
    pub fn refused(&mut self, what: impl Into<String>, failure: &Failure) {
        self.add(what, sentence(failure));
    }

    /// Adds what another list has.
    pub fn extend(&mut self, other: Omissions) {
        for LeftOut { what, reason, count } in other.0 {
            self.add_many(what, reason, count);
        }
    }

    /// What was left out, in the order in which it was met first.
    #[must_use]
    pub fn into_list(self) -> Vec<LeftOut> {
        self.0
    }

    /// The list, to look at.
    #[must_use]
    pub fn list(&self) -> &[LeftOut] {
        &self.0
    }
}

/// A refusal as one sentence.
#[must_use]
pub fn sentence(failure: &Failure) -> String {
    std::iter::once(failure.message.clone())
        .chain(failure.hints.lines())
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted_and_bounded() {
        let mut omissions = Omissions::default();
        omissions.add("a", "b");
        omissions.add_many("a", "b", 2);
        omissions.add_many("c", "d", 0);
        assert_eq!(omissions.list()[0].count, 3);
        for number in 0..2000 {
            omissions.add(number.to_string(), "x");
        }
        assert!(omissions.list().len() <= MAX_OMISSIONS + 1);
        assert_eq!(omissions.list().iter().map(|it| it.count).sum::<u64>(), 2003);
    }
}
