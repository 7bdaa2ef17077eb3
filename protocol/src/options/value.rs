//! What a caller sent, as the value that is stored; and a stored value as it is typed.

use super::{Item, Setting, Values, Words, rules, secret};
use crate::WirePath;
use crate::bounds::excerpt;
use crate::failure::{Failure, Kind};
use serde_json::{Number, Value, json};

/// The longest text a setting takes, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// ggml numbers no more CPUs than this.
const MAX_CPUS: u16 = 512;
/// The most values a list takes.
const MAX_ITEMS: usize = 256;

impl Setting<'_> {
    /// The value as it is stored, from what a caller sent: text is read as the setting's kind, so
    /// that `"8192"` and `8192` are the same.
    ///
    /// # Errors
    /// [`Kind::InvalidValue`], naming the key, the value and what is allowed.
    pub fn check(&self, value: &Value) -> Result<Value, Failure> {
        if self.is_secret() || (self.is_variable() && secret::is_secret(value)) {
            return self.check_secret(value);
        }
        let value = &self.respelled(value);
        let checked = match &self.values {
            Values::Integer { min, max, words } => integer(value, *min, *max, *words),
            Values::Real { min, max } => real(value, *min, *max),
            Values::Switch => switch(value).map(Value::Bool),
            Values::Choice(words) => choice(value, *words),
            Values::List { of, separator } => {
                let numbers = matches!(of, Item::Real { .. } | Item::Integer { .. });
                list(value, *separator, numbers, |item| of.check(&self.respelled(item)))
            }
            Values::Pair => pair(value),
            Values::CpuRange => word(value).filter(|text| is_cpu_range(text)).map(Value::from),
            Values::CpuMask => word(value).filter(|text| is_cpu_mask(text)).map(Value::from),
            Values::File | Values::Directory => path(value),
            Values::Json { object } => json_text(value, *object),
            Values::Text | Values::Variable => long_text(value).map(Value::from),
            Values::Host => word(value).filter(|host| is_host(host)).map(Value::from),
            Values::Runtime => word(value).filter(|name| !name.is_empty()).map(Value::from),
            Values::Arguments => arguments(value),
            Values::Secret => None,
        };
        let checked = checked.ok_or_else(|| self.refuse(value))?;
        if let Values::Arguments = self.values {
            rules::check_extra(&checked)?;
        }
        Ok(checked)
    }

    /// The value that another spelling of it stands for.
    fn respelled(&self, value: &Value) -> Value {
        let typed = match value {
            Value::String(text) => text.trim().to_ascii_lowercase(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => return value.clone(),
        };
        match self.spelled.iter().find(|(spelled, _)| *spelled == typed) {
            Some((_, meant)) => Value::from(*meant),
            None => value.clone(),
        }
    }

    fn is_variable(&self) -> bool {
        matches!(self.values, Values::Variable)
    }

    /// A secret is passed through in its given, stored or shown form; as a bare text it would have
    /// stood on a command line, where every program can read it.
    fn check_secret(&self, value: &Value) -> Result<Value, Failure> {
        if let Some(text) = secret::text_of(value) {
            let fits = !text.is_empty() && text.len() <= 4096 && !text.contains(['\0', '\n', '\r']);
            return if fits { Ok(value.clone()) } else { Err(self.refuse(&secret::shown())) };
        }
        if secret::is_secret(value) || (self.key == rules::API_KEY && *value == json!("generate")) {
            return Ok(value.clone());
        }
        Err(Failure::new(
            Kind::InvalidValue,
            format!("{} is a secret: it is not given as plain text", self.key),
        )
        .hint(format!("give it as {0}=@FILE, as {0}=- on stdin, or as {0}=? at a prompt", self.key))
        .details(json!({ "key": self.key })))
    }

    /// What values are allowed, in words.
    #[must_use]
    pub fn allowed(&self) -> String {
        match &self.values {
            Values::Integer { min, max, words } => {
                let number = match (*min, *max) {
                    (i64::MIN, i64::MAX) => "a whole number".to_owned(),
                    (min, i64::MAX) => format!("a whole number of at least {min}"),
                    (min, max) => format!("a whole number from {min} to {max}"),
                };
                match words.join(" or ") {
                    words if words.is_empty() => number,
                    words => format!("{number}, or {words}"),
                }
            }
            Values::Real { min, max } => of_real(*min, *max),
            Values::Switch => "true or false".to_owned(),
            Values::Choice(words) => format!("one of {}", words.join(", ")),
            Values::List { of, separator } => {
                format!("{}, separated by {separator:?}", of.allowed())
            }
            Values::Pair => "two whole numbers, the first not above the second".to_owned(),
            Values::CpuRange => "a range of CPUs such as 0-7".to_owned(),
            Values::CpuMask => "a hexadecimal number such as ff".to_owned(),
            Values::File => "the path of a file".to_owned(),
            Values::Directory => "the path of a directory".to_owned(),
            Values::Json { object: true } => "a JSON object".to_owned(),
            Values::Json { object: false } => "a JSON text".to_owned(),
            Values::Text | Values::Variable => "a text".to_owned(),
            Values::Secret => "a secret: @FILE, - for stdin, or ? for a prompt".to_owned(),
            Values::Host => "a host name or an IP address".to_owned(),
            Values::Runtime => "the name of a runtime".to_owned(),
            Values::Arguments => "arguments quoted as for a shell".to_owned(),
        }
    }

    /// The refusal of a value: names the key, the value and what is allowed.
    pub(super) fn refuse(&self, value: &Value) -> Failure {
        let shown = text(value);
        // A pasted grammar helps nobody in a message.
        let short = excerpt(&shown);
        let near = self.nearest_word(&shown);
        let example = Some(self.example.to_owned()).filter(|example| !example.is_empty());
        let failure = Failure::new(
            Kind::InvalidValue,
            format!("{} cannot be {short:?}: it takes {}", self.key, self.allowed()),
        )
        .details(json!({
            "key": self.key,
            "value": short,
            "allowed": self.allowed(),
            "instead": near.as_ref().or(example.as_ref()),
        }));
        match (near, example) {
            (Some(word), _) => failure.hint(format!("did you mean {word}?")),
            (None, Some(example)) => failure.hint(format!("for example {}={example}", self.key)),
            (None, None) => failure,
        }
    }

    fn nearest_word(&self, typed: &str) -> Option<String> {
        let words = match &self.values {
            Values::Choice(words) | Values::Integer { words, .. } => *words,
            Values::List { of: Item::Word(words), .. } => *words,
            _ => return None,
        };
        let words: Vec<&str> = words.iter().collect();
        super::nearest(typed, &words).map(str::to_owned)
    }
}

