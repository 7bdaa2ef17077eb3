//! One metadata value: its types on disk, reading the few that matter, passing over the rest.

use std::io::{Read, Seek};

use super::error::Problem;
use super::source::{BUFFER_BYTES, Source};

/// llama.cpp refuses longer strings and arrays; so a file that claims one was not made by it.
const MAX_STRING_BYTES: u64 = 1 << 30;
const MAX_ARRAY_ELEMENTS: u64 = 1 << 30;

/// Most strings walked over in one file. The largest vocabularies have 0.3 million tokens and 0.5 million merges.
const STRING_BUDGET: u64 = 2 * 1024 * 1024;

/// Longest array of numbers that is looked into (one number per layer; llama.cpp allows 512 layers).
const MAX_INTEGERS: usize = 4096;

/// Longest text that is kept.
pub(super) const MAX_TEXT_BYTES: usize = BUFFER_BYTES;

/// The types a metadata value can have; the numbers are the format's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl ValueType {
    pub(super) fn from_number(number: u32) -> Result<Self, Problem> {
        Ok(match number {
            0 => Self::U8,
            1 => Self::I8,
            2 => Self::U16,
            3 => Self::I16,
            4 => Self::U32,
            5 => Self::I32,
            6 => Self::F32,
            7 => Self::Bool,
            8 => Self::String,
            9 => Self::Array,
            10 => Self::U64,
            11 => Self::I64,
            12 => Self::F64,
            _ => return Err(Problem::Malformed(format!("unknown value type {number}"))),
        })
    }

    /// Bytes of one value, or `None` for strings and arrays.
    fn fixed_bytes(self) -> Option<u8> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }

    /// The number in `bytes`, or `None` if this type is no integer or the number is negative.
    fn integer(self, bytes: &[u8]) -> Option<u64> {
        match self {
            Self::U8 => bytes.try_into().ok().map(u8::from_le_bytes).map(u64::from),
            Self::I8 => bytes.try_into().ok().and_then(|b| i8::from_le_bytes(b).try_into().ok()),
            Self::U16 => bytes.try_into().ok().map(u16::from_le_bytes).map(u64::from),
            Self::I16 => bytes.try_into().ok().and_then(|b| i16::from_le_bytes(b).try_into().ok()),
            Self::U32 => bytes.try_into().ok().map(u32::from_le_bytes).map(u64::from),
            Self::I32 => bytes.try_into().ok().and_then(|b| i32::from_le_bytes(b).try_into().ok()),
            Self::U64 => bytes.try_into().ok().map(u64::from_le_bytes),
            Self::I64 => bytes.try_into().ok().and_then(|b| i64::from_le_bytes(b).try_into().ok()),
            Self::F32 | Self::F64 | Self::Bool | Self::String | Self::Array => None,
        }
    }
}

/// A text from the file, kept up to a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The text; bytes that are not UTF-8 became U+FFFD. It may hold control characters.
    pub text: String,
    /// Whether the file has more of it than was kept.
    pub is_cut: bool,
}

/// What is kept of an array of integers, one per layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PerLayer {
    pub(super) max: u64,
    pub(super) sum: u64,
}

/// A value, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Integer(u64),
    Text(Text),
    Array {
        length: u64,
        /// Set for a short array of integers, none of them negative.
        per_layer: Option<PerLayer>,
    },
    /// A float, a bool or a negative number.
    Other,
}

/// Reads values and passes over values, counting the strings it walks over.
pub(super) struct ValueReader {
    strings_left: u64,
}

impl ValueReader {
    pub(super) fn new() -> Self {
        Self { strings_left: STRING_BUDGET }
    }

