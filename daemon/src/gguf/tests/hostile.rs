//! Files that lie or are damaged: a typed problem, little read, no panic.

#![allow(clippy::unwrap_used)]

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use proptest::prelude::*;

use super::super::sample::{ARRAY, STRING, Sample, array_start, string};
use super::super::{Facts, Problem, read_header};

/// The kind of problem with a file of these bytes, `ok` if there is none.
fn kind(file: &[u8]) -> &'static str {
    kind_at_size(file, file.len() as u64)
}

/// The same for a file that goes on as a hole up to `file_bytes`.
fn kind_at_size(start: &[u8], file_bytes: u64) -> &'static str {
    read_header(Sparse::new(start, file_bytes), file_bytes)
        .map_or_else(|problem| problem.kind(), |_| "ok")
}

const EXABYTE: u64 = 1 << 60;

#[test]
fn not_gguf_at_all() {
    assert_eq!(kind(b""), "file_empty");
    assert_eq!(kind(b"GG"), "gguf_truncated");
    assert_eq!(kind(b"GGU\0"), "not_gguf");
    assert_eq!(kind(b"hello world"), "not_gguf");
    let problem = read_header(Cursor::new(b"\x1b]0;hi"), 6).unwrap_err();
    assert_eq!(problem.to_string(), r#"not a GGUF file: it starts with "\x1b]0;hi""#);
    let problem = read_header(Cursor::new(b"<html>"), 6).unwrap_err();
    assert_eq!(problem.to_string(), r#"not a GGUF file but a web page: it starts with "<html>""#);
    assert!(problem.hint().unwrap().contains("download"));
}

#[test]
fn versions() {
    for (version, expected) in [
        (0, "gguf_version"),
        (1, "gguf_version"),
        (2, "ok"),
        (3, "ok"),
        (4, "gguf_version"),
        (99, "gguf_version"),
        (3_u32.swap_bytes(), "gguf_big_endian"),
        (2_u32.swap_bytes(), "gguf_big_endian"),
        (u32::MAX, "gguf_version"),
    ] {
        let mut sample = Sample::model();
        sample.version = version;
        assert_eq!(kind(&sample.file()), expected, "{version}");
    }
}

#[test]
fn counts_that_lie() {
    for count in [65_537, 1 << 40, u64::MAX] {
        let mut sample = Sample::model();
        sample.pair_count = Some(count);
        assert_eq!(kind_at_size(&sample.file(), EXABYTE), "gguf_hostile", "{count} pairs");
    }
    for count in [1 << 21, 1 << 40, u64::MAX] {
        let mut sample = Sample::model();
        sample.tensor_count = Some(count);
        assert_eq!(kind_at_size(&sample.file(), EXABYTE), "gguf_hostile", "{count} tensors");
    }
    // Believable, but more than the file has room for.
    let mut sample = Sample::model();
    sample.pair_count = Some(60_000);
    assert_eq!(kind(&sample.file()), "gguf_truncated");
    let mut sample = Sample::empty();
    sample.tensor_count = Some(1000);
    assert_eq!(kind(&sample.file()), "gguf_truncated");
}

#[test]
fn lengths_that_lie() {
    let with_length = |value_type, length: u64, key| {
        let value = match value_type {
            STRING => length.to_le_bytes().to_vec(),
            ARRAY => array_start(STRING, length),
            _ => array_start(value_type, length),
        };
        let value_type = if value_type == STRING { STRING } else { ARRAY };
        Sample::empty().pair(key, value_type, &value).file()
    };
    for key in ["general.name", "tokenizer.ggml.tokens", "unused", "a.block_count"] {
        for value_type in [STRING, ARRAY, 0, 10, 12] {
            for length in [1 << 31, 1 << 63, u64::MAX, u64::MAX / 8 + 1] {
                let file = with_length(value_type, length, key);
                assert_eq!(kind(&file), "gguf_hostile", "{key} {value_type} {length}");
                assert_eq!(
                    kind_at_size(&file, EXABYTE),
                    "gguf_hostile",
                    "{key} {value_type} {length}"
                );
            }
            assert_eq!(
                kind(&with_length(value_type, 1 << 29, key)),
                "gguf_truncated",
                "{key} {value_type}"
            );
        }
    }
}

#[test]
fn keys_and_names_that_lie() {
    for length in [65_536, 1 << 50, u64::MAX] {
        let mut sample = Sample::empty();
        sample.pair_count = Some(1);
        let file = [sample.header(), length.to_le_bytes().to_vec(), vec![0; 64]].concat();
        assert_eq!(kind_at_size(&file, EXABYTE), "gguf_hostile", "key {length}");
        let mut sample = Sample::empty();
        sample.tensor_count = Some(1);
        let file = [sample.header(), length.to_le_bytes().to_vec(), vec![0; 64]].concat();
        assert_eq!(kind_at_size(&file, EXABYTE), "gguf_hostile", "tensor name {length}");
    }
}

#[test]
fn arrays_of_arrays_are_refused_however_deep() {
    let mut value = array_start(ARRAY, 1);
    for _ in 0..100_000 {
        value.extend(array_start(ARRAY, 1));
    }
    for key in ["unused", "tokenizer.ggml.tokens"] {
        let file = Sample::empty().pair(key, ARRAY, &value).file();
        assert_eq!(kind(&file), "gguf_hostile");
    }
}

#[test]
fn unknown_value_types() {
    assert_eq!(kind(&Sample::empty().pair("a", 13, &[0; 8]).file()), "gguf_malformed");
    assert_eq!(
        kind(&Sample::empty().pair("a", ARRAY, &array_start(77, 1)).file()),
        "gguf_malformed"
    );
}

#[test]
fn alignments() {
    for (alignment, expected) in
        [(0, "gguf_malformed"), (3, "gguf_malformed"), (1, "ok"), (1 << 31, "ok")]
    {
        let sample = Sample::empty().pair("general.alignment", 4, &u32::to_le_bytes(alignment));
        assert_eq!(kind(&sample.file()), expected, "{alignment}");
    }
    assert_eq!(kind(&Sample::empty().text("general.alignment", "32").file()), "gguf_malformed");
    assert_eq!(
        kind(&Sample::empty().pair("general.alignment", 10, &[0xff; 8]).file()),
        "gguf_malformed"
    );
}

#[test]
fn tensors_that_cannot_be() {
    let big = 1 << 32;
    for (dimensions, type_id, offset, expected) in [
        (vec![big, big], 0, 0, "gguf_hostile"),
        (vec![u64::MAX], 0, 0, "gguf_hostile"),
        (vec![0, u64::MAX], 0, 0, "gguf_hostile"),
        (vec![1 << 62], 0, 0, "gguf_hostile"),
        (vec![256], 0, u64::MAX - 31, "gguf_hostile"),
        (vec![1 << 62], 12, 0, "gguf_truncated"),
        (vec![8], 0, 1 << 62, "gguf_truncated"),
        (vec![1; 5], 0, 0, "gguf_malformed"),
        (vec![255, 256], 12, 0, "gguf_malformed"),
        (vec![8], 0, 7, "gguf_malformed"),
        (vec![], 0, 0, "ok"),
        (vec![0, 5], 12, 0, "ok"),
    ] {
        let sample = Sample::empty().raw_tensor("t", &dimensions, type_id, offset);
        let file = [sample.file(), vec![0; 64]].concat();
        assert_eq!(kind(&file), expected, "{dimensions:?} {type_id} {offset}");
    }
    let many = (0..3).fold(Sample::empty(), |sample, _| sample.raw_tensor("t", &[1 << 62], 999, 0));
    assert_eq!(kind(&many.file()), "ok");
    assert_eq!(kind(&many.raw_tensor("t", &[1 << 62], 999, 0).file()), "gguf_hostile");
}

#[test]
fn a_long_string_is_passed_over_without_reading_it() {
    let gigabyte: u64 = 1 << 30;
    for key in ["unused", "tokenizer.chat_template"] {
        let mut sample = Sample::empty().pair(key, STRING, &gigabyte.to_le_bytes());
        sample.pair_count = Some(2);
        let start = sample.file();
        let file_bytes = start.len() as u64 + gigabyte + 1000;
        let mut file = Sparse::new(&start, file_bytes);
        // After the string comes a hole: a pair with an empty key and a value of type 0.
        read_header(&mut file, file_bytes).unwrap();
        assert!(file.read_bytes < 300_000, "{key}: {} bytes read", file.read_bytes);
    }
}

#[test]
fn endless_empty_strings_are_not_walked() {
    // 2^30 strings in a file large enough for them.
    let sample =
        Sample::empty().pair("tokenizer.ggml.tokens", ARRAY, &array_start(STRING, 1 << 30));
    let mut file = Sparse::new(&sample.file(), EXABYTE);
    assert_eq!(read_header(&mut file, EXABYTE).unwrap_err().kind(), "gguf_hostile");
    assert!(file.read_bytes < 300_000, "{} bytes read", file.read_bytes);
}

#[test]
fn long_strings_without_end_stop_at_the_budget() {
    // Every string ends outside the buffer, so each costs a seek and a read.
    let mut start = Sample::empty().pair("unused", ARRAY, &array_start(STRING, 100_000)).file();
    for _ in 0..2000 {
        start.extend(string(&[b'x'; 70_000]));
    }
    let mut file = Sparse::new(&start, EXABYTE);
    assert_eq!(read_header(&mut file, EXABYTE).unwrap_err().kind(), "gguf_hostile");
    assert!(file.reads < 2000, "{} reads", file.reads);
    assert!(file.read_bytes <= 65 << 20, "{} bytes read", file.read_bytes);
}

#[test]
fn a_vocabulary_is_read_in_few_large_pieces() {
    let mut value = array_start(STRING, 150_000);
    for token in 0..150_000 {
        value.extend(string(format!("token{token}").as_bytes()));
    }
    let sample = Sample::model().pair("tokenizer.ggml.merges", ARRAY, &value).file();
    let mut file = Sparse::new(&sample, sample.len() as u64);
    read_header(&mut file, sample.len() as u64).unwrap();
    assert!(file.reads <= sample.len() / (64 * 1024 - 100) + 2, "{} reads", file.reads);
}

#[test]
fn a_header_cut_anywhere_is_cut_off() {
    let header = Sample::model().header();
    for length in 1..header.len() {
        let problem = read_header(Cursor::new(&header[..length]), length as u64).unwrap_err();
        assert!(
            matches!(problem, Problem::TruncatedHeader { file_bytes } if file_bytes == length as u64),
            "{length}: {problem}"
        );
    }
}

#[test]
fn an_error_of_the_disk_is_not_blamed_on_the_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
    }
    impl Seek for Broken {
        fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }
    assert_eq!(read_header(Broken, 100).unwrap_err().kind(), "file_unreadable");
}