impl Item<'_> {
    fn check(&self, value: &Value) -> Option<Value> {
        match self {
            Item::Text => word(value).filter(|text| !text.is_empty()).map(Value::from),
            Item::Integer { min, max } => integer(value, *min, *max, super::NO_WORDS),
            Item::Real { min, max } => real(value, *min, *max),
            Item::Word(words) => choice(value, *words),
            // llama-server splits at commas before it looks for a file.
            Item::File => path(value).filter(|path| !text(path).contains(',')),
            Item::ScaledFile => {
                let text = word(value)?;
                let (file, scale) = text.rsplit_once(':')?;
                let scale: f64 = scale.parse().ok()?;
                (file.starts_with('/') && !file.contains(',') && scale.is_finite())
                    .then_some(Value::from(text))
            }
            Item::Metadata => {
                let text = word(value)?;
                let (key, typed) = text.split_once('=')?;
                let (kind, _) = typed.split_once(':')?;
                (!key.is_empty() && ["int", "float", "bool", "str"].contains(&kind))
                    .then_some(Value::from(text))
            }
            Item::Tensors => {
                let text = word(value)?;
                let (pattern, buffer) = text.split_once('=')?;
                (!pattern.is_empty() && !buffer.is_empty()).then_some(Value::from(text))
            }
            Item::Bias => {
                let text = word(value)?;
                let (token, bias) = text.split_at_checked(text.find(['+', '-'])?)?;
                let number = bias.get(1..)?;
                let finite = number.parse::<f64>().is_ok_and(f64::is_finite)
                    && number.starts_with(|it: char| it.is_ascii_digit());
                // `-inf` forbids a token.
                (token.parse::<u32>().is_ok() && (finite || number == "inf"))
                    .then_some(Value::from(text))
            }
            Item::Device => {
                let text = word(value)?;
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
                (!text.is_empty() && text.bytes().all(plain)).then_some(Value::from(text))
            }
            Item::Address => {
                let text = word(value)?;
                let (host, port) = text.rsplit_once(':')?;
                (is_host(host.trim_matches(['[', ']']))
                    && port.parse::<u16>().is_ok_and(|it| it > 0))
                .then_some(Value::from(text))
            }
        }
    }

    fn allowed(&self) -> String {
        match self {
            Item::Text => "texts".to_owned(),
            Item::Integer { min, max: i64::MAX } => format!("whole numbers of at least {min}"),
            Item::Integer { min, max } => format!("whole numbers from {min} to {max}"),
            Item::Real { min, max } => format!("values, each {}", of_real(*min, *max)),
            Item::Word(words) => format!("any of {}", words.join(", ")),
            Item::File => "paths of files".to_owned(),
            Item::ScaledFile => "absolute paths of files, each with a scale: FILE:SCALE".to_owned(),
            Item::Metadata => "KEY=TYPE:VALUE with int, float, bool or str for the type".to_owned(),
            Item::Tensors => "PATTERN=BUFFER".to_owned(),
            Item::Bias => "TOKEN+BIAS or TOKEN-BIAS".to_owned(),
            Item::Device => "names of devices, or none".to_owned(),
            Item::Address => "HOST:PORT".to_owned(),
        }
    }
}

