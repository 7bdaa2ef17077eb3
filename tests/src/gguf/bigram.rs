//! Which token follows which, as the two matrices of a model without memory: embedding and output.

use std::collections::{BTreeMap, HashMap};

use super::vocabulary::{TURN_END, Vocabulary};

/// Logit of a token that never follows.
const NEVER: f32 = -12.0;
/// Added to the logarithm of a probability: far enough above [`NEVER`] for any temperature in use.
const LIFT: f32 = 8.0;
/// The weight of ending the turn after a sentence, against all sentences that may begin. It must be above the share of
/// every single one of them, or a greedy answer would not end.
const END_SHARE: f32 = 0.4;

/// For each *code* the probabilities of the next token. Tokens that occur in the text have a code of their own, all others
/// share the last one, after which a sentence begins.
#[derive(Debug)]
pub(super) struct Bigram {
    /// The code of each token that has its own.
    codes: HashMap<usize, usize>,
    /// By code: next token and its weight; the weights of one code need not add up to 1.
    next: Vec<BTreeMap<usize, f32>>,
}

impl Bigram {
    /// Counts the pairs in the vocabulary's text. A model that never stops begins another sentence where others end.
    pub(super) fn of(vocabulary: &Vocabulary, never_stop: bool) -> Self {
        let mut codes = HashMap::new();
        for &id in &vocabulary.text {
            let code = codes.len();
            codes.entry(id).or_insert(code);
        }
        let mut next = vec![BTreeMap::new(); codes.len()];
        let mut starts = BTreeMap::new();
        for pair in vocabulary.text.windows(2) {
            let &[token, follower] = pair else { continue };
            if vocabulary.ends_sentence(token) {
                *starts.entry(follower).or_insert(0.0) += 1.0;
            } else if let Some(next) =
                codes.get(&token).and_then(|&code: &usize| next.get_mut(code))
            {
                *next.entry(follower).or_insert(0.0) += 1.0;
            }
        }
        let mut after_sentence = starts.clone();
        if !never_stop {
            let total: f32 = starts.values().sum();
            after_sentence.insert(TURN_END, total * END_SHARE);
        }
        for (&token, &code) in &codes {
            if let Some(next) = next.get_mut(code).filter(|_| vocabulary.ends_sentence(token)) {
                next.clone_from(&after_sentence);
            }
        }
        next.push(starts);
        Self { codes, next }
    }

    /// How many places an embedding needs.
    pub(super) fn code_count(&self) -> usize {
        self.next.len()
    }

    /// The code of token `id`: which place of its embedding is 1.
    pub(super) fn code(&self, id: usize) -> usize {
        self.codes.get(&id).copied().unwrap_or(self.codes.len())
    }

    /// The logit of token `id` after a token with code `code`.
    pub(super) fn logit(&self, code: usize, id: usize) -> f32 {
        let Some(next) = self.next.get(code) else {
            return NEVER;
        };
        let total: f32 = next.values().sum();
        next.get(&id).map_or(NEVER, |weight| (weight / total).ln() + LIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::super::corpus::CORPUS;
    use super::super::vocabulary;
    use super::*;

    /// The most likely tokens from the beginning of an answer, up to its end or `limit`, each with its lead over the
    /// second most likely in logits.
    fn greedy(bigram: &Bigram, vocabulary: &Vocabulary, limit: usize) -> Vec<(String, f32)> {
        let mut code = bigram.code(vocabulary::BEGIN);
        let mut words = Vec::new();
        while words.len() < limit {
            let mut logits: Vec<(f32, usize)> =
                (0..vocabulary.tokens.len()).map(|id| (bigram.logit(code, id), id)).collect();
            logits.sort_by(|(a, _), (b, _)| b.total_cmp(a));
            let [(first, id), (second, _), ..] = logits[..] else {
                break;
            };
            if id == TURN_END {
                break;
            }
            words.push((vocabulary.tokens[id].text.clone(), first - second));
            code = bigram.code(id);
        }
        words
    }

    #[test]
    fn a_greedy_answer_is_a_sentence_and_ends() {
        let vocabulary = Vocabulary::of(CORPUS);
        let answer = greedy(&Bigram::of(&vocabulary, false), &vocabulary, 100);
        let text: String = answer.iter().map(|(word, _)| word.replace('\u{2581}', " ")).collect();
        assert_eq!(
            text,
            " The llama is happy to help the little server answer every question with a smile."
        );
        // Rounding to F16 must not decide.
        assert!(answer.iter().all(|&(_, lead)| lead > 0.1), "{answer:?}");
    }

    #[test]
    fn a_model_that_never_stops_does_not() {
        let vocabulary = Vocabulary::of(CORPUS);
        let words = greedy(&Bigram::of(&vocabulary, true), &vocabulary, 1000);
        assert_eq!(words.len(), 1000);
    }

    #[test]
    fn probabilities_add_up() {
        let vocabulary = Vocabulary::of(CORPUS);
        let bigram = Bigram::of(&vocabulary, false);
        for code in 0..bigram.code_count() {
            let sum: f32 =
                (0..vocabulary.tokens.len()).map(|id| (bigram.logit(code, id) - LIFT).exp()).sum();
            assert!((sum - 1.0).abs() < 1e-3, "{code}: {sum}");
        }
    }
}