proptest! {
    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        read_any(&bytes);
    }

    #[test]
    fn any_bytes_after_a_good_start_give_an_answer(
        tensors in 0_u64..4,
        pairs in 0_u64..4,
        bytes in prop::collection::vec(prop_oneof![3 => 0_u8..16, 1 => any::<u8>()], 0..500),
    ) {
        let mut sample = Sample::empty();
        (sample.tensor_count, sample.pair_count) = (Some(tensors), Some(pairs));
        read_any(&[sample.header(), bytes].concat());
    }

    #[test]
    fn a_damaged_file_gives_an_answer(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let header_bytes = Sample::model().header().len();
        let mut file = Sample::model().file();
        for (at, byte) in flips {
            file[at.index(header_bytes)] = byte;
        }
        read_any(&file);
        file.truncate(cut.index(file.len()));
        read_any(&file);
    }

    #[test]
    fn a_lying_length_gives_an_answer(at in any::<prop::sample::Index>(), length in any::<u64>(), file_bytes in any::<u64>()) {
        let mut file = Sample::model().header();
        let at = at.index(file.len() - 8);
        file[at..at + 8].copy_from_slice(&length.to_le_bytes());
        read_any(&file);
        let file_bytes = file_bytes.max(file.len() as u64);
        let _ = read_header(Sparse::new(&file, file_bytes), file_bytes);
    }
}