fn of_real(min: f64, max: f64) -> String {
    match (min.is_finite(), max.is_finite()) {
        (false, false) => "a number".to_owned(),
        (true, false) => format!("a number of at least {min}"),
        (false, true) => format!("a number of at most {max}"),
        (true, true) => format!("a number from {min} to {max}"),
    }
}

/// A setting as it is typed, `key=value`.
#[must_use]
pub fn assignment(key: &str, value: &Value) -> String {
    format!("{key}={}", text_of(key, value))
}

/// A change of a setting in words: `ctx-size 4096 → 8192`, `temp=0.7`, `port auto → default`.
#[must_use]
pub fn change(key: &str, before: Option<&Value>, after: Option<&Value>) -> String {
    // A pasted grammar would fill the page.
    let short = |value: &Value| {
        let text = text_of(key, value).replace('\n', " ");
        let short: String = text.chars().take(60).collect();
        if short.len() < text.len() { format!("{short}…") } else { short }
    };
    match (before.map(short), after.map(short)) {
        (Some(before), Some(after)) => format!("{key} {before} → {after}"),
        (None, Some(after)) => format!("{key}={after}"),
        (Some(before), None) => format!("{key} {before} → default"),
        (None, None) => key.to_owned(),
    }
}

/// The value of a setting as it is typed behind `key=`.
#[must_use]
pub fn text_of(key: &str, value: &Value) -> String {
    let words = value.as_array().filter(|_| key == rules::EXTRA_ARGS);
    let words: Option<Vec<&str>> =
        words.and_then(|words| words.iter().map(Value::as_str).collect());
    match (words.and_then(|words| shlex::try_join(words).ok()), value) {
        (Some(line), _) => line,
        (None, Value::Bool(true)) => "on".to_owned(),
        (None, Value::Bool(false)) => "off".to_owned(),
        (None, value) => text(value),
    }
}

