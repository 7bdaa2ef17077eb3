//! How sentences, times and numbers are written, wherever people read them.
//!
//! A message is a clause: it begins in lower case and has no full stop, because it is put behind a
//! name or into a longer sentence. Only what stands alone is made a sentence of.

/// A sentence as a clause: the first letter in lower case, unless its word is a name; without the
/// full stop.
#[must_use]
pub fn clause(text: &str) -> String {
    let text = text.trim_end();
    let text = match text.strip_suffix('.') {
        Some(rest) if !rest.ends_with('.') => rest,
        _ => text,
    };
    let word = text.split([' ', ',', ':']).next().unwrap_or_default();
    // `GPU`, `NVML`, `LoRA`: what has another capital is a name.
    let is_name = word.chars().skip(1).any(|letter| !letter.is_lowercase() && letter != '\'');
    match text.chars().next() {
        Some(first) if first.is_uppercase() && !is_name => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

/// A clause as a sentence of its own: the first letter a capital, a full stop at its end.
#[must_use]
pub fn sentence(clause: &str) -> String {
    let clause = clause.trim_end();
    let mut letters = clause.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut text: String = first.chain(letters).collect();
    if !text.ends_with(['.', '!', '?', '…', ':']) {
        text.push('.');
    }
    text
}

/// `12ms`, `4.2s`, `42s`, `3m20s`, `2h5m`, `3d4h`, from milliseconds: as a duration is typed.
#[must_use]
pub fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |large: u64, unit: char, small: u64, below: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit}{small}{below}"),
    };
    match seconds {
        _ if ms < 100 => format!("{ms}ms"),
        0..10 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds}s"),
        60..3600 => two(seconds / 60, 'm', seconds % 60, 's'),
        3600..86_400 => two(seconds / 3600, 'h', seconds / 60 % 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds / 3600 % 24, 'h'),
    }
}

/// The time between two moments in Unix milliseconds; a clock that went back gives 0.
#[must_use]
pub fn between(from_ms: i64, to_ms: i64) -> String {
    duration(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}

/// `1st`, `2nd`, `11th`: a place in line.
#[must_use]
pub fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// `1 request`, `2 requests`.
#[must_use]
pub fn counted(count: u64, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn listed<T: AsRef<str>>(things: &[T]) -> String {
    let things: Vec<&str> = things.iter().map(AsRef::as_ref).collect();
    match things.split_last() {
        None => String::new(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// `4.7 GiB`: one decimal below 100, none from there.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let (mut unit, mut whole) = ("B", 1u128);
    let all = u128::from(bytes);
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if all < whole * 1024 {
            break;
        }
        (unit, whole) = (larger, whole * 1024);
    }
    let rounded = |parts: u128| (all * parts + whole / 2) / whole;
    match rounded(10) {
        _ if whole == 1 => format!("{bytes} B"),
        tenths if tenths < 1000 => format!("{}.{} {unit}", tenths / 10, tenths % 10),
        _ => format!("{} {unit}", rounded(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_begins_in_lower_case_and_has_no_full_stop() {
        for (text, message) in [
            ("The model file is incomplete.", "the model file is incomplete"),
            ("GPU 0 was lost.", "GPU 0 was lost"),
            ("LoRA adapters are odd", "LoRA adapters are odd"),
            ("A request was cut.", "a request was cut"),
            ("It's gone.", "it's gone"),
            ("Wait …", "wait …"),
            ("killed", "killed"),
            ("", ""),
        ] {
            assert_eq!(clause(text), message);
        }
    }

    #[test]
    fn a_clause_that_stands_alone_is_a_sentence() {
        for (text, whole) in [
            ("the model file is incomplete", "The model file is incomplete."),
            ("Done.", "Done."),
            ("what now?", "What now?"),
        ] {
            assert_eq!(sentence(text), whole);
        }
    }

    #[test]
    fn durations_are_written_as_they_are_typed_in_two_parts_at_most() {
        for (ms, text) in [
            (0, "0ms"),
            (99, "99ms"),
            (412, "0.4s"),
            (9_990, "9.9s"),
            (42_000, "42s"),
            (200_000, "3m20s"),
            (300_000, "5m"),
            (7_500_000, "2h5m"),
            (273_600_000, "3d4h"),
        ] {
            assert_eq!(duration(ms), text);
        }
        assert_eq!(between(10, 5), "0ms");
    }

    #[test]
    fn places_in_line_and_numbers_of_things() {
        let said = [1, 2, 3, 4, 11, 12, 13, 21, 112].map(ordinal);
        assert_eq!(said, ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]);
        assert_eq!([counted(1, "request"), counted(0, "request")], ["1 request", "0 requests"]);
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!((listed(&["a"]), listed::<&str>(&[])), ("a".to_owned(), String::new()));
    }
}
