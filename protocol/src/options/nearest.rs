//! The word somebody probably meant.

use strsim::levenshtein;

/// The word of `known` that is most likely meant by `word`, if any is near.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .map(|candidate| (levenshtein(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(word.len()).div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_meant_when_a_third_of_its_letters_is_wrong_at_most() {
        assert_eq!(nearest("ctx-sise", &["top-k", "ctx-size"]), Some("ctx-size"));
        assert_eq!(nearest("kitten", &["sitting"]), Some("sitting"));
        assert_eq!(nearest("ctx", &["top-k", "seed"]), None);
    }
}