/// Reads whatever it is and asks for everything that is computed from it.
fn read_any(file: &[u8]) {
    match read_header(Cursor::new(file), file.len() as u64) {
        Ok(header) => {
            let facts = Facts::of_header(&header, file.len() as u64);
            let _ = (facts.kv_elements_per_token(), facts.key_length());
        }
        Err(problem) => {
            assert!(!problem.kind().is_empty());
            assert!(!problem.to_string().contains(char::is_control));
        }
    }
}

/// A file that starts with some bytes and goes on as a hole; counts what is read of it.
struct Sparse {
    start: Vec<u8>,
    file_bytes: u64,
    position: u64,
    read_bytes: u64,
    reads: usize,
}

impl Sparse {
    fn new(start: &[u8], file_bytes: u64) -> Self {
        Self { start: start.to_vec(), file_bytes, position: 0, read_bytes: 0, reads: 0 }
    }
}

impl Read for Sparse {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.file_bytes.saturating_sub(self.position);
        let count = usize::try_from(left).map_or(into.len(), |left| into.len().min(left));
        let into = &mut into[..count];
        into.fill(0);
        if let Some(bytes) =
            usize::try_from(self.position).ok().and_then(|position| self.start.get(position..))
        {
            let copied = bytes.len().min(count);
            into[..copied].copy_from_slice(&bytes[..copied]);
        }
        self.position += count as u64;
        self.read_bytes += count as u64;
        self.reads += 1;
        Ok(count)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(position) = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        self.position = position;
        Ok(position)
    }
}