/// A value as it is typed, where it does not matter of which setting.
#[must_use]
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let texts: Vec<String> = items.iter().map(text).collect();
            // Typed back, a list whose texts could be taken for something else is read as JSON.
            let unclear = |text: &String| {
                text.contains([',', ';']) || text.starts_with('[') || text.trim() != text
            };
            if texts.iter().any(|text| text.is_empty() || unclear(text)) {
                value.to_string()
            } else {
                texts.join(",")
            }
        }
        Value::Object(_) if secret::is_secret(value) => "(secret)".to_owned(),
        Value::Object(_) => serde_json::from_value::<WirePath>(value.clone())
            .map_or_else(|_| value.to_string(), |path| path.to_string()),
        other => other.to_string(),
    }
}

/// A text of one line.
fn word(value: &Value) -> Option<&str> {
    let text = value.as_str()?;
    (text.len() <= MAX_TEXT_BYTES && !text.contains(['\0', '\n', '\r'])).then_some(text)
}

fn long_text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(on) => on.to_string(),
        _ => return None,
    };
    (text.len() <= MAX_TEXT_BYTES && !text.contains('\0')).then_some(text)
}

fn integer(value: &Value, min: i64, max: i64, words: Words<'_>) -> Option<Value> {
    let number = match value {
        Value::Number(number) => whole(number)?,
        Value::String(text) => match text.trim().parse() {
            Ok(number) => number,
            Err(_) => return words.iter().find(|word| *word == text.trim()).map(Value::from),
        },
        _ => return None,
    };
    // A number outside the range can be one of the words: -1 for none.
    let allowed = (min..=max).contains(&number) || words.contains(&number.to_string());
    allowed.then(|| Value::from(number))
}

/// A JSON number that is whole, also one written `4096.0`.
fn whole(number: &Number) -> Option<i64> {
    number.as_i64().or_else(|| {
        let real = number.as_f64()?;
        (real.fract() == 0.0).then(|| format!("{real}").parse().ok())?
    })
}

fn real(value: &Value, min: f64, max: f64) -> Option<Value> {
    let number: f64 = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let fits = number.is_finite() && (min..=max).contains(&number);
    // Minus zero and zero are one value.
    fits.then(|| Value::from(number + 0.0))
}

/// The ways people write on and off.
fn switch(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::Number(number) => match number.as_i64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" | "enabled" => Some(true),
            "false" | "off" | "no" | "0" | "disabled" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn choice(value: &Value, words: Words<'_>) -> Option<Value> {
    let typed = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        // Some choices are 0 and 1, some on and off.
        Value::Bool(on) => {
            let names: [&str; 2] = if *on { ["on", "1"] } else { ["off", "0"] };
            return names.into_iter().find(|name| words.contains(name)).map(Value::from);
        }
        _ => return None,
    };
    words.iter().find(|word| *word == typed).map(Value::from)
}

fn list(
    value: &Value,
    separator: char,
    numbers: bool,
    check: impl Fn(&Value) -> Option<Value>,
) -> Option<Value> {
    // llama-server takes a slash between numbers for a comma.
    let parts = |it| it == separator || (it == ',' && separator == ';') || (it == '/' && numbers);
    let items = match value {
        Value::Array(items) => items.clone(),
        Value::String(text) => {
            // A list whose texts hold the separator is typed as JSON.
            match serde_json::from_str::<Vec<Value>>(text).ok().filter(|_| text.starts_with('[')) {
                Some(items) => items,
                None => text.split(parts).map(|item| Value::from(item.trim())).collect(),
            }
        }
        other => vec![other.clone()],
    };
    if items.is_empty() || items.len() > MAX_ITEMS {
        return None;
    }
    items.iter().map(check).collect::<Option<Vec<_>>>().map(Value::Array)
}