    /// Reads one value of type `value_type`; of a text, at most `max_text_bytes` are kept.
    pub(super) fn read<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        value_type: ValueType,
        max_text_bytes: usize,
    ) -> Result<Value, Problem> {
        if let Some(width) = value_type.fixed_bytes() {
            let bytes = source.take(usize::from(width))?;
            return Ok(value_type.integer(bytes).map_or(Value::Other, Value::Integer));
        }
        if value_type == ValueType::String {
            return Self::text(source, max_text_bytes).map(Value::Text);
        }
        let (element, length) = Self::array_start(source)?;
        let per_layer = match (element.fixed_bytes(), usize::try_from(length)) {
            (Some(width), Ok(length)) if length <= MAX_INTEGERS => {
                Self::per_layer(source, element, width, length)?
            }
            _ => {
                self.skip_elements(source, element, length)?;
                None
            }
        };
        Ok(Value::Array { length, per_layer })
    }

    /// Passes over one value of type `value_type`.
    pub(super) fn skip<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        value_type: ValueType,
    ) -> Result<(), Problem> {
        if value_type == ValueType::Array {
            let (element, length) = Self::array_start(source)?;
            self.skip_elements(source, element, length)
        } else {
            self.skip_elements(source, value_type, 1)
        }
    }

    fn skip_elements<R: Read + Seek>(
        &mut self,
        source: &mut Source<R>,
        element: ValueType,
        length: u64,
    ) -> Result<(), Problem> {
        if let Some(width) = element.fixed_bytes() {
            // At most 2^30 elements of 8 bytes: no overflow.
            return source.skip(length.saturating_mul(u64::from(width)));
        }
        self.strings_left = self
            .strings_left
            .checked_sub(length)
            .ok_or_else(|| Problem::Hostile(format!("more than {STRING_BUDGET} strings")))?;
        for _ in 0..length {
            let bytes = string_bytes(source)?;
            source.skip(bytes)?;
        }
        Ok(())
    }

    fn text<R: Read + Seek>(source: &mut Source<R>, max_bytes: usize) -> Result<Text, Problem> {
        let length = string_bytes(source)?;
        let kept = usize::try_from(length).map_or(max_bytes, |length| length.min(max_bytes));
        let rest = length - kept as u64;
        let mut bytes = source.take(kept)?;
        if rest > 0 {
            bytes = without_broken_end(bytes);
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        source.skip(rest)?;
        Ok(Text { text, is_cut: rest > 0 })
    }

    fn per_layer<R: Read + Seek>(
        source: &mut Source<R>,
        element: ValueType,
        width: u8,
        length: usize,
    ) -> Result<Option<PerLayer>, Problem> {
        let width = usize::from(width);
        let mut kept = (length > 0).then(PerLayer::default);
        // At most 4096 numbers of 8 bytes: they fit into the buffer.
        for bytes in source.take(length * width)?.chunks_exact(width) {
            let number = element.integer(bytes);
            kept = kept.zip(number).map(|(kept, number)| PerLayer {
                max: kept.max.max(number),
                sum: kept.sum.saturating_add(number),
            });
        }
        Ok(kept)
    }

    /// The element type and length of an array. The length is at most [`MAX_ARRAY_ELEMENTS`] and fits into the file.
    fn array_start<R: Read + Seek>(source: &mut Source<R>) -> Result<(ValueType, u64), Problem> {
        let element = ValueType::from_number(source.u32()?)?;
        if element == ValueType::Array {
            return Err(Problem::Hostile("an array of arrays".to_owned()));
        }
        let length = source.u64()?;
        if length > MAX_ARRAY_ELEMENTS {
            return Err(Problem::Hostile(format!("an array of {length} elements")));
        }
        // A string takes at least its length.
        let least_bytes = length.saturating_mul(element.fixed_bytes().unwrap_or(8).into());
        if least_bytes > source.remaining_bytes() {
            return Err(Problem::TruncatedHeader { file_bytes: source.file_bytes() });
        }
        Ok((element, length))
    }
}

/// The length in front of a string.
fn string_bytes<R: Read + Seek>(source: &mut Source<R>) -> Result<u64, Problem> {
    let length = source.u64()?;
    if length > MAX_STRING_BYTES {
        return Err(Problem::Hostile(format!("a string of {length} bytes")));
    }
    Ok(length)
}

/// `bytes` without a character that the cut went through.
fn without_broken_end(bytes: &[u8]) -> &[u8] {
    // A UTF-8 character has at most 4 bytes; its first byte is no continuation byte.
    let start_of_last = bytes.iter().rposition(|byte| byte & 0xC0 != 0x80).unwrap_or(0);
    let (head, last) = bytes.split_at(start_of_last);
    match std::str::from_utf8(last) {
        Err(error) if error.error_len().is_none() => head,
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_type() {
        assert_eq!(ValueType::U8.integer(&[200]), Some(200));
        assert_eq!(ValueType::I8.integer(&[200]), None);
        assert_eq!(ValueType::I16.integer(&[1, 1]), Some(257));
        assert_eq!(ValueType::U32.integer(&[0xff; 4]), Some(u64::from(u32::MAX)));
        assert_eq!(ValueType::I32.integer(&[0xff; 4]), None);
        assert_eq!(ValueType::U64.integer(&[0xff; 8]), Some(u64::MAX));
        assert_eq!(ValueType::I64.integer(&[2, 0, 0, 0, 0, 0, 0, 0]), Some(2));
        assert_eq!(ValueType::F32.integer(&[0; 4]), None);
        assert_eq!(ValueType::U64.integer(&[0; 4]), None);
    }

    #[test]
    fn a_cut_leaves_whole_characters() {
        assert_eq!(without_broken_end("aż".as_bytes()), "aż".as_bytes());
        assert_eq!(without_broken_end(&"aż".as_bytes()[..2]), b"a");
        assert_eq!(without_broken_end(&"a🦙".as_bytes()[..4]), b"a");
        // Broken all along is not a matter of the cut.
        assert_eq!(without_broken_end(b"a\xff"), b"a\xff");
        assert_eq!(without_broken_end(b""), b"");
    }
}
