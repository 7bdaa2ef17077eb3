//! A SentencePiece-style vocabulary made from a text: every word, every beginning of a word, every byte.
//!
//! llama.cpp's tokenizer builds a word by joining two neighbours into a longer token again and again, the best score
//! first. So every beginning of a word is a token too, and only beginnings are: nothing else can be joined.

use std::collections::HashMap;

/// Stands for the space before a word.
const SPACE: char = '\u{2581}';

/// What llama.cpp is told about a token; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    Byte = 6,
}

/// One entry of the vocabulary; its place is its id.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) score: f32,
    pub(super) kind: TokenKind,
}

/// The tokens, and the text in tokens.
#[derive(Debug)]
pub(super) struct Vocabulary {
    pub(super) tokens: Vec<Token>,
    /// The text as token ids, every word one token.
    pub(super) text: Vec<usize>,
    ids: HashMap<String, usize>,
}

/// Ids that llama.cpp must be told.
pub(super) const UNKNOWN: usize = 0;
pub(super) const BEGIN: usize = 1;
pub(super) const END: usize = 2;
pub(super) const TURN_END: usize = 4;

impl Vocabulary {
    /// The vocabulary for `text`.
    pub(super) fn of(text: &str) -> Self {
        let mut vocabulary = Self { tokens: Vec::new(), text: Vec::new(), ids: HashMap::new() };
        vocabulary.add("<unk>", 0.0, TokenKind::Unknown);
        for text in ["<s>", "</s>", "<|im_start|>", "<|im_end|>"] {
            vocabulary.add(text, 0.0, TokenKind::Control);
        }
        for byte in 0..=u8::MAX {
            vocabulary.add(&format!("<0x{byte:02X}>"), 0.0, TokenKind::Byte);
        }
        vocabulary.add(&SPACE.to_string(), -2000.0, TokenKind::Normal);
        for byte in b'!'..=b'~' {
            // Single characters lose against every beginning of a word.
            vocabulary.add(
                &char::from(byte).to_string(),
                -3000.0 - f32::from(byte),
                TokenKind::Normal,
            );
        }
        vocabulary.add_words(text);
        vocabulary
    }

    /// The id of the token for `word`, which has a space before it.
    #[cfg(test)]
    pub(super) fn word(&self, word: &str) -> Option<usize> {
        self.ids.get(&format!("{SPACE}{word}")).copied()
    }

    /// Whether token `id` ends a sentence.
    pub(super) fn ends_sentence(&self, id: usize) -> bool {
        self.tokens.get(id).is_some_and(|token| matches!(token.text.as_str(), "." | "!" | "?"))
    }

    fn add(&mut self, text: &str, score: f32, kind: TokenKind) -> usize {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        let id = self.tokens.len();
        self.ids.insert(text.to_owned(), id);
        self.tokens.push(Token { text: text.to_owned(), score, kind });
        id
    }

    fn add_words(&mut self, text: &str) {
        let mut score = 0.0;
        for piece in pieces(text) {
            let mut id = UNKNOWN;
            let ends = piece.char_indices().map(|(at, c)| at + c.len_utf8());
            for beginning in ends.filter_map(|end| piece.get(..end)) {
                score -= 1.0;
                id = self.add(beginning, score, TokenKind::Normal);
            }
            self.text.push(id);
        }
    }
}

/// `text` in words, each with its space before it, and marks.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    for word in text.split_whitespace() {
        let (letters, marks) =
            word.split_at(word.find(|c: char| !c.is_alphabetic()).unwrap_or(word.len()));
        pieces.push(format!("{SPACE}{letters}"));
        pieces.extend(marks.chars().map(String::from));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_and_each_of_its_beginnings_is_a_token() {
        let vocabulary = Vocabulary::of("The llama.");
        for word in ["", "T", "Th", "The", "l", "llama"] {
            assert!(vocabulary.word(word).is_some(), "{word}");
        }
        let text: Vec<&str> =
            vocabulary.text.iter().map(|&id| vocabulary.tokens[id].text.as_str()).collect();
        assert_eq!(text, ["\u{2581}The", "\u{2581}llama", "."]);
        assert!(vocabulary.ends_sentence(vocabulary.text[2]));
    }

    #[test]
    fn no_token_is_twice_in_it_and_the_special_ones_are_where_the_constants_say() {
        let vocabulary = Vocabulary::of("a b a. b!");
        assert_eq!(vocabulary.tokens.len(), vocabulary.ids.len());
        assert_eq!(vocabulary.tokens[BEGIN].text, "<s>");
        assert_eq!(vocabulary.tokens[END].text, "</s>");
        assert_eq!(vocabulary.tokens[TURN_END].text, "<|im_end|>");
        assert_eq!(vocabulary.tokens[UNKNOWN].kind, TokenKind::Unknown);
    }
}