fn pair(value: &Value) -> Option<Value> {
    let split = |text: &str| -> Vec<Value> {
        let parts = text.split([' ', ',']).filter(|part| !part.is_empty());
        parts.map(|part| Value::from(part.trim_matches(['[', ']']))).collect()
    };
    let items = match value {
        Value::Array(items) => items.clone(),
        Value::String(text) => split(text),
        _ => return None,
    };
    let numbers: Vec<i64> = items
        .iter()
        .map(|item| integer(item, 0, i64::from(i32::MAX), super::NO_WORDS)?.as_i64())
        .collect::<Option<_>>()?;
    match numbers.as_slice() {
        [low, high] if low <= high => Some(json!([low, high])),
        _ => None,
    }
}

fn is_cpu_range(text: &str) -> bool {
    text.split_once('-').is_some_and(|(low, high)| {
        matches!((low.parse::<u16>(), high.parse::<u16>()),
            (Ok(low), Ok(high)) if low <= high && high < MAX_CPUS)
    })
}

fn is_cpu_mask(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    !digits.is_empty()
        && digits.len() <= usize::from(MAX_CPUS / 4)
        && digits.bytes().all(|it| it.is_ascii_hexdigit())
}

/// An absolute path: the daemon has another working directory than whoever typed it.
fn path(value: &Value) -> Option<Value> {
    let path: WirePath = serde_json::from_value(value.clone()).ok()?;
    path.as_path().is_absolute().then(|| json!(path))
}

fn json_text(value: &Value, object: bool) -> Option<Value> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(_) => value.to_string(),
        _ => return None,
    };
    let read: Value = serde_json::from_str(&text).ok().filter(|_| text.len() <= MAX_TEXT_BYTES)?;
    (read.is_object() || !object).then_some(Value::from(text))
}

