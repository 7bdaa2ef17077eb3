//! The word somebody probably meant.

use strsim::osa_distance;

/// The longest word whose like is looked for, in bytes: a comparison takes as long as the product of
/// two lengths, and words come from anywhere.
const LONGEST_WORD: usize = 128;

/// The word of `known` that is most likely meant by `word`, if any is near. Two letters in each
/// other's place are one mistake.
#[must_use]
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > LONGEST_WORD {
        return None;
    }
    let allowed = |candidate: &str| candidate.len().max(word.len()).div_ceil(3);
    known
        .iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= allowed(candidate))
        .map(|candidate| (osa_distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= allowed(candidate))
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
        assert_eq!(nearest("tmep", &["keep", "temp"]), Some("temp"));
        assert_eq!(nearest("ctx", &["top-k", "seed"]), None);
    }

    #[test]
    fn a_long_word_is_like_nothing() {
        let long = "x".repeat(LONGEST_WORD);
        assert_eq!(nearest(&long, &[&long]), Some(long.as_str()));
        let longer = "x".repeat(LONGEST_WORD + 1);
        assert_eq!(nearest(&longer, &[&longer]), None);
        assert_eq!(nearest("x", &["x".repeat(1 << 20).as_str()]), None);
    }
}