fn arguments(value: &Value) -> Option<Value> {
    let list = match value {
        Value::String(text) => shlex::split(text)?,
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    list.iter().all(|argument| !argument.contains('\0')).then(|| json!(list))
}

/// Whether `host` could be a host name or address; names ending in `.sock` would make
/// llama-server open a Unix socket of that name.
fn is_host(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
        || (!host.is_empty()
            && host.len() <= 253
            && !host.starts_with(['-', '.'])
            && !host.ends_with(".sock")
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{catalogue, find};
    use proptest::prelude::*;

    fn check(key: &str, value: Value) -> Result<Value, Failure> {
        find(key, None).unwrap().check(&value)
    }

    #[test]
    fn text_and_numbers_are_the_same() {
        assert_eq!(check("port", json!("8101")).unwrap(), json!(8101));
        assert_eq!(check("port", json!(8101)).unwrap(), json!(8101));
        assert_eq!(check("port", json!("auto")).unwrap(), json!("auto"));
        for bad in [json!(0), json!("99999"), json!("eighty"), json!(true), json!(null)] {
            assert_eq!(check("port", bad.clone()).unwrap_err().kind, Kind::InvalidValue, "{bad}");
        }
    }

    #[test]
    fn what_would_burn_memory_or_abort_is_refused_by_range() {
        for (key, bad) in [
            ("ctx-size", "1000000000"),
            ("ctx-size", "-5"),
            ("batch-size", "0"),
            ("parallel", "10000"),
            ("parallel", "0"),
            ("port", "99999"),
            ("threads", "513"),
            ("poll", "101"),
            ("prio", "4"),
            ("top-p", "1.5"),
            ("cpu-range", "0-700"),
            ("repeat-last-n", "-1"),
            ("sleep-idle-seconds", "0"),
        ] {
            let refused = check(key, json!(bad)).unwrap_err();
            assert_eq!(refused.kind, Kind::InvalidValue, "{key}={bad}");
            assert!(refused.message.contains(key) && refused.message.contains(bad), "{refused}");
        }
    }

    #[test]
    fn what_llama_server_lets_be_written_otherwise_is_the_same_value() {
        for (key, written, meant) in [
            ("flash-attn", json!("1"), json!("on")),
            ("flash-attn", json!(0), json!("off")),
            ("flash-attn", json!(true), json!("on")),
            ("flash-attn", json!("Enabled"), json!("on")),
            ("flash-attn", json!(-1), json!("auto")),
            ("fit", json!("no"), json!("off")),
            ("gpu-layers", json!(-1), json!("auto")),
            ("gpu-layers", json!("-2"), json!("all")),
            ("gpu-layers", json!(10_000), json!(10_000)),
            ("predict", json!(-2), json!(-1)),
            ("threads", json!(0), json!(-1)),
            ("top-k", json!(-1), json!(0)),
            ("tensor-split", json!("3/1"), json!([3.0, 1.0])),
            ("samplers", json!("top-k;typical;temp"), json!(["top_k", "typ_p", "temperature"])),
        ] {
            assert_eq!(check(key, written.clone()).unwrap(), meant, "{key}={written}");
        }
    }

    #[test]
    fn minus_one_is_a_word_of_its_own() {
        for (key, good) in [("threads", "-1"), ("parallel", "-1"), ("seed", "-1"), ("keep", "-1")] {
            assert_eq!(check(key, json!(good)).unwrap(), json!(-1), "{key}");
            assert_eq!(check(key, json!(-1)).unwrap(), json!(-1), "{key}");
        }
    }

    #[test]
    fn a_list_of_texts_comes_back_from_its_text() {
        for texts in [json!(["a, b"]), json!([" User:"]), json!(["[1]"]), json!(["x", "y"])] {
            let checked = check("reverse-prompt", texts.clone()).unwrap();
            assert_eq!(check("reverse-prompt", json!(text(&checked))).unwrap(), texts);
        }
        assert_eq!(
            check("samplers", json!("top_k; top_p")).unwrap(),
            check("samplers", json!("top_k,top_p")).unwrap()
        );
    }

    #[test]
    fn extra_args_are_quoted_as_for_a_shell() {
        assert_eq!(
            check("extra-args", json!("--temp 0.2 --x 'a b'")).unwrap(),
            json!(["--temp", "0.2", "--x", "a b"])
        );
        assert!(check("extra-args", json!("'open")).is_err());
    }

    #[test]
    fn a_host_is_no_socket_and_no_flag() {
        for good in ["127.0.0.1", "::1", "localhost", "box.lan"] {
            assert!(check("host", json!(good)).is_ok(), "{good}");
        }
        for bad in ["", "x.sock", "--port", "a b", "a/b"] {
            assert!(check("host", json!(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_variable_is_text_of_its_own_key() {
        let setting = find("env.CUDA_VISIBLE_DEVICES", None).unwrap();
        assert_eq!(setting.key, "env.CUDA_VISIBLE_DEVICES");
        assert_eq!(setting.check(&json!("1")).unwrap(), json!("1"));
        assert!(find("env.LD_PRELOAD", None).is_err());
    }

    #[test]
    fn every_example_is_legal_and_comes_back_from_its_text() {
        for setting in catalogue().filter(|setting| setting.refused.is_empty()) {
            if setting.is_secret() {
                continue;
            }
            assert!(!setting.example.is_empty(), "{} has no example", setting.key);
            let checked = setting.check(&json!(setting.example));
            let checked = checked.unwrap_or_else(|error| panic!("{}: {error}", setting.key));
            assert_eq!(setting.check(&checked).unwrap(), checked, "{}", setting.key);
            if !matches!(setting.values, Values::Arguments) {
                let typed = json!(text(&checked));
                assert_eq!(setting.check(&typed).unwrap(), checked, "{}", setting.key);
            }
        }
    }

    proptest! {
        #[test]
        fn checking_is_stable_and_never_panics(text in "\\PC{0,40}", index in 0usize..1000) {
            let all: Vec<Setting<'static>> = catalogue().copied().collect();
            let setting = all[index % all.len()];
            if let Ok(once) = setting.check(&json!(text)) {
                prop_assert_eq!(setting.check(&once).unwrap(), once);
            }
        }
    }
}
